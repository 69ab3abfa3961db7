"""Open runs: LangChain run ids in, finished `Run` records out to a sink, exactly one each, however the run ends.

State is kept per process, not per handler, so two handlers that see the same run (one in the config, one from
`instrument()`) make one span between them. Single dict operations are atomic, hence no lock on the hot path.
"""

from __future__ import annotations

from time import perf_counter_ns, time_ns
from traceback import StackSummary
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, TraceFlags, TraceState

from graphmeter import context, names

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span as SdkSpan

CHAIN: Final = "chain"
"""A runnable that is nothing of ours: router, prompt, parser, sequence, hidden run. No span; children skip over it. It
turns into a graph when it turns out to have nodes (see `graphmeter.langgraph`)."""

Value = str | bool | int | float
"""What an attribute may hold."""

_MOST_STRAYS: Final = 10_000
_STRAY_PATIENCE_NS: Final = 600 * 1_000_000_000
"""How long a model call may outlive its graph before it is given up: 10 minutes, beyond any provider's own timeout."""


class Failure(NamedTuple):
    """What went wrong, without keeping the exception (and with it every frame's variables) alive."""

    type: str
    message: str
    frames: StackSummary | None = None


class Sink(Protocol):
    """Where spans go: our own pipeline, or a tracer provider that the user chose."""

    def open(self, run: Run, kind: str) -> SpanContext:
        """Give `run` its identity; `kind` is what it is about to become."""

    def close(self, run: Run) -> None:
        """Take the finished `run`. Must not raise."""


class Tree:
    """What the runs of one graph run share. `run_id` is empty for runs outside any graph."""

    __slots__ = (
        "debug",
        "finished",
        "flags",
        "graph",
        "offset_ns",
        "outer",
        "run_id",
        "shared",
        "sink",
        "state",
        "steps",
        "trace_id",
        "unnamed",
    )

    def __init__(
        self,
        run_id: str,
        graph: str,
        shared: dict[str, Value],
        sink: Sink,
        trace_id: int,
        outer: SpanContext | None,
        flags: TraceFlags,
        state: TraceState,
        *,
        debug: bool = False,
        unnamed: str = "",
    ) -> None:
        self.run_id = run_id
        self.graph = graph
        """Empty: named after the service."""
        self.shared = shared
        """Attributes of every span of the run."""
        self.sink = sink
        self.trace_id = trace_id
        self.outer = outer
        """The application's span around the run."""
        self.flags = flags
        """The application's sampling decision, for its own spans inside ours."""
        self.state = state
        self.steps = 0
        self.unnamed = unnamed
        """What a graph inside is called that has no name of its own."""
        self.debug = debug
        self.finished: list[Run] = []
        """For `graphmeter.debug`, which prints them when the root has ended."""
        # One clock reading per tree: durations stay monotonic when the wall clock is set.
        self.offset_ns = time_ns() - perf_counter_ns()


class Run:
    """One LangChain run that is or may become a span."""

    __slots__ = (
        "attempt",
        "checkpoint_id",
        "context",
        "ended_ns",
        "facts",
        "failure",
        "final",
        "first_ns",
        "held",
        "inside",
        "interrupted",
        "kind",
        "links",
        "name",
        "node",
        "ns",
        "open",
        "outside",
        "parent",
        "parent_context",
        "proxy",
        "resumed_from",
        "run_id",
        "sdk_span",
        "started_ns",
        "status",
        "step",
        "task",
        "tree",
    )

    context: SpanContext

    def __init__(self, kind: str, name: str, run_id: UUID, parent: Run | None, tree: Tree, ns: str) -> None:
        self.kind = kind
        self.name = name
        """Name of graph, node, model, tool or retriever."""
        self.run_id = run_id
        self.parent = parent
        self.tree = tree
        self.ns = ns
        """LangGraph's checkpoint namespace; a change of it marks a node."""
        self.node: str = "" if parent is None else parent.node
        """Path of node names."""
        self.task: Run | None = None if parent is None else parent.task
        """The enclosing node attempt, itself for a node."""
        self.step = 0
        self.attempt = 1
        self.final = True
        self.interrupted = False
        self.checkpoint_id = ""
        self.resumed_from = ""
        self.links: list[SpanContext] | None = None
        self.facts: dict[str, Value | list[str]] | None = None
        """Attributes of this run alone, beyond those made from the fields here."""
        self.status = names.OK
        self.failure: Failure | None = None
        self.first_ns = 0
        """When the first chunk of a streamed answer arrived."""
        self.open: dict[UUID, Run] = {}
        """Children that have not ended."""
        self.held: dict[str, Run] = {}
        """Failed attempts of nodes, by namespace, until it is known whether another attempt follows."""
        self.parent_context: SpanContext | None = None
        self.proxy: context.CurrentSpan | None = None
        self.inside: Context | None = None
        self.outside: Context | None = None
        self.sdk_span: SdkSpan | Span | None = None
        self.started_ns = perf_counter_ns() + tree.offset_ns
        self.ended_ns = 0


RUNS: dict[UUID, Run] = {}
"""Every open run of the process."""
_STRAYS: dict[UUID, Run] = {}
"""Runs whose end nobody above them will report if it does not come, oldest first: calls outside of any chain, and model
calls that outlive their graph. They may still answer, and then have to be billed; cancelled ones never do."""


def now_ns(run: Run) -> int:
    """Now, on the clock of the tree of `run`."""
    return perf_counter_ns() + run.tree.offset_ns


def span_id_of(run_id: UUID) -> int:
    """Our span id of a LangChain run: its two halves folded into one, never 0 (which is no span id)."""
    number = run_id.int
    return ((number >> 64) ^ (number & 0xFFFF_FFFF_FFFF_FFFF)) or 1


def trace_id_of(run_id: UUID) -> int:
    """Trace id of a run that no application span surrounds: the run id, with its variant bits stirred.

    The two constant variant bits of a UUID are the highest of the low 64 bits, which is where ratio samplers look: kept as
    they are, a 10 % sampler downstream would never sample, a 75 % one always. Two random bits are folded onto them.
    """
    number = run_id.int
    return number ^ ((number & 3) << 62)


def anchor(run: Run | None) -> Run | None:
    """`run`, or its nearest ancestor that is a span."""
    while run is not None and run.kind is CHAIN:
        run = run.parent
    return run


def begin(run: Run) -> None:
    """Register `run` as open and, if it is a span, make it current. Call once per run id."""
    parent = run.parent
    if run.kind is not CHAIN:
        here, span = context.current()
        top = anchor(parent)
        if top is None:
            run.parent_context = run.tree.outer
        elif context.opened_inside(here, span, top):
            run.parent_context = span.get_span_context()
        else:
            run.parent_context = top.context
        run.context = run.tree.sink.open(run, run.kind)
        context.enter(run, here, span)
    RUNS[run.run_id] = run
    if parent is not None:
        parent.open[run.run_id] = run
    elif run.kind is not CHAIN and run.kind is not names.RUN:
        _STRAYS[run.run_id] = run
        _give_up_strays()


def finish(run_id: UUID, status: str = names.OK, failure: Failure | None = None) -> None:
    """End an open run: close what cannot end any more, hold a failed attempt, hand the rest to the sink.

    Unknown ids (ended already, by another handler or a sweep) are ignored.
    """
    run = RUNS.pop(run_id, None)
    if run is None:
        return
    if _STRAYS:
        _STRAYS.pop(run_id, None)
    run.ended_ns = now_ns(run)
    parent = run.parent
    if parent is not None:
        parent.open.pop(run_id, None)
    kind = run.kind
    if run.open and (status is names.CANCELLED or kind is names.RUN or parent is None):
        _sweep(run, keep_models=status is not names.CANCELLED)
    if run.held:
        _release(run, failure)
    if kind is CHAIN:
        return
    if run.interrupted and status is names.OK and kind in (names.RUN, names.SUBGRAPH):
        status = names.INTERRUPTED
    run.status = status
    run.failure = failure
    context.leave(run)
    if kind is names.NODE and parent is not None:
        if status is names.INTERRUPTED:
            parent.interrupted = True
        elif status is not names.OK:
            parent.held[run.ns] = run
            return
    run.tree.sink.close(run)


def succeed(parent: Run, attempt: Run) -> None:
    """Number `attempt`; if it follows a failed one of the same task, that one was not final."""
    before = parent.held.pop(attempt.ns, None)
    if before is not None:
        before.final = False
        attempt.attempt = before.attempt + 1
        before.tree.sink.close(before)


def _release(parent: Run, failure: Failure | None) -> None:
    """`parent` ends: no attempt of its nodes follows any more."""
    for attempt in parent.held.copy().values():
        parent.held.pop(attempt.ns, None)
        # A node that runs into its time limit is told "cancelled"; only the graph learns the reason.
        if failure is not None and attempt.status is names.CANCELLED and failure.type.endswith(".NodeTimeoutError"):
            attempt.status = names.ERROR
            attempt.failure = failure
        attempt.tree.sink.close(attempt)


def _sweep(run: Run, *, keep_models: bool) -> None:
    """End the open descendants of `run`: their own end will not come (a cancelled call reports none).

    `keep_models`: a model call may outlive its graph in a thread or task of its own; its answer costs money and is waited
    for, within bounds.
    """
    for child_id, child in run.open.copy().items():
        if child.open:
            _sweep(child, keep_models=keep_models)
        if keep_models and child.kind is names.MODEL:
            run.open.pop(child_id, None)
            _STRAYS[child_id] = child
        else:
            finish(child_id, names.CANCELLED)
    if _STRAYS:
        _give_up_strays()


def _give_up_strays() -> None:
    """Close the oldest strays, beyond number or patience."""
    while True:
        try:
            run = next(iter(_STRAYS.values()))
        except (StopIteration, RuntimeError):  # none, or another thread is at it
            return
        if len(_STRAYS) <= _MOST_STRAYS and now_ns(run) - run.started_ns <= _STRAY_PATIENCE_NS:
            return
        finish(run.run_id, names.CANCELLED)


def give_up() -> None:
    """Close every stray: the process is about to end."""
    for run_id in _STRAYS.copy():
        finish(run_id, names.CANCELLED)


def open_runs() -> int:
    """Number of runs open in this process."""
    return len(RUNS)
