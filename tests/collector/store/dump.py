"""Every table as plain rows, so that databases can be compared, and what the aggregates must be, from the raw rows."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import select

from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import Store, facts, histogram, open_store, tables
from graphmeter_collector.store.engine import parse, read_engine

Dump = dict[str, list[dict[str, Any]]]
SUMS = {
    "rollup_hour": facts.ROLLUP_SUMS,
    "rollup_day": facts.ROLLUP_SUMS,
    "budget_spend": ("nano", "tokens", "calls"),
}
"""What adds up over writers, by table."""
LEFT_OUT = {
    "outbox": None,
    "budget_set": None,
    "budget": {"changed_ns"},
    "budget_event": {"at_ns", "told_ns"},
    "repricing": {"at_ns"},
}
"""What says when something was done and not what: whole tables, or columns."""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """A store on a migrated database, closed at the end of the block."""
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


def fresh(records: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Copies: a store says on a record what became of its cost."""
    return [copy.copy(record) for record in records]


async def dump(url: str) -> Dump:
    """All rows of all tables but for `LEFT_OUT`; what each writer has for itself is summed."""
    engine = read_engine(parse(url))
    try:
        async with engine.connect() as connection:
            found: Dump = {}
            for name, table in tables.metadata.tables.items():
                left_out = LEFT_OUT.get(name, ())
                if left_out is None:
                    continue
                columns = [column for column in table.columns if column.name not in left_out]
                rows = [dict(row) for row in (await connection.execute(select(*columns))).mappings()]
                found[name] = sorted(_over_writers(rows, SUMS[name]) if name in SUMS else rows, key=_by_key(name))
            return found
    finally:
        await engine.dispose()


def _by_key(name: str) -> Any:
    columns = [column.name for column in tables.metadata.tables[name].primary_key if column.name != "writer"]
    return lambda row: tuple(row[column] for column in columns)


def _over_writers(rows: list[dict[str, Any]], sums: Collection[str]) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        del row["writer"]
        key = tuple(value for column, value in row.items() if column not in (*sums, "latency"))
        into = found.setdefault(key, row)
        if into is not row:
            for column in sums:
                into[column] += row[column]
            if "latency" in row:
                latency = histogram.unpack(into["latency"])
                histogram.merge(latency, histogram.unpack(row["latency"]))
                into["latency"] = histogram.pack(latency)
    return list(found.values())
