"""Calendar months in PromQL: what happened since the first, and thresholds that follow the month's length. All in UTC.

A range in PromQL has a fixed length, and a month has none. So slices are recorded a second time under one of three names, by
their month modulo three: 31 days back from now, the name of this month holds slices of this month alone, however long the
ones before were (with two names the first days of March would still hold the end of January). It costs no subquery, and a
gap in recording loses the gap and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from graphmeter_alerts.rules import Record, matchers
from graphmeter_alerts.wording import number
from graphmeter_config import Slo
from graphmeter_config.burn import Tier, month_plans

NAMES: Final = 3
THRESHOLD: Final = "slo:burn_threshold:ratio"
NOT_THE_FIRST: Final = "(day_of_month() > 1)"
"""On the first day a handful of events decides what is left; a budget that is spent then is told by burn rates alone."""


def slices(slo: Slo, slice_: str, slice_s: int) -> Iterator[Record]:
    """The slices of a calendar month once more; none where the window rolls."""
    if slo.calendar:
        for name in range(NAMES):
            # By its middle, the slice that the month began in is of the month that most of it was in.
            this = f"(month(vector(time() - {slice_s // 2})) % {NAMES} == {name})"
            expr = f"{slice_}{matchers(slo=slo.name)}\nand on ()\n{this}"
            yield Record(f"{slice_}_month{name}", expr, {"slo": slo.name})


def to_date(slo: Slo, slice_: str) -> str:
    """The sum of slices since the first of the month; no sample where there was none."""
    selector = matchers(slo=slo.name)
    return "\nor\n".join(
        f"sum_over_time({slice_}_month{name}{selector}[31d]) and on () (month() % {NAMES} == {name})"
        for name in range(NAMES)
    )


def thresholds(slo: Slo) -> Iterator[Record]:
    """The error ratio that each burn-rate tier begins at, in this month; none where the window rolls."""
    if not slo.calendar:
        return
    plans = month_plans(slo.error_budget)
    for tier in next(iter(plans.values())).tiers:
        by_days = {days: next(each for each in plan.tiers if each.name == tier.name) for days, plan in plans.items()}
        a_day = {each.threshold / days for days, each in by_days.items()}
        if len(a_day) == 1:
            expr = f"days_in_month() * {number(a_day.pop())}"
        else:
            # Mended in some months or in all: no more in proportion to their length.
            expr = "\nor\n".join(
                f"vector({number(each.threshold)}) and on () (days_in_month() == {days})"
                for days, each in by_days.items()
            )
        yield Record(THRESHOLD, expr, {"slo": slo.name, "burn": tier.name})


def threshold(slo: Slo, tier: Tier) -> str:
    """The same as a scalar; nothing exceeds it where it is missing."""
    return f"scalar({THRESHOLD}{matchers(slo=slo.name, burn=tier.name)})"
