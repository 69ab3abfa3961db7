"""The ledger keeps what a provider says that a call cost, beside the price that was worked out.

A nullable column without a default: no row is written anew, the table is locked for a moment. Runs before the code that
needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision: str | None = "0015"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("ledger", sa.Column("reported_nano", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("ledger", "reported_nano")
