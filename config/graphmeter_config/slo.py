"""Service level objectives: which share of events has to be good over a window, and the error budget that leaves.

Budgets and states are exact fractions of event counts; nothing here knows where the counts come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from graphmeter import names
from graphmeter_config.section import Section, Selector
from graphmeter_config.values import SECONDS_PER_DAY, Name, Percent, Seconds, percent_text, wrong

GOOD_STATUSES = (names.OK,)
BAD_STATUSES = (names.ERROR, names.LOST)
"""Runs that were interrupted or cancelled, or still run, are neither good nor bad."""


def _objective(value: Decimal) -> Decimal:
    if value >= 100:
        raise wrong("leaves no error budget", "write a percentage below 100, such as 99.9%")
    if value <= 0:
        raise wrong("asks for nothing", "write a percentage above 1, such as 99%")
    if value <= 1:
        raise wrong("looks like a ratio", f"write a percentage: {percent_text(value * 100)}")
    return value


def _window(value: float) -> float:
    if not SECONDS_PER_DAY <= value <= 365 * SECONDS_PER_DAY:
        raise wrong("not between 1d and 365d", "write 7d, 28d, 30d or 90d")
    if value % SECONDS_PER_DAY:
        raise wrong("not a whole number of days", "write 7d, 28d, 30d or 90d")
    return value


class Slo(Section):
    """An objective for the runs of every matching graph, each graph judged by itself."""

    name: Name
    description: str = ""
    indicator: Literal["availability"] = "availability"
    """A run is good when its status is ok, bad when it is error or lost."""
    objective: Annotated[Percent, AfterValidator(_objective)]
    """Percent of runs that have to be good."""
    window_s: Annotated[Seconds, AfterValidator(_window)] = Field(30.0 * SECONDS_PER_DAY, alias="window")
    """Rolling window in seconds, whole days."""
    select: Selector = Selector()
    min_bad_events: int = Field(5, ge=1, le=1_000_000)
    """Burn alerts stay silent below this many bad runs in their long window: one failure of two runs is no trend."""

    @property
    def error_budget(self) -> Fraction:
        """Share of events that may be bad: 1/100 for an objective of 99 %."""
        return 1 - Fraction(self.objective) / 100

    def status(self, good: int, bad: int) -> SloStatus:
        """State of the objective after so many good and bad events within its window."""
        return SloStatus(self.error_budget, good, bad)


@dataclass(frozen=True, slots=True)
class SloStatus:
    """State of one SLO. Without events there is no ratio, and nothing has been spent."""

    error_budget: Fraction
    good: int
    bad: int

    def __post_init__(self) -> None:
        if self.good < 0 or self.bad < 0:
            raise ValueError(f"counts of events cannot be negative: good={self.good}, bad={self.bad}")

    @property
    def achieved(self) -> Fraction | None:
        """Share of events that were good."""
        total = self.good + self.bad
        return Fraction(self.good, total) if total else None

    @property
    def burn_rate(self) -> Fraction | None:
        """Speed of spending: at 1, the budget lasts exactly the window."""
        achieved = self.achieved
        return None if achieved is None else (1 - achieved) / self.error_budget

    @property
    def budget_remaining(self) -> Fraction | None:
        """Share of the error budget left: 1 untouched, 0 spent, negative overspent."""
        burn_rate = self.burn_rate
        return None if burn_rate is None else 1 - burn_rate

    @property
    def met(self) -> bool:
        """Whether the objective holds; it does while nothing happened."""
        remaining = self.budget_remaining
        return remaining is None or remaining >= 0


def slo_status(slo: Slo, good: int, bad: int) -> SloStatus:
    """State of `slo` after so many good and bad events within its window."""
    return slo.status(good, bad)
