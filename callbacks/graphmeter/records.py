"""What the client knows of a run: `Run` for a LangChain run, `Tree` for what the runs of one graph share, and their ids.

Mutable and slotted: they are made and filled on the hot path, and read once, in the exporter's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import perf_counter_ns, time_ns
from traceback import StackSummary
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from uuid import UUID

from opentelemetry.trace import Span, SpanContext, TraceFlags, TraceState

from graphmeter import context, names
from graphmeter.names import MODEL, NODE, OK
from graphmeter.usage.streams import Told

if TYPE_CHECKING:
    from graphmeter.budget.accounts import Accounts
    from graphmeter.capture import Capture, Taken
    from graphmeter.models import Answer
    from graphmeter.prompts import Request

CHAIN: Final = "chain"
"""A runnable that is nothing of ours: router, prompt, parser, sequence, hidden run. No span; children skip over it. It
turns into a graph when it turns out to have nodes (see `graphmeter.langgraph`)."""

Value = str | bool | int | float
"""What an attribute may hold."""

_first = threading.Lock()


class Failure(NamedTuple):
    """What went wrong, without keeping the exception (and with it every frame's variables) alive."""

    type: str
    message: str
    frames: StackSummary | None = None
    node: str = ""
    """The node whose time limit was exceeded, if that is what went wrong."""


class Sink(Protocol):
    """Where spans go: our own pipeline, or a tracer provider that the user chose."""

    opens_all: bool
    """Whether it wants to hear of every run that begins, not of roots alone."""

    def open(self, run: Run, kind: str) -> None:
        """`run` begins; `kind` is what it is about to become. A sink that chooses identities itself sets `run.identity`."""

    @property
    def close(self) -> Callable[[Run], object]:
        """Take a finished run. Must not raise."""

    def hurry(self) -> None:
        """Somebody waits to see what was taken."""

    def note(self, note: Note) -> None:
        """Take a `note`. Must not raise."""


class Note(NamedTuple):
    """Something said about a run besides its spans; see `graphmeter.names.NOTES`. On the wire a span without duration."""

    kind: str
    trace_id: int
    salt: bytes
    """What tells notes of one kind and run apart. The same run and salt make the same span id."""
    at_ns: int
    run_id: UUID | None
    """Root of the run that it is about, which becomes the parent; None: it is about no run."""
    graph: str | None
    """Empty: named after the service. None: not known here."""
    shared: Mapping[str, Value]
    """Attribution as of now: the run may be tagged before the note is built."""
    facts: Mapping[str, Value] = {}
    state: TraceState | None = None
    tree: Tree | None = None
    """That of the run, if it is there: what its spans have in common is then described once for all of them and the note."""


class Tree:
    """What the runs of one graph run share."""

    __slots__ = (
        "accounts",
        "capture",
        "debug",
        "described",
        "encoded",
        "finished",
        "first_step",
        "flags",
        "graph",
        "inside",
        "inside_call",
        "mirror",
        "offset_ns",
        "outer",
        "root_id",
        "shared",
        "sink",
        "state",
        "steps",
        "trace_id",
        "unnamed",
    )

    def __init__(
        self,
        root_id: UUID | None,
        graph: str,
        shared: dict[str, Value],
        sink: Sink,
        trace_id: int,
        outer: SpanContext | None,
        flags: TraceFlags,
        state: TraceState,
        inside: tuple[TraceState, TraceState],
        *,
        debug: bool = False,
        unnamed: str = "",
        capture: Capture | None = None,
        mirror: bool = False,
    ) -> None:
        self.root_id = root_id
        """Run id of the graph's run; None: of something outside of graphs."""
        self.graph = graph
        """Empty: named after the service."""
        self.shared = shared
        """Attributes of every span that ends from now on. Replaced as a whole, never changed: other threads read it."""
        self.sink = sink
        self.trace_id = trace_id
        self.outer = outer
        """The application's span around the run."""
        self.flags = flags
        """The application's sampling decision, for its own spans inside ours."""
        self.state = state
        self.inside, self.inside_call = inside
        """Trace states for the application's spans inside ours, see `graphmeter.marks`; in a model call it is the second."""
        self.accounts: Accounts | None = None
        """What budget guards count for this run; None: none has met a call of it."""
        self.first_step: int | None = None
        """LangGraph's number of the first step; on a thread that ran before, it is not 1."""
        self.steps = 0
        """Steps of this run so far."""
        self.unnamed = unnamed
        """What a graph inside is called that has no name of its own."""
        self.capture = capture
        """What to capture, and how to redact it and error messages."""
        self.mirror = mirror
        """Whether the application's span processors get our spans, too."""
        self.debug = debug
        self.described: tuple[Mapping[str, Value], dict[str, Any]] | None = None
        """For `graphmeter.spans`: a `shared`, and the attributes made of it."""
        self.encoded: tuple[Mapping[str, Any], bytes, bytes | None] | None = None
        """For `graphmeter.wire`: those attributes, the bytes of the trace state, and theirs."""
        self.finished: list[Run] = []
        """For `graphmeter.debug`, which prints them when the root has ended."""
        # One clock reading per tree: durations stay monotonic when the wall clock is set.
        self.offset_ns = time_ns() - perf_counter_ns()

    @property
    def run_id(self) -> str:
        """`root_id` as a text; empty outside of graphs."""
        return "" if self.root_id is None else str(self.root_id)


class Run:
    """One LangChain run that is or may become a span.

    What few runs have is a default of the class until it is set: that takes a third off what making a run costs.
    """

    __slots__ = (
        "__dict__",
        "answer",
        "below",
        "closed",
        "ended_ns",
        "facts",
        "identity",
        "kind",
        "name",
        "node",
        "ns",
        "number",
        "parent",
        "proxy",
        "shared",
        "started_ns",
        "status",
        "step",
        "task",
        "tree",
        "under",
    )

    attempt = 1
    final = True
    interrupted = False
    held = False
    """Failed, and it is not known yet whether another attempt follows."""
    checkpoint_id = ""
    resumed_from = ""
    first_ns = 0
    """When the first chunk of a streamed answer arrived."""
    failure: Failure | None = None
    links: list[SpanContext] | None = None
    captured: Taken | None = None
    """What happened, in the application's own words; None unless asked for."""
    told: Told | None = None
    """Usage that the chunks of a streamed answer told."""
    request: Request | None = None
    """The request that this call shares with others."""
    sdk_span: Span | None = None

    def __init__(self, kind: str, name: str, number: int, parent: Run | None, tree: Tree, ns: str) -> None:
        self.kind = kind
        self.name = name
        """Name of graph, node, model, tool or retriever."""
        self.number = number
        """Of the run id. The id itself would be one more object that waits to be sent with each run."""
        self.parent = parent
        self.tree = tree
        self.ns = ns
        """LangGraph's checkpoint namespace; a change of it marks a node."""
        self.shared = tree.shared
        """What the tree shared when this run started and, once it has ended, when it ended."""
        if parent is None:
            self.node = ""
            """Path of node names."""
            self.task: Run | None = None
            """The node attempt around; also of a node, for a run that refers to itself is only freed when Python's collector
            of cycles comes by."""
        else:
            self.node = parent.node
            self.task = parent if parent.kind is NODE else parent.task
        self.step = 0
        self.facts: dict[str, Value | list[str]] | None = None
        """Attributes of this run alone, beyond those made from the fields here."""
        self.answer: Answer | None = None
        """What else the facts are made from: `graphmeter.models.read` adds it."""
        self.status = OK
        self.below: dict[int | str, Run] | None = None
        """Children that have not ended, and attempts that are held: the last attempt of a node by its namespace, all else as
        in `graphmeter.runs.RUNS`. None: it had none so far."""
        self.closed = False
        """No attempt of a node below is held any more."""
        self.identity: SpanContext | None = None
        """See `context`."""
        self.under: Run | SpanContext | None = None
        """The span above: a run of ours, or one of the application's."""
        self.proxy: context.CurrentSpan | None = None
        """What is current in the body of the run while it is open."""
        self.started_ns = perf_counter_ns() + tree.offset_ns
        self.ended_ns = 0

    @property
    def run_id(self) -> UUID:
        """LangChain's id of the run."""
        return UUID(int=self.number)

    @property
    def context(self) -> SpanContext:
        """Identity as a span, the same whichever handler and process sees the run.

        Made when somebody asks: nobody does in a node or call that opens no span inside, which most of them are.
        """
        identity = self.identity
        if identity is None:
            tree = self.tree
            inside = tree.inside_call if self.kind is MODEL else tree.inside
            identity = self.identity = SpanContext(tree.trace_id, span_id_of(self.number), False, tree.flags, inside)
        return identity

    @property
    def span_id(self) -> int:
        """That of `context`, which need not be made for it."""
        identity = self.identity
        return span_id_of(self.number) if identity is None else identity.span_id

    @property
    def trace_id(self) -> int:
        """That of `context`, likewise."""
        identity = self.identity
        return self.tree.trace_id if identity is None else identity.trace_id

    @property
    def parent_context(self) -> SpanContext | None:
        """Identity of the span above."""
        under = self.under
        return under.context if isinstance(under, Run) else under


def below_of(parent: Run) -> dict[int | str, Run]:
    """`parent.below`, made if this is its first child."""
    if parent.below is None:
        with _first:  # children may start at once, each in a thread of its own
            if parent.below is None:
                parent.below = {}
    return parent.below


def after_fork() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _first  # a lock cannot be reset
    _first = threading.Lock()


def now_ns(run: Run) -> int:
    """Now, on the clock of the tree of `run`."""
    return perf_counter_ns() + run.tree.offset_ns


def span_id_of(number: int) -> int:
    """Our span id of a LangChain run with this number: its two halves folded into one, never 0 (which is no span id)."""
    return ((number >> 64) ^ (number & 0xFFFF_FFFF_FFFF_FFFF)) or 1


def trace_id_of(number: int) -> int:
    """Trace id of a run with this number that no application span surrounds: the run id, with its variant bits stirred.

    The two constant variant bits of a UUID are the highest of the low 64 bits, which is where ratio samplers look: kept as
    they are, a 10 % sampler downstream would never sample, a 75 % one always. Two random bits are folded onto them.
    """
    return number ^ ((number & 3) << 62)


def start_of(run: Run, promise: Mapping[str, Value] = {}) -> Note:
    """The note that says that the root `run` has started, and what signs of life will follow."""
    tree, at_ns = run.tree, run.started_ns
    said = names.START, tree.trace_id, b"start", at_ns, tree.root_id, tree.graph, run.shared, promise, tree.state, tree
    # Every root has one, and a named tuple takes as long again to look at its defaults.
    return tuple.__new__(Note, said)


def attempt_at(run: Run) -> Run | None:
    """The node attempt that something which `run` does belongs to: `run` itself if it is one."""
    return run if run.kind is NODE else run.task


def anchor(run: Run | None) -> Run | None:
    """`run`, or its nearest ancestor that is a span."""
    while run is not None and run.kind is CHAIN:
        run = run.parent
    return run
