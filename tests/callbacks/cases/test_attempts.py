"""Attempts: every failed one is stamped final or not, and every call carries the attempt that it was made in.

`whole` checks the second for each tree. The plain cases, 13 and 14, have a file of their own.
"""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, Send

from callbacks.fakes import FakeChat, State, chain_of
from callbacks.trees import MINI, whole
from callbacks.versions import NODE_TIMEOUT, OWN_METADATA, needs_langgraph
from callbacks.ways import Way
from graphmeter import names, runs
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

QUICK = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False, retry_on=ValueError)


class Sum(TypedDict):
    x: Annotated[int, operator.add]


def flaky(way: Way, failures: int, key: Any = None) -> Any:
    """A node that asks a model, then fails as often as said; counted apart for each value of `key(state)`."""
    left: dict[Any, int] = {}

    def after(state: Any) -> Any:
        about = key(state) if key is not None else None
        left[about] = left.get(about, failures) - 1
        if left[about] >= 0:
            raise ValueError("not yet")
        return {"x": 1}

    def node(state: Any) -> Any:
        FakeChat().invoke("hi")
        return after(state)

    async def node_async(state: Any) -> Any:
        await FakeChat().ainvoke("hi")
        return after(state)

    return node_async if way.asynchronous else node


def retrying(*nodes: tuple[str, Any], state: Any = State, name: str = "demo") -> Any:
    """A graph of one step whose nodes are tried up to three times."""
    builder = StateGraph(state)
    for label, action in nodes:
        builder.add_node(label, action, retry_policy=QUICK)
        builder.add_edge(START, label)
    return builder.compile(name=name)


async def test_attempts_in_a_subgraph_are_its_own(way: Way, spans: InMemorySpans, bound: Any) -> None:
    inner = retrying(("search", flaky(way, 1)), name="inner")
    await way.invoke(chain_of(("research", inner)), {}, bound)
    assert (
        "run demo ok\n"
        "  node research ok\n"
        "    subgraph inner ok\n"
        "      node search error attempt 1\n"
        f"        {MINI}\n"
        "      node search ok attempt 2 final\n"
        f"        {MINI}" == whole(spans)
    )


async def test_a_subgraph_that_is_tried_again_starts_anew(way: Way, spans: InMemorySpans, bound: Any) -> None:
    inner = chain_of(("search", flaky(way, 1)), name="inner")
    await way.invoke(retrying(("research", inner)), {}, bound)
    # The inner node was not tried again, its graph was: its one attempt is the last of that graph.
    assert (
        "run demo ok\n"
        "  node research error attempt 1\n"
        "    subgraph inner error\n"
        "      node search error\n"
        f"        {MINI}\n"
        "  node research ok attempt 2 final\n"
        "    subgraph inner ok\n"
        "      node search ok\n"
        f"        {MINI}" == whole(spans)
    )


async def test_branches_and_sends_of_one_step_are_counted_apart(way: Way, spans: InMemorySpans, bound: Any) -> None:
    builder = StateGraph(Sum)
    builder.add_node("plan", way.node(lambda state: {"x": 0}))
    builder.add_node("work", flaky(way, 1, key=lambda state: state["x"]), retry_policy=QUICK)
    builder.add_node("other", flaky(way, 2), retry_policy=QUICK)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "other")
    builder.add_conditional_edges("plan", lambda state: [Send("work", {"x": n}) for n in (1, 2)], ["work"])
    await way.invoke(builder.compile(name="demo"), {"x": 0}, bound)
    assert (
        "run demo ok\n"
        "  node other error attempt 1\n"
        f"    {MINI}\n"
        "  node other error attempt 2\n"
        f"    {MINI}\n"
        "  node other ok attempt 3 final\n"
        f"    {MINI}\n"
        "  node plan ok\n"
        "  node work error attempt 1\n"
        f"    {MINI}\n"
        "  node work error attempt 1\n"
        f"    {MINI}\n"
        "  node work ok attempt 2 final\n"
        f"    {MINI}\n"
        "  node work ok attempt 2 final\n"
        f"    {MINI}" == whole(spans, by_name=True)
    )


async def test_a_retried_model_in_a_retried_node_belongs_to_its_attempt(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    failures: list[Exception] = [ConnectionError("a"), ValueError("b"), ConnectionError("c")]
    model = FakeChat(failures=failures).with_retry(
        retry_if_exception_type=(ConnectionError,), stop_after_attempt=2, wait_exponential_jitter=False
    )
    await way.invoke(retrying(("ask", way.asking(model))), {}, bound)
    failed = "model gpt-4o-mini error"
    assert (
        "run demo ok\n"
        f"  node ask error attempt 1\n    {failed}\n    {failed}\n"
        f"  node ask ok attempt 2 final\n    {failed}\n    {MINI}" == whole(spans)
    )


async def test_calls_in_tools_and_inner_graphs_carry_the_innermost_attempt(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    inner = retrying(("step", flaky(way, 1)), name="inner")

    @tool
    def look(query: str) -> str:
        """Look up."""
        FakeChat().invoke(query)
        return "found"

    def node(state: State) -> State:
        look.invoke({"query": "q"})
        inner.invoke({})
        return {"x": 1}

    async def node_async(state: State) -> State:
        await look.ainvoke({"query": "q"})
        await inner.ainvoke({})
        return {"x": 1}

    await way.invoke(chain_of(("n", node_async if way.asynchronous else node)), {}, bound)
    assert (
        "run demo ok\n"
        "  node n ok\n"
        "    tool look ok\n"
        f"      {MINI}\n"
        "    subgraph inner ok\n"
        "      node step error attempt 1\n"
        f"        {MINI}\n"
        "      node step ok attempt 2 final\n"
        f"        {MINI}" == whole(spans)
    )


@needs_langgraph(OWN_METADATA, "metadata of its own for each task that is started at once")
async def test_functional_tasks_are_nodes_with_attempts(way: Way, spans: InMemorySpans) -> None:
    """Case 35: tasks side by side, each tried again by itself."""
    retried: Any = task(name="step", retry_policy=QUICK)
    step = retried(flaky(way, 1, key=lambda n: n))
    expected = (
        "run flow ok\n"
        "  node flow ok\n"
        "    node step error attempt 1\n"
        f"      {MINI}\n"
        "    node step error attempt 1\n"
        f"      {MINI}\n"
        "    node step ok attempt 2 final\n"
        f"      {MINI}\n"
        "    node step ok attempt 2 final\n"
        f"      {MINI}"
    )
    flow: Any
    if way.asynchronous:

        @entrypoint()
        async def flow(n: int) -> Any:
            return await asyncio.gather(step(1), step(2))
    else:

        @entrypoint()
        def flow(n: int) -> Any:
            return [future.result() for future in [step(1), step(2)]]

    assert [{"x": 1}, {"x": 1}] == await way.invoke(flow, 1, {"callbacks": [spans.handler(graph="flow")]})
    assert expected == whole(spans, by_name=True)


async def test_a_task_that_fails_for_good_fails_its_flow(way: Way, spans: InMemorySpans) -> None:
    """Case 35."""
    retried: Any = task(name="step", retry_policy=QUICK)
    step = retried(flaky(way, 9))
    flow: Any
    if way.asynchronous:

        @entrypoint()
        async def flow(n: int) -> Any:
            return await step(n)
    else:

        @entrypoint()
        def flow(n: int) -> Any:
            return step(n).result()

    with pytest.raises(ValueError, match="not yet"):
        await way.invoke(flow, 1, {"callbacks": [spans.handler(graph="flow")]})
    assert (
        "run flow error\n"
        "  node flow error\n"
        f"    node step error attempt 1\n      {MINI}\n"
        f"    node step error attempt 2\n      {MINI}\n"
        f"    node step error attempt 3 final\n      {MINI}" == whole(spans)
    )


async def test_a_retry_that_never_comes_leaves_the_failed_attempt_final(spans: InMemorySpans, bound: Any) -> None:
    """The graph is cancelled while LangGraph waits to try again."""
    builder = StateGraph(State)
    builder.add_node("n", flaky(Way(True), 9), retry_policy=RetryPolicy(initial_interval=60, retry_on=ValueError))
    builder.add_edge(START, "n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await builder.compile(name="demo").ainvoke({}, config=bound)
    assert f"run demo cancelled\n  node n error\n    {MINI}" == whole(spans)
    assert spans.one("node").attributes[names.ATTEMPT_FINAL] is True
    assert {} == runs.RUNS


async def test_several_graphs_at_once_do_not_count_each_others_attempts(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    graphs = [retrying(("n", flaky(way, failures))) for failures in (0, 1, 2)]
    if way.asynchronous:
        await asyncio.gather(*(graph.ainvoke({}, config=bound) for graph in graphs))
    else:
        threads = [threading.Thread(target=graph.invoke, args=({}, bound)) for graph in graphs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = [
        f"run demo ok\n  node n ok\n    {MINI}",
        f"run demo ok\n  node n error attempt 1\n    {MINI}\n  node n ok attempt 2 final\n    {MINI}",
        f"run demo ok\n  node n error attempt 1\n    {MINI}\n  node n error attempt 2\n    {MINI}\n"
        f"  node n ok attempt 3 final\n    {MINI}",
    ]
    trees = ["run demo" + tree for tree in whole(spans).split("run demo")[1:]]
    assert sorted(expected) == sorted(tree.rstrip("\n") for tree in trees)


@needs_langgraph(NODE_TIMEOUT, "node time-outs")
class TestTimeLimits:
    """A node that runs out of time hears that it was cancelled; only LangGraph knows why."""

    @staticmethod
    def limited(action: Any, **more: Any) -> Any:
        builder = StateGraph(Sum)
        policy = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False)
        builder.add_node("slow", action, timeout=0.4, retry_policy=policy)
        builder.add_edge(START, "slow")
        for label, other in more.items():
            builder.add_node(label, other)
            builder.add_edge(START, label)
        return builder.compile(name="demo")

    async def test_every_attempt_that_ran_out_of_time_is_an_error(self, spans: InMemorySpans, bound: Any) -> None:
        with pytest.raises(Exception, match="slow"):
            await self.limited(Way(True).asking(FakeChat(delay_s=5))).ainvoke({"x": 0}, config=bound)
        # The graph ends first, then its node is told; nothing of it stays open.
        assert {} == runs.RUNS
        assert (
            "run demo error\n"
            "  node slow error attempt 1\n"
            "    model gpt-4o-mini cancelled\n"
            "  node slow error attempt 2 final\n"
            "    model gpt-4o-mini cancelled" == whole(spans)
        )
        kinds = {span.attributes[names.ERROR_TYPE] for span in spans.spans() if span.status == "error"}
        assert {"langgraph.errors.NodeTimeoutError"} == kinds

    async def test_a_sibling_of_a_node_that_ran_out_of_time_is_cancelled(
        self, spans: InMemorySpans, bound: Any
    ) -> None:
        way = Way(True)
        with pytest.raises(Exception, match="slow"):
            await self.limited(way.slow(5), other=way.slow(5)).ainvoke({"x": 0}, config=bound)
        assert (
            "run demo error\n"
            "  node other cancelled\n"
            "  node slow error attempt 1\n"
            "  node slow error attempt 2 final" == whole(spans, by_name=True)
        )

    async def test_an_attempt_that_cleans_up_for_long_is_followed_all_the_same(
        self, spans: InMemorySpans, bound: Any
    ) -> None:
        tries: list[int] = []
        cleaned = asyncio.Event()

        async def node(state: Sum) -> Sum:
            tries.append(1)
            if len(tries) > 1:
                return {"x": 1}
            try:
                await asyncio.sleep(5)
            finally:
                await asyncio.sleep(0.1)
                cleaned.set()
            return {"x": 0}

        await self.limited(node).ainvoke({"x": 0}, config=bound)
        async with asyncio.timeout(60):
            await cleaned.wait()
            await asyncio.sleep(0.02)
        first, second = spans.spans("node")
        assert [(1, False), (2, True)] == [
            (span.attributes[names.ATTEMPT], span.attributes[names.ATTEMPT_FINAL]) for span in (first, second)
        ]
        assert ("ok", "ok") == (second.status, spans.one("run").status)
