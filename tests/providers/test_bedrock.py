"""langchain-aws against Amazon Bedrock's documented answers: Converse, InvokeModel, and their event streams.

Converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
ConverseStream: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
InvokeModel: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from langchain_aws import ChatBedrock, ChatBedrockConverse
from langchain_aws.chat_models.anthropic import ChatAnthropicBedrock
from pydantic import SecretStr

from graphmeter import names
from graphmeter.providers import model_name
from graphmeter.usage import usage_of
from providers import eventstream
from providers.calls import HOWS, Exported, How, ask, tokens, told
from providers.eventstream import event, exception
from providers.server import Answer, Provider, json_answer, provider

pytestmark = pytest.mark.usefixtures("no_faults")

STREAMED = ("stream", "astream")
MODEL = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
REQUEST_ID = "9ef1e313-a4c1-4f79-b631-171f658d3c0e"


@pytest.fixture(scope="module")
def there() -> Iterator[tuple[Provider, Any]]:
    """One server for all tests, and one client of it: botocore takes a second to make one."""
    with provider() as here:
        made = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "x", "endpoint_url": here.url}
        once = Config(retries={"total_max_attempts": 1})
        yield here, boto3.client("bedrock-runtime", region_name="us-east-1", config=once, **made)


@pytest.fixture
def server(there: tuple[Provider, Any]) -> Provider:
    return there[0]


@pytest.fixture
def client(there: tuple[Provider, Any]) -> Any:
    return there[1]


def converse(client: Any, **more: Any) -> ChatBedrockConverse:
    # The second client would ask for profiles of the account.
    return ChatBedrockConverse(**{"model": MODEL, "client": client, "bedrock_client": client, **more})


def invoke(client: Any, **more: Any) -> ChatBedrock:
    return ChatBedrock(**{"model": MODEL, "client": client, **more})


def answer(how: How, usage: dict[str, Any], stop: str = "end_turn", **more: Any) -> Answer:
    """What Converse, or ConverseStream, answers."""
    headers = {"x-amzn-RequestId": REQUEST_ID}
    metrics = {"metrics": {"latencyMs": 1275}}
    if how in STREAMED:
        return eventstream.stream(
            event("messageStart", {"role": "assistant"}),
            event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
            event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo."}}),
            event("contentBlockStop", {"contentBlockIndex": 0}),
            event("messageStop", {"stopReason": stop}),
            event("metadata", {"usage": usage, **metrics, **more}),
            headers=headers,
        )
    said = {"output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}}, "stopReason": stop}
    return json_answer({**said, "usage": usage, **metrics, **more}, headers=headers)


# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
CACHED: dict[str, Any] = {
    "inputTokens": 30,
    "outputTokens": 628,
    "cacheReadInputTokens": 1000,
    "cacheWriteInputTokens": 100,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 60}, {"ttl": "5m", "inputTokens": 40}],
    "totalTokens": 1758,
}
PLAIN = {"inputTokens": 30, "outputTokens": 628, "totalTokens": 658}
SAID: dict[str, Any] = {
    names.PROVIDER: "aws.bedrock",
    names.REQUEST_MODEL: MODEL,
    names.RESPONSE_MODEL: MODEL,
    names.RESPONSE_ID: REQUEST_ID,
    names.FINISH_REASONS: ["end_turn"],
}


@pytest.mark.parametrize("how", HOWS)
async def test_what_was_cached_is_added_to_the_input(
    exported: Exported, server: Provider, client: Any, how: How
) -> None:
    server.says(answer(how, CACHED))
    await ask(converse(client), how, exported)
    usage = {
        names.USAGE_INPUT: 1130,
        names.USAGE_OUTPUT: 628,
        names.USAGE_CACHE_READ: 1000,
        names.USAGE_CACHE_WRITE: 100,
        names.CACHE_WRITE_5M_TOKENS: 40,
        names.CACHE_WRITE_1H_TOKENS: 60,
    }
    assert {**SAID, **usage} == told(exported.one("model"))
    record = exported.record()
    expected = {"input": 30, "cache_read": 1000, "cache_write_5m": 40, "cache_write_1h": 60, "output": 628}
    assert expected == tokens(record)
    assert CACHED["totalTokens"] == sum(record.usage)
    assert (how in STREAMED) == (record.ttft_ns > 0)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({"serviceTier": {"type": "priority"}}, "priority", id="priority"),
        pytest.param({"serviceTier": {"type": "flex"}}, "flex", id="flex"),
        pytest.param({"serviceTier": {"type": "default"}}, None, id="default"),
        pytest.param({"performanceConfig": {"latency": "optimized"}}, "latency_optimized", id="latency-optimized"),
        pytest.param({"performanceConfig": {"latency": "standard"}}, None, id="latency-standard"),
        pytest.param({}, None, id="silent"),
    ],
)
async def test_the_tier_is_named_when_it_is_not_the_standard_one(
    exported: Exported, server: Provider, client: Any, how: How, more: dict[str, Any], expected: str | None
) -> None:
    server.says(answer(how, PLAIN, **more))
    await ask(converse(client), how, exported)
    assert expected == exported.one("model").attributes.get(names.SERVICE_TIER)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", "anthropic.claude-3-7-sonnet-20250219-v1:0"),
        ("eu.amazon.nova-pro-v1:0", "eu.amazon.nova-pro-v1:0"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
        ),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-1-8b-instruct-v1:0",
            "meta.llama3-1-8b-instruct-v1:0",
        ),
        ("arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc123", "provisioned-model/abc123"),
    ],
)
def test_a_model_is_named_without_account_and_region(
    exported: Exported, server: Provider, client: Any, model: str, expected: str
) -> None:
    server.says(answer("invoke", PLAIN))
    asked = converse(client, model=model, provider="anthropic")
    asked.invoke("hello", {"callbacks": [exported.handler()]})
    call = exported.one("model")
    assert f"chat {expected}" == call.name
    assert (expected, expected) == (call.attributes[names.REQUEST_MODEL], call.attributes[names.RESPONSE_MODEL])


def test_a_profile_of_the_account_is_called_by_its_base_model_where_that_is_known(
    exported: Exported, server: Provider, client: Any
) -> None:
    server.says(answer("invoke", PLAIN))
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"
    asked = converse(client, model=profile, provider="anthropic", base_model="anthropic.claude-sonnet-4-20250514-v1:0")
    asked.invoke("hello", {"callbacks": [exported.handler()]})
    assert "chat anthropic.claude-sonnet-4-20250514-v1:0" == exported.one("model").name


def test_a_profile_whose_model_nobody_knows_keeps_its_kind() -> None:
    profile = "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:application-inference-profile/abc123def456"
    assert "application-inference-profile/abc123def456" == model_name(profile)


@pytest.mark.parametrize("how", HOWS)
async def test_a_prompt_router_says_which_model_answered(
    exported: Exported, server: Provider, client: Any, how: How
) -> None:
    invoked = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-haiku-20241022-v1:0"
    server.says(answer(how, PLAIN, trace={"promptRouter": {"invokedModelId": invoked}}))
    router = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
    await ask(converse(client, model=router, provider="anthropic", disable_streaming=False), how, exported)
    call = exported.one("model")
    assert "default-prompt-router/anthropic.claude:1" == call.attributes[names.REQUEST_MODEL]
    assert "us.anthropic.claude-3-5-haiku-20241022-v1:0" == call.attributes[names.RESPONSE_MODEL]


# https://docs.aws.amazon.com/bedrock/latest/userguide/guardrails-use-converse-api.html
@pytest.mark.parametrize("how", HOWS)
async def test_a_guardrail_that_blocks_the_prompt_has_really_used_nothing(
    exported: Exported, server: Provider, client: Any, how: How
) -> None:
    nothing = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    server.says(answer(how, nothing, stop="guardrail_intervened"))
    await ask(converse(client), how, exported)
    usage = {names.FINISH_REASONS: ["guardrail_intervened"], names.USAGE_INPUT: 0, names.USAGE_OUTPUT: 0}
    assert {**SAID, **usage} == told(exported.one("model"))
    assert not exported.record().usage_missing


# --- InvokeModel --------------------------------------------------------------------------------------------------------

# https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html
MESSAGE: dict[str, Any] = {
    "id": "msg_bdrk_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-3-7-sonnet-20250219",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 100,
        "output_tokens": 15,
    },
}
COUNTS = {
    "x-amzn-bedrock-input-token-count": "10",
    "x-amzn-bedrock-output-token-count": "15",
    "x-amzn-bedrock-cache-read-input-token-count": "1000",
    "x-amzn-bedrock-cache-write-input-token-count": "100",
}
METRICS = {
    "inputTokenCount": 10,
    "outputTokenCount": 15,
    "cacheReadInputTokenCount": 1000,
    "cacheWriteInputTokenCount": 100,
    "invocationLatency": 900,
    "firstByteLatency": 300,
}


def chunk(value: Any) -> bytes:
    return event("chunk", {"bytes": base64.b64encode(json.dumps(value).encode()).decode()})


def invoked(how: How) -> Answer:
    """What InvokeModel, or InvokeModelWithResponseStream, answers."""
    if how not in STREAMED:
        return json_answer(MESSAGE, headers={**COUNTS, "x-amzn-RequestId": REQUEST_ID})
    return eventstream.stream(
        chunk({"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}),
        chunk({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}}),
        chunk({"type": "content_block_stop", "index": 0}),
        chunk(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 15},
            }
        ),
        chunk({"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS}),
    )


@pytest.mark.parametrize("how", HOWS)
async def test_invoke_model_counts_in_headers_and_metrics(
    exported: Exported, server: Provider, client: Any, how: How
) -> None:
    server.says(invoked(how))
    await ask(invoke(client), how, exported)
    usage = {
        names.USAGE_INPUT: 1110,
        names.USAGE_OUTPUT: 15,
        names.USAGE_CACHE_READ: 1000,
        names.USAGE_CACHE_WRITE: 100,
    }
    # The integration passes no id on.
    said = {key: value for key, value in SAID.items() if key != names.RESPONSE_ID}
    assert {**said, **usage} == told(exported.one("model"))
    record = exported.record()
    assert {"input": 10, "cache_read": 1000, "cache_write_5m": 100, "output": 15} == tokens(record)
    assert (how in STREAMED) == (record.ttft_ns > 0)


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_an_answer_without_counts_is_missing_usage_not_zero(
    exported: Exported, server: Provider, client: Any, how: How
) -> None:
    server.says(json_answer({**MESSAGE, "usage": {}}))
    await ask(invoke(client), how, exported)
    assert exported.one("model").attributes[names.USAGE_MISSING] is True


@pytest.mark.parametrize("how", HOWS)
async def test_claude_through_anthropics_client_is_bedrocks(
    exported: Exported, server: Provider, monkeypatch: pytest.MonkeyPatch, how: How
) -> None:
    if how in STREAMED:
        usage = {key: MESSAGE["usage"][key] for key in MESSAGE["usage"]}
        server.says(
            eventstream.stream(
                chunk({"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}),
                chunk({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}}),
                chunk({"type": "content_block_stop", "index": 0}),
                chunk({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
                chunk({"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS}),
            )
        )
    else:
        server.says(json_answer(MESSAGE))
    monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", server.url)
    made: dict[str, Any] = {"model": MODEL, "region_name": "us-east-1", "max_retries": 0}
    keys = {"aws_access_key_id": SecretStr("AKIDEXAMPLE"), "aws_secret_access_key": SecretStr("x")}
    model = ChatAnthropicBedrock(**made, **keys)
    await ask(model, how, exported)
    call = exported.one("model")
    # Anthropic's client has Anthropic's name of the model; Bedrock's says region and version.
    assert ("aws.bedrock", MODEL) == (call.attributes[names.PROVIDER], call.attributes[names.RESPONSE_MODEL])
    assert {"input": 10, "cache_read": 1000, "cache_write_5m": 100, "output": 15} == tokens(exported.record())


# --- refusals -----------------------------------------------------------------------------------------------------------


# https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html says 400, the operations say 429.
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("status", [429, 400])
@pytest.mark.parametrize("make", [converse, invoke])
async def test_throttling_is_recognised_whatever_its_status(
    exported: Exported, server: Provider, client: Any, how: How, status: int, make: Any
) -> None:
    refused = {"message": "Too many requests, please wait before trying again."}
    server.says(json_answer(refused, status, {"x-amzn-ErrorType": "ThrottlingException"}))
    with pytest.raises(Exception, match="ThrottlingException"):
        await ask(make(client), how, exported)
    call = exported.one("model")
    assert (status, True) == (call.attributes[names.HTTP_STATUS], call.attributes[names.RATE_LIMITED])


@pytest.mark.parametrize("how", STREAMED)
async def test_throttling_inside_a_stream_is_recognised(
    exported: Exported, server: Provider, client: Any, how: How
) -> None:
    server.says(
        eventstream.stream(
            event("messageStart", {"role": "assistant"}), exception("throttlingException", {"message": "Slow down."})
        )
    )
    with pytest.raises(Exception, match="throttlingException"):
        await ask(converse(client), how, exported)
    call = exported.one("model")
    assert "error" == call.status
    assert call.attributes[names.RATE_LIMITED] is True
    assert names.HTTP_STATUS not in call.attributes


def test_a_bad_request_is_no_rate_limit(exported: Exported, server: Provider, client: Any) -> None:
    server.says(json_answer({"message": "Malformed."}, 400, {"x-amzn-ErrorType": "ValidationException"}))
    with pytest.raises(Exception, match="ValidationException"):
        converse(client).invoke("hello", {"callbacks": [exported.handler()]})
    assert names.RATE_LIMITED not in exported.one("model").attributes


# --- what other versions pass on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("standard", "tokens_in"),
    [
        pytest.param({"input_tokens": 30, "total_tokens": 1758}, 1130, id="left-out"),
        pytest.param({"input_tokens": 1130, "total_tokens": 1758}, 1130, id="included"),
        pytest.param({"input_tokens": 1130, "total_tokens": 658}, 1130, id="included-total-without"),
        pytest.param({"input_tokens": 30}, 1130, id="left-out-and-no-total"),
        pytest.param({"input_tokens": 1130}, 1130, id="included-and-no-total"),
    ],
)
def test_input_contains_what_was_cached_whatever_the_integration_does(standard: dict[str, Any], tokens_in: int) -> None:
    said = {**standard, "output_tokens": 628, "input_token_details": {"cache_read": 1000, "cache_creation": 100}}
    usage = usage_of(SimpleNamespace(usage_metadata=said), None, provider="aws.bedrock")
    assert usage is not None
    assert tokens_in == usage.attributes[names.USAGE_INPUT]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(CACHED, id="converse"),
        pytest.param(
            {
                "prompt_tokens": 30,
                "completion_tokens": 628,
                "cache_read_input_tokens": 1000,
                "cache_write_input_tokens": 100,
                "total_tokens": 1758,
            },
            id="invoke-model",
        ),
    ],
)
def test_raw_usage_is_read_where_nothing_else_is_said(raw: dict[str, Any]) -> None:
    usage = usage_of(None, {"usage": raw})
    assert usage is not None
    expected = {
        names.USAGE_INPUT: 1130,
        names.USAGE_OUTPUT: 628,
        names.USAGE_CACHE_READ: 1000,
        names.USAGE_CACHE_WRITE: 100,
    }
    assert expected == {key: value for key, value in usage.attributes.items() if key in expected}
