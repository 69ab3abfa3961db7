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
from graphmeter_collector.store.facts import PIECES, Row, is_paid_piece, tags_json
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
            run = _run_of(runs, root)
            if not run.root_seen:
                _settle(run, root)
    for record in records:
        if not record.run_id:
            continue
        kind = record.kind
        run = _run_of(runs, record)
        counted = kind == names.MODEL and not record.cache_hit and not (billed and record.key in billed)
        _add(run, record)
        if counted:
            _add_call(run, record)
            run.unpriced_calls += record.cost is None or record.cost.status == "unpriced"
            if record.status == names.CANCELLED:
                run.cancelled_calls += is_undecided(record)
        if record.node and (counted or kind == names.NODE or is_paid_piece(record)):
            node_key = (record.trace_id, record.run_id, record.node)
            node = nodes.get(node_key)
            if node is None:
                node = nodes[node_key] = RunNode(*node_key)
            _add_to_node(node, record)
            if counted:
                _add_call(node, record)
    return [_run_row(runs[key]) for key in sorted(runs)], [_run_node_row(nodes[key]) for key in sorted(nodes)]


def _run_of(runs: dict[tuple[bytes, str], Run], record: SpanRecord) -> Run:
    key = (record.trace_id, record.run_id)
    run = runs.get(key)
    if run is None:
        run = runs[key] = Run(*key)
    return run


def _add(run: Run, record: SpanRecord) -> None:
    kind = record.kind
    ended_ns = record.start_ns + record.duration_ns
    if ended_ns > run.last_seen_ns:
        run.last_seen_ns = ended_ns
    if record.heartbeat_ns > run.heartbeat_ns:
        run.heartbeat_ns = record.heartbeat_ns
    if not run.root_seen:
        _guess(run, record)
    if kind in _SIGNS_OF_LIFE:
        return
    run.spans += 1
    if kind == names.NODE:
        run.node_attempts += 1
        if record.status != names.OK or not record.attempt_final:
            run.node_errors += record.status == names.ERROR
            run.bad_attempts += is_bad_attempt(record)
    elif kind in PIECES:
        run.tool_calls += kind == names.TOOL
        if record.cost is not None:
            run.cost_nano += record.cost.total_nano
            run.cancelled_calls += is_undecided(record)


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


def _add_call(to: Run | RunNode, record: SpanRecord) -> None:
    usage, cost = record.usage, record.cost
    to.model_calls += 1
    to.input_tokens += usage.total_input
    to.output_tokens += usage.total_output
    if cost is not None:
        to.cost_nano += cost.total_nano


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


def _add_to_node(node: RunNode, record: SpanRecord) -> None:
    start_ns, duration_ns = record.start_ns, record.duration_ns
    if start_ns < node.first_ns:
        node.first_ns = start_ns
    if start_ns + duration_ns > node.last_ns:
        node.last_ns = start_ns + duration_ns
    if record.kind == names.NODE:
        node.attempts += 1
        node.duration_ns += duration_ns
        if record.status == names.ERROR:
            node.errors += 1
    elif record.kind in PIECES and record.cost is not None:
        node.cost_nano += record.cost.total_nano


_run_row: Callable[[Run], Row] = attrgetter(*[each.name for each in fields(Run)])
_run_node_row: Callable[[RunNode], Row] = attrgetter(*[each.name for each in fields(RunNode)])
