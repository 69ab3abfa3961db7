"""Budgets in force, what was spent of them, and which thresholds were crossed.

New tables lock nothing; runs before the code that needs them (pre). Spend of the current periods is summed from the ledger
when a collector of the new version starts.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _big(name: str, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=default)


def upgrade() -> None:
    op.create_table(
        "budget",
        *(_text(name) for name in ("name", "source", "key", "definition")),
        *(_big(name) for name in ("since_ns", "changed_ns")),
        sa.PrimaryKeyConstraint("name", name="pk_budget"),
    )
    known = op.create_table(
        "budget_set",
        sa.Column("id", sa.SmallInteger, nullable=False, autoincrement=False),
        _big("version"),
        sa.PrimaryKeyConstraint("id", name="pk_budget_set"),
    )
    op.bulk_insert(known, [{"id": 0, "version": 0}])
    op.create_table(
        "budget_spend",
        _text("key"),
        _big("start_ns"),
        _text("scope"),
        sa.Column("writer", sa.SmallInteger, nullable=False),
        *(_big(name, "0") for name in ("nano", "tokens", "calls")),
        sa.PrimaryKeyConstraint("key", "start_ns", "scope", "writer", name="pk_budget_spend"),
    )
    op.create_table(
        "budget_event",
        *(_text(name) for name in ("budget", "scope")),
        _big("period_ns"),
        _text("threshold"),
        _big("limit_units"),
        _text("state"),
        _big("at_ns"),
        _big("told_ns", "0"),
        sa.PrimaryKeyConstraint("budget", "scope", "period_ns", "threshold", "limit_units", name="pk_budget_event"),
    )
    op.create_index("ix_budget_event_at_ns", "budget_event", ["at_ns"])
    untold = sa.text("told_ns = 0")
    op.create_index("ix_budget_event_untold", "budget_event", ["at_ns"], sqlite_where=untold, postgresql_where=untold)


def downgrade() -> None:
    for table in ("budget_event", "budget_spend", "budget_set", "budget"):
        op.drop_table(table)
