"""The per-node report: exact percentiles from spans for ranges up to a day, from histograms of rollups beyond."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select, Table, and_, func, or_, select
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.reports import NodeRow
from graphmeter_collector.store import histogram, ranges
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_collector.store.tables import ledger, span

_KEY = ("service", "environment", "graph", "node")
Key = tuple[str, str, str, str]


class Rows(Protocol):
    """Who runs a statement."""

    async def rows(self, statement: Select[Any]) -> Sequence[RowMapping]: ...


async def report(source: Rows, since_ns: int, until_ns: int, *, graph: str, team: str) -> list[NodeRow]:
    """Every node that ran in [since, until), by service, environment, graph and node."""
    find = _exact if until_ns - since_ns <= ranges.EXACT_RANGE_NS else _from_rollups
    return sorted(
        await find(source, since_ns, until_ns, graph, team),
        key=lambda row: (row.service, row.environment, row.graph, row.node),
    )


def _key(row: RowMapping) -> Key:
    return (row["service"], row["environment"], row["graph"], row["node"])


async def _exact(source: Rows, since_ns: int, until_ns: int, graph: str, team: str) -> list[NodeRow]:
    def within(table: Table) -> list[ColumnElement[bool]]:
        columns = table.c
        return [
            columns.node != "",
            columns.start_ns >= since_ns,
            columns.start_ns < until_ns,
            *([columns.graph == graph] if graph else []),
            *([columns.team == team] if team else []),
        ]

    keys = [span.c[name] for name in _KEY]
    ranked = (
        select(
            *keys,
            span.c.duration_ns,
            span.c.attempt_final,
            span.c.status,
            func.row_number().over(partition_by=keys, order_by=span.c.duration_ns).label("rank"),
            func.count().over(partition_by=keys).label("of"),
        )
        # The days let Postgres leave all other partitions alone. A node without a run is one of no graph that is known.
        .where(
            span.c.kind == names.NODE,
            span.c.run_id != "",
            span.c.settled.is_(True),
            span.c.day.between(since_ns // DAY_NS, until_ns // DAY_NS),
            *within(span),
        )
        .subquery()
    )

    def percentile(percent: int) -> ColumnElement[int]:
        # Nearest rank: the smallest value that at least this share of values does not exceed.
        at = (ranked.c.of * percent + 99) // 100
        return func.max(ranked.c.duration_ns).filter(ranked.c.rank == at).label(f"p{percent}_ns")

    final = ranked.c.attempt_final.is_(True)
    columns = [ranked.c[name] for name in _KEY]
    attempts = await source.rows(
        select(
            *columns,
            func.count().filter(final).label("runs"),
            func.count().label("attempts"),
            func.count().filter(final, ranked.c.status == names.ERROR).label("errors"),
            percentile(50),
            percentile(95),
            percentile(99),
        ).group_by(*columns)
    )
    # Calls come from the ledger, where one that two instrumentations saw stands once.
    caller = [ledger.c[name] for name in _KEY]
    calls = await source.rows(
        select(
            *caller,
            func.count().filter(ledger.c.operation.not_in(names.PIECE_OPERATIONS)).label("model_calls"),
            _sum_of(*(ledger.c[f"{bucket}_tokens"] for bucket in names.INPUT_TOKEN_TYPES)).label("input_tokens"),
            _sum_of(*(ledger.c[f"{bucket}_tokens"] for bucket in names.OUTPUT_TOKEN_TYPES)).label("output_tokens"),
            _sum_of(ledger.c.cost_nano).label("cost_nano"),
        )
        .where(ledger.c.cache_hit.is_(False), *within(ledger))
        .group_by(*caller)
    )
    return _join(
        {_key(row): {name: int(row[name]) for name in _ATTEMPTS} for row in attempts},
        {_key(row): {name: int(row[name]) for name in _CALLS} for row in calls},
        0.0,
    )


def _sum_of(*columns: ColumnElement[int]) -> ColumnElement[int]:
    total: ColumnElement[int] = func.sum(func.coalesce(columns[0], 0))
    for column in columns[1:]:
        total = total + func.sum(func.coalesce(column, 0))
    return total


_ATTEMPTS = ("runs", "attempts", "errors", "p50_ns", "p95_ns", "p99_ns")
_CALLS = ("model_calls", "input_tokens", "output_tokens", "cost_nano")
_COUNTED = ("count", "cache_hits", *(f"{bucket}_tokens" for bucket in names.TOKEN_TYPES))


async def _from_rollups(source: Rows, since_ns: int, until_ns: int, graph: str, team: str) -> list[NodeRow]:
    parts = [
        (
            part.table,
            [
                part.table.c[0] >= part.first,
                part.table.c[0] < part.end,
                part.table.c.node != "",
                *([part.table.c.graph == graph] if graph else []),
                *([part.table.c.team == team] if team else []),
            ],
        )
        for part in ranges.parts(since_ns, until_ns, time.time_ns())
    ]
    # Side by side: while the database adds up calls, histograms are merged here.
    attempts, calls = await asyncio.gather(_attempts(source, parts), _calls(source, parts))
    return _join(attempts, calls, histogram.RELATIVE_ERROR)


_Parts = Sequence[tuple[Table, Sequence[ColumnElement[bool]]]]


async def _attempts(source: Rows, parts: _Parts) -> dict[Key, dict[str, int]]:
    latencies: defaultdict[Key, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    sums: defaultdict[Key, list[int]] = defaultdict(lambda: [0, 0, 0])
    for table, where in parts:
        wanted = [table.c[name] for name in (*_KEY, "count", "retries", "error", "latency")]
        # The database cannot merge histograms; this is one row per node, team and period.
        for row in await source.rows(select(*wanted).where(table.c.kind == names.NODE, *where)):
            # By position: names would be looked up ten thousand times.
            values: tuple[Any, ...] = tuple(row.values())
            key: Key = values[:4]
            count, retries, errors, latency = values[4:]
            added = sums[key]
            added[0] += count
            added[1] += retries
            added[2] += errors
            histogram.merge_packed(latencies[key], latency)
    return {
        key: {
            "runs": count - retries,
            "attempts": count,
            "errors": errors,
            **{f"p{percent}_ns": histogram.quantile(latencies[key], percent / 100) for percent in (50, 95, 99)},
        }
        for key, (count, retries, errors) in sums.items()
    }


async def _calls(source: Rows, parts: _Parts) -> dict[Key, dict[str, int]]:
    sums: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for table, where in parts:
        columns = table.c
        keys = [columns[name] for name in _KEY]
        called = columns.kind == names.MODEL
        # Tools and retrievers that have a price bring money alone.
        billed = or_(called, and_(columns.kind.in_((names.TOOL, names.RETRIEVER)), columns.cost_nano > 0))
        added = [
            *(func.coalesce(func.sum(columns[name]).filter(called), 0).label(name) for name in _COUNTED),
            func.sum(columns.cost_nano).label("cost_nano"),
        ]
        for row in await source.rows(select(*keys, *added).where(billed, *where).group_by(*keys)):
            sums[_key(row)].update({name: int(row[name]) for name in (*_COUNTED, "cost_nano")})
    return {
        key: {
            "model_calls": found["count"] - found["cache_hits"],
            "input_tokens": sum(found[f"{bucket}_tokens"] for bucket in names.INPUT_TOKEN_TYPES),
            "output_tokens": sum(found[f"{bucket}_tokens"] for bucket in names.OUTPUT_TOKEN_TYPES),
            "cost_nano": found["cost_nano"],
        }
        for key, found in sums.items()
    }


def _join(attempts: dict[Key, dict[str, int]], calls: dict[Key, dict[str, int]], error: float) -> list[NodeRow]:
    """Nodes that ran, and nodes that only called a model in the range: their attempt began before it, or has not ended."""
    nothing: dict[str, int] = dict.fromkeys((*_ATTEMPTS, *_CALLS), 0)
    rows = []
    for key in {**attempts, **calls}:
        service, environment, graph, node = key
        counts = nothing | attempts.get(key, {}) | calls.get(key, {})
        rows.append(
            NodeRow(service=service, environment=environment, graph=graph, node=node, percentile_error=error, **counts)
        )
    return rows
