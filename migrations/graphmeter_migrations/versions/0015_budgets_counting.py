"""Budgets say whether the calls of their period are counted already, and which time it is that they are in force.

Two columns with constant defaults: locks the table, of a handful of rows, for a moment. Runs before the code that needs
them (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision: str | None = "0014"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("budget", sa.Column("taken", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("budget", sa.Column("counted", sa.Boolean, nullable=False, server_default=sa.true()))


def downgrade() -> None:
    for column in ("counted", "taken"):
        op.drop_column("budget", column)
