"""Unsettled spans in one Postgres transaction: locked, looked up, settled, counted; those another collector holds are left.

Rows of `unsettled` are locked with SKIP LOCKED, so two collectors share the work and neither waits for the other; what
follows is written by the same statements, in the same order, as what follows from any span.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmeter import names
from graphmeter_collector.records import Settling
from graphmeter_collector.store import unsettled
from graphmeter_collector.store.transaction import Stored, Transaction


async def settle_some(transaction: Transaction, due_ns: int, limit: int, *, count: bool) -> tuple[Settling, Stored]:
    """Settle up to `limit` spans; with `count=False` nothing follows from it."""
    connection = transaction.connection
    found = await connection.fetch(unsettled.DUE_POSTGRES, due_ns, limit)
    if len(found) < limit:
        found += await connection.fetch(unsettled.READY_POSTGRES, limit - len(found))
    stored = Stored()
    due = unsettled.Due(found, due_ns)
    if due:
        while wanted := due.wanted():
            due.learn(await connection.fetch(unsettled.ANCESTORS_POSTGRES, *_columns(wanted), *due.near_days))
        while wanted := due.wanted_at_last():
            due.learn(await connection.fetch(unsettled.ANCESTORS_POSTGRES, *_columns(wanted), *due.all_days))
        orphaned = due.orphaned()
        due.decide(await connection.fetch(unsettled.ONLY_RUNS_POSTGRES, orphaned) if orphaned else ())
        if due.moved:
            await connection.execute(unsettled.MOVE_POSTGRES, *_columns(due.moved))
        if due.settled:
            keys = [record.key for record in due.settled]
            await connection.execute(unsettled.DELETE_POSTGRES, *_columns(keys))
            rows = [unsettled.settled_row(record) for record in due.settled]
            await connection.execute(unsettled.UPDATE_SPAN_POSTGRES, *_columns(rows))
        if count:
            stored = await transaction.count_settled(due.settled)
    finished = [
        stored.totals[record.trace_id, record.run_id].of(record)
        for record in stored.new.records
        if record.kind == names.RUN
    ]
    left = await connection.fetchval(unsettled.LEFT)
    return unsettled.outcome(due, finished, stored.wasted, left=left, counted=count), stored


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
