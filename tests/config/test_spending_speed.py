"""How fast a budget goes, by the minute: what is spent in its period, and what will not last a day."""

from __future__ import annotations

from typing import Any

from graphmeter_config import Budget
from graphmeter_config.burn import spend_tiers
from graphmeter_config.history import Slices
from graphmeter_config.simulation import MINUTE_NS, Spend
from graphmeter_config.spending_speed import soon_gone, spent_until, too_fast

DAY = 24 * 60
NEW_YEAR = 1_798_761_600 * 10**9 // MINUTE_NS  # 2027-01-01T00:00Z, a Friday
USD = 10**9


def budget(**facts: Any) -> Budget:
    return Budget.model_validate({"name": "a", **facts})


def both(usd: dict[int, int]) -> tuple[Spend, Slices]:
    """Minute → USD, by the quarter of an hour and by the minute."""
    quarters: dict[int, int] = {}
    for minute, amount in usd.items():
        quarters[minute // 15] = quarters.get(minute // 15, 0) + amount * USD
    return Spend.of(quarters), Slices.of({minute: amount * USD for minute, amount in usd.items()})


def test_what_is_spent_is_known_by_the_minute_and_begins_anew_with_the_period() -> None:
    spend, minutes = both({NEW_YEAR - 20: 3, NEW_YEAR - 1: 5, NEW_YEAR: 7, NEW_YEAR + 16: 2})
    daily = budget(limit_usd=100, period="day")
    found = spent_until(daily, spend, minutes, NEW_YEAR - 2, NEW_YEAR + 18)
    assert [3, 3, 0, *[7] * 16, 9] == [amount // USD for amount in found]


def test_speed_is_told_of_while_anything_is_left() -> None:
    weekly = budget(limit_usd=100, rolling="7d")
    fast = spend_tiers(weekly.nominal_s)[0]
    spend, minutes = both({NEW_YEAR + at: 10 for at in range(12)})
    spent = spent_until(weekly, spend, minutes, NEW_YEAR, NEW_YEAR + 20)
    held = too_fast(weekly, fast, minutes, spent, NEW_YEAR, NEW_YEAR + 20)
    # Ten dollars a minute are fast at once; after ten minutes nothing is left.
    assert list(range(1, 10)) == [at for at, each in enumerate(held) if each]


def test_what_lasts_to_the_end_of_its_period_is_not_soon_gone() -> None:
    spending = {NEW_YEAR + 2 * DAY + 12 * 60 + at: 1 for at in range(6 * 60)}
    now = NEW_YEAR + 2 * DAY + 18 * 60
    spend, minutes = both(spending)
    for limit, rolling, expected in ((700, False, True), (780, False, False), (780, True, True), (2000, True, False)):
        # 60 USD an hour; the week ends in six hours, of which the window knows nothing.
        one = budget(limit_usd=limit, **({"rolling": "7d"} if rolling else {"period": "week", "timezone": "UTC"}))
        spent = spent_until(one, spend, minutes, now, now + 1)
        assert [expected] == soon_gone(one, minutes, spent, now, now + 1, soon_h=24, speed_h=6), limit
