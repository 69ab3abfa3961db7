"""The attempts around the subgraphs that a call was made in, and which runs were given up at any time.

Columns that may be NULL, and one with a constant default: each locks its table for a moment. Calls of the last 31 days whose
attempt never ended are judged here: in runs that were given up, and the cancelled ones in runs that have ended. Of calls
before this version nobody knows what was around their subgraph. Runs before the code that needs it (pre).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision: str | None = "0013"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_DAY_NS = 86_400_000_000_000
_DAYS = 31
"""Spans are kept for 30 unless somebody says otherwise."""

# Buckets without a token are NULL.
_TOKENS = ", ".join(
    f"l.{bucket}_tokens"
    for bucket in (
        *("input", "cache_read", "cache_write_5m", "cache_write_1h", "input_audio", "input_image"),
        *("output", "reasoning", "output_audio", "output_image"),
    )
)
_CONSUMED = f"NOT l.cache_hit AND (l.cost_nano > 0 OR l.images > 0 OR COALESCE({_TOKENS}) IS NOT NULL)"
_WAS_LOST = "UPDATE run SET was_lost = true WHERE status = 'lost'"
# Days are told of the run, so that Postgres asks the partitions of its time only.
_NEVER_ENDED = f"""
INSERT INTO ledger_waste (trace_id, span_id, start_ns, reason)
SELECT l.trace_id, l.span_id, l.start_ns, 'cancelled' FROM run r
JOIN ledger l ON l.trace_id = r.trace_id AND l.run_id = r.run_id
WHERE (r.status = 'lost' OR (r.root_seen AND l.status = 'cancelled'))
AND r.started_ns >= :since AND l.attempt_span IS NOT NULL AND {_CONSUMED}
AND NOT EXISTS (
  SELECT 1 FROM span s WHERE s.trace_id = l.trace_id AND s.span_id = l.attempt_span AND s.run_id = l.run_id
  AND s.kind = 'node' AND s.settled AND s.day BETWEEN r.started_ns / {_DAY_NS} - 1 AND r.started_ns / {_DAY_NS} + 8
) AND NOT EXISTS (SELECT 1 FROM ledger_waste w WHERE w.trace_id = l.trace_id AND w.span_id = l.span_id)
"""  # noqa: S608 - nothing of anybody's


def upgrade() -> None:
    op.add_column("span", sa.Column("outer_attempts", sa.LargeBinary))
    op.add_column("ledger", sa.Column("outer_attempts", sa.LargeBinary))
    op.add_column("run", sa.Column("was_lost", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute(sa.text(_WAS_LOST))
    op.execute(sa.text(_NEVER_ENDED).bindparams(since=time.time_ns() - _DAYS * _DAY_NS))


def downgrade() -> None:
    op.drop_column("run", "was_lost")
    op.drop_column("ledger", "outer_attempts")
    op.drop_column("span", "outer_attempts")
