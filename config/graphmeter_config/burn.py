"""Burn-rate alerting: an error budget and its period in, tiers with exact thresholds out. Knows no monitoring system.

A tier is crossed when the error ratio exceeds its threshold in a long window (enough has been lost to matter) and in a
short one (it is still going on). Source: https://sre.google/workbook/alerting-on-slos/, "multiwindow, multi-burn-rate".
The workbook's shares of the budget suit 30 days and strict objectives. For other periods a tier may alert below the
speed that the budget sustains (factor < 1: it nags), for lenient objectives it may ask for more than 100 % of errors
(threshold >= 1: it never fires). Both are found here, said in words and mended.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from graphmeter_config.values import SECONDS_PER_DAY, duration_text

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = SECONDS_PER_DAY
_STOCK_PERIOD_S: Final = 30 * _DAY
_LARGEST_SHARE: Final = Fraction(1, 2)
"""A mended tier tells at the latest when half of the budget is gone."""

Severity = Literal["page", "ticket"]


def burn_rate_factor(share: Fraction, long_s: int, period_s: int) -> Fraction:
    """Speed at which `share` of the error budget is gone within `long_s` seconds.

    1 spends exactly one budget per period. Source: https://sre.google/workbook/alerting-on-slos/

    Raises:
        ValueError: the window is not shorter than the period.
    """
    if not 0 < long_s < period_s:
        raise ValueError(
            f"a window of {duration_text(long_s)} is not shorter than a period of {duration_text(period_s)}"
        )
    return share * Fraction(period_s, long_s)


@dataclass(frozen=True, slots=True)
class Tier:
    """One pair of windows and the error ratio both have to exceed."""

    name: str
    severity: Severity
    short_s: int
    long_s: int
    share: Fraction
    """Share of the error budget that is gone when the long window has just been crossed."""
    factor: Fraction
    """How many times faster than sustainable."""
    threshold: Fraction
    """Error ratio, strictly between 0 and 1."""
    note: str = ""
    """Why the tier differs from the workbook's; empty when it does not."""

    def crossed(self, short_ratio: Fraction, long_ratio: Fraction) -> bool:
        """Whether error ratios of the two windows cross the tier."""
        return short_ratio > self.threshold and long_ratio > self.threshold

    def exhausts_within_s(self, period_s: int) -> Fraction:
        """How long a whole error budget lasts at the tier's speed, in seconds."""
        return period_s / self.factor


@dataclass(frozen=True, slots=True)
class Dropped:
    """A tier that makes no sense for a period."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The tiers of one SLO, fastest first: factors and thresholds never rise from one to the next."""

    tiers: tuple[Tier, ...]
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stock:
    name: str
    severity: Severity
    short_s: int
    long_s: int
    percent: int

    @property
    def share(self) -> Fraction:
        return Fraction(self.percent, 100)


_STOCK: Final = (
    _Stock("page-fast", "page", 5 * _MINUTE, _HOUR, 2),
    _Stock("page-slow", "page", 30 * _MINUTE, 6 * _HOUR, 5),
    _Stock("ticket-fast", "ticket", 2 * _HOUR, _DAY, 10),
    _Stock("ticket-slow", "ticket", 6 * _HOUR, 3 * _DAY, 10),
)


def plan(error_budget: Fraction, period_s: int) -> Plan:
    """The tiers for an error budget (share of events that may be bad) over a period of seconds.

    Every tier has factor >= 1, 0 < threshold < 1, and a window of at most half the period.

    Raises:
        ValueError: the budget is not strictly between 0 and 1, or the period is shorter than two hours.
    """
    if not 0 < error_budget < 1:
        raise ValueError(f"an error budget of {error_budget} is not strictly between 0 and 1")
    if period_s < 2 * _HOUR:
        raise ValueError(f"a period of {duration_text(period_s)} is too short for any tier: take 2h or more")
    tiers: list[Tier] = []
    dropped: list[Dropped] = []
    for stock in _STOCK:
        if 2 * stock.long_s > period_s:
            reason = (
                f"its window of {duration_text(stock.long_s)} is more than half of the period of "
                f"{duration_text(period_s)}: it could tell only when most of the budget is gone"
            )
            dropped.append(Dropped(stock.name, reason))
        else:
            tiers.append(_not_nagging(stock, error_budget, period_s, tiers[-1] if tiers else None))
    return Plan(tuple(_able_to_fire(tiers, error_budget, period_s)), tuple(dropped))


MONTH_DAYS: Final = (28, 29, 30, 31)
"""Lengths of calendar months."""


def month_plans(error_budget: Fraction) -> dict[int, Plan]:
    """The tiers of a calendar month by its length in days; the same tiers in all of them, with factors of their own.

    Windows reach back over the first of a month: they tell how fast bad events come, whichever month these were in, and the
    month that has begun says how fast is too fast.

    Raises:
        ValueError: see `plan`.
    """
    return {days: plan(error_budget, days * _DAY) for days in MONTH_DAYS}


def spend_tiers(period_s: int) -> tuple[Tier, ...]:
    """The tiers for money, by the same windows and shares of a budget that lasts so long; fastest first.

    Money is not spent evenly: a budget that people use up who work by day goes at three times the mean speed while they
    do. The slowest tier, at the mean speed, would tell of each of their weeks: where a period leads, its forecast says.
    And no speed of spending is impossible, so none is lowered.

    Raises:
        ValueError: the period is shorter than two hours.
    """
    almost_nothing = Fraction(1, 10**12)
    return tuple(tier for tier in plan(almost_nothing, period_s).tiers if tier.name != _STOCK[-1].name)


def _not_nagging(stock: _Stock, error_budget: Fraction, period_s: int, faster: Tier | None) -> Tier:
    factor, note = burn_rate_factor(stock.share, stock.long_s, period_s), ""
    if factor < 1:
        usual = burn_rate_factor(stock.share, stock.long_s, _STOCK_PERIOD_S)
        mended = min(usual, _LARGEST_SHARE * Fraction(period_s, stock.long_s), faster.factor if faster else usual)
        note = (
            f"{stock.percent}% of the budget in {duration_text(stock.long_s)} is {_number(factor)} times the speed that "
            f"a period of {duration_text(period_s)} sustains: it would alert while all is well. "
            f"Raised to {_number(mended)} times"
        )
        factor = mended
    return _tier(stock, factor, error_budget, period_s, note)


def _able_to_fire(tiers: list[Tier], error_budget: Fraction, period_s: int) -> list[Tier]:
    """Lower what no error ratio can reach, halfway between the next slower tier and 100 % of errors."""
    mended: list[Tier] = []
    fastest_possible = 1 / error_budget
    for tier in reversed(tiers):
        if tier.threshold >= 1:
            slower = mended[-1].factor if mended else Fraction(1)
            factor = (slower + fastest_possible) / 2
            note = (
                f"{_number(tier.factor)} times the sustainable speed is an error ratio of {_number(100 * tier.threshold)}%, "
                f"which nothing can exceed. Lowered to {_number(factor)} times"
            )
            note = f"{tier.note}. {note}" if tier.note else note
            tier = _tier(_stock(tier.name), factor, error_budget, period_s, note)
        mended.append(tier)
    return mended[::-1]


def _tier(stock: _Stock, factor: Fraction, error_budget: Fraction, period_s: int, note: str) -> Tier:
    share = factor * Fraction(stock.long_s, period_s)
    threshold = factor * error_budget
    return Tier(stock.name, stock.severity, stock.short_s, stock.long_s, share, factor, threshold, note)


def _stock(name: str) -> _Stock:
    return next(stock for stock in _STOCK if stock.name == name)


def _number(value: Fraction) -> str:
    return f"{float(value):.4g}"
