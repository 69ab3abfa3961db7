"""Facts in Postgres: an optimistic COPY, and the slow way only for a batch that holds a duplicate.

One connection of its own writes, so a collector's transactions follow one another; several collectors write side by side.
Every one touches tables, and rows within a table, in the same order, so that two wait for each other in a line, never in
a circle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import asyncpg
from asyncpg.exceptions._base import DataError as ClientDataError
from sqlalchemy.engine import URL

from graphmeter import names
from graphmeter_collector.errors import StoreUnavailable, TakenBack
from graphmeter_collector.records import Settling, SpanKey, SpanRecord, Waited, WriteResult
from graphmeter_collector.reports import Decision, Judged, LostRun, Unended, WaitingTrace
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import (
    decisions,
    expiry,
    facts,
    partitions,
    parts,
    reservations,
    runs,
    tables,
    unsettled,
    waits,
    waste,
)
from graphmeter_collector.store.batch import Batch, Given
from graphmeter_collector.store.bisect import SpanRefused, settle_what_can_be_settled, write_what_can_be_written
from graphmeter_collector.store.budget_spend import Spend
from graphmeter_collector.store.engine import CONNECT_TIMEOUT_S, cannot_use, connect, shown
from graphmeter_collector.store.migrate import require_head
from graphmeter_collector.store.outbox import Claim
from graphmeter_collector.store.outbox_postgres import PostgresOutbox
from graphmeter_collector.store.read import SqlReader
from graphmeter_collector.store.rollups import Remembered
from graphmeter_collector.store.settling import settle_some
from graphmeter_collector.store.transaction import Stored, Transaction, find_waste

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

WRITER_LOCKS = 0x6772_6D01
"""First key of the advisory locks that stand for writer slots; the second is the slot."""
JOB_LOCKS = 0x6772_6D02
"""First key of the advisory locks that stand for jobs; the second is a hash of the job's name."""
WRITER_SLOTS = 256
ATTEMPTS = 5
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
_REFUSED = (
    asyncpg.DataError,
    # What asyncpg cannot encode; it is an InterfaceError too, but no fault of the connection.
    ClientDataError,
    asyncpg.IntegrityConstraintViolationError,
    # A value that is too large for an index.
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    UnicodeEncodeError,
)

_Answer = TypeVar("_Answer")


class PostgresStore:
    """A `Store` on Postgres. See `graphmeter_collector.store.Store` for what the methods promise."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._shown = shown(url)
        self._writing = asyncio.Lock()
        self._closed = False
        self._connection: Connection | None = None
        self._writer = -1
        self._days: set[int] = set()
        self._envelopes: set[bytes] = set()
        self._rollups = Remembered()
        self._outbox = PostgresOutbox(self._new_connection, self._translated)
        self.reader = SqlReader(url)
        self.spend = Spend()

    async def open(self) -> None:
        try:
            connection = self._connection or await self._connect()
            known = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
            at = await connection.fetchval("SELECT version_num FROM alembic_version") if known else None
            require_head(at, self._shown)
            today = time.time_ns() // facts.DAY_NS
            for day in (today, today + 1):
                await self._ensure_partition(connection, day)
        except BaseException as problem:
            await self._disconnect()
            if isinstance(problem, (StoreUnavailable, *_AWAY, asyncpg.PostgresError)):
                raise cannot_use(self._url, problem) from problem
            raise

    async def close(self) -> None:
        self._closed = True
        async with self._writing:
            await self._disconnect()
        await self._outbox.close()
        await self.reader.close()

    async def ping(self) -> None:
        async with self._aside() as run:
            if await run(lambda connection: connection.fetchval("SELECT pg_is_in_recovery()")):
                raise StoreUnavailable(f"{self._shown} is a standby: it cannot be written")

    async def write(self, given: Given, *, destinations: Sequence[str] = ()) -> WriteResult:
        async def attempt(part: Batch) -> WriteResult:
            return await self._write(part, destinations)

        return await write_what_can_be_written(given, attempt)

    async def rehearse(self, records: Sequence[SpanRecord]) -> None:
        given = Batch.of(records)

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                await self._store(connection, given, ())
                raise TakenBack

        async with self._writing:
            with suppress(TakenBack):
                await self._retried(work)

    async def settle(self, now_ns: int, wait_ns: int) -> Settling:
        async def attempt(limit: int, *, count: bool) -> Settling:
            async def work(connection: Connection) -> tuple[Settling, set[SpanKey]]:
                if not await connection.fetchval(unsettled.LEFT):
                    return Settling(WriteResult(new=[], duplicates=0, finished=[]), 0, waiting=False), set()
                known = {unsettled.NO_ENVELOPE.id}
                async with connection.transaction():
                    transaction = Transaction(connection, self._writer, (), known, self._rollups)
                    settling, stored = await settle_some(transaction, now_ns - wait_ns, limit, count=count)
                    await self._follow_up(connection, stored)
                    return settling, stored.billed

            async with self._writing:
                settling, billed = await self._retried(work)
            facts.mark_duplicates(settling.result.settled, billed)
            return settling

        return await settle_what_can_be_settled(attempt)

    async def mark_lost(self, now_ns: int, lost_after_ns: int) -> list[LostRun]:
        statement = (
            # What a writer holds is being written: no run of that is silent, and none of it is waited for.
            f"WITH silent AS (SELECT trace_id, run_id FROM run WHERE status = '{names.RUNNING}' "  # noqa: S608
            "AND last_seen_ns < $2::bigint - "
            "CASE WHEN heartbeat_ns > 0 THEN LEAST($3::bigint, heartbeat_ns * $4::bigint) ELSE $3 END "
            "LIMIT $5 FOR UPDATE SKIP LOCKED) "
            "UPDATE run SET status = $1, was_lost = true FROM silent "
            "WHERE run.trace_id = silent.trace_id AND run.run_id = silent.run_id "
            "RETURNING service, environment, graph, team, run.run_id, run.trace_id"
        )
        values = (names.LOST, now_ns, lost_after_ns, runs.MISSED_HEARTBEATS, runs.LOST_AT_ONCE)

        async def work(connection: Connection) -> list[LostRun]:
            async with connection.transaction():
                rows = [tuple(row) for row in await connection.fetch(statement, *values)]
                return waste.of_lost(rows, await find_waste(connection, waste.Look.at_lost(rows)))

        async with self._aside() as run:
            return await run(work)

    async def end_waits(self, now_ns: int) -> list[Waited]:
        endings = waits.endings(await self.reader.rows(waits.open_waits(now_ns)))
        if not endings:
            return []
        columns = [list(column) for column in zip(*endings, strict=True)]
        async with self._aside() as run:
            rows = await run(lambda connection: connection.fetch(waits.END_POSTGRES, *columns))
        return waits.answered(endings, [(row["trace_id"], row["run_id"]) for row in rows])

    async def retain(self, cutoffs: Cutoffs) -> dict[str, int]:
        gone = {}
        async with self._aside() as run:
            for old in expiry.spans(cutoffs):
                days = await run(partial(partitions.drop_before, table=old.table.name, day=old.before))
                # Made again should such a day still turn up.
                self._days -= days
                gone[old.table.name] = len(days)
            for old in expiry.rows(cutoffs):
                gone[old.table.name] = await run(partial(_delete, old=old))
            if (before_ns := cutoffs.runs_ns) is not None:
                gone["run"] = await run(partial(_delete_runs, before_ns=before_ns))
        return gone

    async def runs_in_progress(self) -> dict[tuple[str, str, str, str], Unended]:
        return await self.reader.runs_in_progress()

    async def unsettled(self) -> tuple[int, int]:
        return await self.reader.unsettled()

    async def runs_waiting(self, now_ns: int) -> dict[tuple[str, str, str, str], Unended]:
        return await self.reader.runs_waiting(now_ns)

    @asynccontextmanager
    async def job_lock(self, name: str) -> AsyncIterator[bool]:
        # A connection of its own: the lock lives as long as the session, and dies with the process.
        async with self._aside() as run:
            statement = "SELECT pg_try_advisory_lock($1, hashtext($2))"
            yield bool(await run(lambda connection: connection.fetchval(statement, JOB_LOCKS, name)))

    @asynccontextmanager
    async def outbox_claim(self, destination: str, limit: int, max_bytes: int) -> AsyncIterator[Claim]:
        async with self._outbox.claim(destination, limit, max_bytes) as claim:
            yield claim

    async def outbox_expire(self, before_day: int) -> dict[str, int]:
        statement = (
            f"WITH gone AS (DELETE FROM outbox WHERE day < $1 RETURNING destination, {parts.COUNT} AS spans) "  # noqa: S608
            "SELECT destination, sum(spans)::bigint FROM gone GROUP BY destination"
        )
        async with self._aside() as run:
            return {row[0]: row[1] for row in await run(lambda connection: connection.fetch(statement, before_day))}

    async def outbox_oldest(self) -> dict[str, int]:
        return await self.reader.outbox_oldest()

    async def traces_waiting(self, quiet_ns: int, oldest_ns: int, after: bytes, limit: int) -> list[WaitingTrace]:
        return await decisions.waiting(self.reader, quiet_ns, oldest_ns, after, limit)

    async def traces_lost(self, since_ns: int, limit: int) -> list[WaitingTrace]:
        return await decisions.lost(self.reader, since_ns, limit)

    async def decide(
        self,
        new: Sequence[Decision],
        late: Sequence[bytes],
        destinations: Sequence[str],
        *,
        revised: Sequence[Decision] = (),
    ) -> Judged:
        async with self._aside() as run:
            return await run(lambda connection: decisions.decide_postgres(connection, new, late, revised, destinations))

    async def outbox_depth(self) -> dict[str, int]:
        return await self.reader.outbox_depth()

    async def table_bytes(self, rest: float = 0.0) -> dict[str, int]:
        return await self.reader.table_bytes(rest)

    async def ended_runs(self) -> dict[int, int]:
        return await self.reader.ended_runs()

    # --- connections ------------------------------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        """The writer's connection, and with it the lease of a writer slot: the two live and die together."""
        connection = await self._new_connection()
        try:
            # Whatever the server's default, an acknowledged span is on its disk.
            if await connection.fetchval("SHOW synchronous_commit") == "off":
                await connection.execute("SET synchronous_commit = on")
            for slot in range(WRITER_SLOTS):
                if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", WRITER_LOCKS, slot):
                    break
            else:
                raise StoreUnavailable(f"{WRITER_SLOTS} collectors, which is all there may be, use {self._shown}")
        except BaseException:
            connection.terminate()
            raise
        self._writer = slot
        self._connection = connection
        return connection

    async def _new_connection(self) -> Connection:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            return await connect(self._url)
        except (*_AWAY, asyncpg.PostgresError, ValueError) as problem:
            raise StoreUnavailable(f"cannot connect to {self._shown}: {problem}") from problem

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_AWAY):
                await connection.close(timeout=CONNECT_TIMEOUT_S)

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[Callable[[Callable[[Connection], Awaitable[_Answer]]], Awaitable[_Answer]]]:
        """A short-lived connection for what must not wait for the writer."""
        connection = await self._new_connection()

        # Only the database's own failures are translated, not those of whoever holds a job's lock meanwhile.
        async def run(work: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
            with self._translated():
                return await work(connection)

        try:
            yield run
        finally:
            with suppress(*_AWAY):
                await connection.close(timeout=CONNECT_TIMEOUT_S)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (*_AWAY, asyncpg.PostgresError) as problem:
            raise StoreUnavailable(f"{self._shown}: {problem}") from problem

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _write(self, given: Batch, destinations: Sequence[str]) -> WriteResult:
        async with self._writing:
            stored = await self._retried(lambda connection: self._store(connection, given, destinations))
        # Only after the commit: what was rolled back is not there.
        if len(self._envelopes) > MAX_REMEMBERED_ENVELOPES:
            self._envelopes.clear()
        self._envelopes |= stored.new.envelopes.keys()
        facts.mark_duplicates(stored.new.calls, stored.billed)
        return given.result(
            [*stored.new.records, *stored.outcomes],
            finished=[
                stored.totals[record.trace_id, record.run_id].of(record)
                for record in stored.new.records
                if record.kind == names.RUN and record.run_id
            ],
            clients=stored.clients,
            wasted=stored.wasted,
        )

    async def _store(self, connection: Connection, given: Batch, destinations: Sequence[str]) -> Stored:
        for day in sorted(given.days - self._days):
            await self._ensure_partition(connection, day)
        transaction = Transaction(connection, self._writer, destinations, self._envelopes, self._rollups)
        try:
            async with connection.transaction():
                stored = await transaction.store_all(given)
                await self._follow_up(connection, stored)
                return stored
        except asyncpg.UniqueViolationError:
            self._rollups.undo()
            async with connection.transaction():
                stored = await transaction.store_new(given)
                await self._follow_up(connection, stored)
                return stored

    async def _follow_up(self, connection: Connection, stored: Stored) -> None:
        """Count on budgets what was put on the ledger."""
        await self.spend.add(connection, self._writer, stored.new, stored.billed)
        await reservations.release(connection, stored.new.odd)

    async def _ensure_partition(self, connection: Connection, day: int) -> None:
        await partitions.ensure(connection, day)
        self._days.add(day)

    async def _retried(self, work: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._rollups.committed():
                    return await work(self._connection or await self._connect())
            except (*_TRY_AGAIN, asyncpg.CheckViolationError) as conflict:
                # The second is a partition that retention took away under us.
                self._days.clear()
                if attempt == ATTEMPTS:
                    raise StoreUnavailable(f"{self._shown}: {conflict}") from conflict
                await asyncio.sleep(0.005 * 4**attempt)
            except _REFUSED as problem:
                raise SpanRefused(str(problem)) from problem
            except _AWAY as problem:
                # Whether the commit got through is unknown: the sender tries again, and finds duplicates if it did.
                await self._disconnect()
                raise StoreUnavailable(f"lost the connection to {self._shown}: {problem}") from problem
            except asyncpg.PostgresError as problem:
                raise StoreUnavailable(f"{self._shown}: {problem}") from problem
        raise AssertionError("the last attempt returns or raises")


async def _delete(connection: Connection, old: expiry.Old) -> int:
    statement = expiry.step(old, row="ctid", parameter="$1")
    deleted = 0
    while gone := int((await connection.execute(statement, old.before)).rpartition(" ")[2]):
        deleted += gone
    return deleted


async def _delete_runs(connection: Connection, before_ns: int) -> int:
    deleted = 0
    while True:
        async with connection.transaction():
            old = await connection.fetch(expiry.OLD_RUNS.format("$1"), before_ns)
            keys = [row["trace_id"] for row in old], [row["run_id"] for row in old]
            for table in (*expiry.OF_RUNS, tables.run):
                same = " AND ".join(f"t.{column} = old.{column}" for column in expiry.of_run(table))
                await connection.execute(
                    f"DELETE FROM {table.name} t USING unnest($1::bytea[], $2::text[]) AS old(trace_id, run_id) "  # noqa: S608
                    f"WHERE {same}",
                    *keys,
                )
        if not old:
            return deleted
        deleted += len(old)
