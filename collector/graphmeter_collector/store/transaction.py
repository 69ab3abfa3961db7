"""New spans in, one Postgres transaction's statements out: the order of tables that every collector keeps to.

Runs inside a transaction that the caller opened. `store_all` takes it that every span is new and lets COPY find out; then
the caller rolls back and comes again with `store_new`, which asks row by row.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Table

from graphmeter_collector.records import ClientChange, RunTotals, SpanKey, SpanRecord, Wasted
from graphmeter_collector.store import facts, notes, runs, sql, tables, unsettled, waste
from graphmeter_collector.store.batch import Batch
from graphmeter_collector.store.rollups import Remembered

if TYPE_CHECKING:
    import asyncpg

_D = sql.POSTGRES
_BODY = sql.insert(tables.span_body, _D, ignore_conflicts=True)
_ENVELOPE = sql.insert(tables.span_envelope, _D, ignore_conflicts=True)
_LEDGER = sql.insert(tables.ledger, _D, ignore_conflicts=True) + " RETURNING trace_id, span_id"
_OUTBOX = sql.insert(tables.outbox, _D, ignore_conflicts=True)
# A row that no transaction has touched before has no xmax: the run is new.
_RUN = sql.merge_run(_D) + f" RETURNING trace_id, run_id, cost_nano, steps, xmax = 0 AS new, {waste.FLAGS}"
_RUN_NODE = sql.merge_run_node(_D)
_WAIT = sql.insert(tables.wait, _D, ignore_conflicts=True)
_WASTE = (
    sql.insert(tables.ledger_waste, _D) + " ON CONFLICT (trace_id, span_id) DO UPDATE SET reason = excluded.reason "
    "WHERE ledger_waste.reason <> excluded.reason RETURNING trace_id, span_id, xmax = 0 AS new"
)
_OUTCOME = sql.insert(tables.outcome, _D, ignore_conflicts=True) + " RETURNING trace_id, span_id"
_RUN_TAG = sql.merge_run_tag(_D)
_TOPOLOGY = sql.merge_topology(_D)
_NO_REPORT = sql.insert(tables.client_report, _D, ignore_conflicts=True)
_REPORT = sql.put_report(_D)
_REPORTED = (
    "SELECT client_id, sequence, exported, dropped, failed FROM client_report WHERE client_id = ANY($1) "
    "ORDER BY client_id FOR UPDATE"
)
_ATTRIBUTION = (
    "SELECT DISTINCT ON (run_id) run_id, service, environment, graph, team FROM run WHERE run_id = ANY($1) "
    "ORDER BY run_id, started_ns"
)
_STAGE = "CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE span) ON COMMIT DELETE ROWS"
_UNSTAGE = (
    "INSERT INTO span SELECT * FROM incoming ORDER BY trace_id, span_id, day "
    "ON CONFLICT DO NOTHING RETURNING trace_id, span_id, day"
)
_NOT_BILLED_HERE = (
    "UPDATE span SET cost_nano = 0 FROM unnest($1::bytea[], $2::bytea[], $3::int[]) AS of(trace_id, span_id, day) "
    "WHERE span.trace_id = of.trace_id AND span.span_id = of.span_id AND span.day = of.day"
)


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a run, after this transaction."""

    cost_nano: int
    steps: int

    def of(self, root: SpanRecord) -> RunTotals:
        """With the root that ended the run."""
        return RunTotals(root, self.cost_nano, self.steps)


@dataclass(slots=True)
class Stored:
    """What a transaction did."""

    new: Batch = field(default_factory=Batch)
    billed: set[SpanKey] = field(default_factory=set)
    """New spans whose call the ledger had already."""
    totals: dict[tuple[bytes, str], Totals] = field(default_factory=dict)
    """Of the runs it touched, by trace id and run id."""
    outcomes: Sequence[SpanRecord] = ()
    """Outcomes that were not there."""
    clients: Sequence[ClientChange] = ()
    """What reports added."""
    wasted: Sequence[Wasted] = ()
    """Calls that were found to be for nothing."""


@dataclass(slots=True)
class Transaction:
    """Writes spans and all that follows from them."""

    connection: asyncpg.Connection[asyncpg.Record]
    writer: int
    """Slot whose rollup rows nobody else writes."""
    destinations: Sequence[str]
    known_envelopes: Set[bytes]
    rollups: Remembered
    """Rows of the slot."""

    async def store_all(self, given: Batch) -> Stored:
        """Store spans of which none is stored yet.

        Raises:
            asyncpg.UniqueViolationError: one is, or something that follows from it: a call on the ledger.
        """
        await self._copy(tables.span, given.rows)
        await self._copy(tables.ledger, given.ledger)
        await self._copy(tables.span_body, given.bodies)
        await self._copy(tables.outbox, facts.outbox_rows(given.records, self.destinations, time.time_ns()))
        await self._copy(tables.unsettled, unsettled.rows(given.odd, time.time_ns()))
        return await self._aggregate(Stored(given), all_new=True)

    async def store_new(self, given: Batch) -> Stored:
        """Store those of the spans that are not stored yet."""
        await self.connection.execute(_STAGE)
        await self._copy(tables.span, given.rows, into="incoming")
        new = given.only({tuple(row) for row in await self.connection.fetch(_UNSTAGE)})
        if not new.records and not new.notes:
            return Stored()
        billed = await self._bill(new)
        await self._insert(_BODY, new.bodies)
        await self._insert(_OUTBOX, facts.outbox_rows(new.records, self.destinations, time.time_ns()))
        await self._copy(tables.unsettled, unsettled.rows(new.odd, time.time_ns()))
        return await self._aggregate(Stored(new, billed))

    async def count_settled(self, settled: Sequence[SpanRecord]) -> Stored:
        """Write what follows from spans that were stored unsettled."""
        batch = Batch()
        batch.add(settled)
        return await self._aggregate(Stored(batch, await self._bill(batch)))

    async def _bill(self, batch: Batch) -> set[SpanKey]:
        """Put its calls on the ledger; returns those whose call is there already."""
        inserted = {tuple(row) for row in await self._insert(_LEDGER, batch.ledger)}
        billed = {record.key for record in batch.calls if (record.trace_id, record.span_id) not in inserted}
        await self._insert(_NOT_BILLED_HERE, sorted(billed))
        return billed

    async def _aggregate(self, stored: Stored, *, all_new: bool = False) -> Stored:
        """What follows from spans, besides the ledger. With `all_new` the caller comes again if something was there."""
        counted = stored.new.counted
        run_rows, node_rows = runs.changes([*counted, *runs.heartbeats(stored.new.notes)], stored.billed)
        new_runs = set()
        flags: dict[waste.Run, waste.Flags] = {}
        for trace_id, run_id, cost_nano, steps, new, *said in await self._insert(_RUN, run_rows):
            stored.totals[trace_id, run_id] = Totals(cost_nano, steps)
            if found := waste.Flags(*said):
                flags[trace_id, run_id] = found
            if new:
                new_runs.add((trace_id, run_id))
        if all_new and new_runs:
            # Nodes are written after their run, so of a new one, which is locked by us, none are there.
            some = len(new_runs) < len(run_rows)
            await self._copy(tables.run_node, [row for row in node_rows if row[:2] in new_runs] if some else node_rows)
            node_rows = [row for row in node_rows if row[:2] not in new_runs] if some else []
        await self._insert(_RUN_NODE, node_rows)
        hourly = facts.rollups(counted, stored.billed)
        # Before rows are read: those of an hour are then merged into what is added to it.
        daily = facts.daily(hourly)
        await self._roll_up(tables.rollup_hour, hourly)
        await self._roll_up(tables.rollup_day, daily)
        await self._insert(_WAIT, notes.wait_rows(stored.new.to_look_at()))
        flagged = stored.new.to_look_at({trace_id for trace_id, _ in flags})
        stored.wasted = await find_waste(self.connection, waste.Look(flagged, stored.billed, flags))
        if stored.new.notes:
            await self._note(stored, stored.new.notes)
        # Last: other collectors that see the same envelope for the first time wait for this row until our commit.
        envelopes = stored.new.envelopes
        await self._insert(_ENVELOPE, [(*envelopes[key],) for key in sorted(envelopes.keys() - self.known_envelopes)])
        return stored

    async def _note(self, stored: Stored, given: Sequence[SpanRecord]) -> None:
        """Store what clients say besides spans."""
        said = notes.outcomes(given)
        inserted = {tuple(row) for row in await self._insert(_OUTCOME, [notes.outcome_row(note) for note in said])}
        stored.outcomes = [note for note in said if (note.trace_id, note.span_id) in inserted]
        if unknown := [note for note in stored.outcomes if not note.graph]:
            rows = await self.connection.fetch(_ATTRIBUTION, [note.run_id for note in unknown])
            known = {row["run_id"]: tuple(row)[1:] for row in rows}
            for note in unknown:
                if note.run_id in known:
                    notes.attribute(note, known[note.run_id])
        await self._insert(_RUN_TAG, notes.tag_rows(given))
        await self._insert(_TOPOLOGY, notes.topology_rows(given))
        if reports := notes.report_rows(given):
            # First a row of nothing, then a lock on it: of two collectors that hear of a client, only one counts a report.
            await self._insert(_NO_REPORT, [(*row[:3], *(0,) * (len(row) - 4), row[-1]) for row in reports])
            rows = await self.connection.fetch(_REPORTED, [row[0] for row in reports])
            stored.clients = notes.changes(reports, {row["client_id"]: tuple(row)[1:] for row in rows})
            await self._insert(_REPORT, reports)

    async def _roll_up(self, table: Table, rollups: dict[facts.RollupKey, facts.Rollup]) -> None:
        if not rollups:
            return
        if unknown := self.rollups.unknown(table.name, rollups):
            size, columns = 1 + len(facts.ROLLUP_DIMENSIONS), map(list, zip(*unknown, strict=True))
            for row in await self.connection.fetch(_rollup_query(table), self.writer, *columns):
                self.rollups.learn(table.name, tuple(row)[:size], tuple(row)[size:])
        await self._insert(_put_rollup(table), self.rollups.rows(table.name, rollups, self.writer))

    async def _copy(self, table: Table, rows: Sequence[facts.Row], *, into: str = "") -> None:
        if rows:
            columns = tables.column_names(table)
            await self.connection.copy_records_to_table(into or table.name, records=rows, columns=columns)

    async def _insert(self, statement: str, rows: Sequence[facts.Row]) -> Sequence[asyncpg.Record]:
        """Run a statement that takes rows as one array per column."""
        return await self.connection.fetch(statement, *map(list, zip(*rows, strict=True))) if rows else ()


async def find_waste(connection: asyncpg.Connection[asyncpg.Record], look: waste.Look) -> list[Wasted]:
    """Write which calls were for nothing; returns those of which nobody knew it."""

    async def fetch(statement: str, rows: Iterable[facts.Row], *more: int) -> Sequence[asyncpg.Record]:
        return await connection.fetch(statement, *map(list, zip(*rows, strict=True)), *more)

    # In statements after that which locked the runs: these see what others committed before they let go of them.
    if asked := look.asked():
        look.take_calls(await fetch(waste.CALLS_POSTGRES, asked))
    if wanted := look.wanted():
        look.take_attempts(await fetch(waste.ATTEMPTS_POSTGRES, wanted, *look.days))
    found, cleared = look.found()
    if cleared:
        await fetch(waste.CLEAR_POSTGRES, cleared)
    if not found:
        return []
    changed = await fetch(_WASTE, [waste.row(call) for call in found])
    new = {(trace_id, span_id) for trace_id, span_id, new in changed if new}
    return [call for call in found if call[:2] in new]


@cache
def _put_rollup(table: Table) -> str:
    return sql.put_rollup(table, _D)


@cache
def _rollup_query(table: Table) -> str:
    """Rows of this writer under the keys given as one array per column, locked until the transaction ends."""
    key = (table.columns[0].name, *facts.ROLLUP_DIMENSIONS)
    columns = ", ".join(f"r.{sql.quoted(column)}" for column in (*key, *facts.ROLLUP_SUMS, "latency"))
    arrays = ", ".join(["$2::int[]", *(f"${n}::text[]" for n in range(3, 3 + len(facts.ROLLUP_DIMENSIONS)))])
    named = ", ".join(map(sql.quoted, key))
    same = " AND ".join(f"r.{sql.quoted(column)} = wanted.{sql.quoted(column)}" for column in key)
    return (
        f"SELECT {columns} FROM {table.name} r JOIN unnest({arrays}) AS wanted({named}) ON {same} "  # noqa: S608
        "WHERE r.writer = $1 FOR UPDATE OF r"
    )
