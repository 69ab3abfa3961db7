"""What calls under way have reserved of strict budgets; spend of one scope found by an index.

The new table locks nothing; the index is on sums, of which there are few. Runs before the code that needs them (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "budget_reservation",
        sa.Column("id", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in ("budget", "scope", "unit")),
        sa.Column("units", sa.BigInteger, nullable=False, server_default="0"),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("created_ns", "expires_ns")),
        sa.Column("released_ns", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_budget_reservation"),
    )
    op.create_index("ix_budget_reservation_expires_ns", "budget_reservation", ["expires_ns"])
    held = sa.text("released_ns = 0")
    op.create_index(
        "ix_budget_reservation_open",
        "budget_reservation",
        ["budget", "scope"],
        sqlite_where=held,
        postgresql_where=held,
    )
    op.create_index("ix_budget_spend_scope", "budget_spend", ["key", "scope", "start_ns"])


def downgrade() -> None:
    op.drop_index("ix_budget_spend_scope", "budget_spend")
    op.drop_table("budget_reservation")
