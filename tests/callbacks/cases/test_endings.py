"""Cases 19 and 21 to 24: cancelled runs, failing branches, limits of steps and time, and error handlers of nodes."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy

from callbacks.fakes import FakeChat, State, chain_of, nothing
from callbacks.trees import MINI, whole
from callbacks.versions import ERROR_HANDLER, NODE_TIMEOUT, needs_langgraph
from callbacks.ways import Way
from graphmeter import names, runs
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


class Sum(TypedDict):
    x: Annotated[int, operator.add]


def fail(state: Any) -> Any:
    raise ValueError("no")


async def test_a_cancelled_run_closes_everything_that_was_open(spans: InMemorySpans, bound: Any) -> None:
    """Case 19: LangChain reports no end of a call that is cancelled while it waits for the whole answer."""
    asked = asyncio.Event()

    class Waiting(FakeChat):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            asked.set()
            await asyncio.sleep(60)

    inner = chain_of(("ask", Way(True).asking(Waiting())), name="inner")
    graph = chain_of(("a", Way(True).asking(FakeChat())), ("sub", inner))
    running = asyncio.create_task(graph.ainvoke({}, bound))
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (
        "run demo cancelled\n"
        f"  node a ok\n    {MINI}\n"
        "  node sub cancelled\n"
        "    subgraph inner cancelled\n"
        "      node ask cancelled\n"
        "        model gpt-4o-mini cancelled" == whole(spans)
    )
    assert not any(span.otel_error for span in spans.spans())
    assert 0 == runs.open_runs()


async def test_a_failing_branch_fails_the_run_and_not_its_sibling(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 21: sync branches run to their end, async ones are cancelled."""

    async def bad(state: Sum) -> Sum:
        await asyncio.sleep(0.1)
        raise ValueError("no")

    builder = StateGraph(Sum)
    builder.add_node("bad", bad if way.asynchronous else fail)
    builder.add_node("slow", way.slow(5 if way.asynchronous else 0.05))
    builder.add_edge(START, "bad")
    builder.add_edge(START, "slow")
    with pytest.raises(ValueError):
        await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    ended = "cancelled" if way.asynchronous else "ok"
    assert f"run demo error\n  node bad error\n  node slow {ended}" == whole(spans, by_name=True)
    assert ["ValueError"] * 2 == [span.attributes[names.ERROR_TYPE] for span in spans.spans() if span.otel_error]


async def test_the_recursion_limit_fails_the_run_and_no_node(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 22."""
    builder = StateGraph(State)
    builder.add_node("n", way.node(nothing))
    builder.add_edge(START, "n")
    builder.add_edge("n", "n")
    with pytest.raises(GraphRecursionError):
        await way.invoke(builder.compile(name="demo"), {}, {**bound, "recursion_limit": 3})
    assert "run demo error\n  node n ok\n  node n ok\n  node n ok" == whole(spans)
    assert "langgraph.errors.GraphRecursionError" == spans.one("run").attributes[names.ERROR_TYPE]
    assert 3 == spans.one("run").attributes[names.LANGGRAPH_STEP]


async def test_a_step_that_runs_out_of_time_fails_the_run(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 23: an async node is cancelled, a sync one cannot be and ends first."""
    graph = chain_of(("slow", way.slow(5 if way.asynchronous else 0.6)), ("never", way.node(nothing)))
    graph.step_timeout = 0.2
    with pytest.raises(TimeoutError):
        await way.invoke(graph, {}, bound)
    ended = "cancelled" if way.asynchronous else "ok"
    assert f"run demo error\n  node slow {ended}" == whole(spans)
    assert spans.one("run").attributes[names.ERROR_TYPE] in ("TimeoutError", "asyncio.exceptions.TimeoutError")


@needs_langgraph(NODE_TIMEOUT, "time limit of a node")
async def test_a_node_that_runs_out_of_time_carries_the_reason(spans: InMemorySpans, bound: Any) -> None:
    """Case 23: LangGraph allows the limit for async nodes, tells the node "cancelled", and the graph why."""
    builder = StateGraph(State)
    builder.add_node("slow", Way(True).slow(5), timeout=0.3)
    builder.add_edge(START, "slow")
    with pytest.raises(Exception, match="slow"):
        await builder.compile(name="demo").ainvoke({}, bound)
    assert "run demo error\n  node slow error" == whole(spans)
    assert ["langgraph.errors.NodeTimeoutError"] * 2 == [span.attributes[names.ERROR_TYPE] for span in spans.spans()]


@needs_langgraph(ERROR_HANDLER, "error handler of a node")
async def test_a_node_whose_error_is_handled_fails_alone(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 24: the handler is a node of LangGraph's naming; what it does is billed there."""
    model = FakeChat()

    def handle(state: State) -> Command[Any]:
        model.invoke("what now?")
        return Command(goto="after")

    async def handle_async(state: State) -> Command[Any]:
        await model.ainvoke("what now?")
        return Command(goto="after")

    builder = StateGraph(State)
    twice = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False, retry_on=ValueError)
    handler: Any = handle_async if way.asynchronous else handle
    builder.add_node("n", way.node(fail), retry_policy=twice, error_handler=handler)
    builder.add_node("after", way.node(nothing))
    builder.add_edge(START, "n")
    await way.invoke(builder.compile(name="demo"), {}, bound)
    assert (
        "run demo ok\n"
        "  node n error attempt 1\n"
        "  node n error attempt 2 final\n"
        f"  node __error_handler__n ok\n    {MINI}\n"
        "  node after ok" == whole(spans)
    )


async def test_a_run_that_fails_before_its_first_node_is_seen(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 21."""
    from langgraph.errors import EmptyInputError

    with pytest.raises(EmptyInputError):
        await way.invoke(chain_of(("n", way.node(nothing))), None, bound)
    assert "run demo error" == whole(spans)
