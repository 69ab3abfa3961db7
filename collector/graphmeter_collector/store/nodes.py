"""The per-node report: exact percentiles from spans for ranges up to a day, from hourly histograms beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select, Table, func, select
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.reports import NodeRow
from graphmeter_collector.store import histogram
from graphmeter_collector.store.facts import DAY_NS, HOUR_NS
from graphmeter_collector.store.tables import ledger, rollup_hour, span

EXACT_RANGE_NS = 24 * HOUR_NS + 60_000_000_000
"""Longest range answered from spans: a day, and what passes until "24 h ago" becomes a question. Beyond it percentiles
carry the histogram's error and hours are whole."""

_KEY = ("service", "environment", "graph", "node")
Key = tuple[str, str, str, str]


class Rows(Protocol):
    """Who runs a statement."""

    async def rows(self, statement: Select[Any]) -> Sequence[RowMapping]: ...


async def report(source: Rows, since_ns: int, until_ns: int, *, graph: str, team: str) -> list[NodeRow]:
    """Every node that ran in [since, until), by service, environment, graph and node."""
    find = _exact if until_ns - since_ns <= EXACT_RANGE_NS else _from_rollups
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
        # The days let Postgres leave all other partitions alone.
        .where(span.c.kind == names.NODE, span.c.day.between(since_ns // DAY_NS, until_ns // DAY_NS), *within(span))
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
            func.count().label("model_calls"),
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
    )


def _sum_of(*columns: ColumnElement[int]) -> ColumnElement[int]:
    total: ColumnElement[int] = func.sum(func.coalesce(columns[0], 0))
    for column in columns[1:]:
        total = total + func.sum(func.coalesce(column, 0))
    return total


_ATTEMPTS = ("runs", "attempts", "errors", "p50_ns", "p95_ns", "p99_ns")
_CALLS = ("model_calls", "input_tokens", "output_tokens", "cost_nano")


async def _from_rollups(source: Rows, since_ns: int, until_ns: int, graph: str, team: str) -> list[NodeRow]:
    columns = rollup_hour.c
    rows = await source.rows(
        select(rollup_hour).where(
            columns.hour >= since_ns // HOUR_NS,
            columns.hour < -(-until_ns // HOUR_NS),
            columns.kind.in_((names.NODE, names.MODEL)),
            columns.node != "",
            *([columns.graph == graph] if graph else []),
            *([columns.team == team] if team else []),
        )
    )
    latencies: dict[Key, histogram.Buckets] = {}
    attempts: dict[Key, dict[str, int]] = {}
    calls: dict[Key, dict[str, int]] = {}
    for row in rows:
        key = _key(row)
        if row["kind"] == names.NODE:
            histogram.merge(latencies.setdefault(key, {}), histogram.unpack(row["latency"]))
            found = attempts.setdefault(key, dict.fromkeys(_ATTEMPTS, 0))
            found["attempts"] += row["count"]
            found["runs"] += row["count"] - row["retries"]
            found["errors"] += row["error"]
        else:
            made = calls.setdefault(key, dict.fromkeys(_CALLS, 0))
            made["model_calls"] += row["count"] - row["cache_hits"]
            made["input_tokens"] += sum(row[f"{bucket}_tokens"] for bucket in names.INPUT_TOKEN_TYPES)
            made["output_tokens"] += sum(row[f"{bucket}_tokens"] for bucket in names.OUTPUT_TOKEN_TYPES)
            made["cost_nano"] += row["cost_nano"]
    for key, latency in latencies.items():
        for percent in (50, 95, 99):
            attempts[key][f"p{percent}_ns"] = histogram.quantile(latency, percent / 100)
    return _join(attempts, calls)


def _join(attempts: dict[Key, dict[str, int]], calls: dict[Key, dict[str, int]]) -> list[NodeRow]:
    """Nodes that ran, and nodes that only called a model in the range: their attempt began before it, or has not ended."""
    nothing: dict[str, int] = dict.fromkeys((*_ATTEMPTS, *_CALLS), 0)
    rows = []
    for key in {**attempts, **calls}:
        service, environment, graph, node = key
        counts = nothing | attempts.get(key, {}) | calls.get(key, {})
        rows.append(NodeRow(service=service, environment=environment, graph=graph, node=node, **counts))
    return rows
