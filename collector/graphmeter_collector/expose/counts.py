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

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter

from graphmeter import names
from graphmeter_collector.records import Outcome, RunTotals, SpanRecord, Waited, Wasted, WriteResult
from graphmeter_collector.reports import LostRun, Series
from graphmeter_collector.telemetry import Metrics

BudgetsOf = Callable[[SpanRecord], Iterable[tuple[str, str, str]]]
"""Budgets that the cost of a call counts against, as (budget, team, scope)."""

_NANO = float(names.NANO_PER_USD)
_S = 1e9
_RUN_ENDS = (*names.SPAN_STATUSES, names.LOST)
CLIENT_STATES = ("exported", "dropped", "failed")
_DUPLICATE = "duplicate"
_WITHOUT_COST = frozenset({"unpriced", "usage_missing"})

_labels: Callable[[SpanRecord], tuple[str, ...]] = attrgetter(
    "kind",
    "service",
    "environment",
    "graph",
    "team",
    "node",
    "status",
    "error_type",
    "attempt_final",
    "provider",
    "model",
    "tool",
    "cache_hit",
)
"""Everything that decides which children a span moves, its own numbers and the price of its call aside; equal in all spans
of one likeness."""


def _nobodys(_: SpanRecord) -> tuple[tuple[str, str, str], ...]:
    return ()


class Counts:
    """Counts into `metrics`; `budgets_of` may be replaced when the configuration is loaded again."""

    def __init__(self, metrics: Metrics, budgets_of: BudgetsOf = _nobodys) -> None:
        self._metrics = metrics
        self.budgets_of = budgets_of
        self.traced: Callable[[SpanRecord, int], bool] | None = None
        """Whether the trace of a span with so much cost, in nano-USD, can be found where traces go; None: it always can."""
        self._declared: set[tuple[str, ...]] = set()

    def count(self, result: WriteResult) -> None:
        """Count what one transaction stored, spans of equal labels together: they move the same children."""
        # Most are told to be alike by identity; only one of each such group is looked at.
        alike: defaultdict[object, list[SpanRecord]] = defaultdict(list)
        for record in chain(result.new, result.settled):
            if (
                record.kind in _BY_KIND
                and not record.waits_for
                and (record.run_id or record.kind == names.MODEL or record.cost is not None)
            ):
                alike[record.likeness or _labels(record)].append(record)
        moving: defaultdict[tuple[str, ...], list[SpanRecord]] = defaultdict(list)
        for records in alike.values():
            moving[_labels(records[0])] += records
        for records in moving.values():
            _BY_KIND[records[0].kind](self, records)
        for totals in result.finished:
            self._run(totals)
        self._wasted(result.wasted)
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
            self._wasted(run.wasted)

    def _wasted(self, calls: Iterable[Wasted]) -> None:
        for call in calls:
            if call.nano:
                labels = (call.service, call.environment, call.graph, call.team, call.node, call.reason)
                self._metrics.inc(names.WASTED_COST, *labels, by=call.nano / _NANO)

    def waited(self, answers: Iterable[Waited]) -> None:
        """Count waits that ended with an answer."""
        for answer in answers:
            base = (answer.service, answer.environment, answer.graph, answer.team)
            self._metrics.observe(names.HUMAN_WAIT, *base, value=answer.wait_ns / _S)

    def _outcome(self, records: Sequence[SpanRecord]) -> None:
        for record in records:
            said = record.said
            if isinstance(said, Outcome):
                good = "unknown" if said.good is None else "true" if said.good else "false"
                self._metrics.inc(names.OUTCOMES, *_base(record), said.kind, good)

    def _start(self, records: Sequence[SpanRecord]) -> None:
        base = _base(records[0])
        self._declare_run(base)
        self._metrics.inc(names.RUNS_STARTED, *base, by=len(records), events=len(records))

    def _run(self, totals: RunTotals) -> None:
        record, metrics = totals.record, self._metrics
        base, trace = _base(record), self._trace(record, totals.cost_nano)
        self._declare_run(base)
        metrics.inc(names.RUNS, *base, record.status, trace_id=trace)
        metrics.observe(names.RUN_DURATION, *base, value=record.duration_ns / _S, trace_id=trace)
        metrics.observe(names.RUN_COST, *base, value=totals.cost_nano / _NANO, trace_id=trace)
        if not record.foreign:  # others do not say how many steps a run made
            metrics.observe(names.RUN_STEPS, *base, value=totals.steps)
        self._errors((record,))

    def _node(self, records: Sequence[SpanRecord]) -> None:
        one = records[-1]
        metrics, base, node, times = self._metrics, _base(one), one.node, len(records)
        self._declare_node(base, node)
        metrics.inc(names.NODE_ATTEMPTS, *base, node, one.status, by=times, events=times)
        if one.attempt_final:
            metrics.inc(
                names.NODE_RUNS, *base, node, one.status, by=times, events=times, trace_id=self._trace(one), marked=1
            )
        metrics.observe_all(names.NODE_DURATION, *base, node, values=_durations(records), traces=self._traces(records))
        if one.status == names.INTERRUPTED:
            metrics.inc(names.INTERRUPTS, *base, node, by=times, events=times)
            # Who is asked will answer: the histogram must have been at 0 before that.
            metrics.declare(names.HUMAN_WAIT, *base)
        sizes = [record.state_bytes for record in records if record.state_bytes is not None]
        if sizes:
            metrics.observe_all(names.STATE_SIZE, *base, node, values=sizes)
        self._errors(records)

    def _tool(self, records: Sequence[SpanRecord]) -> None:
        one = records[-1]
        base = _base(one)
        self._pieces(records)
        # Of others that have no run only the money counts.
        if times := sum(bool(record.run_id) for record in records):
            self._declare_tool(base, one.node, one.tool)
            self._metrics.inc(names.TOOL_CALLS, *base, one.node, one.tool, one.status, by=times, events=times)
            self._errors(records)

    def _retriever(self, records: Sequence[SpanRecord]) -> None:
        self._pieces(records)
        if records[-1].run_id:
            self._errors(records)

    def _pieces(self, records: Sequence[SpanRecord]) -> None:
        """Money of calls that are paid by the piece."""
        paid = [(record, record.cost.total_nano) for record in records if record.cost is not None]
        if paid:
            one = records[-1]
            self._paid((*_base(one), one.node, one.provider, one.model or one.tool), paid)

    def _model(self, records: Sequence[SpanRecord]) -> None:
        # The others were counted under the span that came first.
        records = [record for record in records if record.cost is None or record.cost.status != _DUPLICATE]
        if not records:
            return
        one = records[-1]
        metrics, base = self._metrics, _base(one)
        call = (*base, one.node, one.provider, one.model)
        if one.cache_hit:
            metrics.inc(names.LLM_CACHE_HITS, *call, by=len(records), events=len(records))
            saved = sum(record.cost.saved_nano for record in records if record.cost is not None)
            if saved:
                metrics.inc(names.SAVED_COST, *base, by=saved / _NANO)
            return
        self._declare_call(call)
        metrics.inc(
            names.LLM_CALLS,
            *call,
            one.status,
            by=len(records),
            events=len(records),
            trace_id=self._trace(one),
            marked=1,
        )
        metrics.observe_all(names.LLM_DURATION, *call, values=_durations(records), traces=self._traces(records))
        streamed = [record for record in records if record.ttft_ns]
        if streamed:
            waits = [record.ttft_ns / _S for record in streamed]
            metrics.observe_all(names.LLM_TTFT, *call, values=waits, traces=self._traces(streamed))
        tokens = map(sum, zip(*[record.usage for record in records], strict=True))
        for bucket, count in zip(names.TOKEN_TYPES, tokens, strict=True):
            if count:
                metrics.inc(names.TOKENS, *call, bucket, by=count)
        self._errors(records)
        limited = sum(record.rate_limited for record in records)
        if limited:
            metrics.inc(names.RATE_LIMITED_CALLS, *base, one.provider, one.model, by=limited, events=limited)
        self._money(call, records)

    def _money(self, call: tuple[str, ...], records: Sequence[SpanRecord]) -> None:
        metrics, one = self._metrics, records[-1]
        of_model = (*_base(one), one.provider, one.model)
        costs = [record.cost for record in records]
        statuses = ["unpriced" if cost is None else cost.status for cost in costs]
        for family, status in ((names.UNPRICED_CALLS, "unpriced"), (names.USAGE_MISSING_CALLS, "usage_missing")):
            if times := statuses.count(status):
                metrics.inc(family, *of_model, by=times, events=times)
        paid = [
            (record, cost.total_nano)
            for record, cost in zip(records, costs, strict=True)
            if cost is not None and cost.total_nano and cost.status not in _WITHOUT_COST
        ]
        if paid:
            self._paid(call, paid)

    def _paid(self, call: tuple[str, ...], paid: Sequence[tuple[SpanRecord, int]]) -> None:
        usd = sum(nano for _, nano in paid) / _NANO
        last, nano = paid[-1]
        self._metrics.inc(names.COST, *call, by=usd, trace_id=self._trace(last, nano), marked=nano / _NANO)
        against: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        for record, nano in paid:
            for labels in self.budgets_of(record):
                against[labels] += nano
        for labels, nano in against.items():
            self._metrics.inc(names.BUDGET_COST, *labels, by=nano / _NANO)

    def _errors(self, records: Sequence[SpanRecord]) -> None:
        one = records[-1]
        if one.status == names.ERROR:
            labels = (*_base(one), one.node, one.error_type)
            self._metrics.inc(
                names.ERRORS, *labels, by=len(records), events=len(records), trace_id=self._trace(one), marked=1
            )

    def _trace(self, record: SpanRecord, cost_nano: int = 0) -> str:
        """The trace id for an exemplar; empty where it would lead nowhere."""
        return record.trace_id.hex() if self.traced is None or self.traced(record, cost_nano) else ""

    def _traces(self, records: Iterable[SpanRecord]) -> list[bytes]:
        traced = self.traced
        return [record.trace_id if traced is None or traced(record, 0) else b"" for record in records]

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

_BY_KIND: dict[str, Callable[[Counts, Sequence[SpanRecord]], None]] = {
    names.START: Counts._start,
    names.OUTCOME: Counts._outcome,
    names.NODE: Counts._node,
    names.MODEL: Counts._model,
    names.TOOL: Counts._tool,
    names.RETRIEVER: Counts._retriever,
}


def _base(record: SpanRecord) -> tuple[str, str, str, str]:
    return (record.service, record.environment, record.graph, record.team)


def _durations(records: Iterable[SpanRecord]) -> list[float]:
    return [record.duration_ns / _S for record in records]
