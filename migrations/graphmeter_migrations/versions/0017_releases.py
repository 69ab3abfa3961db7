"""When the first run of each release of a service began, for marks of deployments on dashboards.

A new table, which locks nobody, filled from the runs that are known: one look at all of them, while others are stored. Runs
before the code that needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision: str | None = "0016"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_KEY = ("service", "environment", "release")


def upgrade() -> None:
    op.create_table(
        "release_seen",
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in _KEY),
        sa.Column("first_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, name="pk_release_seen"),
    )
    op.execute(
        "INSERT INTO release_seen (service, environment, release, first_ns) "
        "SELECT service, environment, release, min(started_ns) FROM run WHERE release <> '' "
        "GROUP BY service, environment, release"
    )


def downgrade() -> None:
    op.drop_table("release_seen")
