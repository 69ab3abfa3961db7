"""Decisions on traces: whether destinations that get a sample have them.

A new table locks nothing; runs before the code that needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "trace_decision",
        sa.Column("trace_id", sa.LargeBinary, nullable=False),
        sa.Column("keep", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("rule", sa.Text, nullable=False, server_default=""),
        sa.Column("decided_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("trace_id", name="pk_trace_decision"),
    )
    op.create_index("ix_trace_decision_decided_ns", "trace_decision", ["decided_ns"])


def downgrade() -> None:
    op.drop_table("trace_decision")
