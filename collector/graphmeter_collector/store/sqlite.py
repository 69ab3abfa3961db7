"""Facts in an embedded SQLite file: one connection on one thread writes, in WAL mode with a full sync per commit."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Table
from sqlalchemy.engine import URL

from graphmeter import names
from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.records import RunTotals, SpanRecord, WriteResult
from graphmeter_collector.reports import LostRun, OutboxItem
from graphmeter_collector.store import facts, histogram, sql, tables
from graphmeter_collector.store.bisect import SpanRefused, write_what_can_be_written
from graphmeter_collector.store.engine import sqlite_path
from graphmeter_collector.store.lock import FileLock
from graphmeter_collector.store.read import SqlReader

WRITER = 0
"""There is one writer, so one slot."""

_Answer = TypeVar("_Answer")
_D = sql.SQLITE
_SPAN = sql.insert(tables.span, _D, ignore_conflicts=True)
_BODY = sql.insert(tables.span_body, _D, ignore_conflicts=True)
_ENVELOPE = sql.insert(tables.span_envelope, _D, ignore_conflicts=True)
_LEDGER = sql.insert(tables.ledger, _D, ignore_conflicts=True)
_OUTBOX = sql.insert(tables.outbox, _D, ignore_conflicts=True)
_RUN = sql.merge_run(_D)
_RUN_NODE = sql.merge_run_node(_D)
_PRAGMAS = (
    "journal_mode = WAL",
    # Every commit survives a power cut, not only a crash of ours: senders are told it is stored.
    "synchronous = FULL",
    "busy_timeout = 10000",
    "cache_size = -65536",
)


class SqliteStore:
    """A `Store` on a file. See `graphmeter_collector.store.Store` for what the methods promise."""

    def __init__(self, url: URL) -> None:
        self._path = sqlite_path(url)
        self._lock = FileLock(self._path, "writer")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._db: sqlite3.Connection | None = None
        self._job_locks: dict[str, asyncio.Lock] = {}
        self.reader = SqlReader(url)

    async def open(self) -> None:
        self._lock.acquire()
        try:
            await self._call(self._connect)
        except BaseException:
            self._lock.release()
            raise

    def _connect(self) -> None:
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            self._db.execute(f"PRAGMA {pragma}")

    async def close(self) -> None:
        await self.reader.close()
        if self._db is not None:
            await self._call(self._db.close)
            self._db = None
        self._thread.shutdown()
        self._lock.release()

    async def ping(self) -> None:
        await self._transaction(lambda db: db.execute("SELECT 1").fetchone())

    async def write(self, records: Sequence[SpanRecord], *, destinations: Sequence[str] = ()) -> WriteResult:
        async def attempt(part: Sequence[SpanRecord]) -> WriteResult:
            return await self._transaction(lambda db: _write(db, part, destinations))

        return await write_what_can_be_written(records, attempt)

    async def mark_lost(self, silent_since_ns: int) -> list[LostRun]:
        statement = (
            f"UPDATE run SET status = '{names.LOST}' WHERE status = '{names.RUNNING}' AND last_seen_ns < ? "  # noqa: S608
            "RETURNING service, environment, graph, team, run_id"
        )
        rows = await self._transaction(lambda db: db.execute(statement, (silent_since_ns,)).fetchall())
        return [LostRun(*row) for row in rows]

    async def runs_in_progress(self) -> dict[tuple[str, str, str, str], int]:
        return await self.reader.runs_in_progress()

    @asynccontextmanager
    async def job_lock(self, name: str) -> AsyncIterator[bool]:
        lock = self._job_locks.setdefault(name, asyncio.Lock())
        if lock.locked():
            yield False
            return
        async with lock:
            yield True

    async def outbox_read(self, destination: str, limit: int) -> list[OutboxItem]:
        return await self.reader.outbox_read(destination, limit)

    async def outbox_delete(self, destination: str, items: Sequence[OutboxItem]) -> None:
        keys = [(destination, item.trace_id, item.span_id, item.day) for item in items]
        statement = "DELETE FROM outbox WHERE destination = ? AND trace_id = ? AND span_id = ? AND day = ?"
        await self._transaction(lambda db: db.executemany(statement, keys))

    async def outbox_depth(self) -> dict[str, int]:
        return await self.reader.outbox_depth()

    async def _transaction(self, work: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        return await self._call(lambda: self._run(work))

    def _run(self, work: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        db = self._db
        if db is None:
            raise StoreUnavailable("the database is closed")
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                answer = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as problem:
            raise StoreUnavailable(f"SQLite file {self._path}: {problem}") from problem
        except (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as problem:
            raise SpanRefused(str(problem)) from problem
        return answer

    async def _call(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _write(db: sqlite3.Connection, records: Sequence[SpanRecord], destinations: Sequence[str]) -> WriteResult:
    given = facts.once(records)
    new = [record for record in given if _insert(db, _SPAN, facts.span_row(record), tables.span)]
    if new:
        _write_bodies(db, new, destinations)
        for record in new:
            if record.kind == names.MODEL and not _insert(db, _LEDGER, facts.ledger_row(record), tables.ledger):
                facts.mark_duplicate_call(record)
        runs = facts.run_rows(new)
        db.executemany(_RUN, map(_values(tables.run), runs))
        db.executemany(_RUN_NODE, map(_values(tables.run_node), facts.run_node_rows(new)))
        _write_rollups(db, new, tables.rollup_hour, facts.HOUR_NS)
        _write_rollups(db, new, tables.rollup_day, facts.DAY_NS)
    stored = {(record.trace_id, record.span_id, record.day) for record in new}
    return WriteResult(
        new=_in_order(records, stored),
        duplicates=len(records) - len(new),
        finished=[_totals(db, record) for record in new if record.kind == names.RUN],
    )


def _write_bodies(db: sqlite3.Connection, new: Sequence[SpanRecord], destinations: Sequence[str]) -> None:
    envelopes = {record.envelope.id: record.envelope for record in new}
    db.executemany(_ENVELOPE, [tuple(envelope) for envelope in envelopes.values()])
    db.executemany(_BODY, [(r.trace_id, r.span_id, r.day, r.envelope.id, r.body) for r in new])
    now = time.time_ns()
    forwardable = [record for record in new if record.forwardable]
    for destination in destinations:
        db.executemany(_OUTBOX, [(destination, r.trace_id, r.span_id, r.day, now) for r in forwardable])


def _write_rollups(db: sqlite3.Connection, new: Sequence[SpanRecord], table: Table, period_ns: int) -> None:
    period = table.columns[0].name
    columns = ", ".join(map(sql.quoted, (*facts.ROLLUP_SUMS, "latency")))
    where = " AND ".join(f"{column} = ?" for column in (period, *facts.ROLLUP_DIMENSIONS, "writer"))
    read = f"SELECT {columns} FROM {table.name} WHERE {where}"  # noqa: S608 - names of our own tables
    rows = []
    for key, rollup in facts.rollups(new, period_ns).items():
        before = db.execute(read, (*key, WRITER)).fetchone()
        if before is not None:
            rollup.sums = [old + added for old, added in zip(before, rollup.sums, strict=False)]
            histogram.merge(rollup.latency, histogram.unpack(before[-1]))
        rows.append((*key, WRITER, *rollup.sums, histogram.pack(rollup.latency)))
    db.executemany(sql.put_rollup(table, _D), rows)


def _insert(db: sqlite3.Connection, statement: str, row: tables.Row, table: Table) -> bool:
    return db.execute(statement, _values(table)(row)).rowcount == 1


def _values(table: Table) -> Callable[[tables.Row], tuple[Any, ...]]:
    columns = tables.column_names(table)
    return lambda row: tuple(row[column] for column in columns)


def _totals(db: sqlite3.Connection, record: SpanRecord) -> RunTotals:
    query = "SELECT cost_nano, steps FROM run WHERE trace_id = ? AND run_id = ?"
    cost_nano, steps = db.execute(query, (record.trace_id, record.run_id)).fetchone()
    return RunTotals(record, cost_nano, steps)


def _in_order(records: Sequence[SpanRecord], stored: set[tuple[bytes, bytes, int]]) -> list[SpanRecord]:
    """The stored ones in the order given, each once."""
    left = Counter(stored)
    ordered = []
    for record in records:
        key = (record.trace_id, record.span_id, record.day)
        if left[key]:
            left[key] = 0
            ordered.append(record)
    return ordered
