"""Cases 1 to 7: nodes, model calls in them, routers, branches of one step, and Send."""

from __future__ import annotations

import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from callbacks.fakes import FakeChat, State, chain_of, current_span_id, nothing
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


class Sum(TypedDict):
    x: Annotated[int, operator.add]


def one(state: Sum) -> Sum:
    return {"x": 1}


async def test_a_plain_node_is_one_span_below_its_run(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Cases 1 and 2."""
    inside: list[int] = []

    def plain(state: State) -> State:
        inside.append(current_span_id())
        return {"x": 1}

    assert {"x": 1} == await way.invoke(chain_of(("n", way.node(plain))), {}, bound)
    assert "run demo ok\n  node n ok" == whole(spans)
    run, node = spans.one("run"), spans.one("node")
    assert [node.span_id] == inside
    # Nothing stays behind in the caller: neither current span nor parent of what comes next.
    assert 0 == current_span_id()
    assert run.parent_id is None
    assert ("invoke_workflow demo", "invoke_node n") == (run.name, node.name)
    assert ("n", 1, 1, True) == tuple(
        node.attributes[key] for key in (names.NODE_PATH, names.LANGGRAPH_STEP, names.ATTEMPT, names.ATTEMPT_FINAL)
    )


async def test_a_model_call_is_billed_to_its_node_once(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 3. Cost and tokens stand on the call alone, so that sums over spans are right."""
    await way.invoke(chain_of(("ask", way.asking(FakeChat()))), {}, bound)
    assert f"run demo ok\n  node ask ok\n    {MINI}" == whole(spans)
    assert ["model"] == [span.kind for span in spans.all() if names.USAGE_INPUT in span.attributes]
    assert ["model"] == [span.kind for span in spans.all() if names.COST_USD in span.attributes]
    assert f"{spans.one('node').span_id:016x}" == spans.one("model").attributes[names.ATTEMPT_SPAN]


async def test_a_router_is_no_span(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 4."""
    builder = StateGraph(State)
    builder.add_node("a", way.node(nothing))
    builder.add_node("b", way.node(nothing))
    builder.add_node("never", way.node(nothing))
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", way.node(lambda state: "b"), ["b", "never"])
    builder.add_edge("b", END)
    await way.invoke(builder.compile(name="demo"), {}, bound)
    assert "run demo ok\n  node a ok\n  node b ok" == whole(spans)


async def test_a_router_at_the_start_makes_no_node_of_its_own(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 5: LangGraph runs a hidden `__start__` then."""
    builder = StateGraph(State)
    builder.add_node("a", way.asking(FakeChat()))
    builder.add_node("never", way.node(nothing))
    builder.add_conditional_edges(START, way.node(lambda state: "a"), ["a", "never"])
    await way.invoke(builder.compile(name="demo"), {}, bound)
    assert f"run demo ok\n  node a ok\n    {MINI}" == whole(spans)


async def test_a_router_that_asks_a_model_bills_the_node_it_follows(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Cases 4 and 5: at the start there is no node; the run pays."""
    model = FakeChat()

    def to(target: str) -> Any:
        def route(state: State) -> str:
            model.invoke("where?")
            return target

        async def route_async(state: State) -> str:
            await model.ainvoke("where?")
            return target

        return route_async if way.asynchronous else route

    builder = StateGraph(State)
    builder.add_node("a", way.node(nothing))
    builder.add_conditional_edges(START, to("a"), ["a"])
    builder.add_conditional_edges("a", to(END), [END])
    await way.invoke(builder.compile(name="demo"), {}, bound)
    assert f"run demo ok\n  {MINI}\n  node a ok\n    {MINI}" == whole(spans)
    assert ["", "a"] == [call.attributes[names.NODE_PATH] for call in spans.spans("model")]


async def test_branches_of_one_step_are_siblings(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 6."""
    builder = StateGraph(Sum)
    for name in "abcd":
        builder.add_node(name, way.node(one))
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("a", "c")
    builder.add_edge(["b", "c"], "d")
    await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    assert "run demo ok\n  node a ok\n  node b ok\n  node c ok\n  node d ok" == whole(spans, by_name=True)
    steps = {span.label: span.attributes[names.LANGGRAPH_STEP] for span in spans.spans("node")}
    assert {"a": 1, "b": 2, "c": 2, "d": 3} == steps
    assert 3 == spans.one("run").attributes[names.LANGGRAPH_STEP]


async def test_calls_of_branches_that_overlap_stay_in_their_branch(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 6, with both branches in a call at once."""
    both = threading.Barrier(2)

    def meet() -> None:
        both.wait(60)

    builder = StateGraph(Sum)
    for name in ("gpt-4o", "gpt-4o-mini"):
        # Threads wait for each other inside of their calls; tasks of one loop start before either sleep is over.
        model = FakeChat(model=name, delay_s=0.02) if way.asynchronous else FakeChat(model=name, seen=meet)
        builder.add_node(name, way.asking(model))
        builder.add_edge(START, name)
    assert {"x": 2} == await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    assert (
        "run demo ok\n"
        "  node gpt-4o ok\n"
        "    model gpt-4o ok 10→5 $0.000075\n"
        "  node gpt-4o-mini ok\n"
        f"    {MINI}" == whole(spans, by_name=True)
    )
    one_call, other_call = spans.spans("model")
    assert one_call.start_ns < other_call.end_ns
    assert other_call.start_ns < one_call.end_ns


async def test_each_send_is_a_first_attempt_of_its_own(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 7."""
    builder = StateGraph(Sum)
    builder.add_node("plan", way.node(lambda state: {"x": 0}))
    builder.add_node("work", way.node(one))
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda state: [Send("work", {"x": n}) for n in range(3)], ["work"])
    await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    assert "run demo ok\n  node plan ok\n  node work ok\n  node work ok\n  node work ok" == whole(spans)
    work = spans.spans("node", "work")
    assert 3 == len({span.attributes[names.LANGGRAPH_CHECKPOINT_NS] for span in work})
    assert [1, 1, 1] == [span.attributes[names.ATTEMPT] for span in work]


async def test_a_deferred_node_runs_once_after_all_branches(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 36."""
    builder = StateGraph(Sum)
    for name in ("a", "b", "b2"):
        builder.add_node(name, way.node(one))
    builder.add_node("last", way.asking(FakeChat()), defer=True)
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    builder.add_edge("b", "b2")
    builder.add_edge("a", "last")
    builder.add_edge("b2", "last")
    assert {"x": 4} == await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    assert f"run demo ok\n  node a ok\n  node b ok\n  node b2 ok\n  node last ok\n    {MINI}" == whole(
        spans, by_name=True
    )
    steps = {span.label: span.attributes[names.LANGGRAPH_STEP] for span in spans.spans("node")}
    assert {"a": 1, "b": 1, "b2": 2, "last": 3} == steps
