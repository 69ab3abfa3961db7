"""Cutoffs in; what is due by table, and the statements that delete it in small steps, out. The same for both databases.

Partitions of spans on Postgres are dropped whole (`store.partitions`), everything else goes some thousand rows at a time, so
that no write waits long. A run goes with its nodes, waits, outcomes and late tags.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, Table, func, select

from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import tables
from graphmeter_collector.store.facts import DAY_NS, HOUR_NS

AT_ONCE: Final = 2_000
"""Rows per transaction: some 10 ms, which is how long a write may have to wait for it."""
OF_RUNS: Final = (tables.run_node, tables.wait, tables.outcome, tables.run_tag)
"""What belongs to a run. Their rows go first: a run that is still there tells the next step what is left of it."""
OLD_RUNS: Final = f"SELECT trace_id, run_id FROM run WHERE started_ns < {{}} LIMIT {AT_ONCE}"  # noqa: S608 - a constant


class Old(NamedTuple):
    """Rows of one table that are due."""

    table: Table
    column: ColumnElement[int]
    before: int


def rows(cutoffs: Cutoffs) -> list[Old]:
    """What goes row by row on both databases, but for runs."""
    due = [
        Old(tables.outbox, tables.outbox.c.day, cutoffs.bodies_day),
        Old(tables.client_report, tables.client_report.c.at_ns, cutoffs.spans_day * DAY_NS),
        # A day more: spans of the last day may be late.
        Old(tables.trace_decision, tables.trace_decision.c.decided_ns, (cutoffs.bodies_day - 1) * DAY_NS),
    ]
    if cutoffs.ledger_ns is not None:
        # Versions after the calls that they are of: without its call a version counts nowhere, without its version a call
        # would count as billed.
        due.append(Old(tables.ledger, tables.ledger.c.start_ns, cutoffs.ledger_ns))
        due.append(Old(tables.ledger_waste, tables.ledger_waste.c.start_ns, cutoffs.ledger_ns))
        due.append(Old(tables.ledger_price, tables.ledger_price.c.start_ns, cutoffs.ledger_ns))
    if cutoffs.rollups_day is not None:
        hour = cutoffs.rollups_day * DAY_NS // HOUR_NS
        due.append(Old(tables.rollup_hour, tables.rollup_hour.c.hour, hour))
        due.append(Old(tables.rollup_day, tables.rollup_day.c.day, cutoffs.rollups_day))
    return due


def spans(cutoffs: Cutoffs) -> list[Old]:
    """What Postgres drops in partitions."""
    return [
        Old(tables.span, tables.span.c.day, cutoffs.spans_day),
        Old(tables.span_body, tables.span_body.c.day, cutoffs.bodies_day),
    ]


def counts(cutoffs: Cutoffs) -> dict[str, Select[Any]]:
    """Per table, the question how many rows are due."""
    found = {old.table.name: _count(old.table, old.column < old.before) for old in (*spans(cutoffs), *rows(cutoffs))}
    if cutoffs.runs_ns is not None:
        due = tables.run.c.started_ns < cutoffs.runs_ns
        gone = select(tables.run.c.run_id).where(due)
        found["run"] = _count(tables.run, due)
        found |= {table.name: _count(table, table.c.run_id.in_(gone)) for table in OF_RUNS}
    return found


def _count(table: Table, where: ColumnElement[bool]) -> Select[Any]:
    return select(func.count().label("due")).select_from(table).where(where)


def step(old: Old, *, row: str, parameter: str) -> str:
    """Deletes some of the rows before a limit; `row` is what the database calls a row's place."""
    table, column = old.table.name, old.column.name
    return (
        f"DELETE FROM {table} WHERE {row} IN "  # noqa: S608 - names of our own tables
        f"(SELECT {row} FROM {table} WHERE {column} < {parameter} LIMIT {AT_ONCE})"
    )


def of_run(table: Table) -> tuple[str, ...]:
    """Columns that say to which run a row of `table` belongs, the last of trace and run id."""
    # What is said by run id alone may have come in another trace.
    return ("run_id",) if table in (tables.outcome, tables.run_tag) else ("trace_id", "run_id")
