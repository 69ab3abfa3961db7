"""A trace that was dropped and turns out to be worth keeping: all of its spans into the outbox once more, from their bytes.

What decides it may come minutes after the decision: an error in a late span, a process that died. The spans are still
there, for the trace view, so the backend can have the whole trace and not a torso of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.store import parts

REVISE_SQLITE: Final = (
    "UPDATE trace_decision SET keep = 1, reason = ?, rule = ?, decided_ns = ? WHERE trace_id = ? AND NOT keep"
)
REVISE_POSTGRES: Final = (
    "WITH mine AS (SELECT trace_id FROM trace_decision WHERE trace_id = ANY($1) AND NOT keep "
    "ORDER BY trace_id FOR UPDATE) UPDATE trace_decision d SET keep = true, reason = of.reason, rule = of.rule, "
    "decided_ns = of.decided_ns FROM mine JOIN unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[]) "
    "AS of(trace_id, reason, rule, decided_ns) ON of.trace_id = mine.trace_id "
    "WHERE d.trace_id = mine.trace_id RETURNING d.trace_id"
)
_MARK: Final = names.MIRRORED.encode()
_BODIES: Final = (
    "SELECT b.trace_id, b.day, b.span_id, length(b.body), CASE WHEN {found} > 0 THEN b.body END FROM span_body b "
    "WHERE b.trace_id {those} ORDER BY b.trace_id, b.span_id"
)
BODIES_SQLITE: Final = _BODIES.format(found=f"instr(b.body, x'{_MARK.hex()}')", those="= ?")
# What waits for the decision is among the bodies: in one statement, for what is committed in between would be sent twice.
BODIES_POSTGRES: Final = (
    "WITH gone AS (DELETE FROM outbox WHERE destination = $1 AND trace_id = ANY($2)) "  # noqa: S608 - our own names
    + _BODIES.format(found=f"position('\\x{_MARK.hex()}'::bytea IN b.body)", those="= ANY($2)")
)


def rows(found: Iterable[Iterable[Any]], queued_ns: int) -> list[parts.Row]:
    """Rows of `outbox`, but for the destination, from those of `BODIES_…`."""
    return parts.rows(
        [
            (trace_id, day, span_id, size)
            for trace_id, day, span_id, size, suspect in map(tuple, found)
            if suspect is None or not _mirrored(suspect)
        ],
        queued_ns,
    )


def _mirrored(body: bytes) -> bool:
    """Whether the span says that the backend has it from the application."""
    return any(each.key == names.MIRRORED and each.value.bool_value for each in Span.FromString(body).attributes)
