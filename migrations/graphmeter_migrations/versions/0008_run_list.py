"""Indexes that answer in time when ten million spans are stored, and cost fewer writes than those they replace.

One index decides every filter of the list of runs, in place of two. That of runs which have not ended is in place of one of
all. That of run ids also finds them by their beginning. Calls by team are the rollups' business. While they are made, they
lock writes of `run` and `ledger`: some seconds for a million runs. Runs before the code that needs it (pre); older code
works with them, if more slowly.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_OPEN = "status = 'running' OR status = 'lost'"
_SILENT = "price_status = 'usage_missing'"


def upgrade() -> None:
    op.drop_index("ix_run_run_id", "run")
    op.create_index("ix_run_run_id", "run", ["run_id"], postgresql_ops={"run_id": "text_pattern_ops"})
    op.drop_index("ix_run_started_ns", "run")
    op.drop_index("ix_run_graph_started_ns", "run")
    op.create_index("ix_run_list", "run", ["started_ns", "graph", "team", "status", "cost_nano", "duration_ns"])
    op.drop_index("ix_run_status_last_seen_ns", "run")
    partly("ix_run_open", "run", ["status", "last_seen_ns"], _OPEN)
    op.drop_index("ix_ledger_team_start_ns", "ledger")
    partly("ix_ledger_silent", "ledger", ["start_ns"], _SILENT)


def partly(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    op.drop_index("ix_ledger_silent", "ledger")
    op.create_index("ix_ledger_team_start_ns", "ledger", ["team", "start_ns"])
    op.drop_index("ix_run_open", "run")
    op.create_index("ix_run_status_last_seen_ns", "run", ["status", "last_seen_ns"])
    op.drop_index("ix_run_list", "run")
    op.create_index("ix_run_graph_started_ns", "run", ["graph", "started_ns"])
    op.create_index("ix_run_started_ns", "run", ["started_ns"])
    op.drop_index("ix_run_run_id", "run")
    op.create_index("ix_run_run_id", "run", ["run_id"])
