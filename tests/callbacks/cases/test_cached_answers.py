"""Case 27: an answer out of LangChain's cache is a call that cost nothing and says what it saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM

from callbacks.fakes import FakeChat, FakeStreamingChat, State, chain_of
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults", "llm_cache")

PAID = f"run demo ok\n  node ask ok\n    {MINI}"
CACHED = "run demo ok\n  node ask ok\n    model gpt-4o-mini ok cached saved 10→5"


@pytest.fixture
def llm_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


async def test_a_cached_answer_costs_nothing_and_says_what_it_saved(way: Way, spans: InMemorySpans, bound: Any) -> None:
    graph = chain_of(("ask", way.asking(FakeChat())))
    for _ in range(2):
        await way.invoke(graph, {}, bound)
    assert f"{PAID}\n{CACHED}" == whole(spans)
    paid, cached = spans.spans("model")
    assert names.CACHE_HIT not in paid.attributes
    assert cached.attributes[names.CACHE_HIT] is True
    billable = [
        key for key in cached.attributes if key.startswith(("gen_ai.usage.", "graphmeter.usage.", names.COST_USD))
    ]
    assert [] == billable


async def test_a_cached_answer_in_a_streamed_graph_is_a_cached_answer(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """LangGraph makes a model stream for `stream_mode="messages"`; the cache answers before that."""
    graph = chain_of(("ask", way.asking(FakeStreamingChat())))
    for _ in range(2):
        await way.stream(graph, {}, bound, stream_mode="messages")
    assert f"{PAID}\n{CACHED}" == whole(spans)
    paid, cached = spans.spans("model")
    assert names.TIME_TO_FIRST_CHUNK in paid.attributes
    assert names.TIME_TO_FIRST_CHUNK not in cached.attributes


async def test_a_cached_answer_without_usage_saved_an_unknown_amount(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    graph = chain_of(("ask", way.asking(FakeChat(usage=None))))
    for _ in range(2):
        await way.invoke(graph, {}, bound)
    missing = "run demo ok\n  node ask ok\n    model gpt-4o-mini ok usage missing"
    assert f"{missing}\n{CACHED.replace(' saved 10→5', '')}" == whole(spans)


async def test_a_failed_attempt_paid_for_the_answer_that_its_successor_finds(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """A node that fails after its call is tried again, and finds the answer in the cache."""
    from langgraph.graph import START, StateGraph
    from langgraph.types import RetryPolicy

    model, tries = FakeChat(), [0]

    def then_fail() -> State:
        tries[0] += 1
        if tries[0] == 1:
            raise ConnectionError("once")
        return {"x": 1}

    def node(state: State) -> State:
        model.invoke("hi")
        return then_fail()

    async def node_async(state: State) -> State:
        await model.ainvoke("hi")
        return then_fail()

    builder = StateGraph(State)
    policy = RetryPolicy(initial_interval=0.001, jitter=False)
    builder.add_node("ask", node_async if way.asynchronous else node, retry_policy=policy)
    builder.add_edge(START, "ask")
    await way.invoke(builder.compile(name="demo"), {}, bound)
    assert (
        "run demo ok\n"
        "  node ask error attempt 1\n"
        f"    {MINI}\n"
        "  node ask ok attempt 2 final\n"
        "    model gpt-4o-mini ok cached saved 10→5" == whole(spans)
    )


async def test_a_cached_answer_of_a_text_model_makes_no_call_at_all(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """LangChain reports only those prompts of a plain text model that its cache does not know."""
    model = FakeListLLM(responses=["hello"])
    prompts = iter([["a"], ["a"], ["a", "b"]])

    def node(state: State) -> State:
        model.generate(next(prompts))
        return {"x": 1}

    async def node_async(state: State) -> State:
        await model.agenerate(next(prompts))
        return {"x": 1}

    graph = chain_of(("ask", node_async if way.asynchronous else node))
    for _ in range(3):
        await way.invoke(graph, {}, bound)
    run = "run demo ok\n  node ask ok"
    call = "\n    model ok usage missing"
    assert f"{run}{call}\n{run}\n{run}{call}" == whole(spans)
