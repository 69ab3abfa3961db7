"""Sums over any range equal a recount of the rows, whichever part of them came from rollups."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from collector.store.dump import Dump, dump, opened
from graphmeter import names
from graphmeter_collector.records import Cost, SpanRecord
from graphmeter_collector.reports import CostRow, RunCount
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import Store, facts, tables
from support.records import SECOND, T0_NS, call, priced, record, whole_run

DAY_S = 86_400
RANGES_TRIED = 20
GROUPS: tuple[list[str], ...] = (
    [],
    ["team"],
    ["graph", "node"],
    ["provider", "model"],
    ["team", "tenant"],
    list(facts.ROLLUP_DIMENSIONS[:5]),
)


def some_days() -> list[SpanRecord]:
    """Runs of five days with all that makes a difference to spend or to a run's status."""
    rng = random.Random(7)
    found: list[SpanRecord] = []
    for of in range(1, 40):
        run = whole_run(of, at_s=-rng.uniform(0, 5 * DAY_S), status=rng.choice(names.SPAN_STATUSES))
        for each in run:
            each.team, each.graph = f"team {of % 3}", f"graph {of % 2}"
        # Every fifth is still running.
        found += run[:-1] if of % 5 == 0 else run
    nothing = (0,) * len(names.TOKEN_TYPES)
    silent = Cost(0, nothing, "usage_missing")
    unpriced = Cost(0, nothing, "unpriced")
    for of in range(50, 60):
        at_s = -rng.uniform(0, 5 * DAY_S)
        found += [call(1, of=of, at_s=at_s, cost=silent), call(2, of=of, at_s=at_s, cost=unpriced, model="mystery")]
        # The same answer through another instrumentation: on the ledger once.
        found += [call(3, of=of, at_s=at_s), call(4, of=of, at_s=at_s, response_id=f"answer-{of}-3")]
        tool: dict[str, Any] = {"kind": names.TOOL, "tool": "search", "node": "answer", "operation": names.OP_TOOL}
        found.append(record(5, of=of, at_s=at_s, cost=priced(8_000), **tool))
        found.append(record(6, of=of, at_s=at_s, **tool))
    return found


def spent(tables_of: Dump, by: Sequence[str], since_ns: int, until_ns: int) -> list[CostRow]:
    """From the ledger alone."""
    rows: dict[tuple[str, ...], CostRow] = {}
    for row in tables_of["ledger"]:
        if since_ns <= row["start_ns"] < until_ns:
            group = tuple(row[dimension] for dimension in by)
            nothing = CostRow(dict(zip(by, group, strict=True)), 0, 0, 0, 0, dict.fromkeys(names.TOKEN_TYPES, 0), 0, 0)
            old: dict[str, Any] = asdict(rows.get(group, nothing))
            hit = row["cache_hit"]
            old["calls"] += not hit and row["operation"] not in names.PIECE_OPERATIONS
            old["cache_hits"] += hit
            old["unpriced_calls"] += row["price_status"] == "unpriced"
            old["usage_missing_calls"] += row["price_status"] == "usage_missing"
            for bucket in names.TOKEN_TYPES:
                old["tokens"][bucket] += 0 if hit else row[f"{bucket}_tokens"] or 0
            old["cost_nano"] += row["cost_nano"]
            old["billed_nano"] += row["cost_nano"]
            old["saved_nano"] += row["saved_nano"]
            rows[group] = CostRow(**old)
    return sorted(rows.values(), key=lambda row: (-row.cost_nano, tuple(row.group.values())))


def runs(tables_of: Dump, since_ns: int, until_ns: int) -> list[RunCount]:
    """From the runs alone."""
    counted = Counter(
        (row["service"], row["environment"], row["graph"], row["team"], row["status"])
        for row in tables_of["run"]
        if since_ns <= row["started_ns"] < until_ns
    )
    return [RunCount(*key, count) for key, count in sorted(counted.items())]


async def assert_equal_to_a_recount(store: Store, rows: Dump) -> None:
    rng = random.Random(11)
    edges = [
        T0_NS + 10 * SECOND,
        *(row["start_ns"] for row in rows["ledger"]),
        *(day * facts.DAY_NS for day in _days()),
    ]
    for _ in range(RANGES_TRIED):
        since_ns, until_ns = sorted(rng.choices(edges, k=2))
        for by in GROUPS:
            found = await store.reader.cost(by, since_ns, until_ns)
            # What of it was for nothing is held against a recount of its own (`test_waste`).
            assert spent(rows, by, since_ns, until_ns) == [
                replace(row, wasted_nano={}, wasted_calls={}) for row in found
            ]
        assert runs(rows, since_ns, until_ns) == await store.reader.run_counts(since_ns, until_ns)


def _days() -> list[int]:
    today = T0_NS // facts.DAY_NS
    return [today - 5, today - 3, today, today + 1]


async def test_spend_and_runs_are_exact_over_any_range(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(some_days())
        await store.mark_lost(T0_NS, 2 * DAY_S * SECOND)
        rows = await dump(database_url)
        assert {names.LOST, names.RUNNING} < {row["status"] for row in rows["run"]}
        await assert_equal_to_a_recount(store, rows)


async def test_where_rollups_have_gone_the_ledger_answers(database_url: str) -> None:
    today = T0_NS // facts.DAY_NS
    async with opened(database_url) as store:
        await store.write(some_days())
        await store.retain(Cutoffs(today - 30, today - 30, rollups_day=today - 2))
        await assert_equal_to_a_recount(store, await dump(database_url))
        await store.retain(Cutoffs(today - 30, today - 30, rollups_day=today + 1))
        await assert_equal_to_a_recount(store, await dump(database_url))


async def test_series_are_those_of_the_hours_however_long_ago(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(some_days())
        await store.write([record(1, of=99, node="ahead", at_s=6 * 3600)])
        for row in (rows := await dump(database_url))["rollup_hour"][::7]:
            since_ns = row["hour"] * facts.HOUR_NS + 5
            seen = {
                tuple(each[name] for name in facts.ROLLUP_DIMENSIONS)
                for each in rows["rollup_hour"]
                if each["hour"] >= row["hour"]
            }
            assert sorted(seen) == [tuple(asdict(each).values()) for each in await store.reader.series(since_ns)]


@pytest.mark.parametrize(
    ("question", "index"),
    [
        ("SELECT * FROM run WHERE team = ? AND cost_nano >= ? ORDER BY started_ns DESC LIMIT 50", "ix_run_list"),
        ("SELECT * FROM run WHERE graph = ? AND status = ? ORDER BY started_ns DESC LIMIT 50", "ix_run_list"),
        (f"SELECT count(*) FROM run WHERE ({tables.is_open}) AND started_ns >= ? AND team = ?", "ix_run_open"),
        (f"SELECT count(*) FROM run WHERE {tables.is_running} AND last_seen_ns < ? AND team = ?", "ix_run_open"),
        (
            f"SELECT count(*) FROM ledger WHERE {tables.is_silent} AND start_ns >= ? AND start_ns < ?",
            "ix_ledger_silent",
        ),
    ],
)
def test_sqlite_finds_the_index_that_is_meant(sqlite_url: str, question: str, index: str) -> None:
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as database:
        plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {question}", (1, 1)))
    database.close()
    assert (True, False) == (index in plan, "TEMP B-TREE" in plan), plan
