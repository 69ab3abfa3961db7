"""What the client measures is what the workload says it did, span by span, before any collector has a say."""

from __future__ import annotations

from collections import Counter

import pytest
from opentelemetry import trace

import graphmeter
from graphmeter import names
from graphmeter.testing import InMemorySpans, RecordedSpan
from graphmeter_examples.tally import Tally, by
from graphmeter_examples.workload import Graph, Workload, run_workload


@pytest.fixture(scope="module")
def measured() -> tuple[list[RecordedSpan], Tally]:
    with InMemorySpans() as spans:
        handler = spans.handler()

        def attach(graph: Graph, /, *, name: str, team: str) -> Graph:
            return graphmeter.meter(graph, name=name, team=team, handler=handler)

        tally = run_workload(attach, workload=Workload(7, 200), time_scale=0.002)
        return spans.all(), tally


def count(spans: list[RecordedSpan], kind: str, *attributes: str) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(str(span.attributes.get(name, "")) for name in attributes) for span in spans if span.kind == kind
    )


def test_every_run_is_a_span_and_has_a_start_record(measured: tuple[list[RecordedSpan], Tally]) -> None:
    spans, tally = measured
    assert by(tally.runs, "graph", "team", "status") == count(spans, names.RUN, names.GRAPH, names.TEAM, names.STATUS)
    assert tally.runs.total() == count(spans, names.START).total()


def test_every_attempt_of_a_node_is_a_span(measured: tuple[list[RecordedSpan], Tally]) -> None:
    spans, tally = measured
    assert by(tally.attempts, "graph", "node", "status", "final") == count(
        spans, names.NODE, names.GRAPH, names.NODE_PATH, names.STATUS, names.ATTEMPT_FINAL
    )


def test_every_model_call_is_a_span_that_names_who_answered(measured: tuple[list[RecordedSpan], Tally]) -> None:
    spans, tally = measured
    calls: Counter[tuple[str, ...]] = Counter()
    for span in spans:
        if span.kind == names.MODEL:
            said = span.attributes
            model = str(said.get(names.RESPONSE_MODEL) or said[names.REQUEST_MODEL])
            place = (str(said[names.GRAPH]), str(said.get(names.TEAM, "")), str(said[names.NODE_PATH]))
            calls[(*place, model, str(said[names.STATUS]))] += 1
    assert by(tally.model_calls, "graph", "team", "node", "model", "status") == calls


@pytest.mark.parametrize(
    ("attribute", "buckets"),
    [
        (names.USAGE_INPUT, names.INPUT_TOKEN_TYPES),
        (names.USAGE_OUTPUT, names.OUTPUT_TOKEN_TYPES),
        (names.USAGE_CACHE_READ, ("cache_read",)),
        (names.USAGE_REASONING, ("reasoning",)),
        (names.CACHE_WRITE_5M_TOKENS, ("cache_write_5m",)),
        (names.CACHE_WRITE_1H_TOKENS, ("cache_write_1h",)),
    ],
)
def test_tokens_add_up(measured: tuple[list[RecordedSpan], Tally], attribute: str, buckets: tuple[str, ...]) -> None:
    spans, tally = measured
    by_node: Counter[tuple[str, ...]] = Counter()
    for span in spans:
        if tokens := int(span.attributes.get(attribute, 0)):
            by_node[str(span.attributes[names.GRAPH]), str(span.attributes[names.NODE_PATH])] += tokens
    assert by({key: n for key, n in tally.tokens.items() if key.type in buckets}, "graph", "node") == by_node


def test_every_tool_and_retriever_call_is_a_span(measured: tuple[list[RecordedSpan], Tally]) -> None:
    spans, tally = measured
    for kind, calls in ((names.TOOL, tally.tool_calls), (names.RETRIEVER, tally.retriever_calls)):
        found: Counter[tuple[str, ...]] = Counter()
        for span in spans:
            if span.kind == kind:
                node = str(span.attributes[names.NODE_PATH])
                found[str(span.attributes[names.GRAPH]), node, span.label, span.status] += 1
        assert by(calls, "graph", "node", "tool", "status") == found


def test_every_span_belongs_to_a_run_and_nothing_is_left_behind(measured: tuple[list[RecordedSpan], Tally]) -> None:
    spans, _ = measured
    runs = {span.trace_id for span in spans if span.kind == names.RUN}
    assert {span.trace_id for span in spans} == runs
    assert len({(span.trace_id, span.span_id) for span in spans}) == len(spans)
    assert not trace.get_current_span().get_span_context().is_valid
    assert graphmeter.stats().open_runs == 0
