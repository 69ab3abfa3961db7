"""Burn-rate tiers: the workbook's where they make sense, mended or left out with the reason where they do not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphmeter_config.burn import burn_rate_factor, plan

DAY = 86_400
HOUR = 3_600
ONE_PERCENT = Fraction(1, 100)
NAMES = ("page-fast", "page-slow", "ticket-fast", "ticket-slow")
SHARES = (Fraction(2, 100), Fraction(5, 100), Fraction(10, 100), Fraction(10, 100))
LONG_S = (HOUR, 6 * HOUR, DAY, 3 * DAY)


def fractions(*texts: str) -> list[Fraction]:
    return [Fraction(text) for text in texts]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (7, fractions("3.36", "1.4", "0.7", "7/30")),
        (28, fractions("13.44", "5.6", "2.8", "14/15")),
        (30, fractions("14.4", "6", "3", "1")),
        (90, fractions("43.2", "18", "9", "3")),
    ],
)
def test_factors_are_exact_for_every_period(days: int, expected: list[Fraction]) -> None:
    factors = [burn_rate_factor(share, long, days * DAY) for share, long in zip(SHARES, LONG_S, strict=True)]
    assert expected == factors


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("99.9", fractions("0.0144", "0.006", "0.003", "0.001")),
        ("99", fractions("0.144", "0.06", "0.03", "0.01")),
        ("95", fractions("0.72", "0.3", "0.15", "0.05")),
    ],
)
def test_thresholds_of_30_days_are_the_workbooks(objective: str, expected: list[Fraction]) -> None:
    made = plan(1 - Fraction(objective) / 100, 30 * DAY)
    assert expected == [tier.threshold for tier in made.tiers]
    assert ["", "", "", ""] == [tier.note for tier in made.tiers]
    assert () == made.dropped


def test_windows_shares_and_severities_are_the_workbooks() -> None:
    expected = [
        ("page-fast", "page", 300, HOUR, SHARES[0]),
        ("page-slow", "page", 1800, 6 * HOUR, SHARES[1]),
        ("ticket-fast", "ticket", 2 * HOUR, DAY, SHARES[2]),
        ("ticket-slow", "ticket", 6 * HOUR, 3 * DAY, SHARES[3]),
    ]
    tiers = plan(ONE_PERCENT, 30 * DAY).tiers
    assert expected == [(tier.name, tier.severity, tier.short_s, tier.long_s, tier.share) for tier in tiers]


def test_a_tier_that_nothing_can_exceed_is_lowered_and_says_why() -> None:
    tiers = plan(Fraction(1, 10), 30 * DAY).tiers
    # 14.4 x 10 % would be 144 % of errors; halfway between page-slow (6 x) and everything failing (10 x) is 8 x.
    assert fractions("0.8", "0.6", "0.3", "0.1") == [tier.threshold for tier in tiers]
    expected = (
        "14.4 times the sustainable speed is an error ratio of 144%, which nothing can exceed. Lowered to 8 times"
    )
    assert [expected, "", "", ""] == [tier.note for tier in tiers]
    assert Fraction(8, 720) == tiers[0].share


def test_several_tiers_that_nothing_can_exceed_keep_their_order() -> None:
    tiers = plan(Fraction(1, 5), 30 * DAY).tiers
    assert fractions("0.9", "0.8", "0.6", "0.2") == [tier.threshold for tier in tiers]


def test_tiers_that_would_nag_are_raised_and_say_why() -> None:
    tiers = plan(ONE_PERCENT, 7 * DAY).tiers
    assert fractions("3.36", "1.4", "1.4", "1") == [tier.factor for tier in tiers]
    # The last two are the shares that Sloth's hand-made windows for seven days have.
    assert fractions("0.02", "0.05", "0.2", "3/7") == [tier.share for tier in tiers]
    expected = (
        "10% of the budget in 3d is 0.2333 times the speed that a period of 7d sustains: it would alert while all is "
        "well. Raised to 1 times"
    )
    assert ["", "", expected] == [tiers[0].note, tiers[1].note, tiers[3].note]


def test_a_tier_may_be_raised_and_lowered() -> None:
    tiers = plan(Fraction(99, 100), 7 * DAY).tiers
    assert ["Raised" in tier.note and "Lowered" in tier.note for tier in tiers] == [False, False, True, False]


def test_a_tier_whose_window_is_more_than_half_of_the_period_is_left_out() -> None:
    made = plan(ONE_PERCENT, 1 * DAY)
    assert ["page-fast", "page-slow"] == [tier.name for tier in made.tiers]
    assert ["ticket-fast", "ticket-slow"] == [dropped.name for dropped in made.dropped]
    assert "its window of 3d is more than half of the period of 1d" in made.dropped[1].reason


def test_a_tier_is_crossed_only_by_both_windows() -> None:
    tier = plan(ONE_PERCENT, 30 * DAY).tiers[0]
    above, at = Fraction("0.2"), Fraction("0.144")
    assert [True, False, False, False] == [
        tier.crossed(above, above),
        tier.crossed(at, above),
        tier.crossed(above, at),
        tier.crossed(Fraction(0), Fraction(0)),
    ]


def test_a_tiers_speed_says_how_long_the_budget_lasts() -> None:
    assert 50 * HOUR == plan(ONE_PERCENT, 30 * DAY).tiers[0].exhausts_within_s(30 * DAY)


@pytest.mark.parametrize("budget", [Fraction(0), Fraction(1), Fraction(-1), Fraction(2)])
def test_a_budget_of_nothing_or_everything_has_no_tiers(budget: Fraction) -> None:
    with pytest.raises(ValueError, match="not strictly between 0 and 1"):
        plan(budget, 30 * DAY)


def test_a_period_shorter_than_any_window_has_no_tiers() -> None:
    with pytest.raises(ValueError, match="a period of 1h is too short"):
        plan(ONE_PERCENT, HOUR)
    with pytest.raises(ValueError, match="a window of 3d is not shorter than a period of 1d"):
        burn_rate_factor(ONE_PERCENT, 3 * DAY, DAY)


budgets = st.fractions(min_value=Fraction(1, 100_000), max_value=Fraction(99_999, 100_000))
periods = st.integers(min_value=2 * HOUR, max_value=365 * DAY)


@given(budgets, periods)
def test_every_tier_can_fire_and_none_nags(error_budget: Fraction, period_s: int) -> None:
    for tier in plan(error_budget, period_s).tiers:
        assert 0 < tier.threshold < 1
        assert tier.factor >= 1
        assert tier.threshold == tier.factor * error_budget
        assert 0 < tier.share <= Fraction(1, 2)
        assert tier.share == tier.factor * Fraction(tier.long_s, period_s)
        assert 2 * tier.long_s <= period_s
        assert tier.crossed(Fraction(1), Fraction(1))


@given(budgets, periods)
def test_slower_tiers_never_ask_for_more(error_budget: Fraction, period_s: int) -> None:
    made = plan(error_budget, period_s)
    thresholds = [tier.threshold for tier in made.tiers]
    assert sorted(thresholds, reverse=True) == thresholds
    assert made.tiers
    names = [*(tier.name for tier in made.tiers), *(dropped.name for dropped in made.dropped)]
    assert sorted(NAMES) == sorted(names)


@given(budgets, budgets, periods)
@example(Fraction(6, 7), Fraction(9, 14), 15 * DAY)
def test_a_smaller_budget_never_has_higher_thresholds(one: Fraction, other: Fraction, period_s: int) -> None:
    strict, lenient = (plan(budget, period_s).tiers for budget in sorted((one, other)))
    for a, b in zip(strict, lenient, strict=True):
        # A tier that nothing could exceed is lowered to halfway between its neighbour and 100 %.
        assert a.threshold <= b.threshold or "Lowered" in b.note


@given(budgets, st.integers(min_value=30 * DAY, max_value=365 * DAY))
def test_what_differs_from_the_workbook_is_noted(error_budget: Fraction, period_s: int) -> None:
    for tier, share in zip(plan(error_budget, period_s).tiers, SHARES, strict=True):
        assert (tier.share == share) == (tier.note == "")
