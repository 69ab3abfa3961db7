"""Cases met together: interrupts beside each other, beside errors and retries; retries of Sends; what ends a process."""

from __future__ import annotations

import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from callbacks.fakes import FakeChat, State, chain_of, nothing
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names, runs
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

QUICK = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False, retry_on=ValueError)
THREAD: Any = {"configurable": {"thread_id": "t1"}}


class Sum(TypedDict):
    x: Annotated[int, operator.add]


def one(state: Any) -> Any:
    return {"x": 1}


def approve(state: Any) -> Any:
    return {"x": int(interrupt("ok?"))}


def failing(times: int) -> Any:
    """Fails that often, then hands over to `one`."""
    left = [times]

    def node(state: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise ValueError("no")
        return one(state)

    return node


def side_by_side(way: Way, **nodes: Any) -> Any:
    builder = StateGraph(Sum)
    for name, action in nodes.items():
        builder.add_node(name, way.node(action))
        builder.add_edge(START, name)
    return builder.compile(name="demo", checkpointer=InMemorySaver())


async def test_interrupts_of_one_step_are_answered_one_by_one(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Cases 6 and 9."""
    graph = side_by_side(way, a=approve, b=approve)
    asked = (await way.invoke(graph, {"x": 0}, {**bound, **THREAD}))["__interrupt__"]
    assert "run demo interrupted\n  node a interrupted\n  node b interrupted" == whole(spans, by_name=True)
    spans.clear()
    await way.invoke(graph, Command(resume={asked[0].id: 1}), {**bound, **THREAD})
    assert ["interrupted", "ok"] == sorted(span.status for span in spans.spans("node"))
    assert "interrupted" == spans.one("run").status
    spans.clear()
    assert {"x": 2} == await way.invoke(graph, Command(resume={asked[1].id: 1}), {**bound, **THREAD})
    assert {"ok"} == {span.status for span in spans.spans()}


async def test_an_error_beside_an_interrupt_fails_the_run(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Cases 9 and 21."""
    asked, fail = threading.Event(), failing(1)

    def ask(state: Any) -> Any:
        asked.set()
        return approve(state)

    def fail_then(state: Any) -> Any:
        asked.wait(10)  # LangGraph cancels what it has submitted and no thread has begun yet
        return fail(state)

    graph = side_by_side(way, a=ask, b=fail_then)
    with pytest.raises(ValueError):
        await way.invoke(graph, {"x": 0}, {**bound, **THREAD})
    assert "run demo error\n  node a interrupted\n  node b error" == whole(spans, by_name=True)


async def test_an_attempt_may_end_in_an_interrupt(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Cases 9 and 13."""
    fail_once = failing(1)

    def node(state: Any) -> Any:
        fail_once(state)
        return approve(state)

    builder = StateGraph(Sum)
    builder.add_node("n", way.node(node), retry_policy=QUICK)
    builder.add_edge(START, "n")
    graph = builder.compile(name="demo", checkpointer=InMemorySaver())
    await way.invoke(graph, {"x": 0}, {**bound, **THREAD})
    assert "run demo interrupted\n  node n error attempt 1\n  node n interrupted attempt 2 final" == whole(spans)
    spans.clear()
    await way.invoke(graph, Command(resume=1), {**bound, **THREAD})
    assert "run demo ok\n  node n ok" == whole(spans)


async def test_each_send_counts_its_own_attempts(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Cases 7 and 13."""
    fails = {0: failing(0), 1: failing(1), 2: failing(2)}
    builder = StateGraph(Sum)
    builder.add_node("work", way.node(lambda state: fails[state["x"]](state)), retry_policy=QUICK)
    builder.add_conditional_edges(START, lambda state: [Send("work", {"x": n}) for n in range(3)], ["work"])
    await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    by_task: dict[str, list[tuple[str, int, bool]]] = {}
    for span in spans.spans("node"):
        said = span.attributes
        task = by_task.setdefault(said[names.LANGGRAPH_CHECKPOINT_NS], [])
        task.append((span.status, said[names.ATTEMPT], said[names.ATTEMPT_FINAL]))
    assert [
        [("error", 1, False), ("error", 2, False), ("ok", 3, True)],
        [("error", 1, False), ("ok", 2, True)],
        [("ok", 1, True)],
    ] == sorted(by_task.values())


async def test_a_router_that_fails_fails_the_node_it_follows(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Cases 4 and 5: at the start there is none."""

    def route(state: Any) -> str:
        raise KeyError("nowhere")

    for start in ("a", START):
        builder = StateGraph(State)
        builder.add_node("a", way.node(nothing))
        if start == "a":
            builder.add_edge(START, "a")
        builder.add_conditional_edges(start, way.node(route), ["a"])
        with pytest.raises(KeyError):
            await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    assert "run demo error\n  node a error\nrun demo error" == whole(spans)


async def test_a_failed_run_that_is_taken_up_again_is_another_run(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 14: the node is tried again by a new run, as a first attempt of that."""
    graph = side_by_side(way, n=failing(1))
    with pytest.raises(ValueError):
        await way.invoke(graph, {"x": 0}, {**bound, **THREAD})
    await way.invoke(graph, None, {**bound, **THREAD})
    assert "run demo error\n  node n error\nrun demo ok\n  node n ok" == whole(spans)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_whoever_stops_the_process_cancels_the_run(spans: InMemorySpans, bound: Any, stop: type[BaseException]) -> None:
    """Case 18: Ctrl-C and sys.exit() are no errors of the graph. (An event loop does not let them through a task.)"""

    def node(state: Any) -> Any:
        raise stop

    with pytest.raises(stop):
        chain_of(("n", node)).invoke({}, bound)
    assert "run demo cancelled\n  node n cancelled" == whole(spans)
    assert 0 == runs.open_runs()


async def test_a_batch_of_a_graph_is_a_run_each(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 44, for graphs."""
    graph = chain_of(("ask", way.asking(FakeChat())))
    if way.asynchronous:
        await graph.abatch([{}, {}], bound)
    else:
        graph.batch([{}, {}], bound)
    assert "\n".join([f"run demo ok\n  node ask ok\n    {MINI}"] * 2) == whole(spans)
    assert 2 == len({run.trace_id for run in spans.spans("run")})
