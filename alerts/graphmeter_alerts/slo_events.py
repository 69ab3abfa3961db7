"""What an SLO counts, in PromQL: every kind of objective becomes two selectors of counters, all its events and a part.

The part is either the bad events (by status, or by what the application said) or the good ones (up to a threshold: a
histogram's bucket counts those). What is recorded from here on is the same for all kinds: events and bad events, by what
the SLO judges by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graphmeter import names
from graphmeter_alerts.rules import quoted
from graphmeter_config import EventSelector, Slo
from graphmeter_config.indicators import Counted
from graphmeter_config.section import glob_regex

_MAY_BE_WHOLE: Final = r"(\.0)?"
_EXPONENT_FROM: Final = 6

_FROM_THE_START: Final = {names.LLM_TTFT.name: names.LLM_CALLS, names.OUTCOMES.name: names.RUNS}
"""Metrics whose series a collector that was started anew lacks until the next event, and what it shows from its start."""


@dataclass(frozen=True, slots=True)
class Events:
    """Selectors of counters that never mean anything else than events of one SLO."""

    total: str
    bad: str
    """Empty where the good ones are known instead."""
    good: str
    per: tuple[str, ...]

    def counted(self, window: str) -> tuple[str, str]:
        """Expressions for the events of a window and the bad ones among them, by what is judged by itself."""
        events = self._increase(self.total, window)
        if self.good:
            return events, f"{events}\n-\n{self._increase(self.good, window)}"
        # What never failed may have no series of failures: none, not unknown.
        return events, f"{self._increase(self.bad, window)}\nor\n0 * {events}"

    def _increase(self, selector: str, window: str) -> str:
        return f"sum by ({', '.join(self.per)}) (increase({selector}[{window}]))"


def events(slo: Slo) -> Events:
    """The events of an SLO."""
    kind, metric = slo.kind, slo.kind.events.metric
    if kind.bad is None:
        chosen = _chosen(slo, metric)
        count = selector(f"{metric.name}_count", chosen)
        return Events(count, "", selector(f"{metric.name}_bucket", [le(slo.bound), *chosen]), slo.per)
    return Events(_counted(slo, kind.events), _counted(slo, kind.bad), "", slo.per)


def instead_of(slo: Slo) -> names.Metric | None:
    """What is there as long as collectors measure the events of an SLO, where that is not the events' own series."""
    return _FROM_THE_START.get(slo.kind.events.metric.name)


def presence(slo: Slo) -> tuple[tuple[str, ...], str]:
    """The same as an expression, and what it has in common with the events; empty where it is the events' own series."""
    instead = instead_of(slo)
    if instead is None:
        return (), ""
    by = tuple(name for name in slo.per if name in instead.labels)
    return by, f"sum by ({', '.join(by)}) ({selector(instead.name, _chosen(slo, instead))})"


def le(bound: float) -> str:
    """Matcher of a bucket. Whole numbers may be written without `.0`: OpenTelemetry's exporters do."""
    whole = repr(bound).removesuffix(".0")
    if bound % 1:
        return f"le={quoted(whole)}"
    # From a million on, collectors write them as Go does: 5e+06.
    exponent = len(whole) - 1
    mantissa = f"{whole[0]}.{whole[1:]}".rstrip("0").rstrip(".")
    large = "|" + re.escape(f"{mantissa}e+{exponent:02}") if exponent >= _EXPONENT_FROM else ""
    return f"le=~{quoted(whole + _MAY_BE_WHOLE + large)}"


def _counted(slo: Slo, counted: Counted) -> str:
    values = f"{counted.label}=~{quoted('|'.join(counted.values))}"
    return selector(counted.metric.name, [values, *_chosen(slo, counted.metric)])


def selector(name: str, parts: Sequence[str]) -> str:
    """A metric and its matchers."""
    return f"{name}{{{','.join(parts)}}}" if parts else name


def chosen(select: EventSelector, labels: Sequence[str]) -> list[str]:
    """Matchers of what is selected, for a metric that has these labels."""
    return [one_of(field, globs) for field, globs in select.restricting().items() if field in labels]


def one_of(label: str, globs: tuple[str, ...]) -> str:
    """Matcher of a label that is one of these patterns."""
    literal = len(globs) == 1 and not set("*?") & set(globs[0])
    pattern = globs[0] if literal else "|".join(map(glob_regex, globs))
    return f"{label}{'=' if literal else '=~'}{quoted(pattern)}"


def _chosen(slo: Slo, metric: names.Metric) -> list[str]:
    return chosen(slo.select, metric.labels)
