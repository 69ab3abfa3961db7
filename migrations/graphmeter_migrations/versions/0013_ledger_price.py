"""Versions of what calls cost, beside the ledger's figures, which stay as billed; and who made them, when, by which prices.

New tables lock nothing; runs before the code that needs them (pre). Going back leaves what calls cost as billed.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_BUCKETS = (
    *("input", "cache_read", "cache_write_5m", "cache_write_1h", "input_audio", "input_image"),
    *("output", "reasoning", "output_audio", "output_image"),
)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _big(name: str, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=default)


def upgrade() -> None:
    op.create_table(
        "repricing",
        sa.Column("version", sa.BigInteger, nullable=False, autoincrement=False),
        _big("at_ns"),
        *(_text(name) for name in ("prices", "reason")),
        *(_big(name, "0") for name in ("since_ns", "until_ns", "calls", "before_nano", "after_nano")),
        sa.PrimaryKeyConstraint("version", name="pk_repricing"),
    )
    op.create_table(
        "ledger_price",
        sa.Column("trace_id", sa.LargeBinary, nullable=False),
        sa.Column("span_id", sa.LargeBinary, nullable=False),
        _big("version"),
        _big("start_ns"),
        sa.Column("effective", sa.Boolean, nullable=False),
        *(_text(name) for name in ("price_status", "price_source", "price")),
        *(_big(name, "0") for name in ("cost_nano", "saved_nano")),
        *(sa.Column(f"{bucket}_nano", sa.BigInteger) for bucket in _BUCKETS),
        sa.PrimaryKeyConstraint("trace_id", "span_id", "version", name="pk_ledger_price"),
    )
    op.create_index("ix_ledger_price_start_ns", "ledger_price", ["start_ns"])
    effective = sa.text("effective")
    op.create_index(
        "uq_ledger_price_effective",
        "ledger_price",
        ["trace_id", "span_id"],
        unique=True,
        sqlite_where=effective,
        postgresql_where=effective,
    )


def downgrade() -> None:
    for table in ("ledger_price", "repricing"):
        op.drop_table(table)
