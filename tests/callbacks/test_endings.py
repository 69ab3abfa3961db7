"""How runs end: errors and attempts, interrupts, cancelled and abandoned streams. Each open run ends exactly once."""

from __future__ import annotations

import asyncio
import gc
import operator
import threading
import time
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.tools import tool
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode

from callbacks.fakes import FakeChat, FakeStreamingChat, State, asking, asking_async, chain_of, nothing
from callbacks.versions import NODE_TIMEOUT, needs_langgraph
from graphmeter import names, runs
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


class Many(TypedDict):
    x: Annotated[list[int], operator.add]


def config(spans: InMemorySpans, **more: Any) -> Any:
    return {"callbacks": [spans.handler()], **more}


def failing(times: int, model: Any = None) -> Any:
    left = [times]

    def node(state: State) -> State:
        if model is not None:
            model.invoke("hi")
        if left[0] > 0:
            left[0] -= 1
            raise ValueError("secret prompt inside")
        return {"x": 1}

    return node


def test_an_error_names_its_type_and_place_but_keeps_its_text(spans: InMemorySpans) -> None:
    with pytest.raises(ValueError):
        chain_of(("n", failing(1))).invoke({}, config=config(spans))
    node = spans.one("node")
    assert node.otel_error
    assert "ValueError" == node.attributes[names.ERROR_TYPE]
    assert node.exception is not None
    assert "ValueError" == node.exception["exception.type"]
    assert "in node" in node.exception["exception.stacktrace"]
    assert "secret prompt inside" not in node.exception.values()


def test_a_failing_branch_leaves_the_finished_one_alone(spans: InMemorySpans) -> None:
    def slow(state: Many) -> Many:
        time.sleep(0.05)
        return {"x": [1]}

    builder = StateGraph(Many)
    builder.add_node("bad", failing(1))
    builder.add_node("slow", slow)
    builder.add_edge(START, "bad")
    builder.add_edge(START, "slow")
    with pytest.raises(ValueError):
        builder.compile(name="demo").invoke({"x": []}, config=config(spans))
    statuses = {span.label: span.status for span in spans.spans()}
    assert {"demo": "error", "bad": "error", "slow": "ok"} == statuses


async def test_a_failing_branch_cancels_its_async_sibling(spans: InMemorySpans) -> None:
    async def slow(state: Many) -> Many:
        await asyncio.sleep(5)
        return {"x": [1]}

    async def bad(state: Many) -> Many:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    builder = StateGraph(Many)
    builder.add_node("bad", bad)
    builder.add_node("slow", slow)
    builder.add_edge(START, "bad")
    builder.add_edge(START, "slow")
    with pytest.raises(ValueError):
        await builder.compile(name="demo").ainvoke({"x": []}, config=config(spans))
    statuses = {span.label: span.status for span in spans.spans()}
    assert {"demo": "error", "bad": "error", "slow": "cancelled"} == statuses


@pytest.mark.parametrize("how", ["close", "break", "forget"])
def test_an_abandoned_stream_is_cancelled_not_failed(spans: InMemorySpans, how: str) -> None:
    graph = chain_of(("a", nothing), ("b", nothing))
    if how == "break":
        for _ in graph.stream({}, config=config(spans)):
            break
    else:
        stream = graph.stream({}, config=config(spans))
        next(stream)
        if how == "close":
            stream.close()
        del stream
    gc.collect()
    assert "run demo cancelled\n  node a ok" == spans.tree()
    assert 0 == runs.open_runs()


async def test_an_async_stream_closed_early_is_cancelled(spans: InMemorySpans) -> None:
    stream = chain_of(("a", nothing), ("b", nothing)).astream({}, config=config(spans))
    await anext(stream)
    await stream.aclose()
    assert "run demo cancelled\n  node a ok" == spans.tree()


@pytest.mark.parametrize("model", [FakeChat(delay_s=5), FakeStreamingChat(delay_s=5)], ids=["whole", "streamed"])
async def test_a_cancelled_graph_closes_everything_that_was_open(spans: InMemorySpans, model: Any) -> None:
    graph = chain_of(("ask", asking_async(model)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await graph.ainvoke({}, config=config(spans))
    assert "run demo cancelled\n  node ask cancelled\n    model gpt-4o-mini cancelled" == spans.tree()
    assert 0 == runs.open_runs()


async def test_nothing_grows_when_calls_are_cancelled(spans: InMemorySpans) -> None:
    graph = chain_of(("ask", asking_async(FakeChat(delay_s=5))))
    bound = config(spans)

    async def once() -> None:
        try:
            async with asyncio.timeout(0.02):
                await graph.ainvoke({}, config=bound)
        except TimeoutError:
            pass

    for _ in range(4):
        await asyncio.gather(*(once() for _ in range(25)))
    assert 0 == runs.open_runs()
    assert {} == runs._STRAYS
    assert {"cancelled": 300} == {
        status: sum(span.status == status for span in spans.spans()) for status in ("cancelled",)
    }


async def test_cancelled_calls_outside_of_graphs_are_given_up_in_time(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once() -> None:
        # LangChain reports no end of a call that is cancelled while it waits for the whole answer.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await FakeChat(delay_s=5).ainvoke("hi", config=config(spans))

    monkeypatch.setattr(runs, "_MOST_STRAYS", 3)
    for _ in range(5):
        await once()
    assert 3 == runs.open_runs()
    assert ["cancelled"] * 2 == [span.status for span in spans.spans("model")]
    monkeypatch.setattr(runs, "_STRAY_PATIENCE_NS", 5_000_000)
    await FakeChat().ainvoke("hi", config=config(spans))
    assert 0 == runs.open_runs()
    assert ["cancelled"] * 5 + ["ok"] == sorted(span.status for span in spans.spans("model"))


def test_the_recursion_limit_fails_the_run_not_its_nodes(spans: InMemorySpans) -> None:
    builder = StateGraph(State)
    builder.add_node("n", nothing)
    builder.add_edge(START, "n")
    builder.add_edge("n", "n")
    with pytest.raises(GraphRecursionError):
        builder.compile(name="demo").invoke({}, config=config(spans, recursion_limit=3))
    assert "run demo error\n  node n ok\n  node n ok\n  node n ok" == spans.tree()
    assert "langgraph.errors.GraphRecursionError" == spans.one("run").attributes[names.ERROR_TYPE]


@needs_langgraph(NODE_TIMEOUT, "time limit of a node")
async def test_a_node_that_runs_out_of_time_carries_the_reason(spans: InMemorySpans) -> None:
    async def slow(state: State) -> State:
        await asyncio.sleep(5)
        return {}

    builder = StateGraph(State)
    builder.add_node("slow", slow, timeout=0.02)
    builder.add_edge(START, "slow")
    with pytest.raises(Exception, match="slow"):
        await builder.compile(name="demo").ainvoke({}, config=config(spans))
    assert "run demo error\n  node slow error" == spans.tree()
    assert "langgraph.errors.NodeTimeoutError" == spans.one("node").attributes[names.ERROR_TYPE]


def test_a_tool_whose_error_is_handled_fails_alone(spans: InMemorySpans) -> None:
    @tool
    def broken(x: int) -> str:
        """Break."""
        raise ValueError("no")

    calls = [{"name": "broken", "args": {"x": 1}, "id": "c1", "type": "tool_call"}]
    from langchain_core.messages import AIMessage
    from langgraph.graph import MessagesState

    def graph(handle: bool) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("tools", ToolNode([broken], handle_tool_errors=handle))
        builder.add_edge(START, "tools")
        return builder.compile(name="demo")

    question = {"messages": [AIMessage("", tool_calls=calls)]}
    graph(True).invoke(question, config=config(spans))
    assert "run demo ok\n  node tools ok\n    tool broken error" == spans.tree()
    spans.clear()
    with pytest.raises(ValueError):
        graph(False).invoke(question, config=config(spans))
    assert "run demo error\n  node tools error\n    tool broken error" == spans.tree()


def test_a_tool_that_answers_with_an_error_message_failed(spans: InMemorySpans) -> None:
    from langchain_core.tools import ToolException

    @tool
    def broken(x: int) -> str:
        """Break."""
        raise ToolException("no")

    broken.handle_tool_error = True

    def node(state: State) -> State:
        broken.invoke({"name": "broken", "args": {"x": 1}, "id": "c1", "type": "tool_call"})
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config=config(spans))
    assert "run demo ok\n  node n ok\n    tool broken error" == spans.tree()


def test_a_call_that_outlives_its_graph_is_still_billed(spans: InMemorySpans) -> None:
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        go.wait(5)

    def node(state: State) -> State:
        from contextvars import copy_context

        def later() -> None:
            FakeChat(seen=wait).invoke("hi")
            done.set()

        threading.Thread(target=copy_context().run, args=(later,)).start()
        started.wait(5)
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config=config(spans))
    assert "run demo ok\n  node n ok" == spans.tree()
    go.set()
    assert done.wait(5)
    assert "run demo ok\n  node n ok\n    model gpt-4o-mini ok 10→5" == spans.tree()
    assert "n" == spans.one("model").attributes[names.NODE_PATH]


def test_many_threads_share_one_handler(spans: InMemorySpans) -> None:
    graph = chain_of(("a", nothing), ("ask", asking(FakeChat())))
    handler = spans.handler()

    def work() -> None:
        for _ in range(20):
            graph.invoke({}, config={"callbacks": [handler]})

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts: dict[str, int] = {}
    for span in spans.all():
        counts[span.kind] = counts.get(span.kind, 0) + 1
    assert {"start": 320, "run": 320, "node": 640, "model": 320} == counts
    assert len(spans.all()) == len({(span.trace_id, span.span_id) for span in spans.all()})
    assert 0 == runs.open_runs()
