"""Spend so far in, where it leads out: at the rate between that of the whole period and that of its last part.

    rate      = (spend / elapsed + recent spend / recent time) / 2
    forecast  = spend + rate * time left
    exhausted = now + (limit - spend) / rate

Recent is the current slice and some before it (three days of a month, two of a week, three hours of a day). The whole
period alone would notice a change of habits too late, the last part alone would take every night for the end of all spend.
Of a rolling window the forecast is what a window at the recent rate would hold.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from graphmeter_config.budget import Budget
from graphmeter_config.slices import HOUR_NS

NEEDED_SHARE: Final = 100
"""The first hundredth of a period has no forecast: a few calls say nothing."""
_DAY_NS: Final = 24 * HOUR_NS
_BACK_NS: Final = {"month": 2 * _DAY_NS, "week": _DAY_NS, "day": 2 * HOUR_NS}


class Forecast(NamedTuple):
    """Where spend leads."""

    spend: int
    """At the end of the period, in the limit's units."""
    exhausted_ns: int | None
    """When the limit is reached; None: not within the period, or it is already."""


def recent_since(budget: Budget, now_ns: int) -> int:
    """Since when spend is recent: the start of a slice, never before the period's."""
    back_ns = max(budget.rolling_ns // 8, 2 * HOUR_NS) if budget.rolling_ns else _BACK_NS[budget.period]
    return max(budget.slice_at(now_ns - back_ns).start_ns, budget.stretch_at(now_ns).start_ns)


def forecast(budget: Budget, spent: int, recent: int, now_ns: int) -> Forecast | None:
    """Where the spend of the current period leads; `recent` is its part since `recent_since`.

    None while too little of the period has passed.
    """
    start_ns, end_ns = budget.stretch_at(now_ns)
    recent_ns = max(now_ns - recent_since(budget, now_ns), 1)
    if budget.rolling_ns:
        return Forecast(recent * budget.rolling_ns // recent_ns, None)
    elapsed_ns = now_ns - start_ns
    if elapsed_ns * NEEDED_SHARE < end_ns - start_ns:
        return None
    # Twice the rate is a / b, in whole numbers: money is.
    a, b = spent * recent_ns + recent * elapsed_ns, elapsed_ns * recent_ns
    at_end = spent + a * (end_ns - now_ns) // (2 * b)
    exhausted_ns = None
    if spent < budget.limit <= at_end:
        exhausted_ns = min(now_ns - (-(budget.limit - spent) * 2 * b // a), end_ns)
    return Forecast(at_end, exhausted_ns)
