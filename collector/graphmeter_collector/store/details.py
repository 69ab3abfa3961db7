"""Runs in, the same runs out with what is kept beside them: outcomes, late tags, who waited for whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.reports import OutcomeRow, RunRow, WaitRow
from graphmeter_collector.store import waits
from graphmeter_collector.store.nodes import Rows
from graphmeter_collector.store.tables import outcome, run_tag, wait

_AT_ONCE = 1000
"""Runs per question: databases bound the number of parameters."""


async def complete(source: Rows, rows: Sequence[RunRow]) -> list[RunRow]:
    """The runs, in the order given."""
    found: list[RunRow] = []
    for at in range(0, len(rows), _AT_ONCE):
        found += await _complete(source, rows[at : at + _AT_ONCE])
    return found


async def _complete(source: Rows, rows: Sequence[RunRow]) -> list[RunRow]:
    run_ids = [row.run_id for row in rows if row.run_id]
    outcomes: dict[str, list[OutcomeRow]] = defaultdict(list)
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    if run_ids:
        said = select(outcome).where(outcome.c.run_id.in_(run_ids)).order_by(outcome.c.at_ns, outcome.c.span_id)
        for each in await source.rows(said):
            outcomes[each["run_id"]].append(OutcomeRow(each["kind"], each["good"], each["value"], each["at_ns"]))
        for each in await source.rows(select(run_tag).where(run_tag.c.run_id.in_(run_ids))):
            tags[each["run_id"]][each["name"]] = each["value"]
    waited = await _waits(source, [row for row in rows if row.status == names.INTERRUPTED])
    resumed = await _resumed(source, [row for row in rows if row.resumed_from])
    return [
        replace(
            row,
            tags={**row.tags, **tags[row.run_id]} if row.run_id in tags else row.tags,
            outcomes=tuple(outcomes.get(row.run_id, ())),
            wait=waited.get(row.run_id),
            **resumed.get(row.run_id, {}),
        )
        for row in rows
    ]


async def _waits(source: Rows, interrupted: Sequence[RunRow]) -> dict[str, WaitRow]:
    """How the waits of these runs ended, as it is known now: the job that writes it down comes later."""
    if not interrupted:
        return {}
    # The trace ids, because the key begins with them.
    wanted = and_(
        wait.c.trace_id.in_([bytes.fromhex(row.trace_id) for row in interrupted]),
        wait.c.run_id.in_([row.run_id for row in interrupted]),
    )
    rows = await source.rows(waits.with_next(wanted))
    return {row["run_id"]: _wait(row) for row in waits.once(rows)}


def _wait(row: RowMapping) -> WaitRow:
    if row["resumed"] is not None:
        return WaitRow(row["since_ns"], row["until_ns"], row["next_run_id"], row["resumed"])
    resumed = bool(row["after_resumed_from"]) if row["after_seen"] else None
    return WaitRow(row["since_ns"], row["after_ns"], row["after_run_id"] or "", resumed)


async def _resumed(source: Rows, resuming: Sequence[RunRow]) -> dict[str, dict[str, Any]]:
    """Which run each of these resumes, and how long that one had waited."""
    threads = {row.thread_id for row in resuming if row.thread_id}
    if not threads:
        return {}
    asked = or_(
        wait.c.checkpoint_id.in_({row.resumed_from for row in resuming}),
        wait.c.next_run_id.in_([row.run_id for row in resuming]),
        wait.c.run_id.in_({row.resumed_run_id for row in resuming if row.resumed_run_id}),
    )
    query = select(wait).where(wait.c.thread_id.in_(threads), asked).order_by(wait.c.since_ns)
    by_thread: dict[tuple[str, str, str], list[RowMapping]] = defaultdict(list)
    for each in await source.rows(query):
        by_thread[each["thread_id"], each["environment"], each["graph"]].append(each)
    found: dict[str, dict[str, Any]] = {}
    for row in resuming:
        before = [
            each for each in by_thread[row.thread_id, row.environment, row.graph] if each["since_ns"] <= row.started_ns
        ]
        one = _of(row, before)
        if one is not None:
            found[row.run_id] = {
                "resumed_run_id": one["run_id"],
                "resumed_after_ns": row.started_ns - one["since_ns"],
            }
    return found


def _of(row: RunRow, before: Sequence[RowMapping]) -> RowMapping | None:
    """The wait that a run ended or answered again: the one its client names, else the last of its checkpoint."""
    for column, value in (
        ("run_id", row.resumed_run_id),
        ("checkpoint_id", row.resumed_from),
        ("next_run_id", row.run_id),
    ):
        if found := [each for each in before if each[column] == value]:
            return found[-1]
    return None
