"""Foreign spans that wait for their ancestors.

A new table locks nothing. Spans that were stored before are settled already: they were counted when they came.
Runs before the code that needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "unsettled",
        sa.Column("trace_id", sa.LargeBinary, nullable=False),
        sa.Column("span_id", sa.LargeBinary, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("wanted", sa.LargeBinary, nullable=False),
        sa.Column("since_ns", sa.BigInteger, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "span_id", "day", name="pk_unsettled"),
    )
    op.create_index("ix_unsettled_trace_id_wanted", "unsettled", ["trace_id", "wanted"])
    op.create_index("ix_unsettled_since_ns", "unsettled", ["since_ns"])


def downgrade() -> None:
    op.drop_table("unsettled")
