"""Facts in an embedded SQLite file: one connection on one thread writes, in WAL mode with a full sync per commit."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from sqlalchemy import Table
from sqlalchemy.engine import URL

from graphmeter import names
from graphmeter_collector.errors import StartupError, StoreUnavailable, TakenBack
from graphmeter_collector.records import (
    ClientChange,
    RunTotals,
    Settling,
    SpanKey,
    SpanRecord,
    Waited,
    Wasted,
    WriteResult,
)
from graphmeter_collector.reports import Decision, Judged, LostRun, Unended, WaitingTrace
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import (
    decisions,
    expiry,
    facts,
    notes,
    parts,
    reservations,
    runs,
    sql,
    tables,
    unsettled,
    waits,
    waste,
)
from graphmeter_collector.store.batch import Batch, Given
from graphmeter_collector.store.bisect import SpanRefused, settle_what_can_be_settled, write_what_can_be_written
from graphmeter_collector.store.budget_spend import Spend
from graphmeter_collector.store.engine import BUSY_TIMEOUT_MS, sqlite_path
from graphmeter_collector.store.lock import FileLock
from graphmeter_collector.store.migrate import require_head
from graphmeter_collector.store.outbox import Claim
from graphmeter_collector.store.outbox_sqlite import SqliteOutbox
from graphmeter_collector.store.read import SqlReader
from graphmeter_collector.store.rollups import Remembered

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
_WAIT = sql.insert(tables.wait, _D, ignore_conflicts=True)
_WASTE = sql.insert(tables.ledger_waste, _D, ignore_conflicts=True)
_OUTCOME = sql.insert(tables.outcome, _D, ignore_conflicts=True)
_RUN_TAG = sql.merge_run_tag(_D)
_TOPOLOGY = sql.merge_topology(_D)
_REPORT = sql.put_report(_D)
_UNSETTLED = sql.insert(tables.unsettled, _D)
_REPORTED = "SELECT sequence, exported, dropped, failed FROM client_report WHERE client_id = ?"
_ATTRIBUTION = "SELECT service, environment, graph, team FROM run WHERE run_id = ? ORDER BY started_ns"
_STORED = "SELECT 1 FROM span WHERE trace_id = ? AND span_id = ? AND day = ?"
_NOT_BILLED_HERE = "UPDATE span SET cost_nano = 0 WHERE trace_id = ? AND span_id = ? AND day = ?"
_PRAGMAS = (
    "journal_mode = WAL",
    # Every commit survives a power cut, not only a crash of ours: senders are told it is stored.
    "synchronous = FULL",
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
    "cache_size = -65536",
    # Checkpoints of 16 MB: fewer, larger writes into the database than the default's 4 MB.
    "wal_autocheckpoint = 4000",
)
_ONE_WRITER = (
    "one collector per SQLite file; stop that one, or give this one another --data-dir or a Postgres --database-url"
)


# Of what is no number and no text the driver asks how it wants to be stored, an exception for every single value, unless
# an adapter is registered for its type; so these, which change nothing, save a tenth of a commit.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(type(None), {None: None}.get)


class SqliteStore:
    """A `Store` on a file. See `graphmeter_collector.store.Store` for what the methods promise."""

    def __init__(self, url: URL) -> None:
        self._path = sqlite_path(url)
        self._lock = FileLock(self._path, "writer", _ONE_WRITER)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._rollups = Remembered()
        self._job_locks: dict[str, asyncio.Lock] = {}
        self._outbox = SqliteOutbox(self._path, self._transaction)
        self.reader = SqlReader(url)
        self.spend = Spend()

    async def open(self) -> None:
        self._lock.acquire()
        try:
            await self._call(self._connect)
        except BaseException:
            await self.close()
            raise

    def _connect(self) -> None:
        try:
            # mode=rw: a file that is not there has no schema either, and must not be made here.
            self._db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
            for pragma in _PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
            known = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            at = self._db.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
        except sqlite3.Error as problem:
            hint = "" if self._path.exists() else ": run `graphmeter migrate` to make it"
            raise StartupError(f"cannot use the database {self._path}: {problem}{hint}") from problem
        require_head(at[0] if at else None, str(self._path))

    async def close(self) -> None:
        await self.reader.close()
        await self._outbox.close()
        if self._db is not None:
            await self._call(self._db.close)
            self._db = None
        self._closed = True
        self._thread.shutdown()
        self._lock.release()

    async def ping(self) -> None:
        await self._transaction(lambda db: db.execute("SELECT 1").fetchone())

    async def write(self, given: Given, *, destinations: Sequence[str] = ()) -> WriteResult:
        async def attempt(part: Batch) -> WriteResult:
            result, billed = await self._call(lambda: self._store(part, destinations))
            facts.mark_duplicates(result.new, billed)
            return result

        return await write_what_can_be_written(given, attempt)

    async def rehearse(self, records: Sequence[SpanRecord]) -> None:
        def written(db: sqlite3.Connection) -> None:
            self._write_all(db, Batch.of(records), (), all_new=True)
            raise TakenBack

        def work() -> None:
            with suppress(TakenBack), self._rollups.committed():
                self._run(written)

        await self._call(work)

    def _store(self, part: Batch, destinations: Sequence[str]) -> tuple[WriteResult, set[SpanKey]]:
        try:
            with self._rollups.committed():
                return self._run(lambda db: self._write_all(db, part, destinations, all_new=True))
        except _StoredBefore:
            with self._rollups.committed():
                return self._run(lambda db: self._write_all(db, part, destinations, all_new=False))

    def _write_all(
        self, db: sqlite3.Connection, part: Batch, destinations: Sequence[str], *, all_new: bool
    ) -> tuple[WriteResult, set[SpanKey]]:
        new, result, billed = _write(db, part, destinations, self._rollups, all_new=all_new)
        self._follow_up(db, new, billed)
        return result, billed

    def _settle_all(
        self, db: sqlite3.Connection, due_ns: int, limit: int, *, count: bool
    ) -> tuple[Settling, set[SpanKey]]:
        counted, settling, billed = _settle(db, due_ns, limit, self._rollups, count=count)
        self._follow_up(db, counted, billed)
        return settling, billed

    def _follow_up(self, db: sqlite3.Connection, new: Batch, billed: set[SpanKey]) -> None:
        """Count on budgets what was put on the ledger; `billed` were there before."""
        self.spend.add_sqlite(db, WRITER, new, billed)
        reservations.release_sqlite(db, new.odd)

    async def settle(self, now_ns: int, wait_ns: int) -> Settling:
        async def attempt(limit: int, *, count: bool) -> Settling:
            def work() -> tuple[Settling, set[SpanKey]]:
                with self._rollups.committed():
                    return self._run(lambda db: self._settle_all(db, now_ns - wait_ns, limit, count=count))

            settling, billed = await self._call(work)
            facts.mark_duplicates(settling.result.settled, billed)
            return settling

        return await settle_what_can_be_settled(attempt)

    async def mark_lost(self, now_ns: int, lost_after_ns: int) -> list[LostRun]:
        statement = (
            # The status is written out: only then does SQLite see that it is the partial index's.
            "UPDATE run SET status = ?, was_lost = 1 WHERE rowid IN ("  # noqa: S608
            f"SELECT rowid FROM run WHERE status = '{names.RUNNING}' AND last_seen_ns < ? - "
            "CASE WHEN heartbeat_ns > 0 THEN min(?, heartbeat_ns * ?) ELSE ? END LIMIT ?) "
            "RETURNING service, environment, graph, team, run_id, trace_id"
        )
        values = (names.LOST, now_ns, lost_after_ns, runs.MISSED_HEARTBEATS, lost_after_ns, runs.LOST_AT_ONCE)

        def work(db: sqlite3.Connection) -> list[LostRun]:
            rows = db.execute(statement, values).fetchall()
            return waste.of_lost(rows, _find_waste(db, waste.Look.at_lost(rows)))

        return await self._transaction(work)

    async def end_waits(self, now_ns: int) -> list[Waited]:
        endings = waits.endings(await self.reader.rows(waits.open_waits(now_ns)))
        if not endings:
            return []

        def write(db: sqlite3.Connection) -> list[tuple[bytes, str]]:
            return [(end.trace_id, end.run_id) for end in endings if db.execute(waits.END_SQLITE, end).rowcount]

        return waits.answered(endings, await self._transaction(write))

    async def retain(self, cutoffs: Cutoffs) -> dict[str, int]:
        gone = {}
        for old in (*expiry.spans(cutoffs), *expiry.rows(cutoffs)):
            gone[old.table.name] = await self._delete(old)
        if cutoffs.runs_ns is not None:
            gone["run"] = await self._delete_runs(cutoffs.runs_ns)
        return gone

    async def _delete(self, old: expiry.Old) -> int:
        statement = expiry.step(old, row="rowid", parameter="?")
        deleted = 0
        while gone := await self._transaction(lambda db: db.execute(statement, (old.before,)).rowcount):
            deleted += gone
        return deleted

    async def _delete_runs(self, before_ns: int) -> int:
        def step(db: sqlite3.Connection) -> int:
            old = db.execute(expiry.OLD_RUNS.format("?"), (before_ns,)).fetchall()
            for table in (*expiry.OF_RUNS, tables.run):
                columns = expiry.of_run(table)
                where = " AND ".join(f"{column} = ?" for column in columns)
                db.executemany(f"DELETE FROM {table.name} WHERE {where}", [row[-len(columns) :] for row in old])  # noqa: S608
            return len(old)

        deleted = 0
        while gone := await self._transaction(step):
            deleted += gone
        return deleted

    async def runs_in_progress(self) -> dict[tuple[str, str, str, str], Unended]:
        return await self.reader.runs_in_progress()

    async def unsettled(self) -> tuple[int, int]:
        return await self.reader.unsettled()

    async def runs_waiting(self, now_ns: int) -> dict[tuple[str, str, str, str], Unended]:
        return await self.reader.runs_waiting(now_ns)

    @asynccontextmanager
    async def job_lock(self, name: str) -> AsyncIterator[bool]:
        lock = self._job_locks.setdefault(name, asyncio.Lock())
        if lock.locked():
            yield False
            return
        async with lock:
            yield True

    @asynccontextmanager
    async def outbox_claim(self, destination: str, limit: int, max_bytes: int) -> AsyncIterator[Claim]:
        async with self._outbox.claim(destination, limit, max_bytes) as claim:
            yield claim

    async def outbox_expire(self, before_day: int) -> dict[str, int]:
        query = f"SELECT destination, sum({parts.COUNT}) FROM outbox WHERE day < ? GROUP BY destination"  # noqa: S608
        gone = await self._transaction(lambda db: db.execute(query, (before_day,)).fetchall())
        if gone:
            await self._delete(expiry.Old(tables.outbox, tables.outbox.c.day, before_day))
        return dict(gone)

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
        return await self._transaction(lambda db: decisions.decide_sqlite(db, new, late, revised, destinations))

    async def outbox_depth(self) -> dict[str, int]:
        return await self.reader.outbox_depth()

    async def table_bytes(self, rest: float = 0.0) -> dict[str, int]:
        return await self.reader.table_bytes(rest)

    async def ended_runs(self) -> dict[int, int]:
        return await self.reader.ended_runs()

    async def _transaction(self, work: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        return await self._call(lambda: self._run(work))

    def _run(self, work: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        db = self._db
        if db is None:
            raise StoreUnavailable("the store is not open")
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                answer = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except (
            sqlite3.DataError,
            sqlite3.IntegrityError,
            sqlite3.InterfaceError,
            OverflowError,
            UnicodeEncodeError,
        ) as problem:
            raise SpanRefused(str(problem)) from problem
        except sqlite3.Error as problem:
            raise StoreUnavailable(f"SQLite file {self._path}: {problem}") from problem
        return answer

    async def _call(self, work: Callable[[], _Answer]) -> _Answer:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _write(
    db: sqlite3.Connection, given: Batch, destinations: Sequence[str], rollups: Remembered, *, all_new: bool
) -> tuple[Batch, WriteResult, set[SpanKey]]:
    """What was new, what was done, and which new calls the ledger had already.

    Raises:
        _StoredBefore: not all are new: take the transaction back, and come again without `all_new`.
    """
    new, billed = given, set[SpanKey]()
    if all_new:
        _insert_all(db, _SPAN, new.rows)
        _insert_all(db, _LEDGER, new.ledger)
    else:
        # Nobody else writes in this transaction, so what is not there now is new.
        keys = [record.key for record in given.records]
        new = given.only({key for key in keys if not db.execute(_STORED, key).fetchone()})
        db.executemany(_SPAN, new.rows)
        billed = _write_ledger(db, new)
    db.executemany(_BODY, new.bodies)
    db.executemany(_ENVELOPE, [new.envelopes[key] for key in sorted(new.envelopes)])
    db.executemany(_OUTBOX, facts.outbox_rows(new.records, destinations, time.time_ns()))
    db.executemany(_UNSETTLED, unsettled.rows(new.odd, time.time_ns()))
    wasted = _aggregate(db, new, billed, rollups)
    outcomes, clients = _write_notes(db, given.notes) if given.notes else ([], [])
    finished = [_totals(db, record) for record in new.records if record.kind == names.RUN and record.run_id]
    result = given.result([*new.records, *outcomes], finished=finished, clients=clients, wasted=wasted)
    return new, result, billed


def _aggregate(db: sqlite3.Connection, new: Batch, billed: set[SpanKey], rollups: Remembered) -> list[Wasted]:
    """What follows from spans, besides the ledger; returns calls that were found to be for nothing."""
    counted = new.counted
    run_rows, node_rows = runs.changes([*counted, *runs.heartbeats(new.notes)], billed)
    db.executemany(_RUN, run_rows)
    db.executemany(_RUN_NODE, node_rows)
    hourly = facts.rollups(counted, billed)
    # Before rows are read: those of an hour are then merged into what is added to it.
    daily = facts.daily(hourly)
    _write_rollups(db, tables.rollup_hour, hourly, rollups)
    _write_rollups(db, tables.rollup_day, daily, rollups)
    db.executemany(_WAIT, notes.wait_rows(new.to_look_at()))
    flags = {row[:2]: waste.Flags(*db.execute(waste.FLAGS_SQLITE, row[:2]).fetchone()) for row in run_rows}
    flags = {run: said for run, said in flags.items() if said}
    return _find_waste(db, waste.Look(new.to_look_at({trace_id for trace_id, _ in flags}), billed, flags))


def _find_waste(db: sqlite3.Connection, look: waste.Look) -> list[Wasted]:
    """Write which calls were for nothing; returns those of which nobody knew it."""
    look.take_calls(row for each in look.asked() for row in db.execute(waste.CALLS_SQLITE, each).fetchall())
    if wanted := look.wanted():
        days = look.days
        look.take_attempts(
            row for each in wanted for row in db.execute(waste.ATTEMPT_SQLITE, (*each, *days)).fetchall()
        )
    found, cleared = look.found()
    db.executemany(waste.CLEAR_SQLITE, cleared)
    new = [call for call in found if db.execute(_WASTE, waste.row(call)).rowcount]
    if len(new) < len(found):
        db.executemany(waste.CHANGE_SQLITE, [(call.reason, call.trace_id, call.span_id) for call in found])
    return new


def _settle(
    db: sqlite3.Connection, due_ns: int, limit: int, rollups: Remembered, *, count: bool
) -> tuple[Batch, Settling, set[SpanKey]]:
    """Settle some spans; with `count=False` nothing follows from it. Also returns those of which something follows, and
    which of their calls the ledger had already."""
    found = db.execute(unsettled.DUE_SQLITE, (due_ns, limit)).fetchall()
    if len(found) < limit:
        found += db.execute(unsettled.READY_SQLITE, (limit - len(found),)).fetchall()
    billed: set[SpanKey] = set()
    wasted: list[Wasted] = []
    counted = Batch()
    due = unsettled.Due(found, due_ns)
    if due:
        while wanted := due.wanted():
            rows = [db.execute(unsettled.ANCESTOR_SQLITE, (*each, *due.days)).fetchone() for each in wanted]
            due.learn(row for row in rows if row is not None)
        runs_found = [db.execute(unsettled.ONLY_RUN_SQLITE, (each,)).fetchone() for each in due.orphaned()]
        due.decide(row for row in runs_found if row is not None)
        db.executemany(unsettled.MOVE_SQLITE, due.moved)
        db.executemany(unsettled.DELETE_SQLITE, [record.key for record in due.settled])
        db.executemany(unsettled.UPDATE_SPAN_SQLITE, [unsettled.settled_row(record) for record in due.settled])
        if count:
            counted.add(due.settled)
            billed = _write_ledger(db, counted)
            wasted = _aggregate(db, counted, billed, rollups)
    finished = [_totals(db, record) for record in due.settled if count and record.kind == names.RUN]
    [left] = db.execute(unsettled.LEFT).fetchone()
    return counted, unsettled.outcome(due, finished, wasted, left=bool(left), counted=count), billed


def _write_notes(db: sqlite3.Connection, said: Sequence[SpanRecord]) -> tuple[list[SpanRecord], list[ClientChange]]:
    """Store what clients say besides spans; returns outcomes that were not there, and what reports added."""
    new = [note for note in notes.outcomes(said) if db.execute(_OUTCOME, notes.outcome_row(note)).rowcount]
    for note in new:
        if not note.graph and (known := db.execute(_ATTRIBUTION, (note.run_id,)).fetchone()):
            notes.attribute(note, known)
    db.executemany(_RUN_TAG, notes.tag_rows(said))
    db.executemany(_TOPOLOGY, notes.topology_rows(said))
    reports = notes.report_rows(said)
    before = {row[0]: found for row in reports if (found := db.execute(_REPORTED, (row[0],)).fetchone())}
    db.executemany(_REPORT, reports)
    return new, notes.changes(reports, before)


class _StoredBefore(Exception):
    """A row that was to be new is not."""


def _insert_all(db: sqlite3.Connection, statement: str, rows: Sequence[facts.Row]) -> None:
    # A savepoint would do instead of the whole transaction, but keeps a copy of every page that is written in it.
    before = db.total_changes
    db.executemany(statement, rows)
    if db.total_changes - before != len(rows):
        raise _StoredBefore


def _write_ledger(db: sqlite3.Connection, batch: Batch) -> set[SpanKey]:
    """Bill the calls that are not billed yet; returns the others."""
    calls = zip(batch.calls, batch.ledger, strict=True)
    billed = {record.key for record, row in calls if db.execute(_LEDGER, row).rowcount == 0}
    db.executemany(_NOT_BILLED_HERE, sorted(billed))
    return billed


def _write_rollups(
    db: sqlite3.Connection, table: Table, added: dict[facts.RollupKey, facts.Rollup], rollups: Remembered
) -> None:
    columns = ", ".join(map(sql.quoted, (*facts.ROLLUP_SUMS, "latency")))
    where = " AND ".join(f"{column} = ?" for column in (table.columns[0].name, *facts.ROLLUP_DIMENSIONS, "writer"))
    read = f"SELECT {columns} FROM {table.name} WHERE {where}"  # noqa: S608 - names of our own tables
    for key in rollups.unknown(table.name, added):
        before = db.execute(read, (*key, WRITER)).fetchone()
        if before is not None:
            rollups.learn(table.name, key, before)
    db.executemany(sql.put_rollup(table, _D), rollups.rows(table.name, added, WRITER))


def _totals(db: sqlite3.Connection, record: SpanRecord) -> RunTotals:
    query = "SELECT cost_nano, steps FROM run WHERE trace_id = ? AND run_id = ?"
    cost_nano, steps = db.execute(query, (record.trace_id, record.run_id)).fetchone()
    return RunTotals(record, cost_nano, steps)
