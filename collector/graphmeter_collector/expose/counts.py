"""What a commit stored, counted: WriteResult in, Prometheus counters and histograms out.

Called after the commit and only with spans that were new in it, so a span is counted at most once over all collectors.
As in the database, of other instrumentations' spans only model calls count: they have no run whose nodes, tools and
errors could be reported.

A run counts as started when its start record is stored, whether its root was there before or not; should the record
never come (an older client, a lost request), not at all. Each span is counted by itself, and a root that guessed would
count twice whenever the start record is late. So `runs_started_total` may miss runs, and never counts one twice.

A run given up as lost that ends after all is in `runs_total` under both statuses, for counters cannot go back; the
database has its one true status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from graphmeter import names
from graphmeter_collector.records import Outcome, RunTotals, SpanRecord, Waited, WriteResult
from graphmeter_collector.reports import LostRun, Series
from graphmeter_collector.telemetry import Metrics

BudgetsOf = Callable[[SpanRecord], Iterable[tuple[str, str]]]
"""Budgets that the cost of a call counts against, as (budget, team)."""

_NANO = float(names.NANO_PER_USD)
_S = 1e9
_RUN_ENDS = (*names.SPAN_STATUSES, names.LOST)
CLIENT_STATES = ("exported", "dropped", "failed")
_DUPLICATE = "duplicate"


def _nobodys(_: SpanRecord) -> tuple[tuple[str, str], ...]:
    return ()


class Counts:
    """Counts into `metrics`; `budgets_of` may be replaced when the configuration is loaded again."""

    def __init__(self, metrics: Metrics, budgets_of: BudgetsOf = _nobodys) -> None:
        self._metrics = metrics
        self.budgets_of = budgets_of
        self._declared: set[tuple[str, ...]] = set()

    def count(self, result: WriteResult) -> None:
        """Count what one transaction stored."""
        for record in result.new:
            count = _BY_KIND.get(record.kind)
            if count is not None and (record.run_id or record.kind == names.MODEL):
                count(self, record)
        for totals in result.finished:
            self._run(totals)
        for change in result.clients:
            for state in CLIENT_STATES:
                added: int = getattr(change, state)
                self._metrics.inc(names.CLIENT_SPANS, change.service, change.environment, state, by=added)

    def precreate(self, series: Sequence[Series]) -> None:
        """Make known combinations visible at 0, so that their first event of this process is an increase."""
        for known in series:
            base = (known.service, known.environment, known.graph, known.team)
            call = (*base, known.node, known.provider, known.model)
            match known.kind:
                case names.RUN:
                    self._declare_run(base)
                case names.NODE:
                    self._declare_node(base, known.node)
                case names.MODEL:
                    self._declare_call(call)
                case names.TOOL:
                    self._declare_tool(base, known.node, known.model)

    def lost(self, runs: Iterable[LostRun]) -> None:
        """Count runs that the sweep gave up on."""
        for run in runs:
            base = (run.service, run.environment, run.graph, run.team)
            # The run may have started at a collector that is no more.
            self._declare_run(base)
            self._metrics.inc(names.RUNS, *base, names.LOST)

    def waited(self, answers: Iterable[Waited]) -> None:
        """Count waits that ended with an answer."""
        for answer in answers:
            base = (answer.service, answer.environment, answer.graph, answer.team)
            self._metrics.observe(names.HUMAN_WAIT, *base, value=answer.wait_ns / _S)

    def _outcome(self, record: SpanRecord) -> None:
        said = record.said
        if isinstance(said, Outcome):
            good = "unknown" if said.good is None else "true" if said.good else "false"
            self._metrics.inc(names.OUTCOMES, *_base(record), said.kind, good)

    def _start(self, record: SpanRecord) -> None:
        base = _base(record)
        self._declare_run(base)
        self._metrics.inc(names.RUNS_STARTED, *base)

    def _run(self, totals: RunTotals) -> None:
        record, metrics = totals.record, self._metrics
        base, trace = _base(record), record.trace_id.hex()
        self._declare_run(base)
        metrics.inc(names.RUNS, *base, record.status, trace_id=trace)
        metrics.observe(names.RUN_DURATION, *base, value=record.duration_ns / _S, trace_id=trace)
        metrics.observe(names.RUN_COST, *base, value=totals.cost_nano / _NANO, trace_id=trace)
        metrics.observe(names.RUN_STEPS, *base, value=totals.steps)
        self._error(base, record)

    def _node(self, record: SpanRecord) -> None:
        metrics, base, status = self._metrics, _base(record), record.status
        trace = record.trace_id.hex()
        self._declare_node(base, record.node)
        metrics.inc(names.NODE_ATTEMPTS, *base, record.node, status)
        if record.attempt_final:
            metrics.inc(names.NODE_RUNS, *base, record.node, status, trace_id=trace)
        metrics.observe(names.NODE_DURATION, *base, record.node, value=record.duration_ns / _S, trace_id=trace)
        if status == names.INTERRUPTED:
            metrics.inc(names.INTERRUPTS, *base, record.node)
            # Who is asked will answer: the histogram must have been at 0 before that.
            metrics.declare(names.HUMAN_WAIT, *base)
        if record.state_bytes is not None:
            metrics.observe(names.STATE_SIZE, *base, record.node, value=record.state_bytes)
        self._error(base, record)

    def _tool(self, record: SpanRecord) -> None:
        base = _base(record)
        self._declare_tool(base, record.node, record.tool)
        self._metrics.inc(names.TOOL_CALLS, *base, record.node, record.tool, record.status)
        self._error(base, record)

    def _retriever(self, record: SpanRecord) -> None:
        self._error(_base(record), record)

    def _model(self, record: SpanRecord) -> None:
        cost = record.cost
        if cost is not None and cost.status == _DUPLICATE:  # counted under the span that came first
            return
        metrics, base = self._metrics, _base(record)
        call = (*base, record.node, record.provider, record.model)
        if record.cache_hit:
            metrics.inc(names.LLM_CACHE_HITS, *call)
            if cost is not None and cost.saved_nano:
                metrics.inc(names.SAVED_COST, *base, by=cost.saved_nano / _NANO)
            return
        trace = record.trace_id.hex()
        self._declare_call(call)
        metrics.inc(names.LLM_CALLS, *call, record.status, trace_id=trace)
        metrics.observe(names.LLM_DURATION, *call, value=record.duration_ns / _S, trace_id=trace)
        if record.ttft_ns:
            metrics.observe(names.LLM_TTFT, *call, value=record.ttft_ns / _S, trace_id=trace)
        for bucket, count in zip(names.TOKEN_TYPES, record.usage, strict=True):
            if count:
                metrics.inc(names.TOKENS, *call, bucket, by=count)
        self._error(base, record)
        if record.rate_limited:
            metrics.inc(names.RATE_LIMITED_CALLS, *base, record.provider, record.model)
        if cost is None or cost.status == "unpriced":
            metrics.inc(names.UNPRICED_CALLS, *base, record.provider, record.model)
        elif cost.status == "usage_missing":
            metrics.inc(names.USAGE_MISSING_CALLS, *base, record.provider, record.model)
        elif cost.total_nano:
            usd = cost.total_nano / _NANO
            metrics.inc(names.COST, *call, by=usd, trace_id=trace)
            for budget, team in self.budgets_of(record):
                metrics.inc(names.BUDGET_COST, budget, team, by=usd)

    def _error(self, base: tuple[str, ...], record: SpanRecord) -> None:
        if record.status == names.ERROR:
            self._metrics.inc(names.ERRORS, *base, record.node, record.error_type, trace_id=record.trace_id.hex())

    def _declare_run(self, base: tuple[str, ...]) -> None:
        if self._first(names.RUN, *base):
            for status in _RUN_ENDS:
                self._metrics.declare(names.RUNS, *base, status)
            for family in (names.RUNS_STARTED, names.RUN_DURATION, names.RUN_COST, names.RUN_STEPS):
                self._metrics.declare(family, *base)

    def _declare_node(self, base: tuple[str, ...], node: str) -> None:
        if self._first(names.NODE, *base, node):
            for status in (names.OK, names.ERROR):
                self._metrics.declare(names.NODE_RUNS, *base, node, status)
                self._metrics.declare(names.NODE_ATTEMPTS, *base, node, status)
            self._metrics.declare(names.NODE_DURATION, *base, node)

    def _declare_call(self, call: tuple[str, ...]) -> None:
        if self._first(names.MODEL, *call):
            for status in (names.OK, names.ERROR):
                self._metrics.declare(names.LLM_CALLS, *call, status)
            for family in (names.COST, names.LLM_DURATION):
                self._metrics.declare(family, *call)

    def _declare_tool(self, base: tuple[str, ...], node: str, tool: str) -> None:
        if self._first(names.TOOL, *base, node, tool):
            for status in (names.OK, names.ERROR):
                self._metrics.declare(names.TOOL_CALLS, *base, node, tool, status)

    def _first(self, *key: str) -> bool:
        """Whether this combination is met for the first time; forgets everything when there are too many to remember."""
        if key in self._declared:
            return False
        if len(self._declared) >= _MOST_DECLARED:
            self._declared.clear()
        self._declared.add(key)
        return True


_MOST_DECLARED = 50_000

_BY_KIND: dict[str, Callable[[Counts, SpanRecord], None]] = {
    names.START: Counts._start,
    names.OUTCOME: Counts._outcome,
    names.NODE: Counts._node,
    names.MODEL: Counts._model,
    names.TOOL: Counts._tool,
    names.RETRIEVER: Counts._retriever,
}


def _base(record: SpanRecord) -> tuple[str, str, str, str]:
    return (record.service, record.environment, record.graph, record.team)
