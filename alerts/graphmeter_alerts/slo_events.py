"""What an SLO counts, in PromQL: every kind of objective becomes two selectors of counters, all its events and a part.

The part is either the bad events (by status) or the good ones (up to a threshold: a histogram's bucket counts those); what
is recorded from here on is the same for all kinds: events and bad events, by what the SLO judges by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graphmeter import names
from graphmeter_alerts.rules import quoted
from graphmeter_config import Slo
from graphmeter_config.section import glob_regex

STATUS: Final = "status"
_MAY_BE_WHOLE: Final = r"(\.0)?"

_FROM_THE_START: Final = {names.LLM_TTFT.name: names.LLM_CALLS}
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
    kind, chosen = slo.kind, _chosen(slo)
    name = kind.measured.name
    if kind.bounds:
        return Events(
            _selector(f"{name}_count", chosen), "", _selector(f"{name}_bucket", [le(slo.bound), *chosen]), slo.per
        )
    judged, bad = (f"{STATUS}=~{quoted('|'.join(statuses))}" for statuses in ((*kind.good, *kind.bad), kind.bad))
    return Events(_selector(name, [judged, *chosen]), _selector(name, [bad, *chosen]), "", slo.per)


def instead_of(slo: Slo) -> names.Metric | None:
    """What is there as long as collectors measure the events of an SLO, where that is not the events' own series."""
    return _FROM_THE_START.get(slo.kind.measured.name)


def presence(slo: Slo) -> str:
    """The same as an expression, by what is judged by itself; empty where it is the events' own series."""
    instead = instead_of(slo)
    return f"sum by ({', '.join(slo.per)}) ({_selector(instead.name, _chosen(slo))})" if instead else ""


def le(bound: float) -> str:
    """Matcher of a bucket. Whole numbers may be written without `.0`: OpenTelemetry's exporters do."""
    whole = repr(bound).removesuffix(".0")
    return f"le={quoted(whole)}" if bound % 1 else f"le=~{quoted(whole + _MAY_BE_WHOLE)}"


def _selector(name: str, parts: Sequence[str]) -> str:
    return f"{name}{{{','.join(parts)}}}" if parts else name


def _chosen(slo: Slo) -> list[str]:
    parts = []
    for field, globs in slo.select.restricting().items():
        literal = len(globs) == 1 and not set("*?") & set(globs[0])
        pattern = globs[0] if literal else "|".join(map(glob_regex, globs))
        parts.append(f"{field}{'=' if literal else '=~'}{quoted(pattern)}")
    return parts
