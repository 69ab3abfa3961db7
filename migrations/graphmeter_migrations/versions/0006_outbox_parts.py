"""Rows of the outbox stand for several spans of a trace.

New columns lock the table for a moment; a row that was there before is a part of one span, whose size is looked up so that
batches stay bounded. A collector of an earlier version does not know that a row may hold more than one span: stop those that
forward before this. Runs before the code that needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_SIZES = (
    "UPDATE outbox SET size = coalesce((SELECT length(b.body) FROM span_body b WHERE b.trace_id = outbox.trace_id "
    "AND b.span_id = outbox.span_id AND b.day = outbox.day), 0)"
)
# The ids behind the first, each as a row of its own again.
_APART = (
    "WITH RECURSIVE apart(destination, trace_id, span_id, day, queued_ns, more) AS ("
    "SELECT destination, trace_id, substr(more, 1, 8), day, queued_ns, substr(more, 9) FROM outbox "
    "WHERE length(more) > 0 "
    "UNION ALL "
    "SELECT destination, trace_id, substr(more, 1, 8), day, queued_ns, substr(more, 9) FROM apart "
    "WHERE length(more) > 0) "
    "INSERT INTO outbox (destination, trace_id, span_id, day, queued_ns) "
    "SELECT destination, trace_id, span_id, day, queued_ns FROM apart"
)


def upgrade() -> None:
    op.add_column("outbox", sa.Column("more", sa.LargeBinary))
    op.add_column("outbox", sa.Column("size", sa.BigInteger, nullable=False, server_default="0"))
    op.execute(_SIZES)


def downgrade() -> None:
    op.execute(_APART)
    op.drop_column("outbox", "size")
    op.drop_column("outbox", "more")
