"""Every table as plain rows, so that databases can be compared, and what the aggregates must be, from the raw rows."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import select

from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import Store, facts, histogram, open_store, tables
from graphmeter_collector.store.engine import parse, read_engine

Dump = dict[str, list[dict[str, Any]]]
ROLLUPS = ("rollup_hour", "rollup_day")


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
    """All rows of all tables but the outbox, whose rows say when they were queued; rollups summed over writers."""
    engine = read_engine(parse(url))
    try:
        async with engine.connect() as connection:
            found: Dump = {}
            for name, table in tables.metadata.tables.items():
                if name != "outbox":
                    rows = [dict(row) for row in (await connection.execute(select(table))).mappings()]
                    found[name] = sorted(_over_writers(rows) if name in ROLLUPS else rows, key=_by_key(name))
            return found
    finally:
        await engine.dispose()


def _by_key(name: str) -> Any:
    columns = [column.name for column in tables.metadata.tables[name].primary_key if column.name != "writer"]
    return lambda row: tuple(row[column] for column in columns)


def _over_writers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        del row["writer"]
        key = tuple(value for column, value in row.items() if column not in (*facts.ROLLUP_SUMS, "latency"))
        into = sums.setdefault(key, row)
        if into is not row:
            for column in facts.ROLLUP_SUMS:
                into[column] += row[column]
            latency = histogram.unpack(into["latency"])
            histogram.merge(latency, histogram.unpack(row["latency"]))
            into["latency"] = histogram.pack(latency)
    return list(sums.values())
