"""database: SQL of panels, answered by a real Postgres with the collector's own tables."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from dashboards.pages import panel
from graphmeter_dashboards import check
from support import postgres

DAY_S = 86_400
NOW_NS = time.time_ns()
USD = 1_000_000_000


def answer(url: str, dashboard: dict[str, Any], title: str, **values: str) -> list[asyncpg.Record]:
    """What a panel shows for the last day."""
    (rows,) = answers(url, dashboard, title, **values)
    return rows


def answers(url: str, dashboard: dict[str, Any], title: str, **values: str) -> list[list[asyncpg.Record]]:
    """The same of a panel that asks several questions."""
    only = {**dashboard, "panels": [panel(dashboard, title)]}
    asked = check.panel_queries(only, check.TimeRange.last(DAY_S), values)
    return [postgres.execute(url, query.sql) for query in asked]


def put(url: str, table: str, *rows: dict[str, Any]) -> None:
    """Rows with the columns that matter; text and numbers only."""
    for row in rows:
        columns = ", ".join(row)
        said = ", ".join(value if isinstance(value, str) else str(value) for value in row.values())
        postgres.execute(url, f"INSERT INTO {table} ({columns}) VALUES ({said})")


def rollup(day: int, usd: int, writer: int = 1, **said: str) -> dict[str, Any]:
    return {"day": day, "writer": writer, "cost_nano": usd * USD, "latency": "''", "kind": "'model'", **said}


@pytest.fixture
def month() -> tuple[int, float, float]:
    """First day of this month, seconds since then, and seconds until its end."""
    now = datetime.now(UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()) // DAY_S, (now - first).total_seconds(), (end - now).total_seconds()


def test_this_month_is_spend_since_its_first_day(
    postgres_url: str, spend: dict[str, Any], month: tuple[int, float, float]
) -> None:
    first, _, _ = month
    put(postgres_url, "rollup_day", rollup(first - 1, 7), rollup(first, 2), rollup(first, 3, writer=2))
    assert [(5,)] == [tuple(row) for row in answer(postgres_url, spend, "This month")]


def test_a_month_without_spend_came_to_nothing(postgres_url: str, spend: dict[str, Any]) -> None:
    assert [(0,)] == [tuple(row) for row in answer(postgres_url, spend, "This month")]


@pytest.mark.parametrize(
    ("values", "usd"),
    [
        ({}, 6),
        ({"team": "cx"}, 1),
        ({"team": "unattributed"}, 2),
        ({"graph": "support"}, 1),
        ({"environment": "staging"}, 1),
        ({"node": "plan|write"}, 2),
        ({"model": r"gpt-4\.1"}, 3),
    ],
    ids=str,
)
def test_this_month_is_filtered_as_the_page_is(
    values: dict[str, str], usd: int, postgres_url: str, spend: dict[str, Any], month: tuple[int, float, float]
) -> None:
    put(
        postgres_url,
        "rollup_day",
        rollup(month[0], 1, team="'cx'", graph="'support'", environment="'staging'"),
        rollup(month[0], 2, node="'plan'", team="''", graph="'research'"),
        rollup(month[0], 3, team="'growth'", model="'gpt-4.1'"),
    )
    assert [(usd,)] == [tuple(row) for row in answer(postgres_url, spend, "This month", **values)]


def test_the_forecast_is_that_of_a_monthly_budget(
    postgres_url: str, spend: dict[str, Any], month: tuple[int, float, float]
) -> None:
    first, elapsed_s, left_s = month
    today = first + int(elapsed_s) // DAY_S
    rows = {first: 5, **dict.fromkeys(range(first + 1, today + 1), 1)}
    put(postgres_url, "rollup_day", *(rollup(day, usd) for day, usd in rows.items()))
    recent_day = max(first, today - 2)
    recent = sum(usd for day, usd in rows.items() if day >= recent_day)
    rate = (sum(rows.values()) / elapsed_s + recent / (elapsed_s - (recent_day - first) * DAY_S)) / 2
    expected = [pytest.approx(sum(rows.values()) + left_s * rate, rel=0.01)]
    if elapsed_s * 100 < elapsed_s + left_s:
        expected = []
    assert expected == [float(row["forecast"]) for row in answer(postgres_url, spend, "Forecast for this month")]


def test_the_dearest_runs_come_first_and_free_ones_not_at_all(postgres_url: str, spend: dict[str, Any]) -> None:
    run = {"started_ns": NOW_NS, "last_seen_ns": NOW_NS, "graph": "'support'", "status": "'ok'"}
    put(
        postgres_url,
        "run",
        {**run, "trace_id": r"'\x01'", "run_id": "'a'", "cost_nano": 2 * USD, "model_calls": 3},
        {**run, "trace_id": r"'\x02'", "run_id": "'b'", "cost_nano": 5 * USD, "team": "'cx'"},
        {**run, "trace_id": r"'\x03'", "run_id": "'c'", "cost_nano": 0},
        {**run, "trace_id": r"'\x04'", "run_id": "'d'", "cost_nano": 9 * USD, "started_ns": NOW_NS - 2 * DAY_S * 10**9},
    )
    rows = answer(postgres_url, spend, "Most expensive runs")
    assert [("02", 5, "cx", 0), ("01", 2, "unattributed", 3)] == [
        (row["trace"], row["cost"], row["team"], row["calls"]) for row in rows
    ]


def test_what_was_for_nothing_is_told_by_node_and_reason(postgres_url: str, spend: dict[str, Any]) -> None:
    call = {"trace_id": r"'\x01'", "start_ns": NOW_NS, "graph": "'support'", "node": "'answer'"}
    wasted = {"trace_id": r"'\x01'", "start_ns": NOW_NS}
    for number, (usd, reason) in enumerate([(1, "error"), (2, "retry"), (3, "retry"), (8, "")]):
        span = {"span_id": rf"'\x0{number}'"}
        put(postgres_url, "ledger", {**call, **span, "cost_nano": usd * USD})
        if reason:
            put(postgres_url, "ledger_waste", {**wasted, **span, "reason": f"'{reason}'"})
    rows = answer(postgres_url, spend, "What was for nothing")
    assert [("support", "answer", "retry", 2, 5), ("support", "answer", "error", 1, 1)] == [tuple(row) for row in rows]


def shape(last_ns: int, drawn: dict[str, Any], graph: str = "research") -> dict[str, Any]:
    text = json.dumps(drawn)
    return {"graph": f"'{graph}'", "hash": f"'{last_ns}'", "json": f"'{text}'", "first_ns": 0, "last_ns": last_ns}


def test_the_flow_is_the_shape_seen_last_with_what_its_nodes_did(postgres_url: str, graph: dict[str, Any]) -> None:
    nodes = ["__start__", "plan", "search", "search.__start__", "search.ask", "__end__"]
    edges = [["__start__", "plan", False], ["plan", "search", True], ["search.__start__", "search.ask", False]]
    put(
        postgres_url,
        "graph_topology",
        shape(1, {"nodes": ["before"], "edges": []}),
        shape(2, {"nodes": nodes, "edges": edges}),
        shape(1, {"nodes": ["other"], "edges": []}, graph="support"),
    )
    hour = NOW_NS // 3_600_000_000_000
    ran = {"hour": hour, "writer": 1, "graph": "'research'", "kind": "'node'", "latency": "''"}
    put(
        postgres_url,
        "rollup_hour",
        {**ran, "node": "'plan'", "count": 3, "error": 1, "duration_ns": 6 * 10**9},
        {**ran, "node": "'plan'", "count": 1, "writer": 2},
        {**ran, "node": "'plan'", "count": 8, "kind": "'model'", "cost_nano": USD},
        {**ran, "node": "'search.seen'", "count": 1},
        {**ran, "node": "'plan'", "count": 50, "hour": hour - 48},
    )
    shown, led = answers(postgres_url, graph, "Flow", graph="research")
    assert {
        "__end__": (None, None, 0, 0, 1, None),
        "__start__": (None, None, 0, 0, 1, None),
        "plan": (4, 1.5, 0.75, 0.25, 0, 1),
        "search": (None, None, 0, 0, 1, None),
        "search.__start__": (None, None, 0, 0, 1, None),
        "search.ask": (None, None, 0, 0, 1, None),
        "search.seen": (1, 0, 1, 0, 0, 0),
    } == {
        row["title"]: tuple(
            row[field]
            for field in ("mainstat", "secondarystat", "arc__done", "arc__failed", "arc__idle", "detail__cost")
        )
        for row in shown
    }
    named = {row["id"]: row["title"] for row in shown}
    assert [
        ("__start__", "plan", ""),
        ("plan", "search", "conditional"),
        ("search", "search.__start__", "inside"),
        ("search", "search.seen", "inside"),
        ("search.__start__", "search.ask", ""),
    ] == sorted((named[row["source"]], named[row["target"]], row["mainstat"]) for row in led)
    assert len(led) == len({row["id"] for row in led})


def test_who_waits_longest_comes_first_and_who_was_answered_not_at_all(
    postgres_url: str, graph: dict[str, Any]
) -> None:
    asked = {"graph": "'approval'", "team": "'cx'", "trace_id": r"'\x01'"}
    put(
        postgres_url,
        "wait",
        {**asked, "run_id": "'late'", "thread_id": "'late'", "since_ns": NOW_NS - 60 * 10**9},
        {**asked, "run_id": "'early'", "thread_id": "'early'", "since_ns": NOW_NS - 600 * 10**9},
        {**asked, "run_id": "'answered'", "since_ns": NOW_NS - 900 * 10**9, "until_ns": NOW_NS, "resumed": "true"},
        {**asked, "run_id": "'given up'", "since_ns": NOW_NS - 31 * DAY_S * 10**9},
    )
    rows = answer(postgres_url, graph, "Waiting longest")
    assert [("early", "approval", "cx", "01"), ("late", "approval", "cx", "01")] == [
        (row["thread"], row["graph"], row["team"], row["trace"]) for row in rows
    ]
    assert rows[0]["waiting"] > rows[1]["waiting"] > 0
