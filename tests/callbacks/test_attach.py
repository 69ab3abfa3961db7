"""Handler in the config, `meter()`, `instrument()`: each alone, and any mix, gives one tree."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, interrupt

from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of, nothing
from graphmeter import GraphMeterCallbackHandler, instrument, meter, names, uninstrument
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TREE = "run demo ok\n  node ask ok\n    model gpt-4o-mini ok 10→5"


@pytest.fixture
def instrumented(spans: InMemorySpans) -> Iterator[InMemorySpans]:
    instrument(spans.handler())
    yield spans
    uninstrument()


def test_a_metered_graph_is_a_compiled_graph_with_a_name_and_an_owner(spans: InMemorySpans) -> None:
    original = chain_of(("ask", asking(FakeChat())))
    graph = meter(
        original,
        name="support",
        team="cx",
        tenant="acme",
        environment="prod",
        release="1.2",
        tags={"tier": 2},
        handler=spans.handler(),
    )
    assert isinstance(graph, CompiledStateGraph)
    assert original.get_graph().draw_mermaid() == graph.get_graph().draw_mermaid()
    assert {"x": 1} == graph.invoke({})
    assert TREE.replace("demo", "support") == spans.tree()
    expected = {
        names.GRAPH: "support",
        names.TEAM: "cx",
        names.TENANT: "acme",
        names.ENVIRONMENT: "prod",
        names.RELEASE: "1.2",
        names.TAG_PREFIX + "tier": "2",
    }
    for span in spans.all():
        assert expected == {key: span.attributes[key] for key in expected}
    spans.clear()
    original.invoke({})
    assert "" == spans.tree()


def test_one_call_may_override_what_meter_said(spans: InMemorySpans) -> None:
    graph = meter(chain_of(("ask", asking(FakeChat()))), team="cx", handler=spans.handler())
    metadata = {"graphmeter_team": "ops", "user_id": "u1", "session_id": "s1", "graphmeter_tag_plan": "free"}
    graph.invoke({}, config={"metadata": metadata, "configurable": {"thread_id": "t1"}})
    expected = {
        names.TEAM: "ops",
        names.USER: "u1",
        names.SESSION: "s1",
        names.CONVERSATION_ID: "t1",
        names.TAG_PREFIX + "plan": "free",
    }
    for span in spans.all():
        assert expected == {key: span.attributes[key] for key in expected}


def test_the_name_of_a_run_does_not_become_the_name_of_a_metered_graph(spans: InMemorySpans) -> None:
    graph = meter(chain_of(("n", nothing)), handler=spans.handler())
    graph.invoke({}, config={"run_name": "chat-4711"})
    assert "run demo ok\n  node n ok" == spans.tree()


def test_a_metered_graph_works_as_a_subgraph_of_a_metered_graph(spans: InMemorySpans) -> None:
    handler = spans.handler()
    inner = meter(chain_of(("step", nothing), name="inner"), team="theirs", handler=handler)
    graph = meter(chain_of(("sub", inner)), name="outer", team="ours", handler=handler)
    graph.invoke({})
    assert "run outer ok\n  node sub ok\n    subgraph inner ok\n      node step ok" == spans.tree()
    assert {"ours"} == {span.attributes[names.TEAM] for span in spans.all()}


async def test_a_metered_graph_streams_and_runs_async(spans: InMemorySpans) -> None:
    graph = meter(chain_of(("ask", asking_async(FakeChat()))), handler=spans.handler())
    assert [{"ask": {"x": 1}}] == [part async for part in graph.astream({}, stream_mode="updates")]
    assert {"x": 1} == await graph.ainvoke({})
    assert [{"x": 1}, {"x": 1}] == await graph.abatch([{}, {}])
    assert "\n".join([TREE] * 4) == spans.tree()


def test_meter_says_what_it_needs() -> None:
    builder = StateGraph(State)
    builder.add_node("n", nothing)
    builder.add_edge(START, "n")
    with pytest.raises(TypeError, match=r"compile it first: meter\(builder\.compile\(\)\)"):
        meter(builder)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="not int"):
        meter(3)  # type: ignore[type-var]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_instrument_measures_graphs_that_know_nothing_of_it(
    instrumented: InMemorySpans, asynchronous: bool
) -> None:
    instrument()  # again: a graph is not measured twice
    instrument(instrumented.handler())
    if asynchronous:
        await chain_of(("ask", asking_async(FakeChat()))).ainvoke({})
    else:
        chain_of(("ask", asking(FakeChat()))).invoke({})
    assert TREE == instrumented.tree()


def test_instrument_hears_interrupts_and_resumes(instrumented: InMemorySpans) -> None:
    def approve(state: State) -> State:
        return {"x": int(interrupt("ok?"))}

    graph = chain_of(("approve", approve), checkpointer=InMemorySaver(), interrupt_before=["approve"])
    thread: Any = {"configurable": {"thread_id": "t1"}}
    graph.invoke({}, config=thread)
    graph.invoke(None, config=thread)
    graph.invoke(Command(resume=1), config=thread)
    assert (
        "run demo interrupted\nrun demo interrupted\n  node approve interrupted\nrun demo ok\n  node approve ok"
        == instrumented.tree()
    )
    first, second, third = instrumented.spans("run")
    assert ((), (first.span_id,), (second.span_id,)) == (first.links, second.links, third.links)


def test_instrument_reaches_calls_that_no_config_reaches(instrumented: InMemorySpans) -> None:
    def node(state: State) -> State:
        FakeChat().invoke("hi", config={"callbacks": []})
        FakeChat(model="m2").generate([[HumanMessage("hi")]])
        thread = threading.Thread(target=lambda: FakeChat(model="m3").invoke("hi"))
        thread.start()
        thread.join()
        return {"x": 1}

    chain_of(("ask", node)).invoke({})
    # A raw thread knows nothing of the graph; the call is billed, outside of the run.
    assert f"{TREE}\n    model m2 ok 10→5\nmodel m3 ok 10→5" == instrumented.tree()


def test_instrument_measures_model_calls_outside_of_graphs(instrumented: InMemorySpans) -> None:
    FakeChat().invoke("hi")
    assert "model gpt-4o-mini ok 10→5" == instrumented.tree()


def test_uninstrument_undoes_all_of_it(spans: InMemorySpans) -> None:
    before = Pregel.stream, Pregel.astream
    instrument(spans.handler())
    assert before != (Pregel.stream, Pregel.astream)
    uninstrument()
    uninstrument()
    assert before == (Pregel.stream, Pregel.astream)
    chain_of(("ask", asking(FakeChat()))).invoke({})
    assert "" == spans.tree()


def test_uninstrument_leaves_the_wrapper_of_somebody_else_alone(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrument(spans.handler())
    ours = Pregel.stream

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(self, *args, **kwargs)

    monkeypatch.setattr(Pregel, "stream", theirs)
    uninstrument()
    assert theirs is Pregel.stream
    assert {"x": 1} == chain_of(("n", nothing)).invoke({})
    assert "" == spans.tree()
    monkeypatch.undo()
    monkeypatch.setattr(Pregel, "stream", ours.__wrapped__)  # type: ignore[attr-defined]


def test_a_graph_with_our_handler_can_be_copied_and_the_handler_pickled(spans: InMemorySpans) -> None:
    handler = GraphMeterCallbackHandler(team="cx", endpoint="http://127.0.0.1:9")
    assert handler is copy.deepcopy(handler)
    assert isinstance(pickle.loads(pickle.dumps(handler)), GraphMeterCallbackHandler)


def test_a_handler_says_what_metadata_does_not(spans: InMemorySpans) -> None:
    handler = spans.handler(team="cx", tags={"tier": "gold"})
    chain_of(("n", nothing)).invoke({}, config={"callbacks": [handler]})
    run = spans.one("run")
    assert ("cx", "gold") == (run.attributes[names.TEAM], run.attributes[names.TAG_PREFIX + "tier"])
