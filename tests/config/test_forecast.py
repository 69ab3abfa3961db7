"""Forecasts of spend, worked out by hand, and what holds for all of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_config import Budget
from graphmeter_config.forecast import Forecast, forecast, recent_since

HOUR_NS = 3_600_000_000_000


def budget(**how: Any) -> Budget:
    return Budget(**{"name": "a", "limit_tokens": 1_000, **how})


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("how", "now", "spent", "recent", "expected"),
    [
        # Evenly: 10 a day for ten days of thirty.
        ({"period": "month"}, "2026-11-11T00:00Z", 100, 20, Forecast(300, None)),
        # 10 a day at first, 20 a day in the last two: 15 a day for twenty more.
        ({"period": "month"}, "2026-11-11T00:00Z", 100, 40, Forecast(400, None)),
        # The limit is reached when 900 more are spent at 90 a day.
        ({"period": "month"}, "2026-11-11T00:00Z", 100, 340, Forecast(1_900, at("2026-11-21T00:00Z"))),
        # Already reached.
        ({"period": "month"}, "2026-11-11T00:00Z", 1_000, 200, Forecast(3_000, None)),
        # 14 minutes of a day are too few, 15 are enough.
        ({"period": "day"}, "2026-11-11T00:14Z", 10, 10, None),
        ({"period": "day"}, "2026-11-11T00:15Z", 10, 10, Forecast(960, None)),
        ({"period": "week"}, "2026-11-12T00:00Z", 0, 0, Forecast(0, None)),
        # The last three hours (window 24h) at 5 an hour.
        ({"rolling": "24h"}, "2026-11-11T12:00Z", 77, 15, Forecast(120, None)),
    ],
)
def test_where_spend_leads(how: dict[str, Any], now: str, spent: int, recent: int, expected: Forecast | None) -> None:
    assert expected == forecast(budget(**how), spent, recent, at(now))


@pytest.mark.parametrize(
    ("how", "now", "since"),
    [
        ({"period": "month"}, "2026-11-21T13:00Z", "2026-11-19T00:00Z"),
        ({"period": "month"}, "2026-11-02T13:00Z", "2026-11-01T00:00Z"),
        ({"period": "week", "timezone": "Asia/Kathmandu"}, "2026-11-21T13:00Z", "2026-11-19T18:15Z"),
        ({"period": "day", "timezone": "Asia/Kathmandu"}, "2026-11-21T13:00Z", "2026-11-21T10:15Z"),
        ({"rolling": "30d"}, "2026-11-21T13:20Z", "2026-11-17T19:00Z"),
    ],
)
def test_recent_begins_with_a_slice(how: dict[str, Any], now: str, since: str) -> None:
    assert at(since) == recent_since(budget(**how), at(now))


@given(
    st.sampled_from(["month", "week", "day"]),
    st.integers(min_value=0, max_value=10**15),
    st.integers(min_value=0, max_value=10**15),
    st.integers(min_value=at("2026-01-01T00:00Z"), max_value=at("2027-12-31T00:00Z")),
)
def test_a_forecast_is_never_below_what_was_spent(period: str, one: int, other: int, now_ns: int) -> None:
    spent, recent = max(one, other), min(one, other)
    a = budget(period=period, timezone="America/St_Johns")
    found = forecast(a, spent, recent, now_ns)
    if found is not None:
        assert spent <= found.spend
        assert found.exhausted_ns is None or now_ns < found.exhausted_ns <= a.stretch_at(now_ns).end_ns
