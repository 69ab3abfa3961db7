"""Budgets: calendar periods in time zones, across clock changes; thresholds to the nano-USD."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_config import Budget

HOUR = timedelta(hours=1)


def budget(**fields: Any) -> Budget:
    return Budget(**{"name": "a", "limit_usd": "100", **fields})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("period", "timezone", "now", "start", "end"),
    [
        ("month", "UTC", "2026-11-21T12:00Z", "2026-11-01T00:00Z", "2026-12-01T00:00Z"),
        ("month", "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("month", "UTC", "2028-02-29T00:00Z", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
        ("month", "UTC", "2026-11-01T00:00Z", "2026-11-01T00:00Z", "2026-12-01T00:00Z"),
        # In Berlin it is December already.
        ("month", "Europe/Berlin", "2026-11-30T23:30Z", "2026-11-30T23:00Z", "2026-12-31T23:00Z"),
        # The month in which summer time begins is an hour short, the one in which it ends an hour long.
        ("month", "Europe/Berlin", "2026-03-15T00:00Z", "2026-02-28T23:00Z", "2026-03-31T22:00Z"),
        ("month", "Europe/Berlin", "2026-10-15T00:00Z", "2026-09-30T22:00Z", "2026-10-31T23:00Z"),
        ("week", "UTC", "2026-11-22T23:59Z", "2026-11-16T00:00Z", "2026-11-23T00:00Z"),
        ("week", "UTC", "2026-11-23T00:00Z", "2026-11-23T00:00Z", "2026-11-30T00:00Z"),
        ("week", "America/New_York", "2026-11-01T12:00Z", "2026-10-26T04:00Z", "2026-11-02T05:00Z"),
        ("day", "Asia/Kolkata", "2026-11-21T18:29Z", "2026-11-20T18:30Z", "2026-11-21T18:30Z"),
        ("day", "Europe/Berlin", "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        # Midnight does not exist: the clock jumps from 23:59 to 01:00.
        ("day", "America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00Z", "2018-11-05T02:00Z"),
        # The day goes from 00:00 to 23:59 and has its last hour twice.
        ("day", "America/Sao_Paulo", "2018-02-18T02:30Z", "2018-02-17T02:00Z", "2018-02-18T03:00Z"),
        # Samoa skipped the 30th of December 2011.
        ("day", "Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        ("day", "Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
    ],
)
def test_period(period: str, timezone: str, now: str, start: str, end: str) -> None:
    assert (at(start), at(end)) == budget(period=period, timezone=timezone).period_at(at(now))


def test_a_period_is_told_in_utc_so_that_its_length_is_true() -> None:
    start, end = budget(period="day", timezone="Europe/Berlin").period_at(at("2026-10-25T12:00Z"))
    assert (UTC, 25 * HOUR) == (start.tzinfo, end - start)


def test_a_moment_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="pass an aware datetime"):
        budget().period_at(datetime(2026, 11, 21))  # noqa: DTZ001 - the point of the test


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo"]
)
moments = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.sampled_from(["month", "week", "day"]), zones, moments)
def test_periods_follow_one_another_without_gap_or_overlap(period: str, timezone: str, now: datetime) -> None:
    one = budget(period=period, timezone=timezone)
    start, end = one.period_at(now)
    assert start <= now < end
    assert (start, end) == one.period_at(start)
    assert end == one.period_at(end)[0]
    assert end == one.period_at(end - timedelta(microseconds=1))[1]


@given(zones, moments)
def test_the_zone_of_the_question_does_not_matter(timezone: str, now: datetime) -> None:
    one = budget(timezone="Europe/Berlin")
    assert one.period_at(now) == one.period_at(now.astimezone(ZoneInfo(timezone)))


@pytest.mark.parametrize(
    ("spent_nano", "expected"),
    [
        (0, ()),
        (79_999_999_999, ()),
        (80_000_000_000, ("80%",)),
        (99_999_999_999, ("80%",)),
        (100_000_000_000, ("80%", "100%")),
        (10**15, ("80%", "100%")),
    ],
)
def test_thresholds_are_crossed_at_the_nano_usd(spent_nano: int, expected: tuple[str, ...]) -> None:
    assert expected == budget().crossed(spent_nano)


def test_thresholds_of_a_limit_that_shares_do_not_divide_are_exact() -> None:
    thirds = budget(limit_usd="0.000000001", thresholds=["50%", "100%"])
    assert [(), ("50%", "100%")] == [thirds.crossed(0), thirds.crossed(1)]


def test_only_thresholds_not_known_before_are_new() -> None:
    assert [("80%",), ("100%",), (), ("80%", "100%")] == [
        budget().newly_crossed(0, 80 * 10**9),
        budget().newly_crossed(80 * 10**9, 101 * 10**9),
        budget().newly_crossed(101 * 10**9, 102 * 10**9),
        budget().newly_crossed(0, 101 * 10**9),
    ]


def test_thresholds_are_shares_in_order_and_written_as_percent() -> None:
    one = budget(thresholds=["120%", "33.3%", "80.0%"])
    assert (Decimal("0.333"), Decimal("0.8"), Decimal("1.2")) == one.thresholds
    assert ("33.3%", "80%", "120%") == one.crossed(10**12)


@given(st.integers(min_value=0, max_value=10**12), st.integers(min_value=0, max_value=10**12))
def test_more_spend_never_takes_a_threshold_back(one: int, more: int) -> None:
    assert set(budget().crossed(one)) <= set(budget().crossed(one + more))


def test_spend_as_a_share_of_the_limit() -> None:
    assert 0.25 == budget().used(25 * 10**9)


def test_a_budget_matches_by_its_selector() -> None:
    one = budget(match={"team": "cx", "graph": "support-*"})
    assert [True, False, False] == [
        one.matches({"team": "cx", "graph": "support-eu"}),
        one.matches({"team": "cx", "graph": "sales"}),
        one.matches({"graph": "support-eu"}),
    ]


every_zone = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/Sao_Paulo",
        "America/Havana",
        "America/St_Johns",
        "Asia/Kathmandu",
        "Pacific/Apia",
    ]
)


@given(st.sampled_from(["month", "week", "day"]), every_zone, moments)
def test_slices_fill_their_period_and_begin_with_a_quarter_of_an_hour(
    period: str, timezone: str, now: datetime
) -> None:
    one, at_ns = budget(period=period, timezone=timezone), round(now.timestamp()) * 10**9
    whole, part = one.stretch_at(at_ns), one.slice_at(at_ns)
    assert whole.start_ns <= part.start_ns <= at_ns < part.end_ns <= whole.end_ns
    assert part == one.slice_at(part.start_ns) == one.slice_at(part.end_ns - 1)
    assert 0 == part.start_ns % (15 * 60 * 10**9)


def test_a_rolling_window_begins_with_a_whole_hour_and_holds_its_length() -> None:
    one = budget(rolling="24h")
    start, end = one.period_at(at("2026-11-21T12:34Z"))
    assert (at("2026-11-20T12:00Z"), at("2026-11-21T13:00Z")) == (start, end)


@pytest.mark.parametrize(
    ("period", "opening_in", "moment", "expected"),
    [
        ("month", "2026-11", "2026-11-30T22:59Z", 40),
        ("month", "2026-11", "2026-11-30T23:00Z", 0),
        ("month", "2026-11-21", "2026-11-01T00:00Z", 40),
        ("week", "2026-W47", "2026-11-16T00:00Z", 40),
        ("week", "2026-11", "2026-11-16T00:00Z", 0),
        ("day", "2026-11-21", "2026-11-20T23:00Z", 40),
    ],
)
def test_opening_spend_counts_in_its_one_period(period: str, opening_in: str, moment: str, expected: int) -> None:
    how = {"period": period, "timezone": "Europe/Berlin", "opening_spend": 40, "opening_in": opening_in}
    one = Budget.model_validate({"name": "a", "limit_tokens": 100, **how})
    assert expected == one.opening(one.stretch_at(round(at(moment).timestamp()) * 10**9).start_ns)


def test_limits_and_thresholds_do_not_change_what_is_counted_but_all_else_does() -> None:
    same = [
        budget(),
        budget(name="b", limit_usd="7", thresholds=["50%"], hard=True),
        budget(per=[], match={"team": "*"}),
    ]
    others = [
        budget(period="day"),
        budget(timezone="Europe/Berlin"),
        budget(rolling="24h"),
        budget(per=["team"]),
        budget(match={"tag:plan": "free"}),
    ]
    assert 1 == len({one.key for one in same})
    assert 1 + len(others) == len({one.key for one in [*same, *others]})


def test_per_team_is_an_older_way_to_write_per() -> None:
    assert budget(per=["team"]) == budget(per_team=True)
    assert budget() == budget(per_team=False)
