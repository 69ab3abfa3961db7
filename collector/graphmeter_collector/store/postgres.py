"""Facts in Postgres: an optimistic COPY, and the slow way only for a batch that holds a duplicate.

One connection of its own writes, so a collector's transactions follow one another; several collectors write side by side.
Rows are touched in the order of their keys, so that two of them wait for each other in a line, never in a circle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from sqlalchemy import Table
from sqlalchemy.engine import URL

from graphmeter import names
from graphmeter_collector.errors import StartupError, StoreUnavailable
from graphmeter_collector.records import RunTotals, SpanRecord, WriteResult
from graphmeter_collector.reports import LostRun, OutboxItem
from graphmeter_collector.store import facts, histogram, sql, tables
from graphmeter_collector.store.bisect import SpanRefused, write_what_can_be_written
from graphmeter_collector.store.engine import asyncpg_dsn
from graphmeter_collector.store.read import SqlReader

WRITER_LOCKS = 0x6772_6D01
"""First key of the advisory locks that stand for writer slots; the second is the slot."""
JOB_LOCKS = 0x6772_6D02
"""First key of the advisory locks that stand for jobs; the second is a hash of the job's name."""
PARTITION_LOCK = 0x6772_6D03
WRITER_SLOTS = 256
CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
ATTEMPTS = 4
"""Tries of a transaction that lost a deadlock or a serialization conflict."""
MAX_REMEMBERED_ENVELOPES = 10_000

_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # asyncpg's state machine, when the server ends the session between two commands.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    TimeoutError,
)
_TRY_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, OverflowError, UnicodeEncodeError)

_Answer = TypeVar("_Answer")
_D = sql.POSTGRES
_ENVELOPE = sql.insert(tables.span_envelope, _D, ignore_conflicts=True)
_LEDGER = sql.insert(tables.ledger, _D, ignore_conflicts=True) + " RETURNING trace_id, span_id"
_RUN = sql.merge_run(_D)
_RUN_NODE = sql.merge_run_node(_D)
_SPAN_COLUMNS = tables.column_names(tables.span)
_BODY_COLUMNS = tables.column_names(tables.span_body)
_OUTBOX_COLUMNS = tables.column_names(tables.outbox)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
Key = tuple[bytes, bytes, int]


class PostgresStore:
    """A `Store` on Postgres. See `graphmeter_collector.store.Store` for what the methods promise."""

    def __init__(self, url: URL) -> None:
        self._dsn = asyncpg_dsn(url)
        self._shown = url.set(query={}).render_as_string(hide_password=True)
        self._writing = asyncio.Lock()
        self._connection: Connection | None = None
        self._writer = -1
        self._days: set[int] = set()
        self._envelopes: set[bytes] = set()
        self.reader = SqlReader(url)

    async def open(self) -> None:
        try:
            await self._connect()
        except StoreUnavailable as problem:
            raise StartupError(str(problem)) from problem

    async def close(self) -> None:
        async with self._writing:
            await self._disconnect()
        await self.reader.close()

    async def ping(self) -> None:
        async with self._aside() as connection:
            await connection.execute("SELECT 1")

    async def write(self, records: Sequence[SpanRecord], *, destinations: Sequence[str] = ()) -> WriteResult:
        async def attempt(part: Sequence[SpanRecord]) -> WriteResult:
            return await self._write(part, destinations)

        return await write_what_can_be_written(records, attempt)

    async def mark_lost(self, silent_since_ns: int) -> list[LostRun]:
        async with self._aside() as connection:
            rows = await connection.fetch(
                "UPDATE run SET status = $1 WHERE status = $2 AND last_seen_ns < $3 "
                "RETURNING service, environment, graph, team, run_id",
                names.LOST,
                names.RUNNING,
                silent_since_ns,
            )
        return [LostRun(*row) for row in rows]

    async def runs_in_progress(self) -> dict[tuple[str, str, str, str], int]:
        return await self.reader.runs_in_progress()

    @asynccontextmanager
    async def job_lock(self, name: str) -> AsyncIterator[bool]:
        # A connection of its own: the lock lives as long as the session, and dies with the process.
        async with self._aside() as connection:
            locked = await connection.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", JOB_LOCKS, name)
            yield bool(locked)

    async def outbox_read(self, destination: str, limit: int) -> list[OutboxItem]:
        return await self.reader.outbox_read(destination, limit)

    async def outbox_delete(self, destination: str, items: Sequence[OutboxItem]) -> None:
        async with self._aside() as connection:
            await connection.execute(
                "DELETE FROM outbox o USING unnest($2::bytea[], $3::bytea[], $4::int[]) AS sent(trace_id, span_id, day) "
                "WHERE o.destination = $1 AND o.trace_id = sent.trace_id AND o.span_id = sent.span_id AND o.day = sent.day",
                destination,
                [item.trace_id for item in items],
                [item.span_id for item in items],
                [item.day for item in items],
            )

    async def outbox_depth(self) -> dict[str, int]:
        return await self.reader.outbox_depth()

    # --- connections ------------------------------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        connection = await self._new_connection()
        try:
            # Whatever the server's default, an acknowledged span is on its disk.
            await connection.execute("SET synchronous_commit = on")
            for slot in range(WRITER_SLOTS):
                if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", WRITER_LOCKS, slot):
                    break
            else:
                raise StartupError(f"all {WRITER_SLOTS} writer slots are taken: that many collectors use {self._shown}")
        except BaseException:
            connection.terminate()
            raise
        self._writer = slot
        self._connection = connection
        return connection

    async def _new_connection(self) -> Connection:
        try:
            return await asyncpg.connect(self._dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=COMMAND_TIMEOUT_S)
        except (*_AWAY, asyncpg.PostgresError) as problem:
            raise StoreUnavailable(f"cannot connect to {self._shown}: {problem}") from problem

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_AWAY):
                await connection.close(timeout=CONNECT_TIMEOUT_S)

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[Connection]:
        """A short-lived connection for what must not wait for the writer."""
        connection = await self._new_connection()
        try:
            yield connection
        except _AWAY as problem:
            raise StoreUnavailable(f"lost the connection to {self._shown}: {problem}") from problem
        finally:
            with suppress(*_AWAY):
                await connection.close(timeout=CONNECT_TIMEOUT_S)

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _write(self, records: Sequence[SpanRecord], destinations: Sequence[str]) -> WriteResult:
        given = facts.once(records)
        async with self._writing:
            new, finished = await self._retried(lambda connection: self._store(connection, given, destinations))
        self._remember_envelopes(new)
        stored = {_key(record) for record in new}
        first = {_key(record): record for record in reversed(records)}
        return WriteResult(
            new=[record for record in records if _key(record) in stored and first[_key(record)] is record],
            duplicates=len(records) - len(new),
            finished=finished,
        )

    async def _retried(self, work: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await work(self._connection or await self._connect())
            except _TRY_AGAIN as conflict:
                if attempt == ATTEMPTS:
                    raise StoreUnavailable(f"{self._shown}: {conflict}") from conflict
                await asyncio.sleep(0.01 * 4**attempt)
            except _REFUSED as problem:
                raise SpanRefused(str(problem)) from problem
            except _AWAY as problem:
                # Whether the commit got through is unknown: the sender tries again, and finds duplicates if it did.
                await self._disconnect()
                raise StoreUnavailable(f"lost the connection to {self._shown}: {problem}") from problem
            except asyncpg.PostgresError as problem:
                raise StoreUnavailable(f"{self._shown}: {problem}") from problem
        raise AssertionError("the last attempt returns or raises")

    async def _store(
        self, connection: Connection, given: Sequence[SpanRecord], destinations: Sequence[str]
    ) -> tuple[list[SpanRecord], list[RunTotals]]:
        await self._ensure_partitions(connection, {record.day for record in given})
        rows = [tuple(facts.span_row(record).values()) for record in given]
        try:
            async with connection.transaction():
                await connection.copy_records_to_table("span", records=rows, columns=_SPAN_COLUMNS)
                return list(given), await self._apply(connection, given, destinations)
        except asyncpg.UniqueViolationError:
            async with connection.transaction():
                new_keys = await _insert_new(connection, rows)
                new = [record for record in given if _key(record) in new_keys]
                return new, await self._apply(connection, new, destinations)

    async def _apply(
        self, connection: Connection, new: Sequence[SpanRecord], destinations: Sequence[str]
    ) -> list[RunTotals]:
        """Everything that follows from new spans, within their transaction."""
        if not new:
            return []
        await self._write_bodies(connection, new, destinations)
        await _write_ledger(connection, new)
        await connection.executemany(_RUN, [tuple(row.values()) for row in _ordered(tables.run, facts.run_rows(new))])
        nodes = _ordered(tables.run_node, facts.run_node_rows(new))
        await connection.executemany(_RUN_NODE, [tuple(row.values()) for row in nodes])
        await self._write_rollups(connection, new, tables.rollup_hour, facts.HOUR_NS)
        await self._write_rollups(connection, new, tables.rollup_day, facts.DAY_NS)
        return await _totals(connection, [record for record in new if record.kind == names.RUN])

    async def _write_bodies(
        self, connection: Connection, new: Sequence[SpanRecord], destinations: Sequence[str]
    ) -> None:
        unknown = {r.envelope.id: r.envelope for r in new if r.envelope.id not in self._envelopes}
        if unknown:
            await connection.executemany(_ENVELOPE, [tuple(unknown[key]) for key in sorted(unknown)])
        bodies = [(r.trace_id, r.span_id, r.day, r.envelope.id, r.body) for r in new]
        await connection.copy_records_to_table("span_body", records=bodies, columns=_BODY_COLUMNS)
        now = time.time_ns()
        queued = [
            (destination, r.trace_id, r.span_id, r.day, now)
            for destination in destinations
            for r in new
            if r.forwardable
        ]
        if queued:
            await connection.copy_records_to_table("outbox", records=queued, columns=_OUTBOX_COLUMNS)

    def _remember_envelopes(self, stored: Sequence[SpanRecord]) -> None:
        # Only after the commit: an envelope that was rolled back is not there.
        if len(self._envelopes) > MAX_REMEMBERED_ENVELOPES:
            self._envelopes.clear()
        self._envelopes.update(record.envelope.id for record in stored)

    async def _write_rollups(
        self, connection: Connection, new: Sequence[SpanRecord], table: Table, period_ns: int
    ) -> None:
        rollups = facts.rollups(new, period_ns)
        if not rollups:
            return
        for row in await connection.fetch(_rollup_query(table), self._writer, *map(list, zip(*rollups, strict=True))):
            key, before = tuple(row)[:9], tuple(row)[9:]
            rollup = rollups[key]
            rollup.sums = [old + added for old, added in zip(before, rollup.sums, strict=False)]
            histogram.merge(rollup.latency, histogram.unpack(before[-1]))
        await connection.executemany(
            sql.put_rollup(table, _D),
            [(*key, self._writer, *rollup.sums, histogram.pack(rollup.latency)) for key, rollup in rollups.items()],
        )

    async def _ensure_partitions(self, connection: Connection, days: set[int]) -> None:
        for day in sorted(days - self._days):
            async with connection.transaction():
                # Two collectors meet a new day at the same time.
                await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITION_LOCK)
                suffix = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%Y%m%d")
                for table in ("span", "span_body"):
                    await connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {table}_p{suffix} PARTITION OF {table} "
                        f"FOR VALUES FROM ({day}) TO ({day + 1})"
                    )
            self._days.add(day)


def _key(record: SpanRecord) -> Key:
    return (record.trace_id, record.span_id, record.day)


def _ordered(table: Table, rows: Sequence[tables.Row]) -> list[tables.Row]:
    columns = tables.column_names(table)
    return [{column: row[column] for column in columns} for row in rows]


async def _insert_new(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> set[Key]:
    """Insert the spans that are not there yet; returns their keys."""
    await connection.execute("CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE span) ON COMMIT DELETE ROWS")
    await connection.copy_records_to_table("incoming", records=rows, columns=_SPAN_COLUMNS)
    inserted = await connection.fetch(
        "INSERT INTO span SELECT * FROM incoming ORDER BY trace_id, span_id, day "
        "ON CONFLICT DO NOTHING RETURNING trace_id, span_id, day"
    )
    return {tuple(row) for row in inserted}


async def _write_ledger(connection: Connection, new: Sequence[SpanRecord]) -> None:
    calls = [record for record in new if record.kind == names.MODEL]
    if not calls:
        return
    rows = [tuple(row.values()) for row in _ordered(tables.ledger, [facts.ledger_row(record) for record in calls])]
    inserted = {tuple(row) for row in await connection.fetchmany(_LEDGER, rows)}
    for record in calls:
        if (record.trace_id, record.span_id) not in inserted:
            facts.mark_duplicate_call(record)


async def _totals(connection: Connection, roots: Sequence[SpanRecord]) -> list[RunTotals]:
    if not roots:
        return []
    rows = await connection.fetch(
        "SELECT trace_id, run_id, cost_nano, steps FROM run "
        "JOIN unnest($1::bytea[], $2::text[]) AS wanted(trace_id, run_id) USING (trace_id, run_id)",
        [record.trace_id for record in roots],
        [record.run_id for record in roots],
    )
    found = {(row["trace_id"], row["run_id"]): row for row in rows}
    return [
        RunTotals(record, row["cost_nano"], row["steps"])
        for record in roots
        if (row := found.get((record.trace_id, record.run_id)))
    ]


def _rollup_query(table: Table) -> str:
    """Rows of this writer under the keys given as one array per column, locked until the transaction ends."""
    period = table.columns[0].name
    key = (period, *facts.ROLLUP_DIMENSIONS)
    columns = ", ".join(f"r.{sql.quoted(column)}" for column in (*key, *facts.ROLLUP_SUMS, "latency"))
    arrays = ", ".join(["$2::int[]", *(f"${n}::text[]" for n in range(3, 3 + len(facts.ROLLUP_DIMENSIONS)))])
    named = ", ".join(map(sql.quoted, key))
    same = " AND ".join(f"r.{sql.quoted(column)} = wanted.{sql.quoted(column)}" for column in key)
    return (
        f"SELECT {columns} FROM {table.name} r JOIN unnest({arrays}) AS wanted({named}) ON {same} "  # noqa: S608
        "WHERE r.writer = $1 FOR UPDATE OF r"
    )
