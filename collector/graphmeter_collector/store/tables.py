"""The tables as SQLAlchemy Core sees them. Alembic owns the schema (`migrations/`); a test keeps the two equal.

Times are integer nanoseconds since the epoch, money is integer nano-USD, ids are raw bytes. Text dimensions are never
NULL: the empty string means "not said", so that they can stand in primary keys.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    literal_column,
    or_,
    text,
)

from graphmeter import names

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(*columns: str, key: bool = False) -> list[Column[str]]:
    return [Column(name, Text, nullable=False, server_default="", primary_key=key) for name in columns]


def _big(*columns: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False, server_default="0") for name in columns]


def _buckets(suffix: str) -> list[Column[int]]:
    """One nullable column per token bucket; NULL means none, and takes no room."""
    return [Column(f"{bucket}_{suffix}", BigInteger) for bucket in names.TOKEN_TYPES]


# One row per span: the facts. On Postgres partitioned by `day`.
span = Table(
    "span",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("parent_id", LargeBinary),
    *_text("run_id", "kind", "name", "service", "environment", "graph", "team", "node"),
    Column("start_ns", BigInteger, nullable=False),
    Column("duration_ns", BigInteger, nullable=False),
    *_text("status", "error_type", "status_message"),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("attempt_final", Boolean, nullable=False, server_default="1"),
    *_text("provider", "model", "tool"),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_nano", BigInteger),
    Column("ttft_ns", BigInteger),
    Column("cache_hit", Boolean, nullable=False, server_default="0"),
    Column("settled", Boolean, nullable=False, server_default="1"),
    # Span ids, 8 bytes each; see `records.SpanRecord`.
    Column("outer_attempts", LargeBinary),
    Index(None, "start_ns", postgresql_using="brin"),
)

# Foreign spans that wait for an ancestor: `span.settled` is false, and nothing is counted of them but here, where it says
# what (see `store.unsettled`). A row goes when its span is settled.
unsettled = Table(
    "unsettled",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    # Span id of the ancestor.
    Column("wanted", LargeBinary, nullable=False),
    # When it was stored.
    Column("since_ns", BigInteger, nullable=False),
    Column("facts", Text, nullable=False),
    Index(None, "trace_id", "wanted"),
    Index(None, "since_ns"),
)

# The span's own OTLP bytes, for trace view and forward; short retention. On Postgres partitioned by `day`.
span_body = Table(
    "span_body",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("envelope_id", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "day", postgresql_using="brin"),
)

# OTLP resource and scope shared by many spans, addressed by content.
span_envelope = Table(
    "span_envelope",
    metadata,
    Column("envelope_id", LargeBinary, primary_key=True),
    Column("resource", LargeBinary, nullable=False),
    Column("scope", LargeBinary, nullable=False),
    *_text("resource_schema_url", "scope_schema_url"),
)

_OPEN = f"status = '{names.RUNNING}' OR status = '{names.LOST}'"

# One row per graph run. Any span of the run makes a stub; merges commute (sum, min, max), root fields come from the root.
run = Table(
    "run",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("run_id", Text, primary_key=True),
    *_text("service", "environment", "graph", "team", "tenant", "release", "thread_id", "user_id", "session_id"),
    Column("tags", JSON(), nullable=False, server_default="{}"),
    Column("status", Text, nullable=False, server_default=names.RUNNING),
    *_text("error_type", "status_message"),
    Column("root_seen", Boolean, nullable=False, server_default="0"),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("last_seen_ns", BigInteger, nullable=False),
    Column("duration_ns", BigInteger),
    *_big(
        "steps",
        "spans",
        "node_attempts",
        "node_errors",
        "model_calls",
        "tool_calls",
        "input_tokens",
        "output_tokens",
        "cost_nano",
    ),
    *_big("unpriced_calls"),
    # Where it paused, what it goes on from, and which run it says it resumes: root fields.
    *_text("checkpoint_id", "resumed_from", "resumed_run_id"),
    # Promised interval between heartbeats; 0: none will come.
    *_big("heartbeat_ns"),
    # Whether there is anything to look for (see `store.waste`): attempts that failed, were cancelled or followed by another,
    # and calls that were cancelled within an attempt.
    *_big("bad_attempts", "cancelled_calls"),
    # Whether it was given up at any time, whatever came later.
    Column("was_lost", Boolean, nullable=False, server_default="0"),
    # Found by the beginning of its id, too, whatever language Postgres sorts by.
    Index(None, "run_id", postgresql_ops={"run_id": "text_pattern_ops"}),
    # The list of runs, newest first: whatever it is filtered by is told without a look at rows that do not fit.
    Index("ix_run_list", "started_ns", "graph", "team", "status", "cost_nano", "duration_ns"),
    # Those that have not ended: a run that came whole never enters it.
    Index("ix_run_open", "status", "last_seen_ns", sqlite_where=text(_OPEN), postgresql_where=text(_OPEN)),
    # What a thread did next; graphs without a checkpointer have no thread.
    Index(
        None,
        "thread_id",
        "started_ns",
        sqlite_where=text("thread_id != ''"),
        postgresql_where=text("thread_id <> ''"),
    ),
)

# Nodes a run visited.
run_node = Table(
    "run_node",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    *_big("attempts", "errors", "duration_ns", "model_calls", "input_tokens", "output_tokens", "cost_nano"),
)

# One row per interrupted run of a thread: since when somebody is waited for, and the run of the thread that ended it.
# Written from the interrupted root; a job fills in the end (see `store.waits`), whichever of the two was stored first.
wait = Table(
    "wait",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("run_id", Text, primary_key=True),
    *_text("service", "environment", "graph", "team", "thread_id", "checkpoint_id"),
    Column("since_ns", BigInteger, nullable=False),
    # Start of the next run of the thread; NULL: still waiting.
    Column("until_ns", BigInteger),
    Column("next_trace_id", LargeBinary),
    *_text("next_run_id"),
    # Whether that run went on from a checkpoint rather than from new input; NULL until its root says so.
    Column("resumed", Boolean),
    Index(None, "thread_id", "since_ns"),
    Index("ix_wait_open", "since_ns", sqlite_where=text("resumed IS NULL"), postgresql_where=text("resumed IS NULL")),
)

# How runs turned out for the business, one row per time that it was said.
outcome = Table(
    "outcome",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("good", Boolean),
    Column("value", Double),
    Column("at_ns", BigInteger, nullable=False),
    *_text("service", "environment", "graph", "team"),
    Index(None, "run_id"),
    Index(None, "at_ns"),
)

# Tags that a run was given by its id, after spans of it had left; the one said last stands.
run_tag = Table(
    "run_tag",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    *_text("value"),
    Column("at_ns", BigInteger, nullable=False),
)

# Nodes and edges of graphs, one row per shape that was seen.
graph_topology = Table(
    "graph_topology",
    metadata,
    *_text("service", "environment", "graph", key=True),
    Column("hash", LargeBinary, primary_key=True),
    Column("json", Text, nullable=False),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
)

# When the first run of each release of a service began (see `releases`).
release_seen = Table(
    "release_seen",
    metadata,
    *_text("service", "environment", "release", key=True),
    Column("first_ns", BigInteger, nullable=False),
)

# What became of the spans of each client process, as its newest report says.
client_report = Table(
    "client_report",
    metadata,
    Column("client_id", Text, primary_key=True),
    *_text("service", "environment"),
    *_big("sequence", "exported", "dropped", "failed", "queued", "faults", "open_runs"),
    Column("at_ns", BigInteger, nullable=False),
    Index(None, "at_ns"),
)

_SILENT = "price_status = 'usage_missing'"

# One append-only row per call that could cost money, of a model or of a tool or retriever that has a price; outlives spans.
ledger = Table(
    "ledger",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    Column("start_ns", BigInteger, nullable=False),
    *_text(
        "run_id",
        "service",
        "environment",
        "graph",
        "team",
        "tenant",
        "release",
        "node",
        "thread_id",
        "user_id",
        "session_id",
    ),
    Column("tags", JSON(), nullable=False, server_default="{}"),
    *_text("operation", "provider", "model", "request_model"),
    Column("response_id", Text),
    Column("attempt_span", LargeBinary),
    *_text("status"),
    Column("cache_hit", Boolean, nullable=False, server_default="0"),
    *_buckets("tokens"),
    *_text("price_status", "price_source", "price"),
    *_big("cost_nano", "saved_nano"),
    *_buckets("nano"),
    # What else decides the price of a call.
    *_text("service_tier", "server"),
    *_big("duration_ns", "images"),
    # Of the subgraphs that it was made in; NULL: in none.
    Column("outer_attempts", LargeBinary),
    # What the provider said that it cost; NULL: it did not say.
    Column("reported_nano", BigInteger),
    Index(None, "start_ns"),
    # One call seen by two instrumentations is billed once; a cached answer repeats the id of the original on purpose.
    Index(
        "uq_ledger_trace_id_provider_response_id",
        "trace_id",
        "provider",
        "response_id",
        unique=True,
        sqlite_where=Column("response_id").is_not(None),
        postgresql_where=Column("response_id").is_not(None),
    ),
    # Calls without usage, which rollups do not count: few, as a rule.
    Index("ix_ledger_silent", "start_ns", sqlite_where=text(_SILENT), postgresql_where=text(_SILENT)),
)

# Calls on the ledger that were for nothing, and why, as far as it is known now (see `store.waste`).
ledger_waste = Table(
    "ledger_waste",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    # That of the call.
    Column("start_ns", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "start_ns"),
)

# What calls cost by prices that became known later, beside what the ledger says, which stays as billed: one row per call and
# repricing that came to something else. The last one of a call is effective.
ledger_price = Table(
    "ledger_price",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    # That of `repricing`.
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    # The call's own, as on the ledger.
    Column("start_ns", BigInteger, nullable=False),
    Column("effective", Boolean, nullable=False),
    *_text("price_status", "price_source", "price"),
    *_big("cost_nano", "saved_nano"),
    *_buckets("nano"),
    Index(None, "start_ns"),
    Index(
        "uq_ledger_price_effective",
        "trace_id",
        "span_id",
        unique=True,
        sqlite_where=text("effective"),
        postgresql_where=text("effective"),
    ),
)

# Who priced calls again when, by which prices, and what that came to: the versions of `ledger_price`, in order.
repricing = Table(
    "repricing",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ns", BigInteger, nullable=False),
    *_text("prices", "reason"),
    *_big("since_ns", "until_ns", "calls", "before_nano", "after_nano"),
)


def _rollup(name: str, period: str) -> Table:
    """Counts, tokens, money and latency per dimension and period (`hour` or `day`: whole periods since the epoch)."""
    return Table(
        name,
        metadata,
        Column(period, Integer, primary_key=True, autoincrement=False),
        *_text("service", "environment", "graph", "team", "node", "kind", "provider", "model", key=True),
        Column("writer", SmallInteger, primary_key=True, autoincrement=False),
        *_big("count", "ok", "error", "interrupted", "cancelled", "retries", "cache_hits", "unpriced", "duration_ns"),
        *_big(*(f"{bucket}_tokens" for bucket in names.TOKEN_TYPES)),
        *_big("cost_nano", "saved_nano"),
        Column("latency", LargeBinary, nullable=False),
    )


rollup_hour = _rollup("rollup_hour", "hour")
rollup_day = _rollup("rollup_day", "day")

# Committed spans that a destination has not had yet. A row is a part of a trace that was committed together (see
# `store.parts`), and goes when the destination has answered.
outbox = Table(
    "outbox",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("trace_id", LargeBinary, primary_key=True),
    # The first of the part's spans; `more` holds the ids of the others, if there are any, 8 bytes each.
    Column("span_id", LargeBinary, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("queued_ns", BigInteger, nullable=False),
    Column("more", LargeBinary),
    # Bytes of their bodies, at most.
    *_big("size"),
    Index(None, "destination", "queued_ns"),
)

# Keys of callers, see `graphmeter_collector.keys`; times are 0 for never.
api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    *_text("name", "scopes", "team"),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    *_text("last4"),
    Column("created_ns", BigInteger, nullable=False),
    *_big("used_ns", "expires_ns", "revoked_ns"),
)


# Whether a trace is forwarded to destinations that get a sample; the first decision stands.
trace_decision = Table(
    "trace_decision",
    metadata,
    Column("trace_id", LargeBinary, primary_key=True),
    Column("keep", Boolean, nullable=False),
    *_text("reason", "rule"),
    Column("decided_ns", BigInteger, nullable=False),
    Index(None, "decided_ns"),
)

# What receivers are to be told, each put here once by its key; finished ones stay for a while, so that they stay known.
notification = Table(
    "notification",
    metadata,
    Column("key", Text, primary_key=True),
    *_text("receiver", "kind", "content_type", "body"),
    # waiting, delivered or given_up.
    Column("status", Text, nullable=False, server_default="waiting"),
    *_text("error"),
    Column("created_ns", BigInteger, nullable=False),
    Column("due_ns", BigInteger, nullable=False),
    *_big("attempts", "done_ns"),
    Index(
        "ix_notification_waiting",
        "due_ns",
        sqlite_where=text("status = 'waiting'"),
        postgresql_where=text("status = 'waiting'"),
    ),
)

# Budgets in force, whichever collector's graphmeter.yaml or request they came from; `key` stands for what decides which
# spend counts (see `graphmeter_config.Budget.counting`), and several budgets may have one.
budget = Table(
    "budget",
    metadata,
    Column("name", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("definition", Text, nullable=False),
    # Since when, by the calls' own start, everything is counted.
    Column("since_ns", BigInteger, nullable=False),
    Column("changed_ns", BigInteger, nullable=False),
    # Version of the set that its key came with.
    *_big("taken"),
    # Whether calls from before that are in its spend (see `store.budget_count`).
    Column("counted", Boolean, nullable=False, server_default="1"),
)

# One row; its version grows with each change of the budgets in force.
budget_set = Table(
    "budget_set",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)

# Spend per slice of a period and scope (values of `per`, as JSON), kept in the ledger's transactions
# (see `store.budget_spend`).
budget_spend = Table(
    "budget_spend",
    metadata,
    Column("key", Text, primary_key=True),
    Column("start_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("scope", Text, primary_key=True),
    Column("writer", SmallInteger, primary_key=True, autoincrement=False),
    *_big("nano", "tokens", "calls"),
    # One scope's period, however many scopes there are.
    Index("ix_budget_spend_scope", "key", "scope", "start_ns"),
)

# What calls under way may cost at most, reserved of strict budgets before they were made (see `store.reservations`). Kept
# until it expires, also when it was released: a request that arrives late must not reserve again.
budget_reservation = Table(
    "budget_reservation",
    metadata,
    Column("id", Text, primary_key=True),
    # Empty where only the release is known.
    *_text("budget", "scope", "unit"),
    # Nano-USD or tokens.
    *_big("units"),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    # When its call was billed, or given up; 0: not yet.
    *_big("released_ns"),
    Index(None, "expires_ns"),
    Index(
        "ix_budget_reservation_open",
        "budget",
        "scope",
        sqlite_where=text("released_ns = 0"),
        postgresql_where=text("released_ns = 0"),
    ),
)

# Thresholds that were crossed, each once per budget, scope and period.
budget_event = Table(
    "budget_event",
    metadata,
    Column("budget", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("period_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("threshold", Text, primary_key=True),
    # In nano-USD or tokens: a new limit has thresholds of its own.
    Column("limit_units", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    # When it was handed to those who deliver it; 0: not yet.
    *_big("told_ns"),
    Index(None, "at_ns"),
    Index("ix_budget_event_untold", "at_ns", sqlite_where=text("told_ns = 0"), postgresql_where=text("told_ns = 0")),
)


# Conditions of partial indexes. Written out, not as parameters: only then does SQLite see that they are the index's.
is_open = or_(*(run.c.status == literal_column(f"'{status}'") for status in (names.RUNNING, names.LOST)))
is_running = run.c.status == literal_column(f"'{names.RUNNING}'")
is_effective = literal_column("ledger_price.effective", Boolean)
is_silent = ledger.c.price_status == literal_column("'usage_missing'")


def column_names(table: Table) -> list[str]:
    """Names of a table's columns in order of definition."""
    return [str(column.name) for column in table.columns]


Row = dict[str, Any]
"""One row to write, by column name."""
