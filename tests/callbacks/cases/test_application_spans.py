"""Cases 42 to 47: the application's own spans and ours in one tree, and nothing of ours left in its context.

Sampling, baggage and what the application sets on the current span: tests/callbacks/test_context.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from opentelemetry import context as otel_context

from callbacks.application import Application
from callbacks.fakes import FakeChat, State, chain_of, current_span_id, nothing
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TREE = f"run demo ok\n  node ask ok\n    {MINI}"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Application:
    return Application(monkeypatch)


def graph_with(way: Way, before: Any, model: FakeChat, after: Any) -> Any:
    """A node that does something, asks `model`, and does something else."""

    def node(state: State) -> State:
        before()
        model.invoke("hi")
        after()
        return {"x": 1}

    async def node_async(state: State) -> State:
        before()
        await model.ainvoke("hi")
        after()
        return {"x": 1}

    return chain_of(("ask", node_async if way.asynchronous else node))


async def test_runs_one_after_another_do_not_chain(
    way: Way, spans: InMemorySpans, bound: Any, app: Application
) -> None:
    """Case 42."""
    graph = chain_of(("ask", way.asking(FakeChat())))
    await way.invoke(graph, {}, bound)
    with app.tracer.start_as_current_span("between"):
        pass
    await way.invoke(graph, {}, bound)
    assert f"{TREE}\n{TREE}" == whole(spans)
    ours = "run demo\n  node ask\n    model gpt-4o-mini"
    assert f"{ours}\n[between]\n{ours}" == app.tree(spans)
    traces = {span.trace_id for span in spans.spans("run")} | {app.spans()["between"].context.trace_id}
    assert 3 == len(traces)
    assert 0 == current_span_id()


async def test_runs_at_once_in_one_task_or_thread_stay_apart(spans: InMemorySpans, bound: Any) -> None:
    """Case 43; under threads it is case 51."""
    current: list[int] = []

    async def node(state: State) -> State:
        await asyncio.sleep(0.01)
        current.append(current_span_id())
        await FakeChat().ainvoke("hi")
        return {"x": 1}

    graph = chain_of(("ask", node))
    await asyncio.gather(*(graph.ainvoke({}, config=bound) for _ in range(5)))
    assert "\n".join([TREE] * 5) == whole(spans)
    assert sorted(current) == sorted(span.span_id for span in spans.spans("node"))
    assert 5 == len({span.trace_id for span in spans.spans("run")})
    assert 0 == current_span_id()


async def test_a_batch_of_a_sequence_does_not_nest_its_runs_nor_the_next(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 44: a sequence takes the steps of all its inputs in turns, in one thread."""
    graph = chain_of(("ask", way.asking(FakeChat())))
    sequence = RunnableLambda(lambda x: x) | graph | RunnableLambda(lambda x: x)
    before = otel_context.get_current()
    if way.asynchronous:
        await sequence.abatch([{}, {}], config=bound)
        await graph.abatch([{}, {}], config=bound)
    else:
        sequence.batch([{}, {}], config=bound)
        graph.batch([{}, {}], config=bound)
    if not way.asynchronous:
        assert before is otel_context.get_current()
    assert 0 == current_span_id()
    await way.invoke(graph, {}, bound)
    assert "\n".join([TREE] * 5) == whole(spans)
    assert [None] * 5 == [span.parent_id for span in spans.spans("run")]
    assert 5 == len({span.trace_id for span in spans.spans("run")})


async def test_spans_of_the_application_nest_where_they_are_opened(
    way: Way, spans: InMemorySpans, bound: Any, app: Application
) -> None:
    """Case 45, around the whole of case 47."""

    def span(name: str) -> Any:
        def open_and_close() -> None:
            with app.tracer.start_as_current_span(name):
                pass

        return open_and_close

    graph = graph_with(way, span("before"), FakeChat(seen=span("http")), span("after"))
    with app.tracer.start_as_current_span("request"):
        await way.invoke(graph, {}, bound)
        span("response")()
    assert (
        "[request]\n"
        "  run demo\n"
        "    node ask\n"
        "      [before]\n"
        "      model gpt-4o-mini\n"
        "        [http]\n"
        "      [after]\n"
        "  [response]" == app.tree(spans)
    )
    assert TREE == whole(spans)
    assert {spans.one("run").trace_id} == {found.context.trace_id for found in app.finished()}


async def test_a_call_inside_a_span_of_the_application_nests_under_it(
    way: Way, spans: InMemorySpans, bound: Any, app: Application
) -> None:
    """Case 46, also for a graph and a chain of calls inside such a span."""
    inner = chain_of(("n", way.node(nothing)), name="inner")
    chain = FakeChat() | RunnableLambda(lambda message: "hi") | FakeChat(model="gpt-4o")

    def node(state: State) -> State:
        with app.tracer.start_as_current_span("work"):
            chain.invoke("hi")
            inner.invoke({})
        return {"x": 1}

    async def node_async(state: State) -> State:
        with app.tracer.start_as_current_span("work"):
            await chain.ainvoke("hi")
            await inner.ainvoke({})
        return {"x": 1}

    await way.invoke(chain_of(("ask", node_async if way.asynchronous else node)), {}, bound)
    assert (
        "run demo\n"
        "  node ask\n"
        "    [work]\n"
        "      model gpt-4o-mini\n"
        "      model gpt-4o\n"
        "      subgraph inner\n"
        "        node n" == app.tree(spans)
    )


@pytest.mark.parametrize("early", [False, True], ids=["to-the-end", "left"])
async def test_a_stream_inside_a_span_of_the_application_leaves_it_current(
    way: Way, spans: InMemorySpans, bound: Any, app: Application, early: bool
) -> None:
    """Case 47, streamed."""
    graph = chain_of(("a", way.node(nothing)), ("b", way.node(nothing)))
    with app.tracer.start_as_current_span("request") as request:
        if way.asynchronous:
            stream: Any = graph.astream({}, bound)
            async for _ in stream:
                if early:
                    break
            await stream.aclose()
        else:
            stream = graph.stream({}, bound)
            for _ in stream:
                if early:
                    break
            stream.close()
        assert request.get_span_context().span_id == current_span_id()
    expected = "[request]\n  run demo\n    node a" + ("" if early else "\n    node b")
    assert expected == app.tree(spans)
    assert ["cancelled" if early else "ok"] == [span.status for span in spans.spans("run")]


async def test_a_stream_driven_from_several_tasks_stays_one_tree(
    spans: InMemorySpans, bound: Any, app: Application
) -> None:
    """Case 48: each part is asked for in a task and a span of its own."""
    stream = chain_of(("a", nothing), ("ask", Way(True).asking(FakeChat()))).astream({}, config=bound)

    async def step(number: int) -> Any:
        with app.tracer.start_as_current_span(f"task {number}"):
            return await anext(stream, None)

    number = 0
    while await asyncio.create_task(step(number)) is not None:
        number += 1
    assert TREE.replace("\n", "\n  node a ok\n", 1) == whole(spans)
    # The run began in the first task, under whose span it stays.
    ours = "  run demo\n    node a\n    node ask\n      model gpt-4o-mini"
    assert f"[task 0]\n{ours}\n[task 1]\n[task 2]" == app.tree(spans)
