"""What a commit adds to the metrics: exactly these children, exactly these values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import parser

from graphmeter import names
from graphmeter.names import Metric
from graphmeter_collector.expose import counts as counts_module
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.records import (
    ClientChange,
    Cost,
    Outcome,
    RunTotals,
    SpanRecord,
    TokenUsage,
    Waited,
    Wasted,
    WriteResult,
)
from graphmeter_collector.reports import LostRun, Series
from graphmeter_collector.telemetry import Metrics
from support.records import T0_NS, call, priced, record, trace, whole_run

SCRAPE = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
BASE = ("shop", "test", "support", "cx")
GPT = ("answer", "openai", "gpt-4o")
NOTHING = (0,) * 10

COUNTED = tuple(
    metric
    for metric in names.METRICS
    if metric.type != "gauge" and not metric.name.startswith(f"{names.PREFIX}collector_")
)
"""The families that count facts."""

Shown = Mapping[str, Mapping[tuple[str, ...], Any]]


def counted(*records: SpanRecord, finished: Sequence[RunTotals] = ()) -> Metrics:
    """Metrics that counted one commit of these spans."""
    metrics = Metrics()
    Counts(metrics).count(WriteResult(new=list(records), duplicates=0, finished=list(finished)))
    return metrics


def shown(metrics: Metrics, base: tuple[str, ...] = BASE) -> Shown:
    """Children of all families that count facts, by family and labels.

    Base labels are checked and left out. Histograms are (count, sum). Families without children are left out.
    """
    families = {family.name: family for family in parser.text_string_to_metric_families(metrics.render("")[0].decode())}
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    for metric in COUNTED:
        family = families[metric.name if metric.type == "histogram" else metric.name.removesuffix("_total")]
        children: dict[tuple[str, ...], Any] = {}
        sums: dict[tuple[str, ...], float] = {}
        for sample in family.samples:
            labels = tuple(sample.labels[label] for label in metric.labels)
            if metric.labels[:4] == names.BASE_LABELS:
                assert base == labels[:4], metric.name
                labels = labels[4:]
            if sample.name.endswith("_sum"):
                sums[labels] = sample.value
            elif not sample.name.endswith("_bucket"):
                children[labels] = sample.value
        if children:
            found[metric.name] = {key: (n, sums[key]) for key, n in children.items()} if sums else children
    return found


def of(metric: Metric, metrics: Metrics, base: tuple[str, ...] = BASE) -> Mapping[tuple[str, ...], Any]:
    """Children of one family."""
    return shown(metrics, base).get(metric.name, {})


def ended(root: SpanRecord, *, nano: int = 0, steps: int = 0) -> RunTotals:
    return RunTotals(root, nano, steps)


def run(number: int = 1, *, of: int = 1, **facts: Any) -> SpanRecord:
    return record(number, of=of, kind=names.RUN, **facts)


def start(number: int = 9, *, of: int = 1, **facts: Any) -> SpanRecord:
    return record(number, of=of, kind=names.START, s=0, status=names.RUNNING, forwardable=False, **facts)


ONE_RUN: dict[Metric, dict[tuple[str, ...], Any]] = {
    names.RUNS_STARTED: {(): 1},
    names.RUNS: {("ok",): 1, ("error",): 0, ("interrupted",): 0, ("cancelled",): 0, ("lost",): 0},
    names.RUN_DURATION: {(): (1, 2.7)},
    names.RUN_COST: {(): (1, 1.701e-6)},
    names.RUN_STEPS: {(): (1, 2)},
    names.NODE_RUNS: {("plan", "ok"): 1, ("plan", "error"): 0, ("answer", "ok"): 1, ("answer", "error"): 0},
    names.NODE_ATTEMPTS: {("plan", "ok"): 1, ("plan", "error"): 0, ("answer", "ok"): 1, ("answer", "error"): 1},
    names.NODE_DURATION: {("plan",): (1, 0.6), ("answer",): (2, 1.7)},
    names.ERRORS: {("answer", "TimeoutError"): 1},
    names.LLM_CALLS: {
        ("plan", "openai", "gpt-4o", "ok"): 1,
        ("plan", "openai", "gpt-4o", "error"): 0,
        (*GPT, "ok"): 1,
        (*GPT, "error"): 0,
    },
    names.LLM_DURATION: {("plan", "openai", "gpt-4o"): (1, 0.5), GPT: (1, 0.7)},
    names.TOKENS: {
        ("plan", "openai", "gpt-4o", "input"): 100,
        ("plan", "openai", "gpt-4o", "output"): 10,
        (*GPT, "input"): 100,
        (*GPT, "output"): 10,
    },
    names.COST: {("plan", "openai", "gpt-4o"): 7e-7, GPT: 1.001e-6},
    names.SAVED_COST: {(): 1.001e-6},
    names.LLM_CACHE_HITS: {GPT: 1},
    names.TOOL_CALLS: {("answer", "search", "ok"): 1, ("answer", "search", "error"): 0},
}


def test_a_whole_run_moves_exactly_these_children() -> None:
    records = whole_run()
    metrics = counted(*records, finished=[ended(records[-1], nano=1_701, steps=2)])

    actual = shown(metrics)
    assert {metric.name for metric in ONE_RUN} == actual.keys()
    for metric, children in ONE_RUN.items():
        assert _approximately(children) == actual[metric.name], metric.name


def _approximately(children: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    return {key: pytest.approx(value, rel=1e-12) for key, value in children.items()}


def test_every_family_that_counts_facts_is_counted_here() -> None:
    elsewhere = {
        names.LLM_TTFT,
        names.UNPRICED_CALLS,
        names.USAGE_MISSING_CALLS,
        names.INTERRUPTS,
        names.BUDGET_COST,
        names.HUMAN_WAIT,
        names.OUTCOMES,
        names.STATE_SIZE,
        names.CLIENT_SPANS,
        names.RATE_LIMITED_CALLS,
        names.WASTED_COST,
    }
    assert set(COUNTED) == ONE_RUN.keys() | elsewhere


def test_outcomes_are_counted_by_kind_and_judgement() -> None:
    def outcome(number: int, good: bool | None) -> SpanRecord:
        return record(number, kind=names.OUTCOME, s=0, said=Outcome("resolved", good, 4.5))

    metrics = counted(outcome(1, True), outcome(2, True), outcome(3, False), outcome(4, None))

    expected = {("resolved", "true"): 2, ("resolved", "false"): 1, ("resolved", "unknown"): 1}
    assert {names.OUTCOMES.name: expected} == shown(metrics)


def test_an_interrupted_node_makes_the_wait_visible_at_zero_and_an_answer_counts_it() -> None:
    metrics = Metrics()
    counts = Counts(metrics)
    asked = record(1, node="approve", status=names.INTERRUPTED)
    counts.count(WriteResult(new=[asked], duplicates=0, finished=[]))
    assert {(): (0, 0)} == of(names.HUMAN_WAIT, metrics)

    counts.waited([Waited(*BASE, 3 * 3_600_000_000_000)])

    assert {(): (1, 10_800)} == of(names.HUMAN_WAIT, metrics)


def test_the_size_of_the_state_is_shown_only_where_it_was_captured() -> None:
    assert names.STATE_SIZE.name not in shown(counted(record(1, node="a")))

    assert {("a",): (2, 5_000)} == of(
        names.STATE_SIZE, counted(record(1, node="a", state_bytes=5_000), record(2, node="a", state_bytes=0))
    )


def test_calls_refused_for_rate_limits_are_counted_by_provider_and_model() -> None:
    failed: dict[str, Any] = {"status": names.ERROR, "error_type": "429", "cost": priced(0)}
    metrics = counted(call(1, rate_limited=True, **failed), call(2, **failed))

    assert {("openai", "gpt-4o"): 1} == of(names.RATE_LIMITED_CALLS, metrics)


def test_what_was_for_nothing_is_counted_by_node_and_reason() -> None:
    def wasted(number: int, node: str, nano: int, reason: str) -> Wasted:
        one = call(number, node=node)
        return Wasted(one.trace_id, one.span_id, one.start_ns, one.run_id, *BASE, node, nano, reason)

    metrics, found = (
        Metrics(),
        [("answer", 2_000, names.RETRY), ("answer", 1_000, names.RETRY), ("plan", 5, names.ERROR)],
    )
    calls = [wasted(number, *each) for number, each in enumerate([*found, ("free", 0, names.CANCELLED)])]
    Counts(metrics).count(WriteResult(new=[], duplicates=0, finished=[], wasted=calls))

    assert {("answer", "retry"): 3e-6, ("plan", "error"): 5e-9} == of(names.WASTED_COST, metrics)


def test_reports_of_clients_add_what_they_changed() -> None:
    metrics = Metrics()
    changes = [ClientChange("shop", "test", 10, 0, 1), ClientChange("shop", "test", 5, 2, 0)]
    Counts(metrics).count(WriteResult(new=[], duplicates=0, finished=[], merged=2, clients=changes))

    expected = {("shop", "test", "exported"): 15, ("shop", "test", "dropped"): 2, ("shop", "test", "failed"): 1}
    assert expected == of(names.CLIENT_SPANS, metrics)


def test_two_commits_of_one_run_add_up_to_what_one_commit_counts() -> None:
    records = whole_run()
    done = [ended(records[-1], nano=1_701, steps=2)]
    metrics = Metrics()
    counts = Counts(metrics)
    counts.count(WriteResult(new=records[5:], duplicates=0, finished=done))
    counts.count(WriteResult(new=records[:5], duplicates=3, finished=[]))

    assert shown(counted(*records, finished=done)) == shown(metrics)


STATUS = st.sampled_from(names.SPAN_STATUSES).map(
    lambda status: {"status": status, "error_type": "boom" if status == names.ERROR else ""}
)
COSTS = st.sampled_from([None, priced(7), priced(0), *(priced(0, status=s) for s in ("unpriced", "usage_missing"))])
EVENTS = st.one_of(
    st.builds(
        lambda node, s, final, status: record(node=node, s=s, attempt_final=final, **status),
        st.sampled_from("ab"),
        st.sampled_from([0.0, 0.3, 70.0]),
        st.booleans(),
        STATUS,
    ),
    st.builds(
        lambda kind, tool, status: record(kind=kind, tool=tool, node="a", **status),
        st.sampled_from([names.TOOL, names.RETRIEVER, names.START, names.SPAN]),
        st.sampled_from("xy"),
        STATUS,
    ),
    st.builds(
        lambda cost, model, hit, limited, ttft, status: call(
            1, cost=cost, model=model, cache_hit=hit, rate_limited=limited, ttft_ns=ttft, **status
        ),
        COSTS,
        st.sampled_from(["gpt-4o", "claude"]),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0, 500_000_000]),
        STATUS,
    ),
)


@settings(max_examples=40)
@given(st.lists(EVENTS, max_size=12))
def test_counting_many_together_is_counting_each(records: list[SpanRecord]) -> None:
    together, each = Metrics(), Metrics()
    Counts(together).count(WriteResult(new=records, duplicates=0, finished=[]))
    counts = Counts(each)
    for one in records:
        counts.count(WriteResult(new=[one], duplicates=0, finished=[]))

    expected, actual = shown(each), shown(together)
    assert expected.keys() == actual.keys()
    for family, children in expected.items():
        assert _approximately(children) == actual[family], family


@pytest.mark.parametrize("status", names.SPAN_STATUSES)
def test_a_run_counts_under_its_status_with_all_others_at_zero(status: str) -> None:
    metrics = counted(finished=[ended(run(status=status))])
    assert {(each,): float(each == status) for each in (*names.SPAN_STATUSES, names.LOST)} == of(names.RUNS, metrics)


def test_a_start_record_declares_what_will_count_the_end() -> None:
    metrics = counted(start())
    assert {
        names.RUNS_STARTED.name: {(): 1},
        names.RUNS.name: {(status,): 0 for status in (*names.SPAN_STATUSES, names.LOST)},
        names.RUN_DURATION.name: {(): (0, 0)},
        names.RUN_COST.name: {(): (0, 0)},
        names.RUN_STEPS.name: {(): (0, 0)},
    } == shown(metrics)


def test_a_failure_that_comes_after_a_scrape_is_an_increase_on_the_next() -> None:
    metrics = Metrics()
    counts = Counts(metrics)
    counts.count(WriteResult([start()], 0, []))
    metrics.render(SCRAPE)
    counts.count(WriteResult([], 0, [ended(run(status=names.ERROR))]))

    scraped = metrics.render(SCRAPE)[0].decode()
    labels = 'environment="test",graph="support",service="shop",status="error",team="cx"'
    assert f"graphmeter_runs_total{{{labels}}} 1.0" in scraped


def test_a_run_whose_start_record_never_came_counts_as_ended_not_as_started() -> None:
    metrics = counted(run(), finished=[ended(run())])
    assert {(): 0} == of(names.RUNS_STARTED, metrics)
    assert 1 == of(names.RUNS, metrics)["ok",]


@pytest.mark.parametrize("order", [("start", "root"), ("root", "start")], ids=["in order", "start record late"])
def test_a_run_counts_as_started_once_whichever_of_start_record_and_root_comes_first(order: tuple[str, str]) -> None:
    commits = {
        "start": WriteResult([start()], 0, []),
        "root": WriteResult([run()], 0, [ended(run())]),
    }
    metrics = Metrics()
    counts = Counts(metrics)
    for each in order:
        counts.count(commits[each])

    assert {(): 1} == of(names.RUNS_STARTED, metrics)
    assert 1 == of(names.RUNS, metrics)["ok",]


def test_a_root_in_the_commit_counts_by_its_totals_and_not_again_as_a_span() -> None:
    root = run(s=2.5)
    metrics = counted(root, finished=[ended(root, nano=30_000_000, steps=4)])
    assert {(): (1, 2.5)} == of(names.RUN_DURATION, metrics)
    assert {(): (1, 0.03)} == of(names.RUN_COST, metrics)
    assert {(): (1, 4)} == of(names.RUN_STEPS, metrics)


def test_the_cost_histogram_has_each_run_in_its_bucket() -> None:
    metrics = counted(finished=[ended(run(), nano=nano) for nano in (0, 10_000_000, 10_000_001, 250_000_000_000)])
    family = next(
        family
        for family in parser.text_string_to_metric_families(metrics.render("")[0].decode())
        if family.name == names.RUN_COST.name
    )
    below = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert (1, 2, 3, 3, 4) == tuple(below[bound] for bound in ("0.005", "0.01", "0.02", "100.0", "+Inf"))


def test_a_failed_run_is_an_error_outside_of_nodes() -> None:
    metrics = counted(finished=[ended(run(status=names.ERROR, error_type="KeyError"))])
    assert {(names.UNATTRIBUTED, "KeyError"): 1} == of(names.ERRORS, metrics)


def test_attempts_count_each_and_executions_by_their_last() -> None:
    metrics = counted(
        record(1, node="fetch", status=names.ERROR, error_type="Timeout", attempt_final=False, s=1),
        record(2, node="fetch", status=names.ERROR, error_type="Timeout", attempt=2, attempt_final=False, s=2),
        record(3, node="fetch", status=names.ERROR, error_type="ValueError", attempt=3, s=4),
        record(4, node="fetch", status=names.CANCELLED, s=8),
    )
    assert {("fetch", "ok"): 0, ("fetch", "error"): 3, ("fetch", "cancelled"): 1} == of(names.NODE_ATTEMPTS, metrics)
    assert {("fetch", "ok"): 0, ("fetch", "error"): 1, ("fetch", "cancelled"): 1} == of(names.NODE_RUNS, metrics)
    assert {("fetch",): (4, 15)} == of(names.NODE_DURATION, metrics)
    assert {("fetch", "Timeout"): 2, ("fetch", "ValueError"): 1} == of(names.ERRORS, metrics)


def test_an_interrupt_is_counted_and_is_no_error() -> None:
    metrics = counted(record(1, node="ask", status=names.INTERRUPTED))
    assert {("ask",): 1} == of(names.INTERRUPTS, metrics)
    assert {("ask", "ok"): 0, ("ask", "error"): 0, ("ask", "interrupted"): 1} == of(names.NODE_RUNS, metrics)
    assert {} == of(names.ERRORS, metrics)


def test_tokens_count_by_bucket_and_empty_buckets_have_no_child() -> None:
    usage = TokenUsage(*range(1, 11))._replace(input_image=0)
    metrics = counted(call(1, usage=usage), call(2, usage=usage))
    assert {(*GPT, bucket): 2.0 * count for bucket, count in zip(names.TOKEN_TYPES, usage, strict=True) if count} == of(
        names.TOKENS, metrics
    )


def test_a_streamed_call_counts_its_time_to_the_first_chunk() -> None:
    metrics = counted(call(1, ttft_ns=250_000_000), call(2))
    assert {GPT: (1, 0.25)} == of(names.LLM_TTFT, metrics)
    assert {GPT: (2, 2)} == of(names.LLM_DURATION, metrics)


def test_a_failed_call_counts_its_status_its_error_and_what_it_cost() -> None:
    metrics = counted(call(1, status=names.ERROR, error_type="RateLimitError", nano=5_000))
    assert {(*GPT, "ok"): 0, (*GPT, "error"): 1} == of(names.LLM_CALLS, metrics)
    assert {("answer", "RateLimitError"): 1} == of(names.ERRORS, metrics)
    assert {GPT: 5e-6} == of(names.COST, metrics)


@pytest.mark.parametrize(
    ("cost", "unpriced", "missing"),
    [
        (priced(10), {}, {}),
        (Cost(0, NOTHING, "free"), {}, {}),
        (Cost(0, NOTHING, "unpriced"), {("openai", "gpt-4o"): 1}, {}),
        (None, {("openai", "gpt-4o"): 1}, {}),
        (Cost(0, NOTHING, "usage_missing"), {}, {("openai", "gpt-4o"): 1}),
    ],
    ids=["priced", "free", "unpriced", "not priced at all", "usage missing"],
)
def test_a_call_without_a_cost_says_why(cost: Cost | None, unpriced: object, missing: object) -> None:
    metrics = counted(call(1, cost=cost))
    assert unpriced == of(names.UNPRICED_CALLS, metrics)
    assert missing == of(names.USAGE_MISSING_CALLS, metrics)
    assert {(*GPT, "ok"): 1, (*GPT, "error"): 0} == of(names.LLM_CALLS, metrics)
    assert {GPT: (cost.total_nano if cost else 0) / 1e9} == of(names.COST, metrics)


def test_a_cached_answer_is_a_hit_that_saved_money_and_no_call() -> None:
    metrics = counted(
        call(1, cache_hit=True, cost=Cost(0, NOTHING, "cached", 2_000)), call(2, cache_hit=True, cost=None)
    )
    assert {names.LLM_CACHE_HITS.name: {GPT: 2}, names.SAVED_COST.name: {(): 2e-6}} == shown(metrics)


def test_a_call_that_is_on_the_ledger_under_another_span_counts_nothing() -> None:
    assert {} == shown(counted(call(1, cost=Cost(0, NOTHING, "duplicate"))))


def test_tools_count_by_name_and_status_and_their_failures_as_errors() -> None:
    metrics = counted(
        record(1, kind=names.TOOL, node="act", tool="search"),
        record(2, kind=names.TOOL, node="act", tool="search", status=names.ERROR, error_type="HTTPError"),
        record(3, kind=names.RETRIEVER, node="act", tool="wiki", status=names.ERROR, error_type="IndexError"),
        record(4, kind=names.RETRIEVER, node="act", tool="wiki"),
    )
    assert {("act", "search", "ok"): 1, ("act", "search", "error"): 1} == of(names.TOOL_CALLS, metrics)
    assert {("act", "HTTPError"): 1, ("act", "IndexError"): 1} == of(names.ERRORS, metrics)


def test_a_failed_subgraph_counts_with_the_node_that_holds_it_not_by_itself() -> None:
    assert {} == shown(counted(record(1, kind=names.SUBGRAPH, status=names.ERROR, error_type="KeyError")))


@pytest.mark.parametrize(
    "kind", [names.START, names.RUN, names.NODE, names.TOOL, names.RETRIEVER, names.SUBGRAPH, names.SPAN]
)
def test_a_span_of_no_run_counts_nothing_unless_it_is_a_model_call(kind: str) -> None:
    assert {} == shown(counted(record(1, kind=kind, run_id="", node="n", tool="t", status=names.ERROR)))


def test_a_model_call_of_another_instrumentation_counts_as_unattributed() -> None:
    metrics = counted(call(1, run_id="", graph="", team="", node="", environment=""))
    nobody = ("shop", "", names.UNATTRIBUTED, names.UNATTRIBUTED)
    assert {(names.UNATTRIBUTED, "openai", "gpt-4o"): 1e-6} == of(names.COST, metrics, nobody)


def test_cost_counts_against_every_budget_of_the_call_and_its_team() -> None:
    metrics = Metrics()
    counts = Counts(metrics, lambda record: [("all", "", ""), ("per team", record.team, "")])
    calls = [call(1, nano=1_000), call(2, nano=500, team="ops"), call(3, nano=0), call(4, cost=None)]
    counts.count(WriteResult(calls, 0, []))
    spent = {
        team: metrics.value(names.BUDGET_COST, *team)
        for team in [("all", "", ""), ("per team", "cx", ""), ("per team", "ops", "")]
    }
    assert {("all", "", ""): 1.5e-6, ("per team", "cx", ""): 1e-6, ("per team", "ops", ""): 5e-7} == pytest.approx(
        spent
    )

    counts.budgets_of = lambda record: [("new", record.team, "")]
    counts.count(WriteResult([call(5, nano=2_000)], 0, []))
    assert 2e-6 == metrics.value(names.BUDGET_COST, "new", "cx", "")
    assert 1.5e-6 == pytest.approx(metrics.value(names.BUDGET_COST, "all", "", ""))


def test_lost_runs_count_under_their_own_status_even_when_this_collector_never_heard_of_them() -> None:
    metrics = Metrics()
    Counts(metrics).lost([LostRun(*BASE, "1"), LostRun(*BASE, "2")])
    assert {("ok",): 0, ("error",): 0, ("interrupted",): 0, ("cancelled",): 0, ("lost",): 2} == of(names.RUNS, metrics)
    assert {(): 0} == of(names.RUNS_STARTED, metrics)


def test_what_went_down_with_a_lost_run_is_counted_as_wasted() -> None:
    metrics = Metrics()
    call = Wasted(b"t" * 16, b"s" * 8, T0_NS, "1", *BASE, "answer", 250, names.CANCELLED)
    Counts(metrics).lost([LostRun(*BASE, "1", [call, call._replace(span_id=b"u" * 8, nano=0)])])
    assert 2.5e-7 == metrics.value(names.WASTED_COST, *BASE, "answer", names.CANCELLED)


def test_a_lost_run_that_ends_after_all_is_counted_under_both_statuses() -> None:
    metrics = Metrics()
    counts = Counts(metrics)
    counts.lost([LostRun(*BASE, "1")])
    counts.count(WriteResult([run()], 0, [ended(run())]))
    assert {("ok",): 1, ("error",): 0, ("interrupted",): 0, ("cancelled",): 0, ("lost",): 1} == of(names.RUNS, metrics)


def test_known_series_are_there_at_zero_before_anything_happens() -> None:
    metrics = Metrics()
    known = [
        Series(*BASE, "", names.RUN, "", ""),
        Series(*BASE, "answer", names.NODE, "", ""),
        Series(*BASE, *GPT[:1], names.MODEL, *GPT[1:]),
        Series(*BASE, "answer", names.TOOL, "", "search"),
        Series(*BASE, "answer", names.RETRIEVER, "", "wiki"),
        Series(*BASE, "answer", names.SUBGRAPH, "", ""),
    ]
    Counts(metrics).precreate([*known, *known])

    none = (0, 0)
    assert {
        names.RUNS_STARTED.name: {(): 0},
        names.RUNS.name: {(status,): 0 for status in (*names.SPAN_STATUSES, names.LOST)},
        names.RUN_DURATION.name: {(): none},
        names.RUN_COST.name: {(): none},
        names.RUN_STEPS.name: {(): none},
        names.NODE_RUNS.name: {("answer", "ok"): 0, ("answer", "error"): 0},
        names.NODE_ATTEMPTS.name: {("answer", "ok"): 0, ("answer", "error"): 0},
        names.NODE_DURATION.name: {("answer",): none},
        names.LLM_CALLS.name: {(*GPT, "ok"): 0, (*GPT, "error"): 0},
        names.LLM_DURATION.name: {GPT: none},
        names.COST.name: {GPT: 0},
        names.TOOL_CALLS.name: {("answer", "search", "ok"): 0, ("answer", "search", "error"): 0},
    } == shown(metrics)


def test_precreating_takes_nothing_from_what_was_counted() -> None:
    metrics = counted(start(), record(1, node="answer"))
    before = shown(metrics)
    Counts(metrics).precreate([Series(*BASE, "", names.RUN, "", ""), Series(*BASE, "answer", names.NODE, "", "")])
    assert before == shown(metrics)


def test_exemplars_name_the_trace_of_a_run_an_execution_a_call_and_an_error() -> None:
    metrics = Metrics()
    counts = Counts(metrics)
    records = whole_run(status=names.ERROR)
    commit = WriteResult(records, 0, [ended(records[-1], nano=1_701)])
    counts.count(commit)
    metrics.render(OPENMETRICS)
    page = metrics.render(OPENMETRICS)[0].decode()

    marked = {line.partition("{")[0].removesuffix("_bucket") for line in page.splitlines() if trace(1).hex() in line}
    assert {
        each.name
        for each in (
            names.RUNS,
            names.RUN_DURATION,
            names.RUN_COST,
            names.NODE_RUNS,
            names.NODE_DURATION,
            names.LLM_CALLS,
            names.LLM_DURATION,
            names.COST,
            names.ERRORS,
        )
    } == marked


def test_what_is_remembered_as_declared_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "_MOST_DECLARED", 10)
    metrics = Metrics()
    counts = Counts(metrics)
    for number in range(25):
        counts.count(WriteResult([record(number, node=f"node {number}")], 0, []))

    assert len(counts._declared) <= 10
    assert 25 == sum(of(names.NODE_RUNS, metrics).values())


def test_runs_of_other_senders_do_not_say_how_many_steps_they_made() -> None:
    root = run(foreign=True)
    metrics = counted(root, finished=[ended(root)])
    assert ({(): (1, 1.0)}, {(): (0, 0.0)}) == (of(names.RUN_DURATION, metrics), of(names.RUN_STEPS, metrics))
