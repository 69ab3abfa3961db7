"""Model calls: what was asked, what answered, what it used. Nothing is counted twice, nothing guessed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM

from callbacks.fakes import FakeChat, FakeStreamingChat, State, asking, chain_of
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


def test_missing_usage_is_said_not_taken_for_zero(spans: InMemorySpans) -> None:
    chain_of(("ask", asking(FakeChat(usage=None)))).invoke({}, config=config(spans))
    call = spans.one("model")
    assert call.attributes[names.USAGE_MISSING] is True
    assert names.USAGE_INPUT not in call.attributes


def test_plain_text_models_are_text_completions(spans: InMemorySpans) -> None:
    def node(state: State) -> State:
        FakeListLLM(responses=["hello"]).invoke("hi")
        return {"x": 1}

    chain_of(("ask", node)).invoke({}, config=config(spans))
    call = spans.one("model")
    assert "text_completion" == call.attributes[names.OPERATION]
    assert "text_completion" == call.name.split()[0]
    assert call.attributes[names.USAGE_MISSING] is True


async def test_concurrent_calls_in_one_node_stay_apart(spans: InMemorySpans) -> None:
    async def node(state: State) -> State:
        await asyncio.gather(*(FakeChat(model=f"m{n}").ainvoke("hi") for n in range(4)))
        return {"x": 1}

    await chain_of(("ask", node)).ainvoke({}, config=config(spans))
    node_span = spans.one("node")
    assert ["m0", "m1", "m2", "m3"] == sorted(call.label for call in spans.spans("model"))
    assert {node_span.span_id} == {call.parent_id for call in spans.spans("model")}
