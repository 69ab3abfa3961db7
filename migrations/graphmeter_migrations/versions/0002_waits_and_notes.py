"""Human waits, outcomes, late tags, topologies and reports of clients; what a run paused at, resumes, and promises.

New tables lock nothing. The columns of `run` have constant defaults, which Postgres adds without rewriting the table, under
a lock of milliseconds; its new index is built under a lock that keeps writers waiting, some seconds per million runs.
Runs before the code that needs it (pre).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

RUN_TEXT = ("checkpoint_id", "resumed_from", "resumed_run_id")
TABLES = ("wait", "outcome", "run_tag", "graph_topology", "client_report")


def _id(*names: str) -> list[sa.Column[bytes]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names]


def _key(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False, server_default="") for name in names]


def _big(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in names]


def _ns(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def upgrade() -> None:
    for text in _text(*RUN_TEXT):
        op.add_column("run", text)
    for number in _big("heartbeat_ns"):
        op.add_column("run", number)
    op.create_index(
        "ix_run_thread_id_started_ns",
        "run",
        ["thread_id", "started_ns"],
        sqlite_where=sa.text("thread_id != ''"),
        postgresql_where=sa.text("thread_id <> ''"),
    )
    op.create_table(
        "wait",
        *_id("trace_id"),
        *_key("run_id"),
        *_text("service", "environment", "graph", "team", "thread_id", "checkpoint_id"),
        *_ns("since_ns"),
        sa.Column("until_ns", sa.BigInteger),
        sa.Column("next_trace_id", sa.LargeBinary),
        *_text("next_run_id"),
        sa.Column("resumed", sa.Boolean),
        sa.PrimaryKeyConstraint("trace_id", "run_id", name="pk_wait"),
    )
    op.create_index("ix_wait_thread_id_since_ns", "wait", ["thread_id", "since_ns"])
    op.create_index(
        "ix_wait_open",
        "wait",
        ["since_ns"],
        sqlite_where=sa.text("resumed IS NULL"),
        postgresql_where=sa.text("resumed IS NULL"),
    )
    op.create_table(
        "outcome",
        *_id("trace_id", "span_id"),
        *_key("run_id", "kind"),
        sa.Column("good", sa.Boolean),
        sa.Column("value", sa.Double),
        *_ns("at_ns"),
        *_text("service", "environment", "graph", "team"),
        sa.PrimaryKeyConstraint("trace_id", "span_id", name="pk_outcome"),
    )
    op.create_index("ix_outcome_run_id", "outcome", ["run_id"])
    op.create_index("ix_outcome_at_ns", "outcome", ["at_ns"])
    op.create_table(
        "run_tag",
        *_key("run_id", "name"),
        *_text("value"),
        *_ns("at_ns"),
        sa.PrimaryKeyConstraint("run_id", "name", name="pk_run_tag"),
    )
    op.create_table(
        "graph_topology",
        *_text("service", "environment", "graph"),
        *_id("hash"),
        *_key("json"),
        *_ns("first_ns", "last_ns"),
        sa.PrimaryKeyConstraint("service", "environment", "graph", "hash", name="pk_graph_topology"),
    )
    op.create_table(
        "client_report",
        *_key("client_id"),
        *_text("service", "environment"),
        *_big("sequence", "exported", "dropped", "failed", "queued", "faults", "open_runs"),
        *_ns("at_ns"),
        sa.PrimaryKeyConstraint("client_id", name="pk_client_report"),
    )
    op.create_index("ix_client_report_at_ns", "client_report", ["at_ns"])


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
    op.drop_index("ix_run_thread_id_started_ns", "run")
    for column in reversed((*RUN_TEXT, "heartbeat_ns")):
        op.drop_column("run", column)
