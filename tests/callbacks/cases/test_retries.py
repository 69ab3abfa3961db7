"""Cases 13 to 15: retries of a node, and nodes that are answered by LangGraph's cache."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

from callbacks.fakes import FakeChat, State, chain_of, nothing
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

QUICK = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False, retry_on=ValueError)


def failing(way: Way, times: int) -> Any:
    """A node that asks a model and then fails, that many times."""
    left = [times]
    model = FakeChat()

    def fail() -> State:
        left[0] -= 1
        if left[0] >= 0:
            raise ValueError("no")
        return {"x": 1}

    def node(state: State) -> State:
        model.invoke("hi")
        return fail()

    async def node_async(state: State) -> State:
        await model.ainvoke("hi")
        return fail()

    return node_async if way.asynchronous else node


def subgraph(way: Way, checkpointer: bool | None) -> Any:
    """Two nodes that ask a model; the second one fails the first time."""
    builder = StateGraph(State)
    builder.add_node("a", way.asking(FakeChat()))
    builder.add_node("b", failing(way, 1))
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    return builder.compile(name="inner", checkpointer=checkpointer)


def retried(action: Any, policy: RetryPolicy = QUICK, checkpointer: InMemorySaver | None = None) -> Any:
    builder = StateGraph(State)
    builder.add_node("n", action, retry_policy=policy)
    builder.add_edge(START, "n")
    return builder.compile(name="demo", checkpointer=checkpointer)


async def test_every_attempt_is_numbered_and_its_calls_are_billed(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 13: waste is what the attempts cost that were not final."""
    await way.invoke(retried(failing(way, 2)), {}, bound)
    assert (
        "run demo ok\n"
        f"  node n error attempt 1\n    {MINI}\n"
        f"  node n error attempt 2\n    {MINI}\n"
        f"  node n ok attempt 3 final\n    {MINI}" == whole(spans)
    )
    nodes = spans.spans("node")
    assert 1 == len({span.attributes[names.LANGGRAPH_CHECKPOINT_NS] for span in nodes})
    by_span = {f"{span.span_id:016x}": span.attributes[names.ATTEMPT] for span in nodes}
    assert [1, 2, 3] == [by_span[call.attributes[names.ATTEMPT_SPAN]] for call in spans.spans("model")]


async def test_the_last_attempt_of_an_exhausted_retry_is_final(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 14."""
    with pytest.raises(ValueError):
        await way.invoke(retried(failing(way, 9)), {}, bound)
    assert (
        "run demo error\n"
        f"  node n error attempt 1\n    {MINI}\n"
        f"  node n error attempt 2\n    {MINI}\n"
        f"  node n error attempt 3 final\n    {MINI}" == whole(spans)
    )
    assert ["ValueError"] * 4 == [span.attributes[names.ERROR_TYPE] for span in spans.spans() if span.otel_error]


async def test_an_error_that_the_policy_does_not_retry_is_final_at_once(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 14."""
    with pytest.raises(ValueError):
        await way.invoke(retried(failing(way, 9), QUICK._replace(retry_on=OSError)), {}, bound)
    assert f"run demo error\n  node n error\n    {MINI}" == whole(spans)


async def test_a_subgraph_that_fails_is_an_attempt_of_its_node(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 13: the retry starts the whole subgraph again."""
    inner = chain_of(("step", failing(way, 1)), name="inner")
    await way.invoke(retried(inner), {}, bound)
    assert (
        "run demo ok\n"
        f"  node n error attempt 1\n    subgraph inner error\n      node step error\n        {MINI}\n"
        f"  node n ok attempt 2 final\n    subgraph inner ok\n      node step ok\n        {MINI}" == whole(spans)
    )


@pytest.mark.parametrize("own", [None, False, True])
@pytest.mark.parametrize("kept", [True, False])
async def test_what_had_finished_in_a_subgraph_is_done_again_when_its_node_is_tried_again(
    way: Way, spans: InMemorySpans, bound: Any, own: bool | None, kept: bool
) -> None:
    """Case 13: a checkpointer changes nothing; what the first time cost was for nothing."""
    inner = subgraph(way, own)
    graph = retried(inner, checkpointer=InMemorySaver() if kept or own else None)
    await way.invoke(graph, {}, {**bound, "configurable": {"thread_id": "t"}})

    assert (
        "run demo ok\n"
        f"  node n error attempt 1\n    subgraph inner error\n      node a ok\n        {MINI}\n"
        f"      node b error\n        {MINI}\n"
        f"  node n ok attempt 2 final\n    subgraph inner ok\n      node a ok\n        {MINI}\n"
        f"      node b ok\n        {MINI}" == whole(spans)
    )
    around = {f"{span.span_id:016x}": span.attributes[names.ATTEMPT] for span in spans.spans("node")}
    assert [1, 1, 2, 2] == [around[call.attributes[names.OUTER_ATTEMPTS]] for call in spans.spans("model")]


async def test_what_had_finished_in_a_subgraph_of_a_thread_is_not_done_again_by_the_next_run(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 14: so it is not for nothing."""
    graph = retried(subgraph(way, None), QUICK._replace(retry_on=OSError), checkpointer=InMemorySaver())
    config = {**bound, "configurable": {"thread_id": "t"}}
    with pytest.raises(ValueError):
        await way.invoke(graph, {}, config)
    await way.invoke(graph, None, config)

    assert (
        f"run demo error\n  node n error\n    subgraph inner error\n      node a ok\n        {MINI}\n"
        f"      node b error\n        {MINI}\n"
        f"run demo ok\n  node n ok\n    subgraph inner ok\n      node b ok\n        {MINI}" == whole(spans)
    )


async def test_a_node_answered_by_its_cache_does_not_run(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 15: LangGraph says nothing of it; the run is seen nevertheless, also if none of its nodes ran."""
    builder = StateGraph(State)
    builder.add_node("n", way.asking(FakeChat()), cache_policy=CachePolicy())
    builder.add_edge(START, "n")
    graph = builder.compile(name="demo", cache=InMemoryCache())
    for _ in range(2):
        assert {"x": 1} == await way.invoke(graph, {"x": 0}, bound)
    assert f"run demo ok\n  node n ok\n    {MINI}\nrun demo ok" == whole(spans)


async def test_a_cached_node_among_others_leaves_a_gap(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 15."""
    builder = StateGraph(State)
    builder.add_node("kept", way.asking(FakeChat()), cache_policy=CachePolicy())
    builder.add_node("after", way.node(nothing))
    builder.add_edge(START, "kept")
    builder.add_edge("kept", "after")
    graph = builder.compile(name="demo", cache=InMemoryCache())
    for _ in range(2):
        await way.invoke(graph, {"x": 0}, bound)
    assert f"run demo ok\n  node kept ok\n    {MINI}\n  node after ok\nrun demo ok\n  node after ok" == whole(spans)
    # Steps are counted from the first node that is seen.
    assert [2, 1] == [run.attributes[names.LANGGRAPH_STEP] for run in spans.spans("run")]
