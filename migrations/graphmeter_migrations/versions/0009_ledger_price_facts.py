"""What else decides the price of a call is kept on the ledger: tier of service, server, duration, images.

So that a call can be priced again. New columns with a constant default lock the table for a moment; earlier rows say nothing
of it. Runs before the code that needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TEXTS = ("service_tier", "server")
_NUMBERS = ("duration_ns", "images")


def upgrade() -> None:
    for name in _TEXTS:
        op.add_column("ledger", sa.Column(name, sa.Text, nullable=False, server_default=""))
    for name in _NUMBERS:
        op.add_column("ledger", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    for name in reversed((*_TEXTS, *_NUMBERS)):
        op.drop_column("ledger", name)
