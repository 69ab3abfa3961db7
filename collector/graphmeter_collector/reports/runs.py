"""What ran: runs, spans, nodes, the shapes of graphs, and the clients that tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphmeter_collector.records import Wasted


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs; empty and zero fields do not restrict. Newest first."""

    graph: str = ""
    status: str = ""
    team: str = ""
    min_cost_nano: int = 0
    min_duration_ns: int = 0
    since_ns: int = 0
    until_ns: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """How a run turned out, said once."""

    kind: str
    good: bool | None
    """None: not judged."""
    value: float | None
    at_ns: int


@dataclass(frozen=True, slots=True)
class WaitRow:
    """What became of an interrupted run's question."""

    since_ns: int
    until_ns: int | None
    """Start of the thread's next run; None: somebody is still waited for."""
    next_run_id: str
    resumed: bool | None
    """Whether that run answered; False: it had new input. None: there is none, or it has not ended."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One graph run."""

    trace_id: str
    run_id: str
    service: str
    environment: str
    graph: str
    team: str
    tenant: str
    release: str
    thread_id: str
    user_id: str
    session_id: str
    tags: dict[str, str]
    """Those that were given by run id afterwards included."""
    status: str
    error_type: str
    status_message: str
    started_ns: int
    ended_ns: int | None
    duration_ns: int | None
    steps: int
    spans: int
    node_attempts: int
    node_errors: int
    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost_nano: int
    unpriced_calls: int
    checkpoint_id: str = ""
    """Where it paused."""
    resumed_from: str = ""
    """Checkpoint that it goes on from."""
    resumed_run_id: str = ""
    """Run that it resumes."""
    resumed_after_ns: int | None = None
    """How long that one had waited."""
    wait: WaitRow | None = None
    """Of an interrupted run of a thread."""
    outcomes: tuple[OutcomeRow, ...] = ()


@dataclass(frozen=True, slots=True)
class TopologyRow:
    """One shape that a graph had."""

    service: str
    environment: str
    graph: str
    hash: str
    topology: dict[str, Any]
    """`{"nodes": ["plan", …], "edges": [["plan", "search", false], …]}`: source, target, whether conditional."""
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class ClientRow:
    """What became of the spans of one client process, as its newest report says."""

    client_id: str
    service: str
    environment: str
    sequence: int
    exported: int
    dropped: int
    """Discarded unsent: its queue was full."""
    failed: int
    """Refused by the collector, or given up."""
    queued: int
    faults: int
    """Errors of Graphmeter's own that were kept away from the application."""
    open_runs: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One span of a trace view."""

    trace_id: str
    span_id: str
    parent_id: str
    run_id: str
    kind: str
    name: str
    service: str
    graph: str
    team: str
    node: str
    start_ns: int
    duration_ns: int
    status: str
    error_type: str
    status_message: str
    step: int
    attempt: int
    attempt_final: bool
    provider: str
    model: str
    tool: str
    input_tokens: int
    output_tokens: int
    cost_nano: int | None
    ttft_ns: int
    cache_hit: bool
    reported_nano: int | None = None
    """What the provider said that it cost, beside `cost_nano`; None where it did not say."""
    settled: bool = True
    """False on a span of another instrumentation that waits for its ancestors: it is not counted yet."""


@dataclass(frozen=True, slots=True)
class ContentRow:
    """What was captured of one span."""

    span_id: str
    attributes: dict[str, str]
    """Of `names.CAPTURED`, as they were sent: most are JSON text."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node over a time range. Latency is that of attempts."""

    service: str
    environment: str
    graph: str
    node: str
    runs: int
    """Executions: final attempts."""
    attempts: int
    errors: int
    """Executions whose final attempt failed."""
    p50_ns: int
    p95_ns: int
    p99_ns: int
    percentile_error: float
    """Largest relative error of the three: 0.0 where every attempt was looked at (ranges up to a day)."""
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class RunCount:
    """How many runs that started in a time range have a status now."""

    service: str
    environment: str
    graph: str
    team: str
    status: str
    count: int


@dataclass(frozen=True, slots=True)
class Series:
    """A combination of dimensions seen before; metrics are pre-created from these at start."""

    service: str
    environment: str
    graph: str
    team: str
    node: str
    kind: str
    provider: str
    model: str


class Unended(NamedTuple):
    """What has begun and is not over."""

    runs: int
    oldest_ns: int
    """When the oldest of them began."""


@dataclass(frozen=True, slots=True)
class LostRun:
    """A run the sweep gave up on; enough to count it."""

    service: str
    environment: str
    graph: str
    team: str
    run_id: str
    wasted: Sequence[Wasted] = ()
    """Calls that were for nothing because of it."""
