"""Which traces are forwarded, decided once for all collectors: waiting traces with their facts out, decisions in.

While sampling is on, spans wait in `outbox` under the destination `UNDECIDED`, in one row however many destinations
there are. A decision moves the rows of its trace to the destinations, or deletes them. Of decisions on the same trace the
first to commit stands, for spans that come late and for other collectors too; but what was dropped is kept after all when
a late fact makes it worth that (`store.revival`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, not_, or_, select
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.reports import Decision, Judged, WaitingTrace
from graphmeter_collector.reports import TracePart as Part
from graphmeter_collector.store import parts, revival, sql
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_collector.store.tables import outbox, run, span, trace_decision, unsettled

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
_PUT_POSTGRES = sql.insert(outbox, sql.POSTGRES, ignore_conflicts=True)
_PUT_SQLITE = sql.insert(outbox, sql.SQLITE, ignore_conflicts=True)
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
    known = select(trace_decision.c.trace_id, trace_decision.c.keep).where(trace_decision.c.trace_id.in_(ids))
    kept = {row["trace_id"]: bool(row["keep"]) for row in await reader.rows(known)}
    # Of a trace that is kept nothing more need be known.
    facts = await _facts(reader, [row for row in rows if not kept.get(row["trace_id"], False)])
    settling = {
        row["trace_id"]
        for row in await reader.rows(select(unsettled.c.trace_id).where(unsettled.c.trace_id.in_(ids)).distinct())
    }
    return [_waiting(row, kept.get(row["trace_id"]), row["trace_id"] in settling, *facts) for row in rows]


async def lost(reader: SqlReader, since_ns: int, limit: int) -> list[WaitingTrace]:
    """Traces that were dropped before a run of theirs was known to be lost; those last heard of since `since_ns`."""
    query = (
        select(
            run.c.trace_id,
            func.min(run.c.started_ns).label("first_ns"),
            func.max(run.c.last_seen_ns).label("last_ns"),
            func.min(run.c.started_ns // DAY_NS).label("from_day"),
            func.max(run.c.last_seen_ns // DAY_NS).label("to_day"),
        )
        .join(trace_decision, trace_decision.c.trace_id == run.c.trace_id)
        .where(run.c.status == names.LOST, run.c.last_seen_ns >= since_ns, not_(trace_decision.c.keep))
        .group_by(run.c.trace_id)
        .order_by(run.c.trace_id)
        .limit(limit)
    )
    rows = await reader.rows(query)
    facts = await _facts(reader, rows)
    return [_waiting(row, False, False, *facts) for row in rows]


def _waiting(
    row: RowMapping,
    kept: bool | None,
    settling: bool,
    of_runs: Mapping[bytes, list[Part]],
    of_spans: Mapping[bytes, RowMapping],
) -> WaitingTrace:
    trace_id = row["trace_id"]
    fact, found = of_spans.get(trace_id), of_runs.get(trace_id, [])
    return WaitingTrace(
        trace_id,
        row["first_ns"],
        row["last_ns"],
        decided=kept is not None,
        kept=bool(kept),
        settling=settling,
        error=bool(fact and fact["errors"]),
        root_seen=all(part.ended for part in found) if found else bool(fact and fact["roots"]),
        parts=tuple(found) or ((_whole(fact),) if fact else ()),
    )


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
            span.c.day.between(
                int(min(row["from_day"] for row in rows)) - 1, int(max(row["to_day"] for row in rows)) + 1
            ),
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
    revised: Sequence[Decision],
    destinations: Sequence[str],
) -> Judged:
    """Store decisions, unless others were there first, and move what waits for them and for those of `late`."""
    async with connection.transaction():
        # In one order everywhere: who meets another collector's decision waits for its commit, never in a circle.
        rows = sorted(map(_row, decisions))
        new = {row[0] for row in await connection.fetch(_DECIDE_POSTGRES, *_columns(rows))} if rows else set()
        again = sorted((each.trace_id, each.reason, each.rule, each.decided_ns) for each in revised)
        revived: list[parts.Row] = []
        if again:
            found = [row[0] for row in await connection.fetch(revival.REVISE_POSTGRES, *_columns(again))]
            new |= set(found)
            bodies = await connection.fetch(revival.BODIES_POSTGRES, UNDECIDED, found)
            revived = revival.rows(map(tuple, bodies), again[0][3])
            waiting = [(destination, *row) for destination in sorted(destinations) for row in revived]
            if waiting:
                await connection.execute(_PUT_POSTGRES, *_columns(waiting))
        # A statement of its own: it sees the decisions of others that the first one waited for.
        ids = sorted({*(decision.trace_id for decision in (*decisions, *revised)), *late})
        kept, dropped = tuple(await connection.fetchrow(_MOVE_POSTGRES, UNDECIDED, ids, list(destinations)) or (0, 0))
    stand = [each for each in (*decisions, *revised) if each.trace_id in new]
    return Judged(stand, kept + sum(map(parts.spans_of, revived)), dropped)


def decide_sqlite(
    db: sqlite3.Connection,
    decisions: Sequence[Decision],
    late: Sequence[bytes],
    revised: Sequence[Decision],
    destinations: Sequence[str],
) -> Judged:
    """The same, within a transaction that the caller opened."""
    new = [decision for decision in decisions if db.execute(_DECIDE_SQLITE, _row(decision)).rowcount]
    spans = {True: 0, False: 0}
    for each in revised:
        if db.execute(revival.REVISE_SQLITE, (each.reason, each.rule, each.decided_ns, each.trace_id)).rowcount:
            new.append(each)
            rows = revival.rows(db.execute(revival.BODIES_SQLITE, (each.trace_id,)), each.decided_ns)
            db.execute(_DROP_SQLITE, (UNDECIDED, each.trace_id))
            db.executemany(_PUT_SQLITE, [(destination, *row) for destination in destinations for row in rows])
            spans[True] += sum(map(parts.spans_of, rows))
    for trace_id in (*(decision.trace_id for decision in (*decisions, *revised)), *late):
        found = db.execute(_KEPT_SQLITE, (trace_id,)).fetchone()
        if found is None:
            continue
        keep = bool(found[0])
        for destination in destinations if keep else ():
            db.execute(_MOVE_SQLITE, (destination, UNDECIDED, trace_id))
        spans[keep] += db.execute(_COUNT_SQLITE, (UNDECIDED, trace_id)).fetchone()[0]
        db.execute(_DROP_SQLITE, (UNDECIDED, trace_id))
    return Judged(new, spans[True], spans[False])


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _row(decision: Decision) -> tuple[bytes, bool, str, str, int]:
    return decision.trace_id, decision.keep, decision.reason, decision.rule, decision.decided_ns
