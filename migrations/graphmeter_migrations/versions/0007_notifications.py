"""Notifications: what receivers are still to be told, and what they were told already.

A new table locks nothing; runs before the code that needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "notification",
        sa.Column("key", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False, server_default="")
            for name in ("receiver", "kind", "content_type", "body")
        ),
        sa.Column("status", sa.Text, nullable=False, server_default="waiting"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("due_ns", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in ("attempts", "done_ns")),
        sa.PrimaryKeyConstraint("key", name="pk_notification"),
    )
    op.create_index(
        "ix_notification_waiting",
        "notification",
        ["due_ns"],
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )


def downgrade() -> None:
    op.drop_table("notification")
