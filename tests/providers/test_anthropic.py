"""langchain-anthropic against Anthropic's documented answers: what is cached counts once, and nothing is made up.

Messages: https://platform.claude.com/docs/en/api/messages
Streams: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from pydantic import SecretStr

from graphmeter import names
from providers.calls import HOWS, Exported, How, ask, tokens, told
from providers.server import Answer, Provider, events, json_answer

pytestmark = pytest.mark.usefixtures("no_faults")

STREAMED = ("stream", "astream")


def claude(server: Provider, **more: Any) -> ChatAnthropic:
    made: dict[str, Any] = {"model": "claude-opus-4-1", "api_key": SecretStr("x"), "base_url": server.url}
    return ChatAnthropic(**made, max_retries=0, **more)


def message(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-1-20250805",
        "content": [{"type": "text", "text": "Hi! My name is Claude."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
        **more,
    }


def stream(
    start: dict[str, Any], delta: dict[str, Any], blocks: tuple[dict[str, Any], ...] = (), stop: str = "end_turn"
) -> Answer:
    """`start` is the usage of `message_start`, `delta` the cumulative one of `message_delta`."""
    said = blocks or (
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi! My name"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " is Claude."}},
        {"type": "content_block_stop", "index": 0},
    )
    return events(
        [
            {"type": "message_start", "message": message(start, content=[], stop_reason=None)},
            *said,
            {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": delta},
            {"type": "message_stop"},
        ],
        named=True,
    )


# https://platform.claude.com/docs/en/build-with-claude/prompt-caching#1-hour-cache-duration
CACHED: dict[str, Any] = {
    "input_tokens": 2048,
    "cache_read_input_tokens": 1800,
    "cache_creation_input_tokens": 248,
    "output_tokens": 503,
    "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
    "service_tier": "standard",
}
SAID: dict[str, Any] = {
    names.PROVIDER: "anthropic",
    names.REQUEST_MODEL: "claude-opus-4-1",
    names.RESPONSE_MODEL: "claude-opus-4-1-20250805",
    names.FINISH_REASONS: ["end_turn"],
}
IDENTIFIED: dict[str, Any] = {**SAID, names.RESPONSE_ID: "msg_013Zva2CMHLNnXjNJJKqJ2EF"}


@pytest.mark.parametrize("how", HOWS)
async def test_input_is_inclusive_and_its_parts_are_told(exported: Exported, server: Provider, how: How) -> None:
    if how in STREAMED:
        server.says(stream({**CACHED, "output_tokens": 1}, {key: CACHED[key] for key in list(CACHED)[:4]}))
    else:
        server.says(json_answer(message(CACHED)))
    answer = await ask(claude(server), how, exported)
    assert "Hi! My name is Claude." == answer.content

    usage = {
        names.USAGE_INPUT: 4096,
        names.USAGE_OUTPUT: 503,
        names.USAGE_CACHE_READ: 1800,
        names.USAGE_CACHE_WRITE: 248,
    }
    call, record = exported.one("model"), exported.record()
    if how in STREAMED:
        # The integration drops what only `message_start` says: the id, and how long written caches live.
        assert {**SAID, **usage} == told(call)
        assert {"input": 2048, "cache_read": 1800, "cache_write_5m": 248, "output": 503} == tokens(record)
        assert 0 < record.ttft_ns <= record.duration_ns
    else:
        lives = {names.CACHE_WRITE_5M_TOKENS: 148, names.CACHE_WRITE_1H_TOKENS: 100}
        assert {**IDENTIFIED, **usage, **lives} == told(call)
        expected = {"input": 2048, "cache_read": 1800, "cache_write_5m": 148, "cache_write_1h": 100, "output": 503}
        assert expected == tokens(record)
        assert 0 == record.ttft_ns
    assert 2048 + 1800 + 248 + 503 == sum(record.usage)
    assert not record.usage_missing


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("priority", "priority"), ("batch", "batch"), ("standard", None), (None, None)],
)
def test_the_tier_is_named_when_it_is_not_the_standard_one(
    exported: Exported, server: Provider, tier: str | None, expected: str | None
) -> None:
    server.says(json_answer(message({"input_tokens": 10, "output_tokens": 5, "service_tier": tier})))
    claude(server).invoke("hello", {"callbacks": [exported.handler()]})
    assert expected == exported.one("model").attributes.get(names.SERVICE_TIER)


# https://platform.claude.com/docs/en/build-with-claude/fast-mode
@pytest.mark.parametrize(("speed", "expected"), [("fast", "fast"), ("standard", None)])
def test_fast_mode_is_a_tier_of_its_own_price(
    exported: Exported, server: Provider, speed: str, expected: str | None
) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "service_tier": "standard", "speed": speed}
    server.says(json_answer(message(usage)))
    claude(server).invoke("hello", {"callbacks": [exported.handler()]})
    assert expected == exported.one("model").attributes.get(names.SERVICE_TIER)


# https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool#usage-and-pricing
@pytest.mark.parametrize("how", HOWS)
async def test_requests_of_server_tools_are_no_tokens(exported: Exported, server: Provider, how: How) -> None:
    usage = {"input_tokens": 6039, "output_tokens": 931, "server_tool_use": {"web_search_requests": 1}}
    blocks: tuple[dict[str, Any], ...] = (
        {
            "type": "server_tool_use",
            "id": "srvtoolu_01WYG3ziw53XMcoyKL4XcZmE",
            "name": "web_search",
            "input": {"query": "claude shannon birth date"},
        },
        {"type": "text", "text": "Born on April 30, 1916."},
    )
    if how in STREAMED:
        opened = [
            {"type": "content_block_start", "index": index, "content_block": {**block, "input": {}, "text": ""}}
            for index, block in enumerate(blocks)
        ]
        server.says(stream({**usage, "output_tokens": 1}, usage, tuple(opened)))
    else:
        server.says(json_answer(message(usage, content=list(blocks))))
    search = {"type": "web_search_20250305", "name": "web_search"}
    await ask(claude(server), how, exported, tools=[search])
    assert {"input": 6039, "output": 931} == tokens(exported.record())


# https://platform.claude.com/docs/en/build-with-claude/extended-thinking
@pytest.mark.parametrize("how", HOWS)
async def test_thinking_is_part_of_the_output(exported: Exported, server: Provider, how: How) -> None:
    usage = {"input_tokens": 42, "output_tokens": 500, "output_tokens_details": {"thinking_tokens": 320}}
    thought = {"type": "thinking", "thinking": "Let me see.", "signature": "EqQBCgIYAhIM"}
    if how in STREAMED:
        server.says(
            stream(
                {"input_tokens": 42, "output_tokens": 1},
                usage,
                (
                    {
                        "type": "content_block_start",
                        "index": 0,
                        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
                    },
                    {
                        "type": "content_block_delta",
                        "index": 0,
                        "delta": {"type": "thinking_delta", "thinking": "Let me see."},
                    },
                    {"type": "content_block_stop", "index": 0},
                    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
                    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes."}},
                    {"type": "content_block_stop", "index": 1},
                ),
            )
        )
    else:
        server.says(json_answer(message(usage, content=[thought, {"type": "text", "text": "Yes."}])))
    await ask(claude(server, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048), how, exported)
    record = exported.record()
    assert {"input": 42, "output": 180, "reasoning": 320} == tokens(record)
    assert (how in STREAMED) == (record.ttft_ns > 0)


@pytest.mark.parametrize("how", STREAMED)
async def test_input_that_the_integration_loses_is_missing_not_zero(
    exported: Exported, server: Provider, how: How
) -> None:
    """`message_delta` needs to tell the output only; the integration then takes the input for nothing."""
    server.says(stream({"input_tokens": 25, "output_tokens": 1}, {"output_tokens": 15}))
    await ask(claude(server), how, exported)
    assert {**SAID, names.USAGE_OUTPUT: 15, names.USAGE_MISSING: True} == told(exported.one("model"))
    assert exported.record().usage_missing


@pytest.mark.parametrize("how", STREAMED)
async def test_a_stream_without_usage_says_so(exported: Exported, server: Provider, how: How) -> None:
    server.says(stream({"input_tokens": 25, "output_tokens": 1}, {"output_tokens": 15}))
    await ask(claude(server, stream_usage=False), how, exported)
    call = exported.one("model")
    assert call.attributes[names.USAGE_MISSING] is True
    assert names.USAGE_INPUT not in call.attributes


@pytest.mark.parametrize("how", HOWS)
async def test_tool_use_is_told_as_the_reason_to_stop(exported: Exported, server: Provider, how: How) -> None:
    usage = {"input_tokens": 384, "output_tokens": 66}
    tool = {
        "type": "tool_use",
        "id": "toolu_01A09q90qw90lq917835lq9",
        "name": "get_weather",
        "input": {"city": "Paris"},
    }
    if how in STREAMED:
        blocks = (
            {"type": "content_block_start", "index": 0, "content_block": {**tool, "input": {}}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"city": "Paris"}'},
            },
            {"type": "content_block_stop", "index": 0},
        )
        server.says(stream({"input_tokens": 384, "output_tokens": 1}, usage, blocks, stop="tool_use"))
    else:
        server.says(json_answer(message(usage, content=[tool], stop_reason="tool_use")))
    weather = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    await ask(claude(server), how, exported, tools=[weather])
    assert ["tool_use"] == told(exported.one("model"))[names.FINISH_REASONS]


# https://platform.claude.com/docs/en/api/errors
@pytest.mark.parametrize("how", HOWS)
async def test_too_many_requests_are_recognised(exported: Exported, server: Provider, how: How) -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "Number of requests has exceeded"}}
    server.says(json_answer(error, status=429, headers={"retry-after": "7"}))
    with pytest.raises(Exception, match="rate_limit_error"):
        await ask(claude(server), how, exported)
    call = exported.one("model")
    assert (429, True) == (call.attributes[names.HTTP_STATUS], call.attributes[names.RATE_LIMITED])
    assert names.USAGE_MISSING not in call.attributes


@pytest.mark.parametrize("how", STREAMED)
async def test_an_overload_inside_a_stream_is_an_error_but_no_rate_limit(
    exported: Exported, server: Provider, how: How
) -> None:
    begun = message({"input_tokens": 25, "output_tokens": 1}, content=[], stop_reason=None)
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    server.says(events([{"type": "message_start", "message": begun}, error], named=True))
    with pytest.raises(Exception, match="Overloaded"):
        await ask(claude(server), how, exported)
    call = exported.one("model")
    assert "error" == call.status
    assert names.RATE_LIMITED not in call.attributes
