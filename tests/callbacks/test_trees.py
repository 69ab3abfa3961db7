"""Which runs of LangGraph become which spans."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph

from callbacks.fakes import FakeChat, State, chain_of, nothing
from graphmeter import langgraph, meter, names
from graphmeter.testing import InMemorySpans, RecordedSpan

pytestmark = pytest.mark.usefixtures("no_faults")


class Many(TypedDict):
    x: Annotated[list[int], operator.add]


def spans_by_id(spans: InMemorySpans) -> dict[int | None, RecordedSpan]:
    return {span.span_id: span for span in spans.spans()}


def config(spans: InMemorySpans, **more: Any) -> Any:
    return {"callbacks": [spans.handler()], **more}


def test_identities_derive_from_the_langchain_run(spans: InMemorySpans) -> None:
    import uuid

    run_id = uuid.UUID("0193aaaa-bbbb-7ccc-8ddd-eeeeffff0001")
    chain_of(("n", nothing)).invoke({}, config=config(spans, run_id=run_id))
    root = spans.one("run")
    assert (run_id.int >> 64) ^ (run_id.int & (1 << 64) - 1) == root.span_id
    # The two variant bits carry two random ones: see records.trace_id_of.
    assert run_id.int ^ (1 << 62) == root.trace_id
    assert str(run_id) == root.attributes[names.RUN_ID]


def test_a_start_record_announces_the_run_below_its_root(spans: InMemorySpans) -> None:
    chain_of(("n", nothing)).invoke({}, config=config(spans, metadata={"graphmeter_team": "cx"}))
    (start,) = [span for span in spans.all() if span.kind == names.START]
    root = spans.one("run")
    assert (root.trace_id, root.span_id) == (start.trace_id, start.parent_id)
    assert start.start_ns == start.end_ns == root.start_ns
    assert ("cx", "demo", "running") == tuple(start.attributes[key] for key in (names.TEAM, names.GRAPH, names.STATUS))


def test_a_run_counts_its_own_steps_and_not_those_of_its_thread(spans: InMemorySpans) -> None:
    graph = chain_of(("a", nothing), ("b", nothing), checkpointer=InMemorySaver())
    thread = config(spans, configurable={"thread_id": "t1"})
    for _ in range(3):
        graph.invoke({"x": 0}, config=thread)
    assert [2, 2, 2] == [span.attributes[names.LANGGRAPH_STEP] for span in spans.spans("run")]
    assert 9 <= max(span.attributes[names.LANGGRAPH_STEP] for span in spans.spans("node", "b"))


def test_routers_prompts_and_hidden_runs_make_no_span(spans: InMemorySpans) -> None:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    chain = ChatPromptTemplate.from_template("say {x}") | FakeChat() | StrOutputParser()

    def ask(state: State) -> State:
        chain.invoke({"x": 1})
        return {"x": 1}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_node("other", RunnableLambda(nothing))
    builder.add_conditional_edges(START, lambda state: "ask", ["ask", "other"])
    builder.add_conditional_edges("ask", lambda state: "other", ["other", END])
    builder.compile(name="routed").invoke({}, config=config(spans))
    expected = "run routed ok\n  node ask ok\n    model gpt-4o-mini ok 10→5\n  node other ok"
    assert expected == spans.tree()


def test_a_graph_inside_a_plain_chain_is_the_run(spans: InMemorySpans) -> None:
    chain = RunnableLambda(lambda x: {}) | chain_of(("n", nothing)) | RunnableLambda(lambda x: "hi") | FakeChat()
    chain.invoke("x", config=config(spans))
    assert "run demo ok\n  node n ok\nmodel gpt-4o-mini ok 10→5" == spans.tree()
    run, call = spans.one("run"), spans.one("model")
    assert run.trace_id == call.trace_id
    assert names.RUN_ID not in call.attributes


def test_a_model_call_outside_of_graphs_is_recorded_without_a_run(spans: InMemorySpans) -> None:
    FakeChat().invoke("hi", config=config(spans, metadata={"graphmeter_team": "cx"}))
    assert "model gpt-4o-mini ok 10→5" == spans.tree()
    call = spans.one("model")
    assert (None, "", "cx") == (call.parent_id, call.attributes[names.NODE_PATH], call.attributes[names.TEAM])
    assert names.RUN_ID not in call.attributes
    assert names.GRAPH not in call.attributes
    assert [] == [span for span in spans.all() if span.kind == names.START]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_graph_that_does_not_introduce_itself_is_known_by_its_nodes(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    # LangGraph before 1.1 stamps nothing on a graph.
    monkeypatch.setattr(langgraph, "is_graph", lambda metadata, parent: False)
    builder = StateGraph(Many)
    builder.add_node("a", lambda state: {"x": [1]})
    builder.add_node("b", chain_of(("inner", lambda state: {}), name="sub"))
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    graph = builder.compile(name="demo")
    said = {"graphmeter_team": "cx"}
    if asynchronous:
        await graph.ainvoke({"x": []}, config=config(spans, metadata=said))
    else:
        graph.invoke({"x": []}, config=config(spans, metadata=said))
    assert "run demo ok" == spans.tree().splitlines()[0]
    assert {
        "node": {"run"},
        "subgraph": {"node"},
    } == {
        kind: {spans_by_id(spans)[span.parent_id].kind for span in spans.spans(kind) if span.label != "inner"}
        for kind in ("node", "subgraph")
    }
    assert 1 == len({span.attributes[names.RUN_ID] for span in spans.all()})
    assert {"cx"} == {span.attributes[names.TEAM] for span in spans.all()}
    assert ["node", "node", "node", "run", "start", "subgraph"] == sorted(span.kind for span in spans.all())


def test_an_unnamed_graph_takes_the_name_of_the_service(spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    chain_of(("n", nothing), name=None).invoke({}, config=config(spans))
    assert "run shop ok\n  node n ok" == spans.tree()
    assert {"shop"} == {span.attributes[names.GRAPH] for span in spans.all()}


@pytest.mark.parametrize("how", ["config", "meter"])
def test_an_entrypoint_is_called_as_its_function(spans: InMemorySpans, how: str) -> None:
    @entrypoint()
    def flow(n: int) -> int:
        return n

    if how == "meter":
        meter(flow, handler=spans.handler()).invoke(1)
    else:
        flow.invoke(1, config=config(spans))
    assert "run flow ok\n  node flow ok" == spans.tree()


def test_retrievers_are_spans(spans: InMemorySpans) -> None:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever

    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
            return [Document("d")]

    def node(state: State) -> State:
        Shelf().invoke("q")
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config=config(spans))
    assert "run demo ok\n  node n ok\n    retriever Shelf ok" == spans.tree()
