"""Rules of any origin in, what is wrong or unwise about them out.

Errors are what makes a rule do nothing, or something else than it says; warnings are what somebody who is woken by it will
miss. What belongs to other exporters is left alone: nobody here knows their metrics.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from graphmeter import names
from graphmeter_alerts import promql
from graphmeter_alerts.rulefiles import Rule, RuleFile
from graphmeter_config.alerting import SEVERITIES
from graphmeter_config.errors import Problem

Level = Literal["error", "warning"]

OF_THE_DATABASE: Final = frozenset(
    metric.name
    for metric in names.METRICS
    if metric.type == "gauge" and metric.name.startswith((names.PREFIX + "budget_", names.PREFIX + "slo_"))
) | {
    metric.name
    for metric in (
        names.RUN_OLDEST,
        names.HUMAN_WAIT_OLDEST,
        names.COLLECTOR_OUTBOX,
        names.COLLECTOR_OUTBOX_AGE,
        names.COLLECTOR_UNSETTLED,
        names.COLLECTOR_UNSETTLED_AGE,
        names.COLLECTOR_NOTIFICATIONS_WAITING,
        names.COLLECTOR_TABLE_BYTES,
        names.COLLECTOR_BYTES_PER_RUN,
    )
}
"""Gauges that every collector reads from the one database: the same on each."""

_SUFFIXES: Final = {"histogram": ("_bucket", "_count", "_sum")}
_LABELS: Final[Mapping[str, frozenset[str]]] = {
    metric.name + suffix: frozenset(metric.labels)
    for metric in names.METRICS
    for suffix in _SUFFIXES.get(metric.type, ("",))
}
_OF_TARGETS: Final = frozenset({"job", "instance", "exported_job", "le"})
_OURS: Final = (names.PREFIX, "slo:", "graphmeter:")
_A_WHILE_S: Final = 900
_WANTED: Final = ("summary", "description", "runbook_url")
_ADDING: Final = frozenset({"sum", "avg", "count"})
_IN_ANNOTATION: Final = re.compile(r"\$labels\.(\w+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one rule."""

    level: Level
    code: str
    """Short and stable, for `--ignore`."""
    problem: Problem

    def __str__(self) -> str:
        return f"{self.level}: {self.problem} [{self.code}]"


def lint(files: Sequence[RuleFile], known: Iterable[Rule] = (), runbooks: Path | None = None) -> list[Finding]:
    """All findings, in order of file and line.

    Args:
        files: What is looked at.
        known: Rules that are deployed beside them: what these record may be used.
        runbooks: Folder that has to hold the page of each alert; None: only that one is named.
    """
    rules = [rule for file in files for rule in file.rules]
    context = _Context([*known, *rules])
    found = [Finding("error", "unreadable", problem) for file in files for problem in file.problems]
    found += _duplicate_groups(files)
    found += _duplicates(rules)
    for rule in rules:
        found += context.metrics(rule)
        if rule.kind == "alert":
            found += _labels(rule)
            found += context.annotations(rule)
            found += _missing(rule, runbooks)
            found += context.wait(rule)
    return sorted(found, key=lambda one: (one.problem.file, one.problem.line, one.level, one.code))


class _Context:
    """What the expressions of some rules may use."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._records: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.kind == "record":
                self._records.setdefault(rule.name, []).append(rule)
        self._names = sorted({*_LABELS, *self._records})

    def metrics(self, rule: Rule) -> Iterator[Finding]:
        for selector in promql.read(rule.expr).selectors:
            metric = selector.metric
            if metric in _LABELS:
                yield from self._selector(rule, selector)
            elif metric.startswith(_OURS) and metric not in self._records:
                remedy = _closest(metric, self._names) or "build rules for what records it, or name an existing one"
                yield _found("error", "unknown-metric", rule, f"{metric} is neither exposed nor recorded", remedy)

    def _selector(self, rule: Rule, selector: promql.Selector) -> Iterator[Finding]:
        known = _LABELS[selector.metric] | _OF_TARGETS
        for label, _, _ in selector.matchers:
            # Targets may have labels of their own; what is nearly one of the metric's is a slip.
            if label not in known and label != "__name__" and (remedy := _closest(label, known)):
                yield _found("error", "unknown-label", rule, f"{selector.metric} has no label {label}", remedy)
        if selector.metric in OF_THE_DATABASE and selector.within in _ADDING:
            message = f"{selector.within} of {selector.metric} grows with the number of collectors"
            yield _found("warning", "summed-gauge", rule, message, "each of them reads the same: take max by")

    def annotations(self, rule: Rule) -> Iterator[Finding]:
        given = self._given(rule, frozenset())
        for label in sorted(set(_IN_ANNOTATION.findall(" ".join(rule.annotations.values())))):
            if given is None or label in given:
                continue
            if label in rule.labels:
                message = f"$labels.{label} is empty: labels of the rule itself are not among $labels"
                yield _found("error", "empty-label", rule, message, f"write {rule.labels[label]} into the annotation")
            else:
                remedy = _closest(label, given) or f"the expression gives {', '.join(sorted(given)) or 'none'}"
                yield _found("warning", "empty-label", rule, f"$labels.{label} is not given by the expression", remedy)

    def wait(self, rule: Rule) -> Iterator[Finding]:
        if rule.for_.strip() not in ("", "0", "0s") or rule.keep_firing_for or self._settled(rule, frozenset()):
            return
        message = "has no `for`: one odd scrape is enough to tell somebody"
        yield _found("warning", "no-for", rule, message, "write `for: 2m`, or longer where it can wait")

    def _settled(self, rule: Rule, seen: frozenset[str]) -> bool:
        """Whether what is read does not come and go: nothing at all, the database, or events of a longer while."""
        for selector in promql.read(rule.expr).selectors:
            records = self._read(selector) if selector.metric not in seen else ()
            collected = selector.within == "increase" or selector.within.endswith("_over_time")
            counted = collected and selector.window_s >= _A_WHILE_S
            below = records and all(self._settled(record, seen | {selector.metric}) for record in records)
            if not (counted or below or selector.metric in OF_THE_DATABASE):
                return False
        return True

    def _read(self, selector: promql.Selector) -> list[Rule]:
        """Rules that may record what it reads."""
        wanted = {label: value for label, how, value in selector.matchers if how == "="}
        return [
            record
            for record in self._records.get(selector.metric, ())
            if all(record.labels.get(label, value) == value for label, value in wanted.items())
        ]

    def _given(self, rule: Rule, seen: frozenset[str]) -> set[str] | None:
        """Labels that an expression may give; None where somebody else's metric is read."""
        expression = promql.read(rule.expr)
        given = {label for labels in expression.grouped_by for label in labels}
        for selector in expression.selectors:
            records = self._read(selector)
            if selector.metric in _LABELS:
                given |= _LABELS[selector.metric] | _OF_TARGETS
            elif selector.metric == "up":
                given |= _OF_TARGETS
            elif not records:
                return None
            for record in records if selector.metric not in seen else ():
                inner = self._given(record, seen | {selector.metric})
                if inner is None:
                    return None
                given |= inner | set(record.labels)
        return given


def _found(level: Level, code: str, rule: Rule, message: str, remedy: str) -> Finding:
    return Finding(level, code, Problem(rule.file, rule.line, rule.where, "", message, remedy))


def _closest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close else ""


def _duplicate_groups(files: Sequence[RuleFile]) -> Iterator[Finding]:
    for file in files:
        first: dict[str, int] = {}
        for name, line in file.groups:
            if name in first and file.rules:
                remedy = f"choose another; the first is in line {first[name]}"
                problem = Problem(file.rules[0].file, line, f"group {name}", "", "the name is taken", remedy)
                yield Finding("error", "duplicate-group", problem)
            first.setdefault(name, line)


def _duplicates(rules: Sequence[Rule]) -> Iterator[Finding]:
    """Two rules of one series: which of them Prometheus keeps is chance."""
    first: dict[tuple[object, ...], Rule] = {}
    for rule in rules:
        series = (rule.kind, rule.name, *sorted(rule.labels.items()))
        key = series if rule.kind == "record" else (*series, " ".join(rule.expr.split()))
        if other := first.get(key):
            same = "the same series is recorded" if rule.kind == "record" else "the same alert is raised"
            remedy = f"keep one of them, or tell them apart by a label; the first is {other.file}:{other.line}"
            yield _found("error", f"duplicate-{rule.kind}", rule, f"{same} twice", remedy)
        first.setdefault(key, rule)


def _labels(rule: Rule) -> Iterator[Finding]:
    severity = rule.labels.get("severity", "")
    if severity not in SEVERITIES:
        message = f"severity is {severity!r}" if severity else "has no severity"
        yield _found("error", "severity", rule, message, f"write one of {', '.join(SEVERITIES)}: routes go by it")
    for label, value in rule.labels.items():
        if "{{" in value:
            message = f"label {label} is a template: an alert whose labels change is another alert each time"
            yield _found("error", "changing-label", rule, message, "put it into an annotation")


def _missing(rule: Rule, runbooks: Path | None) -> Iterator[Finding]:
    for wanted in _WANTED:
        if not rule.annotations.get(wanted, "").strip():
            yield _found("warning", f"no-{wanted.partition('_')[0]}", rule, f"has no annotation {wanted}", "add it")
    page = rule.annotations.get("runbook_url", "").partition("#")[0].rpartition("/")[2]
    if runbooks is not None and page and not (runbooks / page).is_file():
        yield _found("error", "no-runbook", rule, f"there is no {runbooks / page}", "write the page, or name another")
