"""Nodes and edges of a graph arrive however it is measured, once; and its name is the graph's, not the caller's."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from callbacks.fakes import State, chain_of, nothing
from graphmeter import GraphMeterCallbackHandler, guard, instrument, meter, names, topology, uninstrument
from graphmeter.testing import InMemorySpans, RecordedSpan, recorded_span


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHMETER_TOPOLOGY")


@pytest.fixture(params=["handler", "meter", "instrument"])
def attached(request: pytest.FixtureRequest, spans: InMemorySpans) -> Any:
    """A graph in, the same graph measured in one of three ways out, as (graph, config)."""
    handler = spans.handler()

    def attach(graph: Any) -> tuple[Any, dict[str, Any]]:
        if request.param == "handler":
            return graph, {"callbacks": [handler]}
        if request.param == "meter":
            return meter(graph, handler=handler), {}
        instrument(handler)
        return graph, {}

    yield attach
    uninstrument()


def topologies(spans: InMemorySpans) -> list[RecordedSpan]:
    return [span for span in spans.all() if span.kind == names.TOPOLOGY]


def said(span: RecordedSpan) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(span.attributes[names.TOPOLOGY_JSON])
    return text


def branching(**options: Any) -> Any:
    builder = StateGraph(State)
    for name in ("plan", "search", "answer"):
        builder.add_node(name, nothing)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda _: "search", ["search", "answer"])
    builder.add_edge("search", "plan" if options.pop("loop", False) else "answer")
    builder.add_edge("answer", END)
    return builder.compile(**{"name": "support", **options})


BRANCHING: dict[str, list[Any]] = {
    "nodes": ["__start__", "plan", "search", "answer", "__end__"],
    "edges": [
        ["__start__", "plan", False],
        ["plan", "answer", True],
        ["plan", "search", True],
        ["search", "answer", False],
        ["answer", "__end__", False],
    ],
}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.usefixtures("no_faults")
async def test_nodes_and_edges_arrive_in_all_three_ways_once(
    attached: Callable[[Any], Any], spans: InMemorySpans, asynchronous: bool
) -> None:
    graph, config = attached(branching())
    for _ in range(3):
        if asynchronous:
            await graph.ainvoke({}, config=config)
        else:
            graph.invoke({}, config=config)
    (note,) = topologies(spans)
    run = spans.spans("run")[0]
    assert (run.trace_id, run.span_id) == (note.trace_id, note.parent_id)
    assert ("support", run.attributes[names.RUN_ID]) == (note.attributes[names.GRAPH], note.attributes[names.RUN_ID])
    assert BRANCHING["nodes"] == said(note)["nodes"]
    assert sorted(BRANCHING["edges"]) == sorted(said(note)["edges"])


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.usefixtures("no_faults")
async def test_the_name_of_a_run_does_not_become_the_name_of_its_graph(
    attached: Callable[[Any], Any], spans: InMemorySpans, asynchronous: bool
) -> None:
    graph, config = attached(chain_of(("n", nothing)))
    config = {**config, "run_name": "chat-4711"}
    if asynchronous:
        assert [{"x": 1}] == [part async for part in graph.astream({}, config=config, stream_mode="values")][-1:]
    else:
        assert [{"x": 1}] == list(graph.stream({}, config=config, stream_mode="values"))[-1:]
    assert "run demo ok\n  node n ok" == spans.tree()


def test_a_name_bound_to_an_unnamed_graph_is_its_name(spans: InMemorySpans) -> None:
    bound = chain_of(("n", nothing), name=None).with_config(run_name="support")
    bound.invoke({}, config={"callbacks": [spans.handler()], "run_name": "chat-4711"})
    assert "run support ok" == spans.tree().splitlines()[0]


def test_what_says_the_name_aloud_still_wins(spans: InMemorySpans) -> None:
    config: Any = {"callbacks": [spans.handler()], "run_name": "r", "metadata": {"graphmeter_graph": "billing"}}
    chain_of(("n", nothing)).invoke({}, config=config)
    assert "run billing ok" == spans.tree().splitlines()[0]


def test_subgraphs_follow_their_node_under_its_path(spans: InMemorySpans) -> None:
    inner = chain_of(("search", nothing), name="inner")
    graph = chain_of(("plan", nothing), ("research", inner))
    graph.invoke({}, config={"callbacks": [spans.handler()]})
    (note,) = topologies(spans)
    expected = ["__start__", "plan", "research", "__end__"]
    inside = ["research.__start__", "research.search", "research.__end__"]
    assert expected + inside == said(note)["nodes"]
    assert ["research.search", "research.__end__", False] in said(note)["edges"]
    # As on the spans, so that the two can be joined.
    paths = {span.attributes[names.NODE_PATH] for span in spans.spans("node")}
    assert paths <= set(said(note)["nodes"])


def test_a_graph_inside_of_other_runnables_and_the_functional_api_are_found(spans: InMemorySpans) -> None:
    @entrypoint()
    def flow(number: int) -> int:
        return number + 1

    handler = spans.handler()
    (RunnableLambda(lambda x: x) | chain_of(("n", nothing))).invoke({}, config={"callbacks": [handler]})
    assert 2 == flow.invoke(1, config={"callbacks": [handler]})
    first, second = topologies(spans)
    assert (["__start__", "n", "__end__"], {"__start__", "flow", "__end__"}) == (
        said(first)["nodes"],
        set(said(second)["nodes"]),
    )


def test_a_graph_compiled_anew_for_every_request_is_said_once_a_minute(spans: InMemorySpans) -> None:
    handler = spans.handler()
    for _ in range(5):
        chain_of(("n", nothing)).invoke({}, config={"callbacks": [handler]})
    chain_of(("n", nothing), name="other").invoke({}, config={"callbacks": [handler]})
    assert ["demo", "other"] == [note.attributes[names.GRAPH] for note in topologies(spans)]


def test_another_graph_of_the_same_name_is_said_when_the_pause_is_over(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "_PATIENCE_S", 0.2)
    config: Any = {"callbacks": [spans.handler()]}
    chain_of(("n", nothing)).invoke({}, config=config)
    other = chain_of(("n", nothing), ("more", nothing))
    patience = time.monotonic() + 30
    while len(topologies(spans)) < 2:
        assert time.monotonic() < patience
        other.invoke({}, config=config)
    assert "more" in str(topologies(spans)[1].attributes[names.TOPOLOGY_JSON])


def test_a_graph_of_many_nodes_arrives_whole(spans: InMemorySpans) -> None:
    nodes = [(f"a_node_with_quite_a_long_name_{number}", nothing) for number in range(200)]
    chain_of(*nodes).invoke({}, config={"callbacks": [spans.handler()], "recursion_limit": 300})

    [said] = [span for span in spans.all() if span.kind == names.TOPOLOGY]
    assert 202 == len(json.loads(str(said.attributes[names.TOPOLOGY_JSON]))["nodes"])


def test_every_destination_is_told(spans: InMemorySpans) -> None:
    graph = branching()
    with InMemorySpans() as second:
        graph.invoke({}, config={"callbacks": [spans.handler()]})
        graph.invoke({}, config={"callbacks": [second.handler()]})
        assert (1, 1) == (len(topologies(spans)), len(topologies(second)))


def test_a_tracer_provider_is_told_too() -> None:
    kept = InMemorySpans()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    handler = GraphMeterCallbackHandler(tracer_provider=provider)
    branching().invoke({}, config={"callbacks": [handler]})
    (note,) = [span for span in map(recorded_span, kept._spans) if span.kind == names.TOPOLOGY]
    assert BRANCHING["nodes"] == said(note)["nodes"]


def test_it_can_be_switched_off(spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMETER_TOPOLOGY", "off")
    branching().invoke({}, config={"callbacks": [spans.handler()]})
    assert [] == topologies(spans)


def test_a_drawing_that_fails_costs_only_itself(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("no ink")

    monkeypatch.setattr(Pregel, "get_graph", broken)
    with caplog.at_level(logging.WARNING, "graphmeter"):
        assert {"x": 1} == chain_of(("n", nothing)).invoke({}, config={"callbacks": [spans.handler()]})
        assert "run demo ok\n  node n ok" == spans.tree()
    assert [] == topologies(spans)
    assert {"build span: CannotDraw": 1} == guard.faults()
    assert "graph 'demo': ZeroDivisionError: no ink" in caplog.text
    guard.forget()


def test_a_large_graph_is_cut_and_a_graph_inside_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "_MOST_NODES", 4)
    cut = json.loads(topology.drawn(branching()))
    assert (["__start__", "plan", "search", "answer"], 4) == (cut["nodes"], len(cut["edges"]))
    graph = chain_of(("again", nothing))
    monkeypatch.setattr(type(graph), "get_subgraphs", lambda self, **_: iter([("again", self)]))
    monkeypatch.setattr(topology, "_MOST_NODES", 1000)
    assert 3 * topology._DEEPEST == len(json.loads(topology.drawn(graph))["nodes"])
    assert {"graph cut in its topology": 2} == guard.faults()
    guard.forget()
