"""Two sets of rules in, what deploying the second instead of the first changes, in words.

A rule is the same one if its name is, and the labels that say what it is about; severity, owner and the like may change.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from graphmeter_alerts.rulefiles import Rule

_MAY_CHANGE: Final = frozenset({"severity", "product", "owner", "told_by", "job"})
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\w:.]+|\S')
_MOST_TOKENS: Final = 4
"""More that differ are another expression, which is shown whole."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one rule."""

    what: Literal["added", "removed", "changed"]
    kind: Literal["alert", "record"]
    name: str
    about: str
    """`slo=runs-availability, burn=page-fast`; empty where the name says it all."""
    words: tuple[str, ...] = ()
    """Of what is added the severity and wait, of what is changed each difference."""

    def __str__(self) -> str:
        about = f" ({self.about})" if self.about else ""
        head = f"{self.what} {self.kind} {self.name}{about}"
        return f"{head}: {'; '.join(self.words)}" if self.words else head


def diff(old: Sequence[Rule], new: Sequence[Rule]) -> list[Change]:
    """Alerts before records; of each what is added, removed, changed, in order of name."""
    before, after = _keyed(old), _keyed(new)
    found = [_change("added", after[key]) for key in after if key not in before]
    found += [_change("removed", before[key]) for key in before if key not in after]
    for key in after:
        if key in before and (words := tuple(_words(before[key], after[key]))):
            found.append(_change("changed", after[key], words))
    order = {"added": 0, "removed": 1, "changed": 2}
    return sorted(found, key=lambda one: (one.kind != "alert", order[one.what], one.name, one.about))


def _keyed(rules: Iterable[Rule]) -> dict[tuple[object, ...], Rule]:
    seen: Counter[tuple[object, ...]] = Counter()
    keyed = {}
    for rule in rules:
        key = (rule.kind, rule.name, *_about(rule))
        seen[key] += 1
        keyed[*key, seen[key]] = rule
    return keyed


def _about(rule: Rule) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in rule.labels.items() if name not in _MAY_CHANGE)


def _change(what: Literal["added", "removed", "changed"], rule: Rule, words: tuple[str, ...] = ()) -> Change:
    about = ", ".join(f"{name}={value}" for name, value in _about(rule))
    if what == "added" and rule.kind == "alert":
        wait = f"after {rule.for_}" if rule.for_ else "at once"
        words = (f"{rule.labels.get('severity') or 'no severity'}, {wait}",)
    return Change(what, rule.kind, rule.name, about, words)


def _words(old: Rule, new: Rule) -> Iterator[str]:
    yield from _expression(old.expr, new.expr)
    if old.for_ != new.for_:
        yield f"waits {new.for_ or 'no time'} instead of {old.for_ or 'no time'}"
    if old.keep_firing_for != new.keep_firing_for:
        yield f"keeps firing for {new.keep_firing_for or 'no time'} instead of {old.keep_firing_for or 'no time'}"
    for label in sorted({*old.labels, *new.labels}):
        before, after = old.labels.get(label, "none"), new.labels.get(label, "none")
        if before != after:
            yield f"{label} is {after} instead of {before}"
    said = [
        name
        for name in sorted({*old.annotations, *new.annotations})
        if _differs(old.annotations, new.annotations, name)
    ]
    if said:
        yield f"says something else in {', '.join(said)}"


def _differs(old: Mapping[str, str], new: Mapping[str, str], name: str) -> bool:
    return old.get(name) != new.get(name)


def _expression(old: str, new: str) -> Iterator[str]:
    before, after = _TOKENS.findall(old), _TOKENS.findall(new)
    if before == after:
        return
    replaced = [
        (" ".join(before[a:b]), " ".join(after[c:d]))
        for tag, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    short = len(before) == len(after) and all(len(part.split()) <= 2 for pair in replaced for part in pair)
    if short and len(replaced) <= _MOST_TOKENS:
        for was, is_ in dict.fromkeys(replaced):
            yield f"{was} becomes {is_}"
    else:
        yield f"its expression was `{' '.join(old.split())}` and is `{' '.join(new.split())}`"
