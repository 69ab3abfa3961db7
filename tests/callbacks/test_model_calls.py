"""Model calls: what was asked, what answered, what it used. Nothing is counted twice, nothing guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig

from callbacks.fakes import FakeChat, FakeStreamingChat, State, asking, asking_async, chain_of
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

DETAILED = {
    "input_tokens": 100,
    "output_tokens": 50,
    "total_tokens": 150,
    "input_token_details": {"cache_read": 60, "cache_creation": 10},
    "output_token_details": {"reasoning": 30},
}


def config(spans: InMemorySpans) -> Any:
    return {"callbacks": [spans.handler()]}


@pytest.fixture
def llm_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


def test_a_call_says_what_was_asked_and_what_answered(spans: InMemorySpans) -> None:
    chain_of(("ask", asking(FakeChat(provider="google_genai", usage=DETAILED)))).invoke({}, config=config(spans))
    call = spans.one("model")
    assert "chat gpt-4o-mini" == call.name
    expected = {
        names.OPERATION: "chat",
        names.PROVIDER: "gcp.gemini",
        names.REQUEST_MODEL: "gpt-4o-mini",
        names.RESPONSE_MODEL: "gpt-4o-mini-2026-01-01",
        names.RESPONSE_ID: "resp_1",
        names.FINISH_REASONS: ("stop",),
        names.USAGE_INPUT: 100,
        names.USAGE_CACHE_READ: 60,
        names.USAGE_CACHE_WRITE: 10,
        names.USAGE_OUTPUT: 50,
        names.USAGE_REASONING: 30,
    }
    found = {key: call.attributes.get(key) for key in expected}
    found[names.FINISH_REASONS] = tuple(found[names.FINISH_REASONS] or ())
    assert expected == found
    assert names.TIME_TO_FIRST_CHUNK not in call.attributes


def test_the_cost_is_named_when_prices_are_installed(spans: InMemorySpans) -> None:
    asked = FakeChat(model="gpt-4o", usage=DETAILED)
    chain_of(("ask", asking(asked))).invoke({}, config=config(spans))
    call = spans.one("model")
    # 40 plain at 2.50, 60 cached at 1.25, 50 out at 10.00 USD per million; gpt-4o has no price for cache writes.
    assert pytest.approx(0.000675, abs=0.00003) == call.attributes[names.COST_USD]
    assert call.attributes[names.COST_PRICE].startswith("genai-prices ")
    assert call.attributes[names.COST_PRICE].endswith(" openai/gpt-4o")


def test_a_model_of_an_unknown_provider_has_no_cost(spans: InMemorySpans) -> None:
    chain_of(("ask", asking(FakeChat(model="gpt-4o", provider="my-cluster")))).invoke({}, config=config(spans))
    assert names.COST_USD not in spans.one("model").attributes


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_streamed_call_knows_when_its_first_chunk_came(spans: InMemorySpans, asynchronous: bool) -> None:
    model = FakeStreamingChat(delay_s=0.02)
    if asynchronous:

        async def stream(state: State) -> State:
            async for _ in model.astream("hi"):
                pass
            return {"x": 1}

        await chain_of(("ask", stream)).ainvoke({}, config=config(spans))
    else:

        def stream_sync(state: State) -> State:
            list(model.stream("hi"))
            return {"x": 1}

        chain_of(("ask", stream_sync)).invoke({}, config=config(spans))
    call = spans.one("model")
    # The first chunk is empty and does not count; the second comes after one delay.
    assert 0.02 <= call.attributes[names.TIME_TO_FIRST_CHUNK] < (call.end_ns - call.start_ns) / 1e9
    assert (10, 5) == call.tokens
    assert call.attributes[names.REQUEST_STREAM] is True


def test_a_stream_that_breaks_is_an_error_with_its_first_chunk(spans: InMemorySpans) -> None:
    def node(state: State) -> State:
        list(FakeStreamingChat(break_after=2).stream("hi"))
        return {"x": 1}

    with pytest.raises(ConnectionError):
        chain_of(("ask", node)).invoke({}, config=config(spans))
    call = spans.one("model")
    assert "error" == call.status
    assert "ConnectionError" == call.attributes[names.ERROR_TYPE]
    assert names.TIME_TO_FIRST_CHUNK in call.attributes
    assert names.USAGE_MISSING not in call.attributes


def test_missing_usage_is_said_not_taken_for_zero(spans: InMemorySpans) -> None:
    chain_of(("ask", asking(FakeChat(usage=None)))).invoke({}, config=config(spans))
    call = spans.one("model")
    assert call.attributes[names.USAGE_MISSING] is True
    assert names.USAGE_INPUT not in call.attributes


def test_several_choices_are_one_call(spans: InMemorySpans) -> None:
    chain_of(("ask", asking(FakeChat(choices=3)))).invoke({}, config=config(spans))
    assert (10, 5) == spans.one("model").tokens


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.usefixtures("llm_cache")
async def test_a_cached_answer_costs_nothing_and_says_what_it_saved(spans: InMemorySpans, asynchronous: bool) -> None:
    model = FakeChat(model="gpt-4o")
    for _ in range(2):
        if asynchronous:
            await chain_of(("ask", asking_async(model))).ainvoke({}, config=config(spans))
        else:
            chain_of(("ask", asking(model))).invoke({}, config=config(spans))
    paid, cached = spans.spans("model")
    assert (10, 5) == paid.tokens
    assert names.CACHE_HIT not in paid.attributes
    assert cached.attributes[names.CACHE_HIT] is True
    assert not [key for key in cached.attributes if key.startswith("gen_ai.usage.")]
    assert 10 == cached.attributes[names.SAVED_PREFIX + names.USAGE_INPUT]
    assert names.COST_USD not in cached.attributes


def test_retries_of_a_model_are_calls_of_one_node(spans: InMemorySpans) -> None:
    model = FakeChat(failures=[ConnectionError("once")]).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)

    def node(state: State) -> State:
        model.invoke("hi")
        return {"x": 1}

    chain_of(("ask", node)).invoke({}, config=config(spans))
    expected = "run demo ok\n  node ask ok\n    model gpt-4o-mini error\n    model gpt-4o-mini ok 10→5"
    assert expected == spans.tree()


def test_fallbacks_show_both_models(spans: InMemorySpans) -> None:
    model = FakeChat(failures=[ConnectionError("no")]).with_fallbacks([FakeChat(model="gpt-4.1")])

    def node(state: State) -> State:
        model.invoke("hi")
        return {"x": 1}

    chain_of(("ask", node)).invoke({}, config=config(spans))
    assert "run demo ok\n  node ask ok\n    model gpt-4o-mini error\n    model gpt-4.1 ok 10→5" == spans.tree()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_batch_is_one_call_per_prompt(spans: InMemorySpans, asynchronous: bool) -> None:
    model = FakeChat()
    if asynchronous:

        async def node_async(state: State, config: RunnableConfig) -> State:
            await model.abatch(["a", "b"])
            await model.agenerate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=config["callbacks"])
            return {"x": 1}

        await chain_of(("ask", node_async)).ainvoke({}, config=config(spans))
    else:

        def node_sync(state: State, config: RunnableConfig) -> State:
            model.batch(["a", "b"])
            model.generate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=config["callbacks"])
            return {"x": 1}

        chain_of(("ask", node_sync)).invoke({}, config=config(spans))
    assert [(10, 5)] * 4 == [call.tokens for call in spans.spans("model")]


def test_plain_text_models_are_text_completions(spans: InMemorySpans) -> None:
    def node(state: State) -> State:
        FakeListLLM(responses=["hello"]).invoke("hi")
        return {"x": 1}

    chain_of(("ask", node)).invoke({}, config=config(spans))
    call = spans.one("model")
    assert "text_completion" == call.attributes[names.OPERATION]
    assert "text_completion" == call.name.split()[0]
    assert call.attributes[names.USAGE_MISSING] is True


def test_structured_output_is_billed_once(spans: InMemorySpans) -> None:
    from langchain_core.runnables import RunnableLambda

    chain = FakeChat() | RunnableLambda(lambda message: message.content)

    def node(state: State) -> State:
        chain.invoke("hi")
        return {"x": 1}

    chain_of(("ask", node)).invoke({}, config=config(spans))
    assert "run demo ok\n  node ask ok\n    model gpt-4o-mini ok 10→5" == spans.tree()


async def test_concurrent_calls_in_one_node_stay_apart(spans: InMemorySpans) -> None:
    async def node(state: State) -> State:
        await asyncio.gather(*(FakeChat(model=f"m{n}").ainvoke("hi") for n in range(4)))
        return {"x": 1}

    await chain_of(("ask", node)).ainvoke({}, config=config(spans))
    node_span = spans.one("node")
    assert ["m0", "m1", "m2", "m3"] == sorted(call.label for call in spans.spans("model"))
    assert {node_span.span_id} == {call.parent_id for call in spans.spans("model")}
