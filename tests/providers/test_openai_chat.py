"""langchain-openai against documented chat completions: every token once, the provider's own words, nothing invented."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel, SecretStr

from graphmeter import guard, names
from providers.calls import HOWS, Exported, How, ask, tokens, told
from providers.openai_answers import CHAT_ID, CHAT_MODEL, chat_usage, choice, chunks, completion
from providers.server import Answer, Provider, json_answer

pytestmark = pytest.mark.usefixtures("no_faults")

STREAMED = ("stream", "astream")


def gpt(server: Provider, **more: Any) -> ChatOpenAI:
    made: dict[str, Any] = {"model": "gpt-4.1", "api_key": SecretStr("x"), "base_url": server.url, "max_retries": 0}
    return ChatOpenAI(**{**made, **more})


# What is said of every answer here; streamed chunks have the id, but the integration drops it.
SAID = {
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-4.1",
    names.RESPONSE_MODEL: CHAT_MODEL,
    names.FINISH_REASONS: ["stop"],
}


def answer(how: How, usage: dict[str, Any] | None, **more: Any) -> Answer:
    return chunks(usage=usage, **more) if how in STREAMED else json_answer(completion(usage, **more))


def said(how: How, **more: Any) -> dict[str, Any]:
    return {**SAID, **({} if how in STREAMED else {names.RESPONSE_ID: CHAT_ID}), **more}


@pytest.mark.parametrize("how", HOWS)
async def test_every_part_of_the_usage_is_told_once(exported: Exported, server: Provider, how: How) -> None:
    server.says(answer(how, chat_usage(1117, 246, cached=1024, reasoning=192)))
    assert "Hello there" == (await ask(gpt(server, stream_usage=True), how, exported)).content

    usage = {
        names.USAGE_INPUT: 1117,
        names.USAGE_CACHE_READ: 1024,
        names.USAGE_OUTPUT: 246,
        names.USAGE_REASONING: 192,
    }
    assert said(how) | usage == told(exported.one("model"))
    record = exported.record()
    assert {"input": 93, "cache_read": 1024, "output": 54, "reasoning": 192} == tokens(record)
    assert 1117 + 246 == sum(record.usage)
    assert (how in STREAMED) == (record.ttft_ns > 0)
    assert record.ttft_ns <= record.duration_ns
    assert ("127.0.0.1", server.url.rsplit(":", 1)[1]) == (
        exported.one("model").attributes[names.SERVER_ADDRESS],
        str(exported.one("model").attributes[names.SERVER_PORT]),
    )


@pytest.mark.parametrize("how", STREAMED)
async def test_a_stream_that_was_not_asked_for_usage_misses_it(exported: Exported, server: Provider, how: How) -> None:
    """The integration asks for it by default, but not at other servers than OpenAI's own."""
    server.says(chunks())
    await ask(gpt(server), how, exported)
    assert "stream_options" not in server.requests[0].body
    assert {**SAID, names.USAGE_MISSING: True} == told(exported.one("model"))
    record = exported.record()
    assert record.usage_missing
    assert record.ttft_ns > 0


@pytest.mark.parametrize("how", HOWS)
async def test_zeros_in_place_of_usage_are_missing_usage(exported: Exported, server: Provider, how: How) -> None:
    server.says(answer(how, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}))
    await ask(gpt(server, stream_usage=True), how, exported)
    assert said(how) | {names.USAGE_MISSING: True} == told(exported.one("model"))


async def test_an_answer_without_usage_misses_it(exported: Exported, server: Provider) -> None:
    server.says(json_answer(completion(None)))
    await ask(gpt(server), "invoke", exported)
    assert said("invoke") | {names.USAGE_MISSING: True} == told(exported.one("model"))


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_several_choices_are_one_call_with_all_their_reasons(
    exported: Exported, server: Provider, how: How
) -> None:
    server.says(json_answer(completion(chat_usage(19, 30), choice(), choice(1, "length"), choice(2))))
    await ask(gpt(server, n=3), how, exported)
    call = exported.one("model")
    assert ["stop", "length", "stop"] == told(call)[names.FINISH_REASONS]
    assert {"input": 19, "output": 30} == tokens(exported.record())


# https://platform.openai.com/docs/guides/function-calling
CALL = {"id": "call_abc123", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Boston"}'}}


@pytest.mark.parametrize("how", HOWS)
async def test_a_tool_call_is_an_answer(exported: Exported, server: Provider, how: How) -> None:
    def weather(city: str) -> str:
        """Weather of a city."""
        return city

    if how in STREAMED:
        parts: list[dict[str, Any]] = [
            {"tool_calls": [{"index": 0, **CALL, "function": {"name": "weather", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Boston"}'}}]},
        ]
        server.says(chunks(*parts, usage=chat_usage(82, 17), finish="tool_calls"))
    else:
        called = choice(finish="tool_calls", content=None, tool_calls=[CALL])
        server.says(json_answer(completion(chat_usage(82, 17), called)))
    model: Any = gpt(server, stream_usage=True).bind_tools([weather])
    message: Any = await ask(model, how, exported)
    assert ["weather"] == [call["name"] for call in message.tool_calls]
    assert ["tool_calls"] == told(exported.one("model"))[names.FINISH_REASONS]
    record = exported.record()
    assert {"input": 82, "output": 17} == tokens(record)
    # No text ever came: the call itself is what the stream was waited for.
    assert (how in STREAMED) == (record.ttft_ns > 0)


class City(BaseModel):
    name: str


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_structured_output_is_one_call(exported: Exported, server: Provider, how: How, method: str) -> None:
    call = {**CALL, "function": {"name": "City", "arguments": '{"name": "Boston"}'}}
    filled = (
        choice(finish="tool_calls", content=None, tool_calls=[call])
        if method == "function_calling"
        else choice(content='{"name": "Boston"}')
    )
    server.says(json_answer(completion(chat_usage(60, 9), filled)))
    model: Any = gpt(server).with_structured_output(City, method=method)  # type: ignore[arg-type]
    found: Any = await ask(model, how, exported)
    assert City(name="Boston") == found
    assert {"input": 60, "output": 9} == tokens(exported.record())
    assert CHAT_ID == told(exported.one("model"))[names.RESPONSE_ID]


# https://platform.openai.com/docs/guides/flex-processing and …/guides/priority-processing: `service_tier` of the answer
# is the tier it was served at, whatever was asked for.
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("tier", "expected"),
    [("flex", "flex"), ("priority", "priority"), ("scale", "scale"), ("default", None), ("auto", None), (None, None)],
)
async def test_a_tier_is_told_and_loses_no_token(
    exported: Exported, server: Provider, how: How, tier: str | None, expected: str | None
) -> None:
    server.says(answer(how, chat_usage(1000, 100, cached=600, reasoning=40), service_tier=tier))
    await ask(gpt(server, service_tier="flex", stream_usage=True), how, exported)
    assert expected == told(exported.one("model")).get(names.SERVICE_TIER)
    record = exported.record()
    assert {"input": 400, "cache_read": 600, "output": 60, "reasoning": 40} == tokens(record)
    assert (expected or "") == record.service_tier


# https://platform.openai.com/docs/guides/audio
@pytest.mark.parametrize("tier", ["default", "priority"])
async def test_audio_is_a_part_of_both_totals(exported: Exported, server: Provider, tier: str) -> None:
    spoken = {"id": "audio_abc123", "expires_at": 1729018505, "data": "UklGRg==", "transcript": "Yes"}
    usage = chat_usage(263, 110, audio=(241, 86))
    server.says(json_answer(completion(usage, choice(content=None, audio=spoken), service_tier=tier)))
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}}
    model = gpt(server, model="gpt-4o-audio-preview", model_kwargs={"modalities": ["text", "audio"]})
    await ask(model, "invoke", exported, [HumanMessage([sound])])
    assert {"input": 22, "input_audio": 241, "output": 24, "output_audio": 86} == tokens(exported.record())


# https://platform.openai.com/docs/guides/predicted-outputs: rejected tokens are billed like other output, and in its total.
async def test_predictions_are_output_like_any_other(exported: Exported, server: Provider) -> None:
    usage = chat_usage(300, 120, accepted_prediction_tokens=60, rejected_prediction_tokens=20)
    server.says(json_answer(completion(usage)))
    await ask(gpt(server), "invoke", exported, prediction={"type": "content", "content": "Hello"})
    assert {"input": 300, "output": 120} == tokens(exported.record())


# https://platform.openai.com/docs/guides/structured-outputs#refusals
@pytest.mark.parametrize("how", HOWS)
async def test_a_refusal_is_billed(exported: Exported, server: Provider, how: How) -> None:
    no = "I'm sorry, I cannot assist with that request."
    if how in STREAMED:
        server.says(chunks({"refusal": no}, usage=chat_usage(81, 11)))
    else:
        server.says(json_answer(completion(chat_usage(81, 11), choice(content=None, refusal=no))))
    await ask(gpt(server, stream_usage=True), how, exported)
    assert "ok" == exported.one("model").status
    assert {"input": 81, "output": 11} == tokens(exported.record())


@pytest.mark.parametrize("how", HOWS)
async def test_a_content_filter_is_told_as_the_reason(exported: Exported, server: Provider, how: How) -> None:
    if how in STREAMED:
        server.says(chunks(usage=chat_usage(30, 4), finish="content_filter"))
    else:
        server.says(json_answer(completion(chat_usage(30, 4), choice(finish="content_filter"))))
    await ask(gpt(server, stream_usage=True), how, exported)
    assert ["content_filter"] == told(exported.one("model"))[names.FINISH_REASONS]


@pytest.mark.parametrize("how", STREAMED)
async def test_a_stream_of_several_choices_says_each_word_once(exported: Exported, server: Provider, how: How) -> None:
    """LangChain joins what two ends of one stream say: `stopstop`, `gpt-4.1gpt-4.1`."""
    whole = chunks(usage=chat_usage(19, 20), service_tier="flex")
    parts = whole.body.split(b"\n\n")
    (end,) = (part for part in parts if b'"finish_reason": "stop"' in part)
    parts.insert(parts.index(end), end.replace(b'"index": 0', b'"index": 1'))
    server.says(whole._replace(body=b"\n\n".join(parts)))
    await ask(gpt(server, stream_usage=True), how, exported, n=2)
    told_once = {**SAID, names.SERVICE_TIER: "flex", names.USAGE_INPUT: 19, names.USAGE_OUTPUT: 20}
    assert told_once == told(exported.one("model"))


# https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference#chat-completions: the deployment stands in the URL,
# the model in the answer.
@pytest.mark.parametrize("how", HOWS)
async def test_azure_is_asked_by_deployment_and_answers_by_model(
    exported: Exported, server: Provider, how: How
) -> None:
    filtered = {"hate": {"filtered": False, "severity": "safe"}}
    whole = completion(chat_usage(24, 6, cached=8), {**choice(), "content_filter_results": filtered})
    server.says(chunks(usage=chat_usage(24, 6, cached=8)) if how in STREAMED else json_answer(whole))
    model = AzureChatOpenAI(
        azure_deployment="our-gpt", azure_endpoint=server.url, api_version="2024-10-21", api_key=SecretStr("x")
    )
    await ask(model, how, exported)
    assert server.requests[0].path.startswith("/openai/deployments/our-gpt/chat/completions")
    expected = {
        names.PROVIDER: "azure.ai.openai",
        names.REQUEST_MODEL: "our-gpt",
        names.USAGE_INPUT: 24,
        names.USAGE_CACHE_READ: 8,
        names.USAGE_OUTPUT: 6,
    }
    assert said(how) | expected == told(exported.one("model"))
    record = exported.record()
    assert {"input": 16, "cache_read": 8, "output": 6} == tokens(record)
    assert (CHAT_MODEL, "our-gpt") == (record.model, record.request_model)


@pytest.fixture
def llm_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("llm_cache")
@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_an_answer_of_langchains_cache_asks_nobody(exported: Exported, server: Provider, how: How) -> None:
    server.says(json_answer(completion(chat_usage(1000, 100, cached=600, reasoning=40), service_tier="flex")))
    await ask(gpt(server), how, exported)
    exported.clear()
    await ask(gpt(server), how, exported)
    assert 1 == len(server.requests)
    call = exported.one("model")
    assert call.attributes[names.CACHE_HIT] is True
    assert not [key for key in call.attributes if key.startswith("gen_ai.usage.")]
    record = exported.record()
    assert record.cache_hit
    # What it did not have to use.
    assert {"input": 400, "cache_read": 600, "output": 60, "reasoning": 40} == tokens(record)


async def test_more_cached_than_there_was_input_is_never_negative(exported: Exported, server: Provider) -> None:
    server.says(json_answer(completion(chat_usage(10, 5, cached=40, reasoning=9))))
    await ask(gpt(server), "invoke", exported)
    record = exported.record(repairs={"usage_exceeds_total": 2})
    assert {"cache_read": 10, "reasoning": 5} == tokens(record)
    # The price list does not take it; the collector, which bills, has repaired it.
    assert {"price: ValueError": 1} == guard.faults()
    guard.forget()
