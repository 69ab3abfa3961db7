"""What happened in, when alerts would have fired out: burn rates and budgets judged at every moment of the past.

The same engine as that of the rules (`burn`, `budget`, `forecast`), with the waits that rules add. Moments are whole
minutes for events and quarters of an hour for spend, [start, end), so each end is a few moments late at most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Final, NamedTuple

from graphmeter_config.budget import Budget
from graphmeter_config.burn import Tier
from graphmeter_config.forecast import forecast, recent_since
from graphmeter_config.history import History
from graphmeter_config.slices import NS
from graphmeter_config.slo import Slo

MINUTE_NS: Final = 60 * NS
QUARTER_NS: Final = 900 * NS


class Stretch(NamedTuple):
    """How long an alert would have fired, in ns since the epoch."""

    since_ns: int
    until_ns: int | None
    """None: it would still do."""


def fired(held: Iterable[tuple[int, bool]], for_ns: int, keep_ns: int = 0) -> list[Stretch]:
    """Moments and whether the condition held in them → when an alert that waits so long, and keeps firing, fires."""
    found: list[Stretch] = []
    since: int | None = None
    began: int | None = None
    last = 0
    for at_ns, holds in held:
        if holds:
            since = at_ns if since is None else since
            last = at_ns
            if began is None and at_ns - since >= for_ns:
                began = at_ns
        elif began is None:
            since = None
        elif at_ns - last > keep_ns:
            found.append(Stretch(began, at_ns))
            since = began = None
    if began is not None:
        found.append(Stretch(began, None))
    return found


def burning(events: History, slo: Slo, tier: Tier, since_ns: int, until_ns: int) -> Iterator[tuple[int, bool]]:
    """Every minute, and whether the tier was crossed by enough bad events."""
    first, until = since_ns // MINUTE_NS, until_ns // MINUTE_NS + 1
    above, below = tier.threshold.numerator, tier.threshold.denominator
    short, longer = (
        zip(events.whole.windows(length, first, until), events.parts[0].windows(length, first, until), strict=True)
        for length in (tier.short_s // 60, tier.long_s // 60)
    )
    for minute, (total, bad), (of, long_bad) in zip(range(first, until), short, longer, strict=True):
        crossed = bad * below > total * above and long_bad >= slo.min_bad_events and long_bad * below > of * above
        yield minute * MINUTE_NS, crossed


def exhausted(events: History, slo: Slo, since_ns: int, until_ns: int) -> Iterator[tuple[int, bool]]:
    """Every five minutes, and whether nothing was left of the error budget of the window that ends then."""
    first, until = since_ns // MINUTE_NS, until_ns // MINUTE_NS + 1
    oldest = slo.period_at(first * MINUTE_NS).start_ns // MINUTE_NS
    all_, bad = events.whole.before(oldest, until), events.parts[0].before(oldest, until)
    budget = slo.error_budget
    for minute in range(first, until, 5):
        start = max(slo.period_at(minute * MINUTE_NS).start_ns // MINUTE_NS, oldest) - oldest
        total, spent = (sums[minute - oldest] - sums[start] for sums in (all_, bad))
        enough = spent >= slo.min_bad_events
        yield minute * MINUTE_NS, enough and spent * budget.denominator >= total * budget.numerator


class Spend(NamedTuple):
    """Spend of one scope of a budget, in its units: ends of quarters of an hour, rising, and the sum until each."""

    ends_ns: Sequence[int]
    sums: Sequence[int]

    @classmethod
    def of(cls, quarters: Mapping[int, int]) -> Spend:
        """Quarter of an hour since the epoch → spend."""
        ordered = sorted(quarters)
        ends = [(quarter + 1) * QUARTER_NS for quarter in ordered]
        return cls(ends, list(accumulate(quarters[quarter] for quarter in ordered)))

    def between(self, start_ns: int, end_ns: int) -> int:
        """What was spent in [start, end)."""
        return self._until(end_ns) - self._until(start_ns)

    def _until(self, at_ns: int) -> int:
        # A quarter counts from its end on; one that begins with the period ends in it.
        index = bisect_left(self.ends_ns, at_ns + 1)
        return self.sums[index - 1] if index else 0


class BudgetMoment(NamedTuple):
    """A budget at one moment."""

    at_ns: int
    spent: int
    leads_to: int | None
    """Spend at the end of the period, if it goes on so."""


def spending(spend: Spend, budget: Budget, since_ns: int, until_ns: int) -> list[BudgetMoment]:
    """Every quarter of an hour, what was spent in its period and where that led."""
    found = []
    for quarter in range(since_ns // QUARTER_NS, until_ns // QUARTER_NS + 1):
        now_ns = quarter * QUARTER_NS
        start_ns = budget.stretch_at(now_ns).start_ns
        spent = spend.between(start_ns, now_ns) + budget.opening(start_ns)
        led = forecast(budget, spent, spend.between(recent_since(budget, now_ns), now_ns), now_ns) if spent else None
        found.append(BudgetMoment(now_ns, spent, led.spend if led else None))
    return found


def in_band(
    moments: Iterable[BudgetMoment], budget: Budget, share: Decimal, following: Decimal | None
) -> Iterator[tuple[int, bool]]:
    """Whether spend had reached a threshold and not yet the next."""
    for moment in moments:
        used = Decimal(moment.spent)
        yield moment.at_ns, used >= share * budget.limit and (following is None or used < following * budget.limit)


def leading_beyond(moments: Iterable[BudgetMoment], budget: Budget) -> Iterator[tuple[int, bool]]:
    """Whether spend led beyond a limit that it had not reached."""
    for moment in moments:
        leads = moment.leads_to is not None and moment.leads_to >= budget.limit
        yield moment.at_ns, leads and moment.spent < budget.limit


def unattributed(
    nobodys: Spend, everybodys: Spend, share: Decimal, at_least: int, since_ns: int, until_ns: int
) -> Iterator[tuple[int, bool]]:
    """Whether, of the spend of a day, so large a share named no team, and that was enough."""
    for quarter in range(since_ns // QUARTER_NS, until_ns // QUARTER_NS + 1):
        now_ns = quarter * QUARTER_NS
        day_ago = now_ns - 86_400 * NS
        part, whole = nobodys.between(day_ago, now_ns), everybodys.between(day_ago, now_ns)
        yield now_ns, part >= at_least and part > share * whole
