"""What the stages hand on: `decode` makes a SpanRecord, `price` adds its Cost, `store` keeps both, `expose` counts them.

Records are mutable slotted dataclasses because construction is on the ingest path (a frozen one costs twice as much);
by convention only the stage named in a field's comment sets it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from graphmeter import names

SpanKey = tuple[bytes, bytes, int]
"""Trace id, span id, day."""


class TokenUsage(NamedTuple):
    """Tokens of one model call in exclusive buckets (see `graphmeter.names.TOKEN_TYPES`, same order); never negative."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    input_audio: int = 0
    input_image: int = 0
    output: int = 0
    reasoning: int = 0
    output_audio: int = 0
    output_image: int = 0

    @property
    def total_input(self) -> int:
        """The provider's inclusive input total."""
        return sum(self[:6])

    @property
    def total_output(self) -> int:
        """The provider's inclusive output total."""
        return sum(self[6:])


NO_USAGE = TokenUsage()


class Caller(NamedTuple):
    """Who sent a request, as the door established it."""

    key: str = ""
    """Id or name of the API key; empty for a caller who needed none."""
    team: str = ""
    """The team that the key is bound to: it takes the place of whatever team the spans claim. Empty: what they claim."""


ANONYMOUS = Caller()


class Cost(NamedTuple):
    """What one model call cost, in nano-USD, and why."""

    total_nano: int
    """Sum of `parts`, rounded once. Zero for a cached answer and for a free model."""
    parts: tuple[int, ...]
    """Per bucket, in the order of TokenUsage; sums to `total_nano`."""
    status: str
    """`priced`, `free`, `cached`, `unpriced` (no price known: `total_nano` is 0 and means nothing) or `usage_missing`."""
    saved_nano: int = 0
    """What a cached answer would have cost."""
    source: str = ""
    """Catalogue and version that the price came from, `genai-prices 0.2.3`."""
    price: str = ""
    """Price within the catalogue, `openai/gpt-4o`."""


class Outcome(NamedTuple):
    """What an outcome note says."""

    kind: str
    good: bool | None
    """None: not judged."""
    value: float | None
    """Finite, in the application's own unit."""


class Topology(NamedTuple):
    """What a topology note says."""

    hash: bytes
    """16 bytes of BLAKE2b over `json`."""
    json: str
    """Canonical: equal topologies are equal texts."""


class Report(NamedTuple):
    """What a report note says: counts since the client process started, none negative."""

    client_id: str
    """32 hex digits."""
    sequence: int
    """From 1; a later report contains the earlier ones."""
    exported: int = 0
    dropped: int = 0
    failed: int = 0
    queued: int = 0
    faults: int = 0
    open_runs: int = 0


class Envelope(NamedTuple):
    """What spans of one request share: the OTLP bytes of their resource and scope, addressed by content."""

    id: bytes
    """16 bytes of BLAKE2b over resource, scope and schema URLs."""
    resource: bytes
    scope: bytes
    resource_schema_url: str = ""
    scope_schema_url: str = ""


class Likeness:
    """What spans have in common that say the same but for ids, times, tenant, tags and numbers. Compared by identity."""

    __slots__ = ()


@dataclass(slots=True)
class SpanRecord:
    """One span, reduced to the facts that are stored and counted, plus its own OTLP bytes."""

    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes."""
    parent_id: bytes
    """8 bytes, or empty for a root."""
    name: str
    kind: str
    """One of `graphmeter.names.KINDS` or `NOTES`."""
    start_ns: int
    """Unix epoch, ns."""
    end_ns: int
    envelope: Envelope
    body: bytes
    """The span's own OTLP protobuf bytes, for trace view and forward."""
    status: str = names.OK
    """One of `graphmeter.names.SPAN_STATUSES`; `running` on a start record."""
    error_type: str = ""
    status_message: str = ""
    service: str = ""
    environment: str = ""
    graph: str = ""
    team: str = ""
    team_bound: bool = False
    """The team is that of the caller's key: nothing that is learned later changes it."""
    tenant: str = ""
    release: str = ""
    node: str = ""
    run_id: str = ""
    """Empty on spans of other instrumentations."""
    thread_id: str = ""
    user_id: str = ""
    session_id: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    step: int = 0
    attempt: int = 1
    attempt_final: bool = True
    attempt_span: bytes = b""
    outer_attempts: bytes = b""
    """Span ids of the attempts around what is in a subgraph, the nearest first: of a node or subgraph all of them, of a call
    those around `attempt_span`."""
    operation: str = ""
    provider: str = ""
    model: str = ""
    """The model that answered, else the one asked for."""
    request_model: str = ""
    response_id: str = ""
    service_tier: str = ""
    """Tier that the provider served the call at, `flex`, `priority` …; empty for its usual one."""
    server: str = ""
    """Host that a model call was sent to, if the sender says so."""
    images: int = 0
    """Images that the call made, if the sender says so."""
    reported_nano: int | None = None
    """What the sender says that a model call cost, in nano-USD: what its provider told it, or what it made of it."""
    tool: str = ""
    """Name of the tool or retriever."""
    usage: TokenUsage = NO_USAGE
    """Tokens the call consumed; for a cached answer those it did not have to."""
    usage_missing: bool = False
    cache_hit: bool = False
    ttft_ns: int = 0
    """Time to the first chunk; 0 when the answer was not streamed."""
    forwardable: bool = True
    """False for notes and for spans a client marked as already mirrored."""
    twin: bool = False
    """Another instrumentation's record of a call of ours: kept as a `span`, never billed."""
    rate_limited: bool = False
    """On a failed model call: refused for the provider's rate limits."""
    checkpoint_id: str = ""
    """On a root: the LangGraph checkpoint at which it paused."""
    resumed_from: str = ""
    """On a root: the checkpoint that it goes on from; `graphmeter.names.LATEST_CHECKPOINT` where the client was not told."""
    resumed_run_id: str = ""
    """On a root: the run that it resumes, if the client knows."""
    state_bytes: int | None = None
    """On a node: size of the state that it was given; None where nobody measured."""
    heartbeat_ns: int = 0
    """On a start record: the promised interval between heartbeats; 0: none will come."""
    said: Outcome | Topology | Report | None = None
    """On a note of such a kind: what it says. The tags of a tags note are in `tags`."""
    reservations: tuple[str, ...] = ()
    """On a model call: ids of what was reserved for it of strict budgets."""
    cost: Cost | None = None
    """Set by `price` on model calls, and on calls of tools and retrievers that have a price."""
    foreign: bool = False
    """From another instrumentation: run, graph and node may have to be learned from its ancestors."""
    waits_for: bytes = b""
    """Set by `store` on a foreign span: the ancestor (span id) without which it cannot be settled. Until then it is stored,
    and nothing of it is counted."""

    # What follows from ids and times, which nobody changes, is asked for by every stage: it is made once.
    duration_ns: int = field(init=False, compare=False)
    day: int = field(init=False, compare=False)
    """Days since the epoch, from the span's own start: the same for every re-delivery."""
    key: SpanKey = field(init=False, compare=False)
    """What makes a span the same one."""
    likeness: Likeness | None = field(init=False, default=None, compare=False, repr=False)
    """Set by `decode` on spans of ours: records with the same one are equal in name, kind, status, attempt and step, in
    service, environment, graph, team and node, in operation, provider, models and tool, and in all flags. So whoever
    changes one of these takes it off. None says nothing."""

    def __post_init__(self) -> None:
        start_ns, end_ns = self.start_ns, self.end_ns
        self.duration_ns = end_ns - start_ns if end_ns > start_ns else 0
        self.day = day = start_ns // 86_400_000_000_000
        self.key = (self.trace_id, self.span_id, day)

    @property
    def settled(self) -> bool:
        """Whether it is known where the span belongs."""
        return not self.waits_for


class Rejection(NamedTuple):
    """A span that will never be stored, and why."""

    reason: str
    """Short word for the metric: `no_ids`, `bad_time`, `too_many_attributes` …"""
    message: str
    """A sentence for the sender, naming the span and the remedy."""


class Waited(NamedTuple):
    """A human answered: an interrupted run was resumed."""

    service: str
    environment: str
    graph: str
    team: str
    wait_ns: int
    """From the end of the interrupted run to the start of the resuming one."""


class Wasted(NamedTuple):
    """A call on the ledger that turned out to be for nothing."""

    trace_id: bytes
    span_id: bytes
    start_ns: int
    run_id: str
    service: str
    environment: str
    graph: str
    team: str
    node: str
    nano: int
    """What it cost; 0 where its price is not known."""
    reason: str
    """Of `graphmeter.names.WASTE_REASONS`."""


class ClientChange(NamedTuple):
    """By how much a client's report moved its counts. Positive: a later report contains the earlier ones."""

    service: str
    environment: str
    exported: int
    dropped: int
    failed: int


class RunTotals(NamedTuple):
    """State of a run right after its end was stored; feeds the per-run histograms."""

    record: SpanRecord
    cost_nano: int
    steps: int


@dataclass(slots=True)
class WriteResult:
    """What one store transaction did."""

    new: list[SpanRecord]
    """Stored by this transaction, spans by key and then outcomes; duplicates are absent."""
    duplicates: int
    finished: list[RunTotals]
    """Runs whose end was stored by this transaction."""
    rejected: list[tuple[SpanRecord, Rejection]] = field(default_factory=list)
    """Spans the database refused on their own; the others are stored."""
    merged: int = 0
    """Notes that only change rows, such as heartbeats: stored, however often they come, neither new nor duplicates."""
    clients: list[ClientChange] = field(default_factory=list)
    """What new reports of clients added."""
    settled: list[SpanRecord] = field(default_factory=list)
    """Foreign spans stored by earlier transactions, of which this one counted what follows from them."""
    wasted: list[Wasted] = field(default_factory=list)
    """Calls, of any transaction, of which this one found that they were for nothing: each is told once."""


class Settling(NamedTuple):
    """What one look at unsettled spans did."""

    result: WriteResult
    given_up: int
    """How many of `result.settled` were settled without their ancestors, which took too long."""
    waiting: bool
    """Whether some are left, for this collector or for another."""
