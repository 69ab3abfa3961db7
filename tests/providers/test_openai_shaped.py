"""Integrations and servers that speak OpenAI's API, against answers as each documents them: one table.

Groq: https://console.groq.com/docs/api-reference#chat-create (usage of a stream stands in `x_groq`)
DeepSeek: https://api-docs.deepseek.com/api/create-chat-completion
OpenRouter: https://openrouter.ai/docs/use-cases/usage-accounting
vLLM: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
LiteLLM: https://docs.litellm.ai/docs/proxy/user_keys
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_deepseek import ChatDeepSeek
from langchain_groq import ChatGroq
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from graphmeter import names
from providers.calls import HOWS, Exported, How, ask, tokens, told
from providers.openai_answers import CHAT_ID, chat_usage, chunks, completion, rate_limit
from providers.server import Answer, Provider, json_answer

pytestmark = pytest.mark.usefixtures("no_faults")

STREAMED = ("stream", "astream")
KEY = SecretStr("x")


class Case(NamedTuple):
    make: Callable[[str], BaseChatModel]
    """A model at a base URL."""
    usage: dict[str, Any]
    provider: str
    buckets: dict[str, int]
    answers_id: bool = True
    """Whether the integration hands on the id of an answer that is not streamed."""
    answered: str = ""
    """Response model, where the integration does not hand on the provider's."""
    address: str | None = "127.0.0.1"
    """server.address; None where the integration does not describe itself to callbacks."""
    cost_nano: int | None = None
    """What the server says that it cost; integrations do not hand that on of a stream."""
    streamed: Callable[[dict[str, Any]], Answer] = lambda usage: chunks(usage=usage)


def _groq_stream(usage: dict[str, Any]) -> Answer:
    """Every chunk has `x_groq`, the last one with usage, as the end of the choice."""
    whole = chunks()
    end = b'"finish_reason": "stop"}], "usage": null'
    said = b'"finish_reason": "stop"}], "x_groq": ' + json_answer({"id": "req_01jbd6g2qd", "usage": usage}).body
    assert end in whole.body
    return whole._replace(body=whole.body.replace(end, said))


_DEEPSEEK = {
    "prompt_tokens": 1600,
    "completion_tokens": 200,
    "total_tokens": 1800,
    "prompt_cache_hit_tokens": 1024,
    "prompt_cache_miss_tokens": 576,
    "completion_tokens_details": {"reasoning_tokens": 150},
}
_GROQ = {
    "queue_time": 0.037493756,
    "prompt_tokens": 4641,
    "prompt_time": 0.000680594,
    "completion_tokens": 256,
    "completion_time": 0.463333333,
    "total_tokens": 4897,
    "total_time": 0.464013927,
    "prompt_tokens_details": {"cached_tokens": 4608},
    "completion_tokens_details": {"reasoning_tokens": 100},
}

CASES = {
    "deepseek": Case(
        lambda url: ChatDeepSeek(
            model_name="deepseek-reasoner", api_key=KEY, api_base=url, max_retries=0, stream_usage=True
        ),
        _DEEPSEEK,
        "deepseek",
        {"input": 576, "cache_read": 1024, "output": 50, "reasoning": 150},
        address=None,
    ),
    "groq": Case(
        lambda url: ChatGroq(model_name="openai/gpt-oss-20b", api_key=KEY, base_url=url, max_retries=0),
        _GROQ,
        "groq",
        {"input": 33, "cache_read": 4608, "output": 156, "reasoning": 100},
        answers_id=False,
        answered="openai/gpt-oss-20b",
        streamed=_groq_stream,
    ),
    "openrouter-says-what-it-cost": Case(
        lambda url: ChatOpenAI(model="openai/gpt-4.1", api_key=KEY, base_url=url, max_retries=0, stream_usage=True),
        {**chat_usage(194, 60, cached=100), "cost": 0.95, "cost_details": {"upstream_inference_cost": 19}},
        "openai",
        {"input": 94, "cache_read": 100, "output": 60},
        cost_nano=950_000_000,
    ),
    "litellm-says-it-cost-nothing": Case(
        lambda url: ChatOpenAI(model="gpt-4.1", api_key=KEY, base_url=url, max_retries=0, stream_usage=True),
        {**chat_usage(194, 60), "total_cost": 0, "cost": 0.0},
        "openai",
        {"input": 194, "output": 60},
        cost_nano=0,
    ),
    "vllm-without-details": Case(
        lambda url: ChatOpenAI(
            model="Qwen/Qwen3-8B",
            api_key=KEY,
            base_url=url,
            max_retries=0,
            stream_usage=True,
            metadata={"graphmeter_provider": "vllm"},
        ),
        {"prompt_tokens": 12, "total_tokens": 20, "completion_tokens": 8, "prompt_tokens_details": None},
        "vllm",
        {"input": 12, "output": 8},
    ),
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_they_say_what_openai_says(exported: Exported, server: Provider, case: Case, how: How) -> None:
    server.says(case.streamed(case.usage) if how in STREAMED else json_answer(completion(case.usage)))
    model: Any = case.make(server.url)
    await ask(model, how, exported)
    call, record = exported.one("model"), exported.record()
    asked = getattr(model, "model_name", "")
    expected = {
        names.PROVIDER: case.provider,
        names.REQUEST_MODEL: asked,
        names.RESPONSE_MODEL: case.answered or "gpt-4.1-2025-04-14",
        names.FINISH_REASONS: ["stop"],
    }
    if case.answers_id and how not in STREAMED:
        expected[names.RESPONSE_ID] = CHAT_ID
    assert expected == {key: value for key, value in told(call).items() if ".usage." not in key}
    assert case.buckets == tokens(record)
    assert case.usage["total_tokens"] == sum(record.usage)
    assert (None if how in STREAMED else case.cost_nano) == record.reported_nano
    assert not record.cache_hit
    assert (how in STREAMED) == (record.ttft_ns > 0)
    assert case.address == call.attributes.get(names.SERVER_ADDRESS)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_their_rate_limits_are_recognised(exported: Exported, server: Provider, case: Case) -> None:
    server.says(rate_limit())
    with pytest.raises(Exception, match="Rate limit reached"):
        await ask(case.make(server.url), "invoke", exported)
    said = exported.one("model").attributes
    assert (429, True) == (said[names.HTTP_STATUS], said[names.RATE_LIMITED])


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("tier", "expected"), [("flex", "flex"), ("on_demand", None), ("auto", None)])
async def test_the_tier_of_groq_is_told(
    exported: Exported, server: Provider, how: How, tier: Any, expected: str | None
) -> None:
    """The integration says the tier that it asked for."""
    server.says(_groq_stream(_GROQ) if how in STREAMED else json_answer(completion(_GROQ)))
    await ask(
        ChatGroq(model_name="openai/gpt-oss-20b", api_key=KEY, base_url=server.url, service_tier=tier), how, exported
    )
    assert expected == told(exported.one("model")).get(names.SERVICE_TIER)


# https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html: `continuous_usage_stats`
@pytest.mark.parametrize("how", STREAMED)
async def test_a_server_that_tells_the_usage_so_far_on_every_chunk_is_counted_once(
    exported: Exported, server: Provider, how: How
) -> None:
    """LangChain adds them all: five chunks would make five times the input."""
    whole = chunks(usage=chat_usage(100, 4, cached=60))
    parts = whole.body.split(b"\n\n")
    for so_far, part in enumerate(parts):
        parts[so_far] = part.replace(
            b'"usage": null', b'"usage": ' + json_answer(chat_usage(100, so_far, cached=60)).body
        )
    server.says(whole._replace(body=b"\n\n".join(parts)))
    model = ChatOpenAI(model="Qwen/Qwen3-8B", api_key=KEY, base_url=server.url, max_retries=0, stream_usage=True)
    answer: Any = await ask(model, how, exported)
    assert 500 == answer.usage_metadata["input_tokens"]
    assert {"input": 40, "cache_read": 60, "output": 4} == tokens(exported.record())
