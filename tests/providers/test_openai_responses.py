"""langchain-openai against documented answers of the Responses API: whole, streamed, cut short, failed."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from graphmeter import names
from providers.calls import HOWS, Exported, How, ask, tokens, told
from providers.openai_answers import RESPONSE_ID, RESPONSE_MODEL, response, response_events, response_usage
from providers.server import Answer, Provider, json_answer

pytestmark = pytest.mark.usefixtures("no_faults")

STREAMED = ("stream", "astream")
SAID = {
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-5.4",
    names.RESPONSE_MODEL: RESPONSE_MODEL,
    names.RESPONSE_ID: RESPONSE_ID,
    names.FINISH_REASONS: ["completed"],
}


def gpt(server: Provider, **more: Any) -> ChatOpenAI:
    made: dict[str, Any] = {"model": "gpt-5.4", "api_key": SecretStr("x"), "base_url": server.url, "max_retries": 0}
    return ChatOpenAI(**made, use_responses_api=True, **more)


def answer(how: How, whole: dict[str, Any]) -> Answer:
    if how not in STREAMED:
        return json_answer(whole)
    return response_events({"type": f"response.{whole['status']}", "response": whole})


@pytest.mark.parametrize("how", HOWS)
async def test_every_part_of_the_usage_is_told_once(exported: Exported, server: Provider, how: How) -> None:
    """Here, too, a stream carries its usage without being asked for it."""
    usage = response_usage(2006, 300, cached=1152, written=512, reasoning=192)
    server.says(answer(how, response(usage)))
    await ask(gpt(server), how, exported)
    assert "/responses" == server.requests[0].path
    expected = {
        names.USAGE_INPUT: 2006,
        names.USAGE_CACHE_READ: 1152,
        names.USAGE_CACHE_WRITE: 512,
        names.USAGE_OUTPUT: 300,
        names.USAGE_REASONING: 192,
    }
    assert SAID | expected == told(exported.one("model"))
    record = exported.record()
    parts = {"input": 342, "cache_read": 1152, "cache_write_5m": 512, "output": 108, "reasoning": 192}
    assert parts == tokens(record)
    assert 2006 + 300 == sum(record.usage)
    assert (how in STREAMED) == (record.ttft_ns > 0)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("tier", ["flex", "priority"])
async def test_a_tier_is_told_and_loses_no_token(exported: Exported, server: Provider, how: How, tier: str) -> None:
    usage = response_usage(2006, 300, cached=1152, written=512, reasoning=192)
    server.says(answer(how, response(usage, service_tier=tier)))
    await ask(gpt(server), how, exported)
    record = exported.record()
    assert tier == record.service_tier
    parts = {"input": 342, "cache_read": 1152, "cache_write_5m": 512, "output": 108, "reasoning": 192}
    assert parts == tokens(record)


# https://platform.openai.com/docs/api-reference/responses/object#responses/object-incomplete_details
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
async def test_what_is_cut_short_says_why_and_is_billed(
    exported: Exported, server: Provider, how: How, reason: str
) -> None:
    whole = response(
        response_usage(81, 1024, reasoning=1024), status="incomplete", incomplete_details={"reason": reason}
    )
    server.says(answer(how, whole))
    await ask(gpt(server), how, exported)
    assert [reason] == told(exported.one("model"))[names.FINISH_REASONS]
    assert {"input": 81, "reasoning": 1024} == tokens(exported.record())


# https://platform.openai.com/docs/guides/tools-web-search: what a built-in tool reads counts as input; its calls are billed
# one by one, and are no tokens.
@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_built_in_tools_are_no_calls_of_their_own(exported: Exported, server: Provider, how: How) -> None:
    searched = {"type": "web_search_call", "id": "ws_67ccf18f64", "status": "completed", "action": {"type": "search"}}
    thought = {"type": "reasoning", "id": "rs_67ccf18f64", "summary": []}
    server.says(json_answer(response(response_usage(328, 356, reasoning=64), thought, searched)))
    model: Any = gpt(server).bind_tools([{"type": "web_search"}])
    await ask(model, how, exported)
    assert ["model"] == [span.kind for span in exported.spans()]
    assert {"input": 328, "output": 292, "reasoning": 64} == tokens(exported.record())


@pytest.mark.parametrize("how", HOWS)
async def test_an_answer_without_usage_misses_it(exported: Exported, server: Provider, how: How) -> None:
    server.says(answer(how, response(None)))
    await ask(gpt(server), how, exported)
    assert SAID | {names.USAGE_MISSING: True} == told(exported.one("model"))


@pytest.mark.parametrize("how", STREAMED)
async def test_a_stream_that_ends_early_knows_the_id_and_misses_usage(
    exported: Exported, server: Provider, how: How
) -> None:
    server.says(response_events())
    await ask(gpt(server), how, exported)
    call = exported.one("model")
    assert (RESPONSE_ID, True) == (call.attributes[names.RESPONSE_ID], call.attributes[names.USAGE_MISSING])


FAILURE = {"code": "rate_limit_exceeded", "message": "Rate limit reached"}


# https://platform.openai.com/docs/api-reference/responses-streaming/response/failed and …/error
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("event", ["response.failed", "error"])
async def test_a_rate_limit_inside_of_an_answer_is_recognised(
    exported: Exported, server: Provider, how: How, event: str
) -> None:
    failed = response(response_usage(40, 8), status="failed", error=FAILURE)
    if how not in STREAMED:
        server.says(json_answer(failed))
    elif event == "error":
        server.says(response_events({"type": "error", "param": None, **FAILURE}))
    else:
        server.says(response_events({"type": "response.failed", "response": failed}))
    with pytest.raises(ValueError, match="rate_limit_exceeded"):
        await ask(gpt(server), how, exported)
    call = exported.one("model")
    assert ("error", "ValueError") == (call.status, call.attributes[names.ERROR_TYPE])
    assert call.attributes[names.RATE_LIMITED] is True
    assert names.USAGE_MISSING not in call.attributes
    # What a failed answer used is billed where it is known; LangChain drops it from streams.
    assert ({} if how in STREAMED else {"input": 40, "output": 8}) == tokens(exported.record())
