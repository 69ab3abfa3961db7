"""What can be asked of the store, and the rows that answer: the seam between `store` and everybody who reads.

Rows are plain frozen dataclasses of JSON-able values, so the HTTP API, the CLI's `--json` and the tests all speak the
same shapes. Ids are lower-case hex; times are ns since the epoch; money is nano-USD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

from graphmeter_collector.errors import BadRequest
from graphmeter_collector.records import Envelope, Wasted
from graphmeter_config import Budget

Where = Mapping[str, Sequence[str]]
"""Dimension → the values that count; the empty value is spend that names none."""
EVERYTHING: Where = MappingProxyType({})

View = Literal["effective", "billed"]
"""By which price a call counts: the last one it was given, if it was priced again, or always the one it was billed by."""
EFFECTIVE: View = "effective"
BILLED: View = "billed"
VIEWS = (EFFECTIVE, BILLED)

COST_DIMENSIONS = (
    "service",
    "environment",
    "graph",
    "team",
    "tenant",
    "release",
    "node",
    "provider",
    "model",
    "user_id",
    "session_id",
    "thread_id",
    "run_id",
    "operation",
    "status",
    "price_status",
)
"""What spend can be grouped by, besides free tags (`tag:plan`) and `COST_PERIODS`; and what can be asked for."""
COST_PERIODS = ("day", "week", "month")
"""Calendar periods that spend can be grouped by."""
COST_ALIASES = {
    "user": "user_id",
    "session": "session_id",
    "thread": "thread_id",
    "conversation": "thread_id",
    "run": "run_id",
}
"""Short names of dimensions."""
COST_SHORT = {name: short for short, name in COST_ALIASES.items() if short != "conversation"}
"""How dimensions are called that have a short name."""
COST_UNITS = ("run_id", "thread_id", "user_id", "session_id", "tenant")
"""What the cost of one can be asked for."""
OUTCOME_DIMENSIONS = ("service", "environment", "graph", "team")
"""What outcomes, and so the cost of one, can be grouped by."""
TAG = "tag:"
_LONGEST_TAG = 200


def dimension(text: str) -> str:
    """The name of a dimension as rows have it: `user` → `user_id`.

    Raises:
        BadRequest: spend has no such dimension.
    """
    name = COST_ALIASES.get(text, text)
    tag = name.removeprefix(TAG)
    if name in COST_DIMENSIONS or name in COST_PERIODS:
        return name
    # Quotes would end the path of a JSON function; no client makes such names.
    if name != tag and 0 < len(tag) <= _LONGEST_TAG and tag.isprintable() and not {'"', "\\"} & set(tag):
        return name
    known = ", ".join(COST_SHORT.get(name, name) for name in (*COST_DIMENSIONS, *COST_PERIODS))
    raise BadRequest(
        f"cannot group spend by {text[:80]!r}: choose from {known}, or a tag such as tag:plan",
        reason="unknown_dimension",
    )


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
class CostRow:
    """Spend of one group of model calls, and of tools and retrievers that have a price, from the ledger."""

    group: dict[str, str]
    """Dimension → value; the empty value is spend that names none."""
    calls: int
    """Of models; answers from a cache excluded."""
    cache_hits: int
    unpriced_calls: int
    usage_missing_calls: int
    tokens: dict[str, int]
    """Per bucket of `graphmeter.names.TOKEN_TYPES`."""
    cost_nano: int
    saved_nano: int
    billed_nano: int = 0
    """What `cost_nano` is as billed."""
    view: View = EFFECTIVE
    """By which prices; what `billed_nano` is apart, every amount and count is by those."""
    wasted_nano: dict[str, int] = field(default_factory=dict)
    """Part of `cost_nano` that was for nothing, by reason (of `graphmeter.names.WASTE_REASONS`, those there are)."""
    wasted_calls: dict[str, int] = field(default_factory=dict)
    """How many calls that were, those that cost nothing included."""
    failed_calls: int | None = None
    """Calls that failed or were cancelled. As with what follows, None where nobody asked for details."""
    failed_nano: int | None = None
    """Their part of `cost_nano`."""
    nano: dict[str, int] | None = None
    """Parts of `cost_nano`, per bucket of `graphmeter.names.TOKEN_TYPES`. What has no tokens (a tool that has a price) is in
    none of them."""


@dataclass(frozen=True, slots=True)
class UnitCostRow:
    """What one run (conversation, user, …) of a group costs. Only those that called a model count."""

    group: dict[str, str]
    unit: str
    """Of `COST_UNITS`."""
    units: int
    cost_nano: int
    """Of all of them together."""
    mean_nano: int
    median_nano: int
    p95_nano: int
    """Exact, by nearest rank: the smallest cost that so many per cent do not exceed."""
    max_nano: int
    rest_nano: int
    """Spend of the group that names no such unit; not in the figures above."""
    view: View = EFFECTIVE


@dataclass(frozen=True, slots=True)
class OutcomeCostRow:
    """What a good outcome of a group costs: all of the group's spend, by the number of good outcomes of one kind."""

    group: dict[str, str]
    kind: str
    good: int
    bad: int
    unjudged: int
    cost_nano: int
    """All spend of the group in the time range, whatever became of it."""
    per_good_nano: int | None
    """Rounded down; None where nothing turned out well."""
    view: View = EFFECTIVE


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


class OutboxItem(NamedTuple):
    """One committed span on its way to a destination."""

    trace_id: bytes
    span_id: bytes
    day: int
    body: bytes
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class TracePart:
    """A run of a trace, or the whole trace where it holds no run."""

    service: str
    environment: str
    graph: str
    team: str
    status: str
    duration_ns: int
    cost_nano: int
    ended: bool
    """Its root was seen, or it is lost."""


@dataclass(frozen=True, slots=True)
class WaitingTrace:
    """A trace of which spans wait for a decision."""

    trace_id: bytes
    first_ns: int
    """When the first of them was committed."""
    last_ns: int
    decided: bool
    """It was judged before: these spans came late."""
    kept: bool = False
    """It was judged to be kept: nothing below is told then."""
    settling: bool = False
    """Some of its spans wait for their ancestors: what they cost, and whose it is, is not known yet."""
    error: bool = False
    """One of its spans failed."""
    root_seen: bool = False
    parts: tuple[TracePart, ...] = ()


class Decision(NamedTuple):
    """What becomes of a trace, and why."""

    trace_id: bytes
    keep: bool
    reason: str
    rule: str
    decided_ns: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What storing decisions did."""

    new: Sequence[Decision]
    """Those that stand, revised ones included; others had been decided before."""
    kept: int
    """Spans that are on their way now."""
    dropped: int
    """Spans that will not be forwarded."""


@dataclass(frozen=True, slots=True)
class InForce:
    """A budget in force."""

    budget: Budget
    source: str
    """`yaml` or `api`: who may change it."""
    since_ns: int
    """Everything that started since then is counted."""
    changed_ns: int
    counted: bool = True
    """False: calls of its period from before it was in force are being counted, and its spend cannot be told yet."""


class Asked(NamedTuple):
    """Which spend of a key: that of [first, last), and of it what started since `recent`."""

    key: str
    first_ns: int
    last_ns: int
    recent_ns: int


class Spent(NamedTuple):
    """What one scope has spent."""

    key: str
    scope: tuple[str, ...]
    nano: int
    tokens: int
    calls: int
    recent_nano: int
    recent_tokens: int


class Ask(NamedTuple):
    """A call that is about to be made, and what it may cost at most."""

    id: str
    """Made by who asks, so that asking again changes nothing."""
    budget: str
    attributions: Mapping[str, str]
    """Of the call, as far as they are known: they decide whether the budget counts it, and whose limit it is."""
    nano: int | None
    """Needed of a budget in USD."""
    tokens: int | None
    """Needed of a budget in tokens."""
    ttl_ns: int
    """How long it is reserved at most, should nothing be heard of the call."""


class Held(NamedTuple):
    """What calls under way have reserved of one scope of a budget."""

    budget: str
    scope: tuple[str, ...]
    """Values of the budget's `per`."""
    unit: str
    """`usd` or `tokens`."""
    units: int
    """Nano-USD or tokens."""
    calls: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was decided on an ask. Amounts are nano-USD or tokens, as `unit` says."""

    id: str
    granted: bool
    budget: str
    scope: dict[str, str]
    unit: str
    units: int
    """What was asked for."""
    limit: int
    spent: int
    reserved: int
    """By calls under way, this one included if it was granted."""
    remaining: int
    """Limit less spend and what is reserved."""
    expires_ns: int
    """When it is given up; 0 if nothing is reserved."""
    counted: bool = True
    """Whether the budget counts such calls; if not, it lets them pass and reserves nothing."""


class BudgetEvent(NamedTuple):
    """A threshold that was crossed: one for each budget, scope, period, threshold and limit."""

    budget: str
    scope: tuple[str, ...]
    """Values of the budget's `per`."""
    period_ns: int
    """Start of the period; of a rolling budget that of a stretch as long as its window."""
    threshold: str
    """`80%`."""
    limit_units: int
    """The limit then, in nano-USD or tokens: a new limit has thresholds of its own."""
    state: str
    """The BudgetRow of that moment, as JSON."""
    at_ns: int
    told_ns: int = 0
    """When it was handed to those who deliver it; 0: not yet."""


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """State of one budget, for one scope where it is divided by attributions."""

    budget: str
    team: str
    limit_nano: int
    """0 for a limit in tokens."""
    spent_nano: int
    """Opening spend included."""
    period_start_ns: int
    period_end_ns: int
    """Of a rolling window: when its oldest hour leaves it."""
    used_ratio: float
    per_team: bool
    """Whether each team has the limit for itself; `team` is then empty for spend that names none, else always."""
    crossed: tuple[str, ...] = ()
    """Thresholds reached, as written in the configuration: `80%`."""
    scope: dict[str, str] = field(default_factory=dict)
    """Attribution → value, of those the budget is divided by."""
    unit: str = "usd"
    """What the limit is counted in: `usd` or `tokens`."""
    limit_tokens: int = 0
    """0 for a limit in USD."""
    spent_tokens: int = 0
    calls: int = 0
    """Calls counted in the period. 0 for long: the budget may match nothing."""
    remaining: int = 0
    """Limit less spend in nano-USD or tokens, as `unit` says; negative when overspent."""
    remaining_ratio: float = 0.0
    """The same as a share of the limit."""
    forecast: int | None = None
    """Spend at the period's end if it goes on as now, in nano-USD or tokens; None in the first hundredth of a period."""
    forecast_ratio: float | None = None
    """The same as a share of the limit."""
    exhausted_at_ns: int | None = None
    """When the limit is reached then; None: not within the period, or it is already."""
    period: str = "month"
    """`month`, `week`, `day`, or the length of a rolling window."""
    rolling: bool = False
    hard: bool = False
    source: str = "yaml"
    """Whose the budget is: `yaml` or `api`."""
    reserved_nano: int = 0
    """By calls under way, of strict guards; neither spent nor taken off what remains."""
    reserved_tokens: int = 0
    reservations: int = 0
    """How many such calls there are."""


@dataclass(frozen=True, slots=True)
class SloRow:
    """State of one SLO over its window, for one of the things that it judges by themselves."""

    slo: str
    graph: str
    """Empty where it is not judged by graph."""
    objective_percent: str
    window_s: int
    good: int
    bad: int
    achieved_ratio: float | None
    """None without events."""
    budget_remaining_ratio: float | None
    """1 is untouched, 0 spent, negative overspent; None without events."""
    scope: dict[str, str] = field(default_factory=dict)
    """What it is judged by, with its values: `{"graph": "support"}`."""


class Reader(Protocol):
    """Questions that reports ask. Every implementation answers from one database; `*_ns` ranges are [since, until)."""

    async def runs(self, where: RunFilter) -> list[RunRow]: ...

    async def run(self, reference: str) -> RunRow | None:
        """A run by run id, trace id (hex) or an unambiguous prefix of either (8 characters or more)."""
        ...

    async def spans(self, trace_id: str) -> list[SpanRow]:
        """All spans of a trace but notes, by start."""
        ...

    async def content(self, trace_id: str) -> list[ContentRow]:
        """What was captured in a trace, by start; of 2,000 spans at most, and while their bytes are kept."""
        ...

    async def nodes(self, since_ns: int, until_ns: int, *, graph: str = "", team: str = "") -> list[NodeRow]: ...

    async def cost(
        self,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        timezone: str = "UTC",
        limit: int = 0,
        detail: bool = False,
        view: View = EFFECTIVE,
    ) -> list[CostRow]:
        """Spend grouped by dimensions, dearest first; `by=()` gives the one total.

        Args:
            by: Of `COST_DIMENSIONS`, free tags and `COST_PERIODS`, which are those of the time zone.
            where: Spend of which values counts.
            limit: Rows at most, the dearest; 0: all.
            detail: What went to failed calls, and parts by token bucket, too; these are not in rollups.
            view: By which prices.

        Raises:
            BadRequest: there is no such dimension or time zone.
        """
        ...

    async def unit_cost(
        self,
        unit: str,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        view: View = EFFECTIVE,
    ) -> list[UnitCostRow]:
        """What one `unit` of `COST_UNITS` costs, per group, the group with most spend first."""
        ...

    async def outcome_cost(
        self,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        view: View = EFFECTIVE,
    ) -> list[OutcomeCostRow]:
        """What a good outcome costs, per group (of `OUTCOME_DIMENSIONS`) and kind."""
        ...

    async def topologies(self, graph: str) -> list[TopologyRow]:
        """Shapes of the graph, the one seen last first."""
        ...

    async def clients(self, since_ns: int) -> list[ClientRow]:
        """Clients that have reported since then, those with most losses first."""
        ...

    async def run_counts(self, since_ns: int, until_ns: int) -> list[RunCount]: ...

    async def series(self, since_ns: int) -> list[Series]: ...


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
