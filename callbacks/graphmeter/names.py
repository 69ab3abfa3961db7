"""The wire contract: every span attribute, span kind, token bucket, metric and label that crosses a process boundary.

Constants only. The client writes them, the collector reads them, dashboards and alerts query them; whoever renames one
here renames it everywhere. OpenTelemetry names follow the GenAI semantic conventions of `semantic-conventions-genai`
(development status, main as of 2026-11); names that the conventions lack are ours and start with `graphmeter.`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SCOPE: Final = "graphmeter"
"""Instrumentation scope name of every span this project emits; the collector trusts such spans to be complete."""

NANO_PER_USD: Final = 1_000_000_000
"""Money is counted in integer nano-USD."""

# --- span kinds: what a span stands for ---------------------------------------------------------------------------

RUN: Final = "run"
"""One invocation of a root graph."""
SUBGRAPH: Final = "subgraph"
NODE: Final = "node"
"""One attempt of one node."""
MODEL: Final = "model"
TOOL: Final = "tool"
RETRIEVER: Final = "retriever"
SPAN: Final = "span"
"""Any span that is not ours."""

KINDS: Final = (RUN, SUBGRAPH, NODE, MODEL, TOOL, RETRIEVER, SPAN)

# --- notes: what a client says besides spans. On the wire they are spans of zero duration; stored, never shown, never
# forwarded. Those of a run are children of its root span and carry the run's attribution. ----------------------------

START: Final = "start"
"""A run has started: so that a process which dies is seen."""
HEARTBEAT: Final = "heartbeat"
"""A run that started a while ago is still alive."""
OUTCOME: Final = "outcome"
"""How a run turned out for the business, said by the application, perhaps long after the run's end."""
TAGS: Final = "tags"
"""Tags added to a run by its id, after spans of it have left."""
TOPOLOGY: Final = "topology"
"""Nodes and edges of a root graph, once per process and graph."""
REPORT: Final = "report"
"""What became of the spans of a client process so far. Belongs to no run."""

NOTES: Final = (START, HEARTBEAT, OUTCOME, TAGS, TOPOLOGY, REPORT)

# --- statuses -----------------------------------------------------------------------------------------------------

OK: Final = "ok"
ERROR: Final = "error"
INTERRUPTED: Final = "interrupted"
CANCELLED: Final = "cancelled"
RUNNING: Final = "running"
"""Run only: started, no end seen yet."""
LOST: Final = "lost"
"""Run only: no sign of life for longer than `runs.lost_after`."""

RETRY: Final = "retry"
"""No status, but why a call was for nothing: another attempt followed the one that it belongs to."""
WASTE_REASONS: Final = (ERROR, RETRY, CANCELLED)
"""Why a call was for nothing, the one that is told first; values of the label `reason`."""

SPAN_STATUSES: Final = (OK, ERROR, INTERRUPTED, CANCELLED)
RUN_STATUSES: Final = (*SPAN_STATUSES, RUNNING, LOST)

# --- attributes of our own ----------------------------------------------------------------------------------------

KIND: Final = "graphmeter.kind"
RUN_ID: Final = "graphmeter.run_id"
"""LangChain run id (UUID text) of the root graph; on every span of the run."""
GRAPH: Final = "graphmeter.graph"
"""Name of the root graph."""
NODE_PATH: Final = "graphmeter.node"
"""Path of the node through subgraphs: `research.search`. Empty outside nodes."""
TEAM: Final = "graphmeter.team"
TENANT: Final = "graphmeter.tenant"
ENVIRONMENT: Final = "graphmeter.environment"
RELEASE: Final = "graphmeter.release"
USER: Final = "graphmeter.user"
SESSION: Final = "graphmeter.session"
TAG_PREFIX: Final = "graphmeter.tag."
STATUS: Final = "graphmeter.status"
ATTEMPT: Final = "graphmeter.attempt"
"""1 for the first try of a node's task, 2 for its first retry …"""
ATTEMPT_FINAL: Final = "graphmeter.attempt.final"
"""False on an attempt that was followed by another one."""
ATTEMPT_SPAN: Final = "graphmeter.attempt_span"
"""On model calls: span id (16 hex digits) of the enclosing node attempt."""
OUTER_ATTEMPTS: Final = "graphmeter.attempt.outer"
"""On nodes of subgraphs, and on calls inside them: span ids of the attempts around, the nearest first, each 16
hex digits, with spaces in between."""
CACHE_HIT: Final = "graphmeter.cache_hit"
USAGE_MISSING: Final = "graphmeter.usage_missing"
REQUEST_PROMPTS: Final = "graphmeter.request.prompts"
"""On text completions that shared one request: number of its prompts. The first call carries the usage of all, which is how
the provider reports it, the others carry 0."""
CACHE_WRITE_5M_TOKENS: Final = "graphmeter.usage.cache_write_5m.input_tokens"
CACHE_WRITE_1H_TOKENS: Final = "graphmeter.usage.cache_write_1h.input_tokens"
USAGE_IMAGES: Final = "graphmeter.usage.images"
"""On calls that make images: how many (int), for prices per image; applications may set it on spans of their own."""
SAVED_PREFIX: Final = "graphmeter.saved."
"""A cached answer carries its usage as `graphmeter.saved.gen_ai.usage.*`, so that nobody downstream bills it."""
COST_USD: Final = "graphmeter.cost_usd"
"""Cost of a model call as the client prices it (double, USD). A hint for trace views; the collector is the authority."""
COST_PRICE: Final = "graphmeter.cost.price"
"""Which price of which catalogue gave `graphmeter.cost_usd`."""
REPORTED_COST_USD: Final = "graphmeter.cost.reported_usd"
"""What the provider, or a gateway before it, says that a model call cost (double, USD). Kept beside the price
that the collector works out."""
RESUMED_FROM: Final = "graphmeter.resumed_from"
"""On a run that resumes an interrupted one: the LangGraph checkpoint id it resumes from, which is the
`langgraph.checkpoint_id` of the interrupted run."""
LATEST_CHECKPOINT: Final = "latest"
"""Value of `graphmeter.resumed_from` where LangGraph does not tell the id: the newest checkpoint of the thread."""
RESUMED_RUN: Final = "graphmeter.resumed_run_id"
"""On a run that resumes one of the same process: that run's id; the span also links to it."""
WAITED_S: Final = "graphmeter.waited_s"
"""On the same: seconds between the interrupted run's end and the resuming one's start (double)."""
SERVICE_TIER: Final = "graphmeter.service_tier"
"""Tier that the provider says it served the call at, if not its standard one: `flex`, `priority`, `batch` …"""
RATE_LIMITED: Final = "graphmeter.rate_limited"
"""True on a failed model call that the provider refused for its rate limits, whatever HTTP status that came with."""
RESERVATION: Final = "graphmeter.budget.reservation"
"""On a model call: ids of what was reserved for it of strict budgets, each 8 to 64 letters, digits or `-`, with spaces in
between. The transaction that puts the call on the ledger releases them."""
RESERVATION_ID: Final = "[0-9A-Za-z-]{8,64}"
"""What an id of a reservation matches, as a whole."""
HEARTBEAT_S: Final = "graphmeter.heartbeat_s"
"""On start notes: seconds between the heartbeats that will follow while the run lasts (double); absent: none will."""
OUTCOME_KIND: Final = "graphmeter.outcome.kind"
OUTCOME_GOOD: Final = "graphmeter.outcome.good"
"""Boolean; absent when the application did not judge."""
OUTCOME_VALUE: Final = "graphmeter.outcome.value"
"""Double, in the application's own unit; absent when it has none."""
TOPOLOGY_JSON: Final = "graphmeter.topology"
"""JSON text `{"nodes": ["plan", …], "edges": [["plan", "search", false], …]}`: source, target, whether conditional.
`__start__` and `__end__` are nodes as LangGraph names them; nodes of a subgraph follow under the path of its node, as in
`graphmeter.node`: `research`, `research.__start__`, `research.search`."""
CLIENT_ID: Final = "graphmeter.client.id"
"""Random id of a client process (of each destination, where it has several), 32 hex digits."""
CLIENT_SEQUENCE: Final = "graphmeter.client.sequence"
"""Number of a report, from 1; a later one contains the earlier ones."""
CLIENT_EXPORTED: Final = "graphmeter.client.exported"
"""Spans and notes since the process started, reports excepted; so are the other counts of a report."""
CLIENT_DROPPED: Final = "graphmeter.client.dropped"
CLIENT_FAILED: Final = "graphmeter.client.failed"
CLIENT_QUEUED: Final = "graphmeter.client.queued"
"""Waiting in memory or on disk."""
CLIENT_FAULTS: Final = "graphmeter.client.faults"
CLIENT_OPEN_RUNS: Final = "graphmeter.client.open_runs"

BUDGET_STOPPED: Final = "graphmeter.budget.stopped"
"""On nodes and runs in which a budget guard kept a model call from being made: name of the budget, `run` for the cap of the
run, `unknown` where nobody could tell and the guard fails closed."""

STATE_UPDATE_BYTES: Final = "graphmeter.state.update_bytes"
"""On nodes, with `capture="state"`: size of what the node returned, serialised."""
STATE_BYTES: Final = "graphmeter.state.bytes"
"""On nodes, with `capture="state"`: size of the state that the node was given, serialised."""
STATE_PARTIAL: Final = "graphmeter.state.partial"
"""True where a size of these is a lower bound: the value was too large to measure, or cannot be looked into."""
STATE_KEYS: Final = "graphmeter.state.keys"
"""On nodes, with `capture="state"`: keys of the state that the node wrote (string array)."""
STATE_DIFF: Final = "graphmeter.state.diff"
"""On nodes, with `capture="state_diff"`: JSON text of what the node wrote, redacted and cut to size."""

TRACESTATE: Final = "graphmeter"
"""Key of ours in `tracestate`: what runs inside a measured run carries it, so that other instrumentations' spans of the
same calls are known as twins. The value is one of the two letters below, a colon, and the service's name as 8 hex digits of
BLAKE2b (4 bytes). See `graphmeter.marks`."""
MARK_RUN: Final = "n"
"""Inside a run, outside of its model calls."""
MARK_CALL: Final = "m"
"""Inside a model call that we measure."""
METADATA_MARK: Final = "graphmeter"
"""Key of ours in LangChain's metadata, where another instrumentation of LangChain is loaded; the value is `n:` and the hash.
It says that we measure the run that has it. Others write metadata as attributes: `traceloop.association.properties.…`."""
LANGCHAIN_SCOPES: Final = (
    "openinference.instrumentation.langchain",
    "opentelemetry.instrumentation.langchain",
    "opentelemetry.instrumentation.genai.langchain",
    "langfuse-sdk",
    "langsmith",
    "github.com/grafana/sigil/sdks/python/frameworks",
)
"""How the scopes of instrumentations begin that record LangChain's runs, as we do."""
MIRRORED: Final = "graphmeter.mirrored"
"""On spans that reach the application's own backend by another way, too (boolean): the collector does not forward them."""

RESOURCE_TEAM: Final = "graphmeter.team"
"""Also read from the resource: OTEL_RESOURCE_ATTRIBUTES=graphmeter.team=cx attributes a whole service."""

# --- OpenTelemetry attributes we read or write --------------------------------------------------------------------

SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"
DEPLOYMENT_ENVIRONMENT_OLD: Final = "deployment.environment"
ERROR_TYPE: Final = "error.type"
HTTP_STATUS: Final = "http.response.status_code"
"""On failed model calls: the HTTP status that the provider answered with, if it answered."""
SERVER_ADDRESS: Final = "server.address"
"""On model calls: the host of the base URL that the integration was given; absent where it was given none."""
SERVER_PORT: Final = "server.port"
PEER_SERVICE: Final = "peer.service"
"""On model calls: the provider, which no span of its own will ever stand for. The conventions say `service.peer.name` by
now; what draws traces and maps of services (Jaeger's page, Tempo) looks for this one."""

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds, double."""
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
NODE_NAME: Final = "gen_ai.node.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
DATA_SOURCE_ID: Final = "gen_ai.data_source.id"

USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
"""Inclusive of cached, audio and image input, as the conventions say."""
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
"""Inclusive of reasoning, audio and image output."""
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_AUDIO_INPUT: Final = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT: Final = "gen_ai.usage.audio.output_tokens"
USAGE_IMAGE_INPUT: Final = "gen_ai.usage.image.input_tokens"
USAGE_IMAGE_OUTPUT: Final = "gen_ai.usage.image.output_tokens"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
RETRIEVAL_QUERY: Final = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
CAPTURED: Final = (
    SYSTEM_INSTRUCTIONS,
    INPUT_MESSAGES,
    OUTPUT_MESSAGES,
    TOOL_ARGUMENTS,
    TOOL_RESULT,
    RETRIEVAL_QUERY,
    RETRIEVAL_DOCUMENTS,
    STATE_DIFF,
)
"""Attributes that hold what somebody wrote; there on request only (`capture=`)."""

LANGGRAPH_STEP: Final = "langgraph.step"
LANGGRAPH_CHECKPOINT_NS: Final = "langgraph.checkpoint_ns"
LANGGRAPH_CHECKPOINT_ID: Final = "langgraph.checkpoint_id"

OP_WORKFLOW: Final = "invoke_workflow"
OP_NODE: Final = "invoke_node"
OP_CHAT: Final = "chat"
OP_TEXT: Final = "text_completion"
OP_EMBEDDINGS: Final = "embeddings"
OP_TOOL: Final = "execute_tool"
OP_RETRIEVAL: Final = "retrieval"
OP_RERANK: Final = "rerank"
"""Of a retriever's span that orders what was found."""
OP_START: Final = "graphmeter.run_start"
PIECE_OPERATIONS: Final = (OP_TOOL, OP_RETRIEVAL, OP_RERANK)
"""Of calls that may cost something by the piece; all others on the ledger are model calls."""
NOTE_NAMES: Final = {START: OP_START, **{kind: f"graphmeter.{kind}" for kind in NOTES[1:]}}
"""Span name (and operation) of a note, by kind."""

# --- token buckets: exclusive, so that they may be added -----------------------------------------------------------

TOKEN_TYPES: Final = (
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
"""Buckets of a call's tokens. No token is in two of them; input buckets sum to the provider's input total, output
buckets to its output total. Also the values of the `type` label of `graphmeter_tokens_total`."""
INPUT_TOKEN_TYPES: Final = TOKEN_TYPES[:6]
OUTPUT_TOKEN_TYPES: Final = TOKEN_TYPES[6:]

# --- metrics ------------------------------------------------------------------------------------------------------

PREFIX: Final = "graphmeter_"
OVERFLOW: Final = "other"
"""Label value that stands for everything beyond a label's cap."""
UNATTRIBUTED: Final = "unattributed"
"""Shown where spend names no team, graph or node."""

BASE_LABELS: Final = ("service", "environment", "graph", "team")

RUN_DURATION_BUCKETS: Final = (
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
)
NODE_DURATION_BUCKETS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)
LLM_DURATION_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TTFT_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
RUN_COST_BUCKETS: Final = (
    0.0001,
    0.0005,
    0.001,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
)
RUN_STEPS_BUCKETS: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 100.0)


HUMAN_WAIT_BUCKETS: Final = (
    1.0,
    10.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    4 * 3600.0,
    12 * 3600.0,
    86_400.0,
    2 * 86_400.0,
    4 * 86_400.0,
    7 * 86_400.0,
)
STATE_BYTES_BUCKETS: Final = (
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    5_000_000.0,
    16_777_216.0,
)


class Metric(NamedTuple):
    """One metric family as `/metrics` exposes it.

    `name` is the full family name as written in PromQL without a histogram's suffixes (counters end in `_total`).
    """

    name: str
    type: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(PREFIX + name, "counter", text, (*BASE_LABELS, *labels))


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(PREFIX + name, "histogram", text, (*BASE_LABELS, *labels), buckets)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(PREFIX + name, "gauge", text, labels)


_CALL: Final = ("node", "provider", "model")

RUNS_STARTED = _counter("runs_started_total", "Graph runs whose start was seen.")
RUNS_IN_PROGRESS = _gauge("runs_in_progress", "Graph runs started and not ended, from the database.", *BASE_LABELS)
RUN_OLDEST = _gauge(
    "run_oldest_in_progress_seconds",
    "How long ago the oldest of them started; 0: none is in progress. From the database.",
    *BASE_LABELS,
)
RUNS = _counter("runs_total", "Graph runs ended, by status; lost runs never reported an end.", "status")
RUN_DURATION = _histogram("run_duration_seconds", "Duration of ended graph runs.", RUN_DURATION_BUCKETS)
RUN_COST = _histogram("run_cost_usd", "Cost of a graph run at its end, in USD.", RUN_COST_BUCKETS)
RUN_STEPS = _histogram("run_steps", "LangGraph steps of an ended run.", RUN_STEPS_BUCKETS)
NODE_RUNS = _counter("node_runs_total", "Node executions by status of their final attempt.", "node", "status")
NODE_ATTEMPTS = _counter("node_attempts_total", "Node attempts by status, retries included.", "node", "status")
NODE_DURATION = _histogram("node_duration_seconds", "Duration of node attempts.", NODE_DURATION_BUCKETS, "node")
ERRORS = _counter("errors_total", "Failed spans by node and error type.", "node", "error_type")
LLM_CALLS = _counter("llm_calls_total", "Model calls by status; answers from a cache excluded.", *_CALL, "status")
LLM_DURATION = _histogram("llm_duration_seconds", "Duration of model calls.", LLM_DURATION_BUCKETS, *_CALL)
LLM_TTFT = _histogram("llm_time_to_first_token_seconds", "Time to the first streamed chunk.", TTFT_BUCKETS, *_CALL)
TOKENS = _counter("tokens_total", "Tokens by exclusive bucket.", *_CALL, "type")
COST = _counter(
    "cost_usd_total",
    "Cost of model calls as billed, in USD; of tools that have a price, with their name as model.",
    *_CALL,
)
WASTED_COST = _counter(
    "wasted_cost_usd_total",
    "Part of the cost that was for nothing: calls that failed or were cancelled, alone or with the attempt of their node "
    "(error, cancelled), or whose attempt was followed by another one (retry). As first known: reports are corrected, this "
    "is not.",
    "node",
    "reason",
)
SAVED_COST = _counter("saved_cost_usd_total", "Cost that cached answers avoided, in USD.")
LLM_CACHE_HITS = _counter("llm_cache_hits_total", "Model calls answered by a cache.", *_CALL)
UNPRICED_CALLS = _counter("unpriced_calls_total", "Model calls without a known price.", "provider", "model")
USAGE_MISSING_CALLS = _counter("usage_missing_total", "Model calls that reported no usage.", "provider", "model")
TOOL_CALLS = _counter("tool_calls_total", "Tool calls by status.", "node", "tool", "status")
INTERRUPTS = _counter("interrupts_total", "Node attempts that ended in an interrupt.", "node")

RUNS_WAITING = _gauge(
    "runs_waiting", "Interrupted runs that nobody has answered for 30 days at most, from the database.", *BASE_LABELS
)
HUMAN_WAIT_OLDEST = _gauge(
    "human_wait_oldest_seconds",
    "How long the one of them that waits longest has waited; 0: none waits. From the database.",
    *BASE_LABELS,
)
RELEASE_SEEN = _gauge(
    "release_first_seen_timestamp_seconds",
    "When the first run of a release began, from the database; of the releases that came last.",
    "service",
    "environment",
    "release",
)
HUMAN_WAIT = _histogram("human_wait_seconds", "From an interrupt to its answer.", HUMAN_WAIT_BUCKETS)
RATE_LIMITED_CALLS = _counter(
    "rate_limited_total", "Model calls refused for the provider's rate limits.", "provider", "model"
)
OUTCOMES = _counter(
    "outcomes_total",
    "Outcomes that applications told; good: true, false, unknown.",
    "kind",
    "good",
)
STATE_SIZE = _histogram(
    "state_bytes", "Size of the state a node was given, where clients capture it.", STATE_BYTES_BUCKETS, "node"
)
CLIENT_SPANS = Metric(
    PREFIX + "client_spans_total",
    "counter",
    "What became of the spans of client processes, as they report it: exported, dropped unsent, failed.",
    ("service", "environment", "state"),
)

# `scope` is the rest of what the budget is divided by, `graph=support,tenant=acme`. Users, sessions and threads are not
# told: of them the one that used most stands for all.
_BUDGET: Final = ("budget", "team", "scope")
BUDGET_SPENT = _gauge("budget_spent_usd", "Spend in the budget's current period, from the ledger.", *_BUDGET)
BUDGET_LIMIT = _gauge("budget_limit_usd", "Limit of the budget.", *_BUDGET)
BUDGET_SPENT_TOKENS = _gauge("budget_spent_tokens", "The same of a budget in tokens.", *_BUDGET)
BUDGET_LIMIT_TOKENS = _gauge("budget_limit_tokens", "Limit of a budget in tokens.", *_BUDGET)
BUDGET_RESERVED = _gauge("budget_reserved_usd", "What calls under way have reserved of it (strict guards).", *_BUDGET)
BUDGET_RESERVED_TOKENS = _gauge("budget_reserved_tokens", "The same of a budget in tokens.", *_BUDGET)
BUDGET_FORECAST = _gauge(
    "budget_forecast_ratio", "Spend at the end of the period, if it goes on as now, as a share of the limit.", *_BUDGET
)
BUDGET_START = _gauge("budget_period_start_timestamp_seconds", "Start of the budget's current period.", *_BUDGET)
BUDGET_END = _gauge("budget_period_end_timestamp_seconds", "End of the budget's current period.", *_BUDGET)
BUDGET_COST = Metric(PREFIX + "budget_cost_usd_total", "counter", "Cost counted against the budget, in USD.", _BUDGET)
SLO_BUDGET_REMAINING = _gauge(
    "slo_error_budget_remaining_ratio",
    "Share of the error budget left, from the database; negative when overspent.",
    "slo",
    "graph",
)

COLLECTOR_RECEIVED = Metric(PREFIX + "collector_spans_received_total", "counter", "Spans in accepted requests.", ())
COLLECTOR_STORED = Metric(PREFIX + "collector_spans_stored_total", "counter", "Spans committed.", ())
COLLECTOR_SETTLED = Metric(
    PREFIX + "collector_spans_settled_total",
    "counter",
    "Foreign spans counted after they were stored: by their ancestors, or without those after a timeout.",
    ("by",),
)
COLLECTOR_UNSETTLED = Metric(
    PREFIX + "collector_unsettled_spans", "gauge", "Foreign spans that wait for their ancestors, from the database.", ()
)
COLLECTOR_UNSETTLED_AGE = Metric(
    PREFIX + "collector_unsettled_age_seconds", "gauge", "How long the oldest of them has waited.", ()
)
COLLECTOR_DUPLICATE = Metric(
    PREFIX + "collector_spans_duplicate_total", "counter", "Spans that were stored already.", ()
)
COLLECTOR_REJECTED = Metric(
    PREFIX + "collector_spans_rejected_total", "counter", "Spans refused, by reason.", ("reason",)
)
COLLECTOR_REPAIRED = Metric(
    PREFIX + "collector_values_repaired_total",
    "counter",
    "Values of accepted spans that were cut, clamped or replaced, by reason.",
    ("reason",),
)
COLLECTOR_REQUESTS_REFUSED = Metric(
    PREFIX + "collector_requests_refused_total", "counter", "Requests refused whole, by reason.", ("reason",)
)
COLLECTOR_REQUESTS = Metric(
    PREFIX + "collector_requests_total", "counter", "Requests for traces acknowledged, by protocol.", ("protocol",)
)
HTTP_PROTOBUF: Final = "http/protobuf"
HTTP_JSON: Final = "http/json"
GRPC: Final = "grpc"
"""Protocols, as OTEL_EXPORTER_OTLP_PROTOCOL names them."""
COLLECTOR_PASSED = Metric(
    PREFIX + "collector_signals_passed_total",
    "counter",
    "Log and metric requests acknowledged, by signal.",
    ("signal",),
)
COLLECTOR_COMMIT = Metric(
    PREFIX + "collector_commit_seconds",
    "histogram",
    "Duration of store transactions.",
    (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
COLLECTOR_QUEUE = Metric(PREFIX + "collector_queue_spans", "gauge", "Spans waiting for a commit.", ())
COLLECTOR_DATABASE_AWAY = Metric(
    PREFIX + "collector_database_away", "gauge", "1 while requests go to the spool instead of the database.", ()
)
COLLECTOR_SPOOL_BYTES = Metric(PREFIX + "collector_spool_bytes", "gauge", "Bytes waiting on disk for the database.", ())
COLLECTOR_SPOOL_LIMIT = Metric(PREFIX + "collector_spool_limit_bytes", "gauge", "What may wait on disk.", ())
COLLECTOR_SPOOL_OLDEST = Metric(
    PREFIX + "collector_spool_oldest_seconds", "gauge", "Age of what has waited longest on disk; 0: nothing waits.", ()
)
COLLECTOR_SPOOLED = Metric(
    PREFIX + "collector_spans_spooled_total", "counter", "Spans acknowledged from disk, the database being away.", ()
)
COLLECTOR_REPLAYED = Metric(
    PREFIX + "collector_spans_replayed_total", "counter", "Spans brought from disk to the database.", ()
)
COLLECTOR_REPLAYING = Metric(
    PREFIX + "collector_replaying", "gauge", "1 while counters move for what happened earlier: spans are replayed.", ()
)
COLLECTOR_SPOOL_DAMAGED = Metric(
    PREFIX + "collector_spool_damaged_bytes_total",
    "counter",
    "Bytes on disk that were no intact request, by reason: damaged, or torn at the end of a file.",
    ("reason",),
)
COLLECTOR_FORWARDED = Metric(
    PREFIX + "collector_spans_forwarded_total", "counter", "Spans forwarded, by destination.", ("destination",)
)
COLLECTOR_FORWARD_FAILED = Metric(
    PREFIX + "collector_forward_failures_total", "counter", "Failed forward requests, by destination.", ("destination",)
)
COLLECTOR_FORWARD_DROPPED = Metric(
    PREFIX + "collector_forward_dropped_total",
    "counter",
    "Spans that a destination refused for good, or was away for too long to get.",
    ("destination", "reason"),
)
FORWARD_REFUSED: Final = "refused"
FORWARD_EXPIRED: Final = "expired"
"""Why spans are not forwarded: the destination refused them for good, or was away for longer than their bytes are kept."""
COLLECTOR_OUTBOX = Metric(
    PREFIX + "collector_outbox_spans", "gauge", "Committed spans not yet forwarded.", ("destination",)
)
COLLECTOR_OUTBOX_AGE = Metric(
    PREFIX + "collector_outbox_age_seconds", "gauge", "Age of the oldest span not yet forwarded.", ("destination",)
)
COLLECTOR_TRACE_DECISIONS = Metric(
    PREFIX + "collector_trace_decisions_total",
    "counter",
    "Traces judged by sampling, by rule and reason: sampled_out are not forwarded, all others are.",
    ("rule", "reason"),
)
COLLECTOR_SAMPLED_OUT = Metric(
    PREFIX + "collector_spans_sampled_out_total", "counter", "Spans not forwarded: their traces are sampled out.", ()
)
COLLECTOR_TABLE_BYTES = Metric(
    PREFIX + "collector_table_bytes", "gauge", "Bytes that a table takes in the database, indexes included.", ("table",)
)
COLLECTOR_BYTES_PER_RUN = Metric(
    PREFIX + "collector_bytes_per_run",
    "gauge",
    "Bytes that a table takes for each ended run of which it still holds something.",
    ("table",),
)
COLLECTOR_NOTIFICATIONS = Metric(
    PREFIX + "collector_notifications_total",
    "counter",
    "Attempts to tell receivers something: delivered, failed (tried again), given up.",
    ("receiver", "result"),
)
NOTIFIED: Final = "delivered"
NOTIFY_FAILED: Final = "failed"
NOTIFY_GIVEN_UP: Final = "given_up"
NOTIFY_RESULTS: Final = (NOTIFIED, NOTIFY_FAILED, NOTIFY_GIVEN_UP)
COLLECTOR_NOTIFICATIONS_WAITING = Metric(
    PREFIX + "collector_notifications_waiting",
    "gauge",
    "What receivers are still to be told, from the database.",
    ("receiver",),
)
COLLECTOR_LABEL_OVERFLOW = Metric(
    PREFIX + "collector_label_overflow_total",
    "counter",
    "Events counted under `other`: the label was full.",
    ("label",),
)
COLLECTOR_BUDGET_EVENTS = Metric(
    PREFIX + "collector_budget_events_total",
    "counter",
    "Thresholds of budgets that were crossed, each once per scope and period.",
    ("budget", "threshold"),
)
GRANTED: Final = "granted"
REFUSED: Final = "refused"
COLLECTOR_RESERVATIONS = Metric(
    PREFIX + "collector_budget_reservations_total",
    "counter",
    "Asks of strict budgets, by what was decided: granted or refused.",
    ("budget", "outcome"),
)
COLLECTOR_JOB_FAILURES = Metric(PREFIX + "collector_job_failures_total", "counter", "Failed runs of a job.", ("job",))
COLLECTOR_CONFIG = Metric(PREFIX + "collector_config_info", "gauge", "Hash of the configuration in force.", ("hash",))
COLLECTOR_RULES = Metric(
    PREFIX + "collector_rules_info",
    "gauge",
    "Hash of that part of it which rules are made from: SLOs, budgets, alerts.",
    ("hash",),
)
COLLECTOR_BUILD = Metric(PREFIX + "collector_build_info", "gauge", "Version of the collector.", ("version",))

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric family, in order of definition."""
