"""What was spent by the minute in, whether a budget went too fast out: the speed of money, judged as its rules do.

Windows of burn-rate tiers are as short as five minutes, so a quarter of an hour, by which periods are added up, is too
coarse for them. What was spent in a period until a minute is the sum of its whole quarters and of the minutes since.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from graphmeter_config.budget import Budget
from graphmeter_config.burn import Tier
from graphmeter_config.crossing import beyond
from graphmeter_config.history import Slices
from graphmeter_config.simulation import MINUTE_NS, QUARTER_NS, Spend

_MINUTES = QUARTER_NS // MINUTE_NS
_HOUR = 60


def spent_until(budget: Budget, spend: Spend, minutes: Slices, first: int, until: int) -> list[int]:
    """What was spent of a budget in its period until each of the minutes [first, until)."""
    begins = first // _MINUTES * _MINUTES
    since = minutes.before(begins, until)
    found = []
    for quarter in range(begins, until, _MINUTES):
        now_ns = quarter * MINUTE_NS
        start_ns = budget.stretch_at(now_ns).start_ns
        whole = spend.between(start_ns, now_ns) + budget.opening(start_ns) - since[quarter - begins]
        found += [whole + rest for rest in since[quarter - begins : quarter - begins + _MINUTES]]
    return found[first - begins :]


def too_fast(budget: Budget, tier: Tier, minutes: Slices, spent: Sequence[int], first: int, until: int) -> list[bool]:
    """Whether a tier was crossed in both its windows at each of the minutes, and anything was left."""
    limit = budget.limit
    above = tier.share * limit
    short = above * Fraction(tier.short_s, tier.long_s)
    longer = minutes.windows(tier.long_s // 60, first, until)
    lately = minutes.windows(tier.short_s // 60, first, until)
    both = zip(spent, beyond(longer, above), beyond(lately, short), strict=True)
    return [used < limit and by and now for used, by, now in both]


def soon_gone(
    budget: Budget, minutes: Slices, spent: Sequence[int], first: int, until: int, *, soon_h: int, speed_h: int
) -> list[bool]:
    """Whether what is left lasts less than `soon_h`, and not to the end of a calendar period, at the speed of `speed_h`."""
    limit, lately = budget.limit, minutes.windows(speed_h * _HOUR, first, until)
    found = []
    for minute, used, by in zip(range(first, until), spent, lately, strict=True):
        left = limit - used
        soon = left > 0 and left * speed_h < soon_h * by
        if soon and not budget.rolling_ns:
            now_ns = minute * MINUTE_NS
            to_go_ns = budget.stretch_at(now_ns).end_ns - now_ns
            soon = left * speed_h * _HOUR * MINUTE_NS < to_go_ns * by
        found.append(soon)
    return found
