"""Budgets and SLOs from a real database, against numbers worked out by hand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from graphmeter import names
from graphmeter_collector.expose import state
from graphmeter_collector.expose.slos import budgets_left, slos
from graphmeter_collector.expose.state import BudgetLabels
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import BudgetRow, InForce
from graphmeter_collector.store import Store, open_store
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_config import Budget, Config, Slo
from graphmeter_config.slo import EventSelector
from graphmeter_config.spend import SpendSelector
from support.records import call, priced, record

USD = names.NANO_PER_USD
DAY_S = 86_400.0


def at(text: str) -> int:
    """An ISO time as ns since the epoch."""
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


NOW = at("2026-11-18T12:00:00Z")


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    opened = await open_store(sqlite_url)
    yield opened
    await opened.close()


def bill(of: int, usd: str, when: int, **facts: Any) -> SpanRecord:
    """A model call that cost so much and started then."""
    cost = priced(int(Decimal(usd) * USD))
    return call(1, of=of, response_id=f"r{of}", **{"start_ns": when, "end_ns": when + 1, "cost": cost, **facts})


def config(*of: Budget | Slo) -> Config:
    return Config(
        budgets=tuple(each for each in of if isinstance(each, Budget)),
        slos=tuple(each for each in of if isinstance(each, Slo)),
    )


async def budgets(database_url: str, config: Config, now_ns: int | None = None) -> list[BudgetRow]:
    """The state of the budgets of a configuration."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    table = BudgetTable(database_url)
    try:
        await table.take(config.budgets, now_ns)
        in_force = await table.in_force()
        held = await table.reserved(now_ns)
        return state.budgets(in_force, await table.spent(state.asked(in_force, now_ns)), held, now_ns)
    finally:
        await table.close()


def spent(rows: list[BudgetRow]) -> dict[tuple[str, str], int]:
    return {(row.budget, row.team): row.spent_nano for row in rows}


def budget(name: str = "b", limit: str = "10", **how: Any) -> Budget:
    return Budget(name=name, limit_usd=Decimal(limit), **how)


@pytest.mark.parametrize(
    ("how", "start", "end"),
    [
        ({"period": "month"}, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ({"period": "week"}, "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        ({"period": "day"}, "2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z"),
        ({"period": "day", "timezone": "Asia/Tokyo"}, "2026-11-17T15:00:00Z", "2026-11-18T15:00:00Z"),
        ({"period": "month", "timezone": "Europe/Berlin"}, "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
    ],
    ids=["month", "week", "day", "day in Tokyo", "month in Berlin"],
)
async def test_spend_counts_from_the_first_nanosecond_of_a_period_to_the_last(
    store: Store, sqlite_url: str, how: dict[str, Any], start: str, end: str
) -> None:
    first, after = at(start), at(end)
    await store.write(
        [bill(1, "100", first - 1), bill(2, "1.5", first), bill(3, "2.25", after - 1), bill(4, "100", after)]
    )
    [row] = await budgets(sqlite_url, config(budget(**how)), NOW)
    assert (3_750_000_000, first, after) == (row.spent_nano, row.period_start_ns, row.period_end_ns)


async def test_a_row_says_what_share_is_used_and_which_thresholds_are_reached(store: Store, sqlite_url: str) -> None:
    await store.write([bill(1, "8.00", NOW), bill(2, "0.50", NOW, cost=None, usage_missing=True)])
    thresholds = (Decimal("0.5"), Decimal("0.8"), Decimal(1))
    [row] = await budgets(sqlite_url, config(budget(thresholds=thresholds)), NOW)
    expected = BudgetRow(
        budget="b",
        team="",
        limit_nano=10 * USD,
        spent_nano=8 * USD,
        period_start_ns=at("2026-11-01T00:00:00Z"),
        period_end_ns=at("2026-12-01T00:00:00Z"),
        used_ratio=0.8,
        crossed=("50%", "80%"),
        per_team=False,
        spent_tokens=220,
        calls=2,
        remaining=2 * USD,
        remaining_ratio=pytest.approx(0.2),  # type: ignore[arg-type]  # stands for a float
        # 8 USD in 17.5 days and in the last 2.5 days: 1.83 a day between the two, for 12.5 days more.
        forecast=30_857_142_857,
        forecast_ratio=3.0857142857,
        exhausted_at_ns=at("2026-11-19T14:15:00Z"),
    )
    assert expected == row


async def test_each_team_has_the_whole_limit_and_unattributed_spend_a_row_of_its_own(
    store: Store, sqlite_url: str
) -> None:
    await store.write(
        [
            bill(1, "6", NOW, team="cx"),
            bill(2, "5", NOW, team="cx"),
            bill(3, "1", NOW, team="growth"),
            bill(4, "2", NOW, team=""),
        ]
    )
    rows = await budgets(sqlite_url, config(budget(per_team=True)), NOW)
    assert [
        ("", 2 * USD, 0.2, ()),
        ("cx", 11 * USD, 1.1, ("80%", "100%")),
        ("growth", USD, 0.1, ()),
    ] == [(row.team, row.spent_nano, row.used_ratio, row.crossed) for row in rows]


async def test_only_matching_spend_counts(store: Store, sqlite_url: str) -> None:
    await store.write(
        [
            bill(1, "1", NOW, graph="support", environment="prod", team="cx"),
            bill(2, "2", NOW, graph="support-eu", environment="prod", team="growth"),
            bill(3, "4", NOW, graph="support", environment="test", team="cx"),
            bill(4, "8", NOW, graph="research", environment="prod", team="cx"),
        ]
    )
    match = SpendSelector(graph=("support*",), environment=("prod",))
    whole, teams = budget("whole", match=match), budget("teams", match=match, per_team=True)
    assert {("whole", ""): 3 * USD, ("teams", "cx"): USD, ("teams", "growth"): 2 * USD} == spent(
        await budgets(sqlite_url, config(whole, teams), NOW)
    )


async def test_without_spend_a_shared_budget_stands_at_zero_and_one_per_team_has_no_rows(
    store: Store, sqlite_url: str
) -> None:
    both = config(budget("shared"), budget("teams", per_team=True))
    assert {("shared", ""): 0} == spent(await budgets(sqlite_url, both, NOW))


async def test_a_call_answered_by_a_cache_costs_no_budget(store: Store, sqlite_url: str) -> None:
    await store.write([bill(1, "1", NOW), bill(2, "0", NOW, cache_hit=True)])
    assert {("b", ""): USD} == spent(await budgets(sqlite_url, config(budget()), NOW))


async def test_money_beyond_what_a_float_can_count_stays_exact_on_every_database(database_url: str) -> None:
    store = await open_store(database_url)
    await store.write([bill(1, "9007199.254740993", NOW), bill(2, "0.000000001", NOW), root(3, names.OK)])
    assert {("b", ""): 9_007_199_254_740_994} == spent(await budgets(database_url, config(budget()), NOW))
    assert [1] == [row.good for row in await slos(store.reader, config(slo()), NOW)]
    await store.close()


def test_a_call_counts_against_the_budgets_that_match_it() -> None:
    match = SpendSelector(graph=("research",))
    several = config(budget("all"), budget("teams", per_team=True), budget("research", match=match))
    of = BudgetLabels(InForce(one, "yaml", 0, 0) for one in several.budgets).of
    assert (("all", "", ""), ("teams", "cx", "")) == of(bill(1, "1", NOW, graph="support", team="cx"))
    assert (("all", "", ""), ("research", "", ""), ("teams", "cx", "")) == tuple(
        sorted(of(bill(2, "1", NOW, graph="research", team="cx")))
    )


def root(of: int, status: str, *, days_ago: float = 0.5, when: int = 0, **facts: Any) -> SpanRecord:
    when = when or NOW - round(days_ago * DAY_S * 1_000_000_000)
    return record(1, of=of, kind=names.RUN, status=status, start_ns=when, end_ns=when + 1, **facts)


def slo(name: str = "availability", objective: str = "99", days: int = 30, **how: Any) -> Slo:
    return Slo(name=name, objective=Decimal(objective), window_s=days * DAY_S, **how)


async def test_an_slo_counts_good_and_bad_runs_of_each_graph(store: Store) -> None:
    statuses = [names.OK] * 3 + [names.ERROR] + [names.INTERRUPTED, names.CANCELLED]
    await store.write([root(of, status) for of, status in enumerate(statuses, 1)])
    await store.write([root(20, names.OK, graph="research")])
    support = {
        "slo": "availability",
        "graph": "support",
        "scope": {"graph": "support"},
        "objective_percent": "99",
        "window_s": 30 * 86_400,
        "window": "30d",
        "since_ns": NOW - round(30 * DAY_S * 1e9),
        "total": 4,
        "good": 3,
        "bad": 1,
        "achieved_ratio": 0.75,
        # A quarter was bad where a hundredth may be: 25 budgets spent of one.
        "budget_remaining_ratio": -24.0,
        "exhausted_at_ns": None,
    }
    research = support | {
        "graph": "research",
        "scope": {"graph": "research"},
        "total": 1,
        "good": 1,
        "bad": 0,
        "achieved_ratio": 1.0,
        "budget_remaining_ratio": 1.0,
    }
    rows = [asdict(row) for row in await slos(store.reader, config(slo()), NOW)]
    assert [research, support] == [{name: row[name] for name in support} for row in rows]


@pytest.mark.parametrize(
    ("objective", "good", "bad", "remaining"),
    [("99", 99, 1, 0.0), ("99.5", 197, 3, -2.0), ("95", 98, 2, 0.6), ("50", 1, 3, -0.5)],
)
async def test_what_is_left_of_an_error_budget(
    store: Store, objective: str, good: int, bad: int, remaining: float
) -> None:
    statuses = [names.OK] * good + [names.ERROR] * bad
    await store.write([root(of, status) for of, status in enumerate(statuses, 1)])
    [row] = await slos(store.reader, config(slo(objective=objective)), NOW)
    assert (objective, remaining) == (row.objective_percent, row.budget_remaining_ratio)


async def test_a_lost_run_is_bad_and_a_running_one_neither(store: Store) -> None:
    start = record(1, kind=names.START, status=names.RUNNING, start_ns=NOW - 10, end_ns=NOW - 10)
    await store.write([start])
    [running] = await slos(store.reader, config(slo()), NOW)
    await store.mark_lost(NOW, 0)
    [lost] = await slos(store.reader, config(slo()), NOW)
    assert [(0, 0, None, None), (0, 1, 0.0, -99.0)] == [
        (row.good, row.bad, row.achieved_ratio, row.budget_remaining_ratio) for row in (running, lost)
    ]


async def test_the_window_rolls_with_now(store: Store) -> None:
    await store.write([root(1, names.ERROR, days_ago=8), root(2, names.ERROR, days_ago=7), root(3, names.OK)])
    await store.write([root(4, names.OK, days_ago=-1)])
    [row] = await slos(store.reader, config(slo(days=7)), NOW)
    assert (1, 1) == (row.good, row.bad)


async def test_an_slo_sees_the_runs_it_selects(store: Store) -> None:
    await store.write(
        [
            root(1, names.OK, environment="prod", team="cx"),
            root(2, names.ERROR, environment="test", team="cx"),
            root(3, names.ERROR, environment="prod", team="growth"),
        ]
    )
    select = EventSelector(environment=("prod",), team=("c*",))
    [row] = await slos(store.reader, config(slo(select=select)), NOW)
    assert (1, 0) == (row.good, row.bad)


async def test_runs_of_one_graph_in_several_services_are_one_objective(store: Store) -> None:
    await store.write([root(1, names.OK, service="a"), root(2, names.ERROR, service="b", team="growth")])
    [row] = await slos(store.reader, config(slo()), NOW)
    assert (1, 1) == (row.good, row.bad)


async def test_an_slo_judges_by_what_it_says(store: Store) -> None:
    await store.write(
        [
            root(1, names.OK, team="cx"),
            root(2, names.ERROR, team="growth"),
            root(3, names.OK, team="growth", graph="research"),
        ]
    )
    per_team = slo("teams", per=("team",), objective="50")
    rows = await slos(
        store.reader, config(per_team, slo("all", per=(), objective="50"), slo("both", per=("graph", "team"))), NOW
    )
    expected = [
        ("teams", {"team": "cx"}, 1, 0),
        ("teams", {"team": "growth"}, 1, 1),
        ("all", {}, 2, 1),
        ("both", {"graph": "research", "team": "growth"}, 1, 0),
        ("both", {"graph": "support", "team": "cx"}, 1, 0),
        ("both", {"graph": "support", "team": "growth"}, 0, 1),
    ]
    assert expected == [(row.slo, row.scope, row.good, row.bad) for row in rows]
    left = {
        ("teams", ""): 0.0,
        ("all", ""): pytest.approx(1 / 3),
        ("both", "research"): 1.0,
        ("both", "support"): -99.0,
    }
    assert left == budgets_left(rows)


async def test_a_calendar_month_is_told_since_the_first_and_when_it_will_be_spent(store: Store) -> None:
    monthly = Slo.model_validate({"name": "m", "objective": "90", "window": "calendar_month", "min_bad_events": 1})
    first = at("2026-11-01T00:00:00Z")
    hour = 3600 * 1_000_000_000
    await store.write([root(1, names.ERROR, when=first - 1), root(2, names.OK, when=first)])
    # One of a hundred was bad, and of the last hour one of five: twice the speed that a tenth sustains.
    good = [root(of, names.OK, when=NOW - (hour // 2 if of < 7 else 100 * hour)) for of in range(3, 101)]
    await store.write([*good, root(200, names.ERROR, when=NOW - hour // 2)])
    [row] = await slos(store.reader, config(monthly), NOW)
    assert (first, 30 * 86_400, 100, 1, "calendar month") == (
        row.since_ns,
        row.window_s,
        row.total,
        row.bad,
        row.window,
    )
    assert row.budget_remaining_ratio == pytest.approx(0.9)
    # Page-fast at 14.4 times could never fire at an objective of 90 %.
    assert (2.0, 8.0) == (row.burn_rate, row.burn[0].factor)
    # At that speed it would last nine tenths of the 17.5 days that have passed: beyond the end of the month.
    assert row.exhausted_at_ns is None
    [rolling] = await slos(store.reader, config(slo(objective="90", min_bad_events=1)), NOW)
    assert (2, True) == (rolling.bad, NOW < (rolling.exhausted_at_ns or 0))


async def test_without_a_given_time_it_is_now(store: Store, sqlite_url: str) -> None:
    now = datetime.now(UTC)
    when = round(now.timestamp() * 1e9) - 1
    await store.write([bill(1, "1", when), root(2, names.OK, when=when)])
    both = config(budget(period="day"), slo())
    assert ([USD], [1]) == (
        [row.spent_nano for row in await budgets(sqlite_url, both)],
        [row.good for row in await slos(store.reader, both)],
    )
