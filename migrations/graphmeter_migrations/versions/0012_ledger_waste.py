"""Which calls were for nothing, and why; and on runs, whether there is anything to look for.

New columns with a constant default lock `run` for a moment. What happened in the last 31 days is judged here, from the
ledger and the attempts of runs that did not end well: the rows of those runs are locked until it is done. Runs before the
code that needs it (pre); what collectors of an earlier version still store after it is not judged.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
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
_IN_ATTEMPT = "l.attempt_span IS NOT NULL AND l.run_id <> ''"
_BAD = "(s.status IN ('error', 'cancelled') OR NOT s.attempt_final)"
# Days are told of the run, so that Postgres asks the partitions of its time only.
_ATTEMPTS = (
    f"s.kind = 'node' AND s.settled AND s.day BETWEEN r.started_ns / {_DAY_NS} - 1 AND r.started_ns / {_DAY_NS} + 8"
)
_BAD_ATTEMPTS = f"""
UPDATE run AS r SET bad_attempts = (
  SELECT count(*) FROM span s WHERE s.trace_id = r.trace_id AND s.run_id = r.run_id AND {_ATTEMPTS} AND {_BAD}
) WHERE r.started_ns >= :since AND (r.node_errors > 0 OR r.status <> 'ok')
"""  # noqa: S608 - nothing of anybody's
_CANCELLED_CALLS = f"""
UPDATE run AS r SET cancelled_calls = c.calls FROM (
  SELECT l.trace_id, l.run_id, count(*) AS calls FROM ledger l
  WHERE l.start_ns >= :since AND l.status = 'cancelled' AND {_CONSUMED} AND {_IN_ATTEMPT} GROUP BY l.trace_id, l.run_id
) AS c WHERE c.trace_id = r.trace_id AND c.run_id = r.run_id
"""  # noqa: S608 - nothing of anybody's
_BY_THEMSELVES = f"""
INSERT INTO ledger_waste (trace_id, span_id, start_ns, reason)
SELECT l.trace_id, l.span_id, l.start_ns, l.status FROM ledger l
WHERE l.start_ns >= :since AND {_CONSUMED} AND (l.status = 'error' OR (l.status = 'cancelled' AND NOT ({_IN_ATTEMPT})))
"""  # noqa: S608 - nothing of anybody's
_BY_ATTEMPTS = f"""
INSERT INTO ledger_waste (trace_id, span_id, start_ns, reason)
SELECT DISTINCT l.trace_id, l.span_id, l.start_ns,
  CASE WHEN NOT s.attempt_final THEN 'retry' WHEN s.status = 'error' THEN 'error' ELSE 'cancelled' END
FROM run r
JOIN ledger l ON l.trace_id = r.trace_id AND l.run_id = r.run_id
JOIN span s ON s.trace_id = l.trace_id AND s.span_id = l.attempt_span AND s.run_id = l.run_id
WHERE (r.bad_attempts > 0 OR r.cancelled_calls > 0) AND {_ATTEMPTS} AND {_CONSUMED}
  AND l.status <> 'error' AND (l.status = 'cancelled' OR {_BAD})
"""  # noqa: S608 - nothing of anybody's


def upgrade() -> None:
    for name in ("bad_attempts", "cancelled_calls"):
        op.add_column("run", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "ledger_waste",
        sa.Column("trace_id", sa.LargeBinary, nullable=False),
        sa.Column("span_id", sa.LargeBinary, nullable=False),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "span_id", name="pk_ledger_waste"),
    )
    op.create_index("ix_ledger_waste_start_ns", "ledger_waste", ["start_ns"])
    since = time.time_ns() - _DAYS * _DAY_NS
    for statement in (_BAD_ATTEMPTS, _CANCELLED_CALLS, _BY_THEMSELVES, _BY_ATTEMPTS):
        op.execute(sa.text(statement).bindparams(since=since) if ":since" in statement else sa.text(statement))


def downgrade() -> None:
    op.drop_table("ledger_waste")
    for name in ("cancelled_calls", "bad_attempts"):
        op.drop_column("run", name)
