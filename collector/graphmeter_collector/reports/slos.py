"""Objectives and what became of them: counts of events by what is judged by itself, states, periods, reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from graphmeter_config import Slo

Group = tuple[str, ...]
"""Values of what an SLO judges by itself, in the order of its `per`."""


class Judgement(NamedTuple):
    """Events of a time."""

    total: int
    bad: int
    unsure: int = 0
    """Events that were counted without a look at which side of the threshold they were on; a part of them is in `bad`."""

    def plus(self, other: Judgement) -> Judgement:
        """Both together."""
        return Judgement(self.total + other.total, self.bad + other.bad, self.unsure + other.unsure)


Judgements = Mapping[Group, Judgement]


class InCommon(NamedTuple):
    """What bad events have in common: how many of them each error type, and each node, had a part in."""

    errors: Counter[str]
    nodes: Counter[str]


Culprits = Mapping[Group, InCommon]


class SloCounts(Protocol):
    """Who counts events of objectives in a database."""

    async def judged(self, slo: Slo, since_ns: int, until_ns: int, *, to_the_hour: bool = False) -> Judgements:
        """Events that began in [since, until). To the hour: a range of more than three days may begin with a whole one."""
        ...

    async def culprits(self, slo: Slo, since_ns: int, until_ns: int) -> Culprits:
        """What the bad ones among them have in common."""
        ...

    async def judged_lately(
        self, slo: Slo, now_ns: int, windows_ns: Sequence[int], lost_after_ns: int
    ) -> Sequence[Judgements]:
        """Events that ended within each of the windows before now, of up to 6 hours."""
        ...


@dataclass(frozen=True, slots=True)
class BurnRow:
    """How fast an error budget burns in the two windows of a tier."""

    tier: str
    severity: str
    factor: float
    """Beyond this speed, in both windows, the tier alerts; 1 lasts exactly the objective's window."""
    short: str
    """`5m`."""
    long: str
    short_events: int
    short_bad: int
    short_burn_rate: float | None
    """None without events."""
    long_events: int
    long_bad: int
    long_burn_rate: float | None
    crossed: bool
    """Whether both are, with enough bad events: what makes the alert fire, but for how long it waits."""


@dataclass(frozen=True, slots=True)
class SloRow:
    """State of one SLO over its window, for one of the things that it judges by themselves."""

    slo: str
    graph: str
    """Empty where it is not judged by graph."""
    objective_percent: str
    window_s: int
    """Of a calendar month its own length."""
    good: int
    bad: int
    achieved_ratio: float | None
    """None without events."""
    budget_remaining_ratio: float | None
    """1 is untouched, 0 spent, negative overspent; None without events."""
    scope: dict[str, str] = field(default_factory=dict)
    """What it is judged by, with its values: `{"graph": "support"}`."""
    indicator: str = "availability"
    of: str = "runs"
    threshold: str = ""
    """`30s`, `0.5 USD`; empty where the status decides."""
    window: str = ""
    """`30d`; `calendar month`."""
    since_ns: int = 0
    """Since when events count."""
    total: int = 0
    unsure: int = 0
    """Events counted before thresholds were looked at (by an older collector): on which side each was is an estimate."""
    burn_rate: float | None = None
    """Of the last hour: 1 is the speed at which the budget lasts exactly the window. None without events."""
    burn: tuple[BurnRow, ...] = ()
    """By tier, the fastest first; empty where it was not asked for."""
    exhausted_at_ns: int | None = None
    """When the budget will be spent at the speed of now, which is that of the shortest window that has enough bad events to
    tell; None: not in sight, or it is spent already."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A maintenance window, as far as it lies in a report's time."""

    name: str
    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Culprit:
    """What failures of an objective have in common: an error type, or a node."""

    name: str
    bad: int


@dataclass(frozen=True, slots=True)
class SloReport:
    """What became of one SLO between two moments, for one of the things that it judges by themselves."""

    slo: str
    scope: dict[str, str]
    objective_percent: str
    indicator: str
    of: str
    threshold: str
    since_ns: int
    until_ns: int
    total: int
    good: int
    bad: int
    achieved_ratio: float | None
    budget_consumed_ratio: float | None
    """Of what the events of this time allowed to be bad: 1 is all of it. None without events."""
    met: bool
    unsure: int = 0
    excluded_total: int = 0
    """Events of maintenance windows, which are in none of the figures above where they were left out."""
    excluded_bad: int = 0
    errors: tuple[Culprit, ...] = ()
    """Types of errors in what was bad, the most frequent first."""
    nodes: tuple[Culprit, ...] = ()
    """Nodes in which it went wrong."""


@dataclass(frozen=True, slots=True)
class SloReports:
    """What became of objectives between two moments."""

    since_ns: int
    until_ns: int
    maintenance: tuple[Excluded, ...]
    """Windows that have a part in this time."""
    left_out: bool
    """Whether figures are without them."""
    slos: tuple[SloReport, ...]
