"""Which traces are forwarded, decided once for all collectors: waiting traces with their facts out, decisions in.

While sampling is on, spans wait in `outbox` under the destination `UNDECIDED`, in one row however many destinations
there are. A decision moves the rows of its trace to the destinations, or deletes them. Of decisions on the same trace the
first to commit stands, for spans that come late and for other collectors too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.reports import Decision, Judged, WaitingTrace
from graphmeter_collector.reports import TracePart as Part
from graphmeter_collector.store import parts, sql
from graphmeter_collector.store.tables import outbox, run, span, trace_decision

if TYPE_CHECKING:
    import sqlite3

    import asyncpg

    from graphmeter_collector.store.read import SqlReader

UNDECIDED = "(undecided)"
"""Stands in `outbox` for the destinations of a trace that is not judged yet."""

_DECIDE_POSTGRES = sql.insert(trace_decision, sql.POSTGRES, ignore_conflicts=True) + " RETURNING trace_id"
_MOVE_POSTGRES = (
    "WITH gone AS (DELETE FROM outbox o USING trace_decision d "  # noqa: S608 - names of our own
    "WHERE o.destination = $1 AND o.trace_id = ANY($2) "
    "AND d.trace_id = o.trace_id RETURNING o.trace_id, o.span_id, o.day, o.queued_ns, o.more, o.size, d.keep), "
    "moved AS (INSERT INTO outbox (destination, trace_id, span_id, day, queued_ns, more, size) "
    "SELECT named.destination, g.trace_id, g.span_id, g.day, g.queued_ns, g.more, g.size FROM gone g "
    "CROSS JOIN unnest($3::text[]) AS named(destination) WHERE g.keep ON CONFLICT DO NOTHING) "
    f"SELECT coalesce(sum({parts.COUNT}) FILTER (WHERE keep), 0)::bigint, "
    f"coalesce(sum({parts.COUNT}) FILTER (WHERE NOT keep), 0)::bigint FROM gone"
)
_DECIDE_SQLITE = sql.insert(trace_decision, sql.SQLITE, ignore_conflicts=True)
_KEPT_SQLITE = "SELECT keep FROM trace_decision WHERE trace_id = ?"
_MOVE_SQLITE = (
    "INSERT OR IGNORE INTO outbox (destination, trace_id, span_id, day, queued_ns, more, size) "
    "SELECT ?, trace_id, span_id, day, queued_ns, more, size FROM outbox WHERE destination = ? AND trace_id = ?"
)
_COUNT_SQLITE = f"SELECT coalesce(sum({parts.COUNT}), 0) FROM outbox WHERE destination = ? AND trace_id = ?"  # noqa: S608
_DROP_SQLITE = "DELETE FROM outbox WHERE destination = ? AND trace_id = ?"


async def waiting(reader: SqlReader, quiet_ns: int, oldest_ns: int, after: bytes, limit: int) -> list[WaitingTrace]:
    """Undecided traces that had no span since `quiet_ns`, or a first one before `oldest_ns`, or late spans of decided ones.

    In order of their ids, those above `after`.
    """
    first, last = func.min(outbox.c.queued_ns), func.max(outbox.c.queued_ns)
    # A look at the key per trace: there are far more decisions than traces that wait.
    decided = exists().where(trace_decision.c.trace_id == outbox.c.trace_id)
    query = (
        select(
            outbox.c.trace_id,
            first.label("first_ns"),
            last.label("last_ns"),
            func.min(outbox.c.day).label("from_day"),
            func.max(outbox.c.day).label("to_day"),
        )
        .where(outbox.c.destination == UNDECIDED, outbox.c.trace_id > after)
        .group_by(outbox.c.trace_id)
        .having(or_(last <= quiet_ns, first <= oldest_ns, decided))
        .order_by(outbox.c.trace_id)
        .limit(limit)
    )
    rows = await reader.rows(query)
    if not rows:
        return []
    ids = [row["trace_id"] for row in rows]
    known = select(trace_decision.c.trace_id).where(trace_decision.c.trace_id.in_(ids))
    done = {row["trace_id"] for row in await reader.rows(known)}
    open_rows = [row for row in rows if row["trace_id"] not in done]
    runs, facts = await _facts(reader, open_rows)
    found = []
    for row in rows:
        trace_id = row["trace_id"]
        fact = facts.get(trace_id)
        of_runs = runs.get(trace_id, [])
        found.append(
            WaitingTrace(
                trace_id,
                row["first_ns"],
                row["last_ns"],
                decided=trace_id in done,
                error=bool(fact and fact["errors"]),
                root_seen=all(part.ended for part in of_runs) if of_runs else bool(fact and fact["roots"]),
                parts=tuple(of_runs) or ((_whole(fact),) if fact else ()),
            )
        )
    return found


async def _facts(
    reader: SqlReader, rows: Sequence[RowMapping]
) -> tuple[dict[bytes, list[Part]], dict[bytes, RowMapping]]:
    """Of traces that are to be judged: their runs, and what their spans say together."""
    if not rows:
        return {}, {}
    ids = [row["trace_id"] for row in rows]
    of_runs: dict[bytes, list[Part]] = {}
    columns = (run.c.trace_id, run.c.service, run.c.environment, run.c.graph, run.c.team, run.c.status, run.c.root_seen)
    times = (run.c.started_ns, run.c.last_seen_ns, run.c.duration_ns, run.c.cost_nano)
    for row in await reader.rows(select(*columns, *times).where(run.c.trace_id.in_(ids))):
        of_runs.setdefault(row["trace_id"], []).append(_run(row))
    end = span.c.start_ns + span.c.duration_ns
    root = span.c.parent_id.is_(None)
    query = (
        select(
            span.c.trace_id,
            func.count().filter(span.c.status == names.ERROR).label("errors"),
            func.count().filter(root).label("roots"),
            (func.max(end) - func.min(span.c.start_ns)).label("duration_ns"),
            func.coalesce(func.sum(span.c.cost_nano), 0).label("cost_nano"),
            # The root's word, or the greatest said: a span knows less than the root at most.
            *(
                func.coalesce(func.max(column).filter(root), func.max(column)).label(column.name)
                for column in (span.c.service, span.c.environment, span.c.graph, span.c.team)
            ),
        )
        .where(
            span.c.trace_id.in_(ids),
            # For the partitions' sake: spans that arrived earlier may have started on another day.
            span.c.day.between(min(row["from_day"] for row in rows) - 1, max(row["to_day"] for row in rows) + 1),
            span.c.kind != names.START,
        )
        .group_by(span.c.trace_id)
    )
    return of_runs, {row["trace_id"]: row for row in await reader.rows(query)}


def _run(row: RowMapping) -> Part:
    lasted = row["duration_ns"] if row["duration_ns"] is not None else row["last_seen_ns"] - row["started_ns"]
    # What was lost will not end; should it, the trace is kept all the same.
    ended = bool(row["root_seen"]) or row["status"] == names.LOST
    return Part(*_dimensions(row), row["status"], max(lasted, 0), row["cost_nano"], ended)


def _whole(fact: RowMapping) -> Part:
    status = names.ERROR if fact["errors"] else names.OK
    # Sums of integers are decimals to Postgres.
    return Part(*_dimensions(fact), status, int(fact["duration_ns"]), int(fact["cost_nano"]), bool(fact["roots"]))


def _dimensions(row: RowMapping) -> tuple[str, str, str, str]:
    return row["service"], row["environment"], row["graph"], row["team"]


async def decide_postgres(
    connection: asyncpg.Connection[asyncpg.Record],
    decisions: Sequence[Decision],
    late: Sequence[bytes],
    destinations: Sequence[str],
) -> Judged:
    """Store decisions, unless others were there first, and move what waits for them and for those of `late`."""
    async with connection.transaction():
        # In one order everywhere: who meets another collector's decision waits for its commit, never in a circle.
        rows = sorted(map(_row, decisions))
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
        new = {row[0] for row in await connection.fetch(_DECIDE_POSTGRES, *columns)} if rows else set()
        # A statement of its own: it sees the decisions of others that the first one waited for.
        ids = sorted({*(decision.trace_id for decision in decisions), *late})
        kept, dropped = tuple(await connection.fetchrow(_MOVE_POSTGRES, UNDECIDED, ids, list(destinations)) or (0, 0))
    return Judged([each for each in decisions if each.trace_id in new], kept, dropped)


def decide_sqlite(
    db: sqlite3.Connection, decisions: Sequence[Decision], late: Sequence[bytes], destinations: Sequence[str]
) -> Judged:
    """The same, within a transaction that the caller opened."""
    new = [decision for decision in decisions if db.execute(_DECIDE_SQLITE, _row(decision)).rowcount]
    spans = {True: 0, False: 0}
    for trace_id in (*(decision.trace_id for decision in decisions), *late):
        found = db.execute(_KEPT_SQLITE, (trace_id,)).fetchone()
        if found is None:
            continue
        keep = bool(found[0])
        for destination in destinations if keep else ():
            db.execute(_MOVE_SQLITE, (destination, UNDECIDED, trace_id))
        spans[keep] += db.execute(_COUNT_SQLITE, (UNDECIDED, trace_id)).fetchone()[0]
        db.execute(_DROP_SQLITE, (UNDECIDED, trace_id))
    return Judged(new, spans[True], spans[False])


def _row(decision: Decision) -> tuple[bytes, bool, str, str, int]:
    return decision.trace_id, decision.keep, decision.reason, decision.rule, decision.decided_ns
