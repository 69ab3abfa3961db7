"""Waits in, how they ended out: an interrupted run waits until its thread makes its next run.

A resume may be stored before the interrupted run that it resumes, by another collector. So `wait` rows are written open,
and ended later from what `run` holds by then. If the next run of the thread went on from a checkpoint, somebody answered;
if it had new input, the question was left. Checkpoints alone would not tell: one of them may pause several runs (two
questions answered one by one), and editing the state before the answer makes another. Threads are those of one graph and
environment; another service may answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.engine import RowMapping

from graphmeter_collector.records import Waited
from graphmeter_collector.store.tables import run, wait

LONGEST_NS: Final = 30 * 86_400_000_000_000
"""30 days: whoever was asked longer ago is not waited for any more."""
MOST_AT_ONCE: Final = 10_000
"""Open waits looked at in one go, the newest first."""

END_SQLITE: Final = (
    "UPDATE wait SET until_ns = ?, next_trace_id = ?, next_run_id = ?, resumed = ? "
    "WHERE trace_id = ? AND run_id = ? AND resumed IS NULL"
)
END_POSTGRES: Final = (
    "UPDATE wait SET until_ns = e.until_ns, next_trace_id = e.next_trace_id, next_run_id = e.next_run_id, "
    "resumed = e.resumed FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::boolean[], $5::bytea[], $6::text[]) "
    "AS e(until_ns, next_trace_id, next_run_id, resumed, trace_id, run_id) "
    "WHERE wait.trace_id = e.trace_id AND wait.run_id = e.run_id AND wait.resumed IS NULL "
    "RETURNING wait.trace_id, wait.run_id"
)


class Ending(NamedTuple):
    """What is known of a wait's end; fields in the order of the statements above."""

    until_ns: int
    next_trace_id: bytes
    next_run_id: str
    resumed: bool | None
    """None: the next run has started and not ended, so it has not said from where it goes on."""
    trace_id: bytes
    run_id: str


def open_waits(now_ns: int) -> Select[Any]:
    """Waits that are not over, with the run that ends them where there is one."""
    newest = (
        select(wait)
        .where(wait.c.resumed.is_(None), wait.c.since_ns >= now_ns - LONGEST_NS)
        .order_by(wait.c.since_ns.desc())
        .limit(MOST_AT_ONCE)
        .subquery("w")
    )
    return _with_next(newest)


def with_next(*where: ColumnElement[bool]) -> Select[Any]:
    """Such waits, with the next run of the thread as it is known this moment (`after_…` columns, NULL for none)."""
    return _with_next(select(wait).where(*where).subquery("w"))


def _with_next(waits: Any) -> Select[Any]:
    w, after, other = waits.c, run.alias("after"), run.alias("other")

    def same_thread(runs: Any) -> ColumnElement[bool]:
        return and_(
            runs.c.thread_id == w.thread_id,
            runs.c.thread_id != "",  # lets the partial index be used
            runs.c.environment == w.environment,
            runs.c.graph == w.graph,
            runs.c.run_id != w.run_id,
        )

    first = select(func.min(other.c.started_ns)).where(same_thread(other), other.c.started_ns >= w.since_ns)
    return (
        select(
            *w,
            after.c.trace_id.label("after_trace_id"),
            after.c.run_id.label("after_run_id"),
            after.c.started_ns.label("after_ns"),
            after.c.root_seen.label("after_seen"),
            after.c.resumed_from.label("after_resumed_from"),
        )
        .select_from(
            waits.outerjoin(
                after, and_(same_thread(after), after.c.started_ns == first.correlate(waits).scalar_subquery())
            )
        )
        .order_by(w.since_ns, w.trace_id, w.run_id, after.c.trace_id, after.c.run_id)
    )


def once(rows: Iterable[RowMapping]) -> list[RowMapping]:
    """Each wait once: of two runs that a thread made in the same nanosecond, the first by id."""
    found: dict[tuple[bytes, str], RowMapping] = {}
    for row in rows:
        found.setdefault((row["trace_id"], row["run_id"]), row)
    return list(found.values())


def endings(rows: Iterable[RowMapping]) -> dict[Ending, Waited | None]:
    """What to write of the rows of `open_waits`, and the answers among them."""
    found: dict[Ending, Waited | None] = {}
    for row in once(rows):
        if row["after_ns"] is None:
            continue
        resumed = bool(row["after_resumed_from"]) if row["after_seen"] else None
        if resumed is None and (row["until_ns"], row["next_run_id"]) == (row["after_ns"], row["after_run_id"]):
            continue
        ending = Ending(
            row["after_ns"], row["after_trace_id"], row["after_run_id"], resumed, row["trace_id"], row["run_id"]
        )
        base = (row["service"], row["environment"], row["graph"], row["team"])
        found[ending] = Waited(*base, row["after_ns"] - row["since_ns"]) if resumed else None
    return found


def answered(endings: dict[Ending, Waited | None], written: Sequence[tuple[bytes, str]]) -> list[Waited]:
    """The answers among the endings that were written: another collector may have been first."""
    keys = set(written)
    return [waited for end, waited in endings.items() if waited is not None and (end.trace_id, end.run_id) in keys]
