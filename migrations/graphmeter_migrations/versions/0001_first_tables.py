"""First tables: facts of spans, runs and money, rollups and the outbox.

On an empty database, so nothing is locked that anybody waits for; runs before the code that needs it (pre).
On Postgres `span` and `span_body` are partitioned by day; the store makes partitions when it first meets a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

BUCKETS = (
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "input_audio",
    "input_image",
    "output",
    "reasoning",
    "output_audio",
    "output_image",
)
BY_DAY: dict[str, Any] = {"postgresql_partition_by": "RANGE (day)"}


def _id(*names: str) -> list[sa.Column[bytes]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names]


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False, server_default="") for name in names]


def _big(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in names]


def _maybe_big(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=True) for name in names]


def _ns(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _flag(name: str, *, default: bool) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.true() if default else sa.false())


def upgrade() -> None:
    op.create_table(
        "span",
        *_id("trace_id", "span_id"),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("parent_id", sa.LargeBinary),
        *_text("run_id", "kind", "name", "service", "environment", "graph", "team", "node"),
        *_ns("start_ns", "duration_ns"),
        *_text("status", "error_type", "status_message"),
        sa.Column("step", sa.Integer, nullable=False, server_default="0"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        _flag("attempt_final", default=True),
        *_text("provider", "model", "tool"),
        *_maybe_big("input_tokens", "output_tokens", "cost_nano", "ttft_ns"),
        _flag("cache_hit", default=False),
        _flag("settled", default=True),
        sa.PrimaryKeyConstraint("trace_id", "span_id", "day", name="pk_span"),
        **BY_DAY,
    )
    op.create_index("ix_span_start_ns", "span", ["start_ns"], postgresql_using="brin")
    op.create_table(
        "span_body",
        *_id("trace_id", "span_id"),
        sa.Column("day", sa.Integer, nullable=False),
        *_id("envelope_id", "body"),
        sa.PrimaryKeyConstraint("trace_id", "span_id", "day", name="pk_span_body"),
        **BY_DAY,
    )
    op.create_index("ix_span_body_day", "span_body", ["day"], postgresql_using="brin")
    op.create_table(
        "span_envelope",
        *_id("envelope_id", "resource", "scope"),
        *_text("resource_schema_url", "scope_schema_url"),
        sa.PrimaryKeyConstraint("envelope_id", name="pk_span_envelope"),
    )
    op.create_table(
        "run",
        *_id("trace_id"),
        sa.Column("run_id", sa.Text, nullable=False),
        *_text("service", "environment", "graph", "team", "tenant", "release", "thread_id", "user_id", "session_id"),
        sa.Column("tags", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("status", sa.Text, nullable=False, server_default="running"),
        *_text("error_type", "status_message"),
        _flag("root_seen", default=False),
        *_ns("started_ns"),
        *_maybe_big("ended_ns"),
        *_ns("last_seen_ns"),
        *_maybe_big("duration_ns"),
        *_big("steps", "spans", "node_attempts", "node_errors", "model_calls", "tool_calls"),
        *_big("input_tokens", "output_tokens", "cost_nano", "unpriced_calls"),
        sa.PrimaryKeyConstraint("trace_id", "run_id", name="pk_run"),
    )
    op.create_index("ix_run_run_id", "run", ["run_id"])
    op.create_index("ix_run_started_ns", "run", ["started_ns"])
    op.create_index("ix_run_graph_started_ns", "run", ["graph", "started_ns"])
    op.create_index("ix_run_status_last_seen_ns", "run", ["status", "last_seen_ns"])
    op.create_table(
        "run_node",
        *_id("trace_id"),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        *_ns("first_ns", "last_ns"),
        *_big("attempts", "errors", "duration_ns", "model_calls", "input_tokens", "output_tokens", "cost_nano"),
        sa.PrimaryKeyConstraint("trace_id", "run_id", "node", name="pk_run_node"),
    )
    op.create_table(
        "ledger",
        *_id("trace_id", "span_id"),
        *_ns("start_ns"),
        *_text("run_id", "service", "environment", "graph", "team", "tenant", "release", "node"),
        *_text("thread_id", "user_id", "session_id"),
        sa.Column("tags", sa.JSON, nullable=False, server_default="{}"),
        *_text("operation", "provider", "model", "request_model"),
        sa.Column("response_id", sa.Text),
        sa.Column("attempt_span", sa.LargeBinary),
        *_text("status"),
        _flag("cache_hit", default=False),
        *_maybe_big(*(f"{bucket}_tokens" for bucket in BUCKETS)),
        *_text("price_status", "price_source", "price"),
        *_big("cost_nano", "saved_nano"),
        *_maybe_big(*(f"{bucket}_nano" for bucket in BUCKETS)),
        sa.PrimaryKeyConstraint("trace_id", "span_id", name="pk_ledger"),
    )
    op.create_index("ix_ledger_start_ns", "ledger", ["start_ns"])
    op.create_index("ix_ledger_team_start_ns", "ledger", ["team", "start_ns"])
    op.create_index(
        "uq_ledger_trace_id_provider_response_id",
        "ledger",
        ["trace_id", "provider", "response_id"],
        unique=True,
        sqlite_where=sa.text("response_id IS NOT NULL"),
        postgresql_where=sa.text("response_id IS NOT NULL"),
    )
    for name, period in (("rollup_hour", "hour"), ("rollup_day", "day")):
        dimensions = ("service", "environment", "graph", "team", "node", "kind", "provider", "model")
        op.create_table(
            name,
            sa.Column(period, sa.Integer, nullable=False),
            *_text(*dimensions),
            sa.Column("writer", sa.SmallInteger, nullable=False),
            *_big("count", "ok", "error", "interrupted", "cancelled", "retries", "cache_hits", "unpriced"),
            *_big("duration_ns", *(f"{bucket}_tokens" for bucket in BUCKETS), "cost_nano", "saved_nano"),
            *_id("latency"),
            sa.PrimaryKeyConstraint(period, *dimensions, "writer", name=f"pk_{name}"),
        )
    op.create_table(
        "outbox",
        sa.Column("destination", sa.Text, nullable=False),
        *_id("trace_id", "span_id"),
        sa.Column("day", sa.Integer, nullable=False),
        *_ns("queued_ns"),
        sa.PrimaryKeyConstraint("destination", "trace_id", "span_id", "day", name="pk_outbox"),
    )
    op.create_index("ix_outbox_destination_queued_ns", "outbox", ["destination", "queued_ns"])


def downgrade() -> None:
    for table in (
        "outbox",
        "rollup_day",
        "rollup_hour",
        "ledger",
        "run_node",
        "run",
        "span_envelope",
        "span_body",
        "span",
    ):
        op.drop_table(table)
