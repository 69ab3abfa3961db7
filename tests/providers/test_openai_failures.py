"""Calls that OpenAI refuses or breaks off, through langchain-openai: what they say, and what retries inside of the SDK cost.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from graphmeter import names
from providers.calls import HOWS, Exported, How, ask, tokens
from providers.openai_answers import chat_usage, chunks, completion, rate_limit
from providers.server import Provider, events, json_answer

pytestmark = pytest.mark.usefixtures("no_faults")

STREAMED = ("stream", "astream")
_FAILED = (names.STATUS, names.HTTP_STATUS, names.RATE_LIMITED)


def gpt(server: Provider, **more: Any) -> ChatOpenAI:
    made: dict[str, Any] = {"model": "gpt-4.1", "api_key": SecretStr("x"), "base_url": server.url, "max_retries": 0}
    return ChatOpenAI(**{**made, **more})


def failed(exported: Exported) -> tuple[Any, ...]:
    said = exported.one("model").attributes
    assert not [key for key in said if key.startswith("gen_ai.usage.")]
    assert names.USAGE_MISSING not in said
    return tuple(said.get(key) for key in _FAILED)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("responses", [False, True])
async def test_too_many_requests_are_recognised(
    exported: Exported, server: Provider, how: How, responses: bool
) -> None:
    server.says(rate_limit())
    with pytest.raises(openai.RateLimitError):
        await ask(gpt(server, use_responses_api=responses), how, exported)
    assert ("error", 429, True) == failed(exported)
    # langchain-openai raises a subclass of its own.
    assert "RateLimitError" in exported.one("model").attributes[names.ERROR_TYPE]


async def test_too_many_requests_at_azure_are_recognised(exported: Exported, server: Provider) -> None:
    server.says(json_answer({"error": {"code": "429", "message": "Requests have exceeded call rate limit."}}, 429))
    model = AzureChatOpenAI(
        azure_deployment="our-gpt",
        azure_endpoint=server.url,
        api_version="2024-10-21",
        api_key=SecretStr("x"),
        max_retries=0,
    )
    with pytest.raises(openai.RateLimitError):
        await ask(model, "invoke", exported)
    assert ("error", 429, True) == failed(exported)
    assert "azure.ai.openai" == exported.one("model").attributes[names.PROVIDER]


@pytest.mark.parametrize("how", STREAMED)
async def test_a_limit_that_is_hit_inside_of_a_stream_has_no_status(
    exported: Exported, server: Provider, how: How
) -> None:
    error = {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}
    server.says(events([{"error": error}]))
    with pytest.raises(openai.APIError):
        await ask(gpt(server), how, exported)
    assert ("error", None, True) == failed(exported)


@pytest.mark.parametrize("status", [400, 401, 500, 503])
async def test_other_refusals_are_no_rate_limits(exported: Exported, server: Provider, status: int) -> None:
    server.says(json_answer({"error": {"message": "no", "type": "x", "code": "content_filter"}}, status))
    with pytest.raises(openai.APIStatusError):
        await ask(gpt(server), "invoke", exported)
    assert ("error", status, None) == failed(exported)


async def test_nobody_there_is_an_error_without_a_status(exported: Exported, server: Provider) -> None:
    with pytest.raises(openai.APIConnectionError):
        await ask(gpt(server, base_url="http://127.0.0.1:9"), "invoke", exported)
    assert ("error", None, None) == failed(exported)


@pytest.mark.parametrize("how", STREAMED)
async def test_a_connection_that_breaks_leaves_the_first_chunk(exported: Exported, server: Provider, how: How) -> None:
    server.says(chunks(broken=True))
    with pytest.raises(openai.APIConnectionError):
        await ask(gpt(server), how, exported)
    assert ("error", None, None) == failed(exported)
    assert names.TIME_TO_FIRST_CHUNK in exported.one("model").attributes


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("refusal", [429, 500])
async def test_a_retry_inside_of_the_sdk_is_one_call_billed_once(
    exported: Exported, server: Provider, how: How, refusal: int
) -> None:
    usage = chat_usage(19, 10)
    good = chunks(usage=usage) if how in STREAMED else json_answer(completion(usage))
    server.says(rate_limit(refusal), good)
    await ask(gpt(server, max_retries=2, stream_usage=True), how, exported)
    assert 2 == len(server.requests)
    call = exported.one("model")
    assert ("ok", None, None) == tuple(call.attributes.get(key) for key in _FAILED)
    assert {"input": 19, "output": 10} == tokens(exported.record())
