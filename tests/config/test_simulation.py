"""The past judged again: waits, budgets by their periods, and forecasts, at every moment."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmeter_config import Budget, Slo
from graphmeter_config.history import History, Slices
from graphmeter_config.simulation import (
    MINUTE_NS,
    QUARTER_NS,
    Spend,
    Stretch,
    burning,
    exhausted,
    fired,
    in_band,
    leading_beyond,
    spending,
)

HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
T0_NS = 1_798_761_600 * 10**9  # 2027-01-01T00:00Z
USD = 10**9


@pytest.mark.parametrize(
    ("held", "for_", "keep", "expected"),
    [
        ("0110", 0, 0, [(1, 3)]),
        ("0111", 0, 0, [(1, None)]),
        ("01110", 2, 0, [(3, 4)]),
        ("0110", 2, 0, []),
        ("011011", 2, 0, []),
        ("0110110", 0, 1, [(1, None)]),
        ("01100110", 0, 1, [(1, 4), (5, None)]),
        ("0110010", 0, 2, [(1, None)]),
    ],
)
def test_an_alert_waits_and_keeps_firing(
    held: str, for_: int, keep: int, expected: list[tuple[int, int | None]]
) -> None:
    moments = [(at, holds == "1") for at, holds in enumerate(held)]
    assert [Stretch(*each) for each in expected] == fired(moments, for_, keep)


def counted(minutes: dict[int, tuple[int, int]]) -> History:
    """Minute → all events, and the bad ones."""
    total, bad = ({at: said[which] for at, said in minutes.items()} for which in (0, 1))
    return History(Slices.of(total), (Slices.of(bad),))


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(st.integers(0, 600), st.tuples(st.integers(1, 20), st.integers(0, 20)), max_size=60),
    st.sampled_from((90, 99, 99.9)),
)
def test_a_tier_is_crossed_when_both_its_windows_are(minutes: dict[int, tuple[int, int]], objective: float) -> None:
    slo = Slo.model_validate({"name": "a", "objective": objective})
    first = T0_NS // MINUTE_NS
    happened = {first + at: (max(total, bad), bad) for at, (total, bad) in minutes.items()}

    def ratio(minute: int, window_s: int) -> tuple[Fraction, int]:
        within = [said for at, said in happened.items() if minute - window_s // 60 <= at < minute]
        total, bad = sum(each[0] for each in within), sum(each[1] for each in within)
        return Fraction(bad, total) if total else Fraction(0), bad

    for tier in slo.plan_at(T0_NS).tiers:
        judged = dict(burning(counted(happened), slo, tier, T0_NS, T0_NS + 600 * MINUTE_NS))
        for at in range(0, 600, 37):
            short, _ = ratio(first + at, tier.short_s)
            long, bad = ratio(first + at, tier.long_s)
            expected = tier.crossed(short, long) and bad >= slo.min_bad_events
            assert expected == judged[T0_NS + at * MINUTE_NS]


def test_an_error_budget_is_that_of_its_window() -> None:
    slo = Slo.model_validate({"name": "a", "objective": 90, "window": "1d", "min_bad_events": 1})
    first = T0_NS // MINUTE_NS
    events = counted({first: (10, 1), first + 60: (90, 0), first + 120: (1, 1)})
    [early, again] = fired(exhausted(events, slo, T0_NS, T0_NS + 3 * DAY_NS), 0)
    # 1 of 10 is all there may be; with 90 more there is room; a day later only the last one is left in the window.
    assert (T0_NS + 5 * MINUTE_NS, T0_NS + 65 * MINUTE_NS) == early
    assert T0_NS + DAY_NS + 65 * MINUTE_NS == again.since_ns
    assert T0_NS + DAY_NS + 125 * MINUTE_NS == again.until_ns


def test_a_budget_hands_over_at_each_threshold_and_begins_anew_with_its_period() -> None:
    budget = Budget.model_validate({"name": "a", "limit_usd": 10, "period": "day"})
    quarter = T0_NS // QUARTER_NS
    spend = Spend.of({quarter + 4: 8 * USD, quarter + 8: 2 * USD, quarter + 96: USD})
    moments = spending(spend, budget, T0_NS, T0_NS + 2 * DAY_NS)
    warned = fired(in_band(moments, budget, Decimal("0.8"), Decimal(1)), 0)
    gone = fired(in_band(moments, budget, Decimal(1), None), 0)
    assert [(T0_NS + 5 * QUARTER_NS, T0_NS + 9 * QUARTER_NS)] == warned
    assert [(T0_NS + 9 * QUARTER_NS, T0_NS + DAY_NS)] == gone


def test_what_is_spent_before_the_look_back_counts_in_its_period() -> None:
    budget = Budget.model_validate({"name": "a", "limit_usd": 10, "opening_spend": 5, "opening_in": "2027-01"})
    spend = Spend.of({T0_NS // QUARTER_NS: 4 * USD, T0_NS // QUARTER_NS - 1: 100 * USD})
    [first, *_] = spending(spend, budget, T0_NS + 10 * DAY_NS, T0_NS + 11 * DAY_NS)
    assert 9 * USD == first.spent


def test_spend_that_leads_beyond_the_limit_is_told_until_it_is_spent() -> None:
    budget = Budget.model_validate({"name": "a", "limit_usd": 24, "period": "day"})
    quarter = T0_NS // QUARTER_NS
    spend = Spend.of({quarter + at: USD // 2 for at in range(96)})
    held = list(leading_beyond(spending(spend, budget, T0_NS, T0_NS + DAY_NS), budget))
    [(since_ns, until_ns)] = fired(held, 0)
    assert since_ns - T0_NS <= HOUR_NS
    assert T0_NS + 48 * QUARTER_NS == until_ns
