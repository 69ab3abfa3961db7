"""New spans in, what they add to their runs out. `facts` for the two tables `run` and `run_node`.

Any span of a run makes a stub of it. Until the root is seen, attribution is the greatest said by any span (a span knows
less than the root at most, so the greatest is the only one said), and the start is the earliest; the root then settles both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from graphmeter import names
from graphmeter_collector.records import SpanKey, SpanRecord
from graphmeter_collector.store.facts import PIECES, Row, tags_json
from graphmeter_collector.store.waste import is_bad_attempt, is_undecided

_SIGNS_OF_LIFE = (names.START, names.HEARTBEAT)
MISSED_HEARTBEATS = 10
"""Heartbeats in a row that may be missed: a collector may be away for a few, a process that has gone misses all."""
LOST_AT_ONCE = 1_000
"""Runs that one transaction gives up on: it judges their calls, and on SQLite ingest waits for it."""
ATTRIBUTION = ("service", "environment", "graph", "team", "tenant", "release", "thread_id", "user_id", "session_id")
RUN_SUMS = (
    "spans",
    "node_attempts",
    "node_errors",
    "model_calls",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost_nano",
    "unpriced_calls",
    "bad_attempts",
    "cancelled_calls",
)
RUN_NODE_SUMS = ("attempts", "errors", "duration_ns", "model_calls", "input_tokens", "output_tokens", "cost_nano")


@dataclass(slots=True)
class Run:
    """What one transaction adds to one run; fields are the columns of `run`, in their order."""

    trace_id: bytes
    run_id: str
    service: str = ""
    environment: str = ""
    graph: str = ""
    team: str = ""
    tenant: str = ""
    release: str = ""
    thread_id: str = ""
    user_id: str = ""
    session_id: str = ""
    tags: str = "{}"
    status: str = names.RUNNING
    error_type: str = ""
    status_message: str = ""
    root_seen: bool = False
    started_ns: int = 1 << 63
    ended_ns: int | None = None
    last_seen_ns: int = 0
    duration_ns: int | None = None
    steps: int = 0
    """LangGraph steps of this run, as its root says. Until that is seen, the highest of a node of the graph itself (a
    subgraph counts steps of its own), which on a thread that ran before includes the steps of earlier runs."""
    spans: int = 0
    """Notes excluded."""
    node_attempts: int = 0
    node_errors: int = 0
    """Attempts that failed, retried or not."""
    model_calls: int = 0
    """Answers from a cache, and calls that were billed under another span, excluded: here, in tokens and in cost."""
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0
    unpriced_calls: int = 0
    checkpoint_id: str = ""
    resumed_from: str = ""
    resumed_run_id: str = ""
    heartbeat_ns: int = 0
    bad_attempts: int = 0
    cancelled_calls: int = 0
    was_lost: bool = False


@dataclass(slots=True)
class RunNode:
    """What one transaction adds to one node of a run; fields are the columns of `run_node`, in their order."""

    trace_id: bytes
    run_id: str
    node: str
    first_ns: int = 1 << 63
    last_ns: int = 0
    attempts: int = 0
    errors: int = 0
    duration_ns: int = 0
    model_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0


def heartbeats(notes: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Those of the notes that are signs of life."""
    return [note for note in notes if note.kind == names.HEARTBEAT]


def changes(records: Sequence[SpanRecord], billed: Collection[SpanKey] = ()) -> tuple[list[Row], list[Row]]:
    """Rows to merge into `run` and into `run_node`, each sorted by key.

    `billed` are calls that the ledger had already: they bring a span, and neither tokens nor cost.
    """
    runs: dict[tuple[bytes, str], Run] = {}
    nodes: dict[tuple[bytes, str, str], RunNode] = {}
    # Roots first: what a root settles need not be looked for on all other spans of its run.
    for root in [record for record in records if record.kind == names.RUN]:
        if root.run_id:
            whole = _run_of(runs, root)
            if not whole.root_seen:
                _settle(whole, root)
    trace_id, run_id = b"", ""
    run: Run | None = None
    for record in records:
        # Sorted by key, so that the one before is mostly of the same run.
        if record.run_id != run_id or record.trace_id != trace_id:
            trace_id, run_id = record.trace_id, record.run_id
            run = _run_of(runs, record) if run_id else None
        if run is None:
            continue
        kind = record.kind
        ended_ns = record.start_ns + record.duration_ns
        if ended_ns > run.last_seen_ns:
            run.last_seen_ns = ended_ns
        if not run.root_seen:
            _guess(run, record)
        if kind in _SIGNS_OF_LIFE:
            if record.heartbeat_ns > run.heartbeat_ns:
                run.heartbeat_ns = record.heartbeat_ns
            continue
        run.spans += 1
        if kind == names.NODE:
            run.node_attempts += 1
            if record.status != names.OK or not record.attempt_final:
                run.node_errors += record.status == names.ERROR
                run.bad_attempts += is_bad_attempt(record)
            if record.node:
                _add_attempt(_node_of(nodes, record), record)
        elif kind == names.MODEL:
            if not (record.cache_hit or (billed and record.key in billed)):
                run.unpriced_calls += record.cost is None or record.cost.status == "unpriced"
                if record.status == names.CANCELLED:
                    run.cancelled_calls += is_undecided(record)
                _add_call(record, run, _node_of(nodes, record) if record.node else None)
        elif kind in PIECES:
            run.tool_calls += kind == names.TOOL
            if record.cost is not None:
                run.cost_nano += record.cost.total_nano
                run.cancelled_calls += is_undecided(record)
                if record.node:
                    node = _node_of(nodes, record)
                    _widen(node, record)
                    node.cost_nano += record.cost.total_nano
    return [_run_row(runs[key]) for key in sorted(runs)], [_run_node_row(nodes[key]) for key in sorted(nodes)]


def _run_of(runs: dict[tuple[bytes, str], Run], record: SpanRecord) -> Run:
    key = (record.trace_id, record.run_id)
    run = runs.get(key)
    if run is None:
        run = runs[key] = Run(*key)
    return run


def _node_of(nodes: dict[tuple[bytes, str, str], RunNode], record: SpanRecord) -> RunNode:
    key = (record.trace_id, record.run_id, record.node)
    node = nodes.get(key)
    if node is None:
        node = nodes[key] = RunNode(*key)
    return node


def _guess(run: Run, record: SpanRecord) -> None:
    """What holds of a run until its root says better."""
    for column in ATTRIBUTION:
        said = getattr(record, column)
        if said > getattr(run, column):
            setattr(run, column, said)
    run.tags = greatest_tags(run.tags, tags_json(record))
    run.started_ns = min(run.started_ns, record.start_ns)
    if record.kind == names.NODE and "." not in record.node:
        run.steps = max(run.steps, record.step)


def _add_call(record: SpanRecord, run: Run, node: RunNode | None) -> None:
    usage, cost = record.usage, record.cost
    input_tokens, output_tokens = usage.total_input, usage.total_output
    nano = cost.total_nano if cost is not None else 0
    run.model_calls += 1
    run.input_tokens += input_tokens
    run.output_tokens += output_tokens
    run.cost_nano += nano
    if node is not None:
        _widen(node, record)
        node.model_calls += 1
        node.input_tokens += input_tokens
        node.output_tokens += output_tokens
        node.cost_nano += nano


def _settle(run: Run, root: SpanRecord) -> None:
    for column in ATTRIBUTION:
        setattr(run, column, getattr(root, column))
    run.tags = tags_json(root)
    run.status = root.status
    run.error_type = root.error_type
    run.status_message = root.status_message
    run.root_seen = True
    run.started_ns = root.start_ns
    run.ended_ns = root.start_ns + root.duration_ns
    run.duration_ns = root.duration_ns
    run.steps = root.step
    run.checkpoint_id = root.checkpoint_id
    run.resumed_from = root.resumed_from
    run.resumed_run_id = root.resumed_run_id


def greatest_tags(left: str, right: str) -> str:
    """The greater of two JSON texts. No tags are the least, though `{}` sorts after every filled object."""
    return max((left, right), key=lambda text: "" if text == "{}" else text)


def _add_attempt(node: RunNode, record: SpanRecord) -> None:
    _widen(node, record)
    node.attempts += 1
    node.duration_ns += record.duration_ns
    if record.status == names.ERROR:
        node.errors += 1


def _widen(node: RunNode, record: SpanRecord) -> None:
    start_ns, ended_ns = record.start_ns, record.start_ns + record.duration_ns
    if start_ns < node.first_ns:
        node.first_ns = start_ns
    if ended_ns > node.last_ns:
        node.last_ns = ended_ns


_run_row: Callable[[Run], Row] = attrgetter(*[each.name for each in fields(Run)])
_run_node_row: Callable[[RunNode], Row] = attrgetter(*[each.name for each in fields(RunNode)])
