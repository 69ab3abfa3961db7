"""What SLOs, thresholds and limits select, budgets match and what was measured in; what selects nothing out: a graph with a
typo in its name is green for ever, and its budget never spent.

No file can be wrong by this alone, for a graph may have its first run tomorrow. So it is asked for, by who has a database
to compare with.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from graphmeter import names
from graphmeter_config.model import Config
from graphmeter_config.section import globs_match

_MOST_TOLD = 5


class Unseen(NamedTuple):
    """One pattern of a selector that nothing matches."""

    section: tuple[str | int, ...]
    """Where the selector stands: `("slos", 1, "select")`."""
    field: str
    place: int
    """Place of the pattern in its field."""
    pattern: str
    remedy: str


def unseen(config: Config, seen: Mapping[str, Collection[str]]) -> Iterator[Unseen]:
    """Patterns that match none of the values seen of their dimension; dimensions that `seen` lacks are not judged."""
    for index, slo in enumerate(config.slos):
        yield from _of(("slos", index, "select"), slo.select.restricting(), seen)
    # On the ledger, tools and retrievers that have a price stand where models do.
    spent = {**seen, "model": {name for kind in ("model", "tool", "retriever") for name in seen.get(kind, ())}}
    for index, budget in enumerate(config.budgets):
        yield from _of(("budgets", index, "match"), budget.match.restricting(), spent if seen else seen)
    for name, threshold in config.thresholds.wanted() if config.thresholds else ():
        yield from _of(("thresholds", name, "select"), threshold.select.restricting(), seen)
        for index, select in enumerate(threshold.overridden):
            yield from _of(("thresholds", name, "overrides", index, "select"), select.restricting(), seen)
    for name, anomaly in config.anomalies.wanted() if config.anomalies else ():
        yield from _of(("anomalies", name, "select"), anomaly.select.restricting(), seen)
    for index, limit in enumerate(config.provider_limits):
        of_calls = {field: globs for field, globs in limit.selecting().items() if field in ("provider", "model")}
        yield from _of(("provider_limits", index), of_calls, seen)
        yield from _of(("provider_limits", index, "select"), limit.select.restricting(), seen)


def _of(
    section: tuple[str | int, ...], selected: Mapping[str, tuple[str, ...]], seen: Mapping[str, Collection[str]]
) -> Iterator[Unseen]:
    for field, globs in selected.items():
        if field not in seen:
            continue
        for place, glob in enumerate(globs):
            # An empty one, in metrics `unattributed`, matches what names none, of which there need not be any.
            if glob and glob != names.UNATTRIBUTED and not any(globs_match((glob,), value) for value in seen[field]):
                yield Unseen(section, field, place, glob, _remedy(glob, sorted(seen[field])))


def _remedy(glob: str, known: list[str]) -> str:
    close = difflib.get_close_matches(glob, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if not known:
        return "let it run once, or leave it out"
    more = ", …" if len(known) > _MOST_TOLD else ""
    return f"seen were {', '.join(known[:_MOST_TOLD])}{more}"
