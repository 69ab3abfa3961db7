"""langchain-mistralai, -ollama and -cohere against their providers' documented answers, in one table.

Mistral: https://docs.mistral.ai/api/endpoint/chat
Ollama: https://github.com/ollama/ollama/blob/main/docs/api.md#generate-a-chat-completion
Cohere: https://docs.cohere.com/reference/chat and https://docs.cohere.com/reference/chat-stream
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from langchain_cohere import ChatCohere
from langchain_core.language_models import BaseChatModel
from langchain_mistralai import ChatMistralAI
from langchain_ollama import ChatOllama, OllamaLLM
from pydantic import SecretStr

from graphmeter import guard, names
from graphmeter.usage import usage_of
from providers.calls import HOWS, Exported, How, ask, tokens, told
from providers.server import Answer, Provider, events, json_answer, json_lines

pytestmark = [
    pytest.mark.usefixtures("no_faults"),
    # cohere's client is written for the first Pydantic.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

STREAMED = ("stream", "astream")


# --- Mistral ------------------------------------------------------------------------------------------------------------

MISTRAL_USAGE: dict[str, Any] = {
    "prompt_tokens": 16,
    "completion_tokens": 34,
    "total_tokens": 50,
    "prompt_tokens_details": {"cached_tokens": 8},
}


def mistral(server: Provider, **more: Any) -> ChatMistralAI:
    made: dict[str, Any] = {"model": "mistral-small-latest", "api_key": SecretStr("x"), "endpoint": server.url}
    return ChatMistralAI(**made, max_retries=0, **more)


def mistral_answer(how: How, usage: dict[str, Any] | None = None) -> Answer:
    head = {"id": "cmpl-e5cc70bb28c444948073e77776eb30ef", "created": 1702256327, "model": "mistral-small-2506"}
    said = {"usage": MISTRAL_USAGE if usage is None else usage}
    if how not in STREAMED:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
        return json_answer({**head, "object": "chat.completion", "choices": [choice], **said})

    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
        return {
            **head,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            **more,
        }

    return events(
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hello"}),
            chunk({"content": "."}, "stop", **said),
        ],
        done=True,
    )


# --- Ollama -------------------------------------------------------------------------------------------------------------

OLLAMA_END: dict[str, Any] = {
    "model": "llama3.2",
    "created_at": "2023-08-04T19:22:45.499127Z",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}


def ollama(server: Provider, **more: Any) -> ChatOllama:
    return ChatOllama(model="llama3.2", base_url=server.url, **more)


def ollama_answer(how: How, end: dict[str, Any] | None = None) -> Answer:
    """The integration always asks for a stream."""
    said = {
        "model": "llama3.2",
        "created_at": "2023-08-04T08:52:19.385406455-07:00",
        "message": {"role": "assistant", "content": "Hello."},
        "done": False,
    }
    return json_lines([said, OLLAMA_END if end is None else end])


# --- Cohere -------------------------------------------------------------------------------------------------------------

COHERE_USAGE = {
    "billed_units": {"input_tokens": 5, "output_tokens": 418},
    "tokens": {"input_tokens": 71, "output_tokens": 418},
}


def cohere(server: Provider, **more: Any) -> ChatCohere:
    made: dict[str, Any] = {"model": "command-a-03-2025", "cohere_api_key": SecretStr("x"), "base_url": server.url}
    return ChatCohere(**made, **more)


def cohere_answer(how: How) -> Answer:
    head = {"id": "c14c80c3-18eb-4519-9460-6c92edd8cfb4"}
    if how not in STREAMED:
        message = {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]}
        return json_answer({**head, "finish_reason": "COMPLETE", "message": message, "usage": COHERE_USAGE})
    begun = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
    return events(
        [
            {"type": "message-start", **head, "delta": begun},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello."}}}},
            {"type": "content-end", "index": 0},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}},
        ],
        named=True,
    )


# --- the table ----------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One integration: how it is made, what its provider answers, and what must be told of that."""

    make: Callable[..., BaseChatModel]
    answer: Callable[[How], Answer]
    told: Callable[[bool], dict[str, Any]]
    """By whether the answer was streamed: integrations pass on different things then."""
    tokens: Callable[[bool], dict[str, int]]


MISTRAL = Case(
    mistral,
    mistral_answer,
    lambda streamed: {
        names.PROVIDER: "mistral_ai",
        names.REQUEST_MODEL: "mistral-small-latest",
        # Unless it streams, the integration takes the model it asked for as the one that answered.
        names.RESPONSE_MODEL: "mistral-small-2506" if streamed else "mistral-small-latest",
        names.FINISH_REASONS: ["stop"],
        names.USAGE_INPUT: 16,
        names.USAGE_OUTPUT: 34,
        **({} if streamed else {names.USAGE_CACHE_READ: 8}),
    },
    lambda streamed: {"input": 16, "output": 34} if streamed else {"input": 8, "cache_read": 8, "output": 34},
)
OLLAMA = Case(
    ollama,
    ollama_answer,
    lambda streamed: {
        names.PROVIDER: "ollama",
        names.REQUEST_MODEL: "llama3.2",
        names.RESPONSE_MODEL: "llama3.2",
        names.FINISH_REASONS: ["stop"],
        names.USAGE_INPUT: 26,
        names.USAGE_OUTPUT: 282,
    },
    lambda streamed: {"input": 26, "output": 282},
)
COHERE = Case(
    cohere,
    cohere_answer,
    lambda streamed: {
        names.PROVIDER: "cohere",
        names.REQUEST_MODEL: "command-a-03-2025",
        **({} if streamed else {names.RESPONSE_ID: "c14c80c3-18eb-4519-9460-6c92edd8cfb4"}),
        names.FINISH_REASONS: ["COMPLETE"],
        # Streams pass on what is billed, other answers all that the model read.
        names.USAGE_INPUT: 5 if streamed else 71,
        names.USAGE_OUTPUT: 418,
    },
    lambda streamed: {"input": 5 if streamed else 71, "output": 418},
)
TABLE = [pytest.param(MISTRAL, id="mistral"), pytest.param(OLLAMA, id="ollama"), pytest.param(COHERE, id="cohere")]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("case", TABLE)
async def test_a_call_tells_what_the_provider_said(exported: Exported, server: Provider, case: Case, how: How) -> None:
    server.says(case.answer(how))
    await ask(case.make(server), how, exported)
    streamed = how in STREAMED
    assert case.told(streamed) == told(exported.one("model"))
    record = exported.record()
    assert case.tokens(streamed) == tokens(record)
    # Ollama streams to its integration whatever the application asks for.
    assert (streamed or case is OLLAMA) == (record.ttft_ns > 0)
    assert not record.usage_missing


REFUSED = {
    "mistral": {"object": "error", "message": "Requests rate limit exceeded", "type": "rate_limited", "code": "1300"},
    "ollama": {"error": "you've reached your usage limit"},
    "cohere": {"message": "You are using a Trial key, which is limited to 20 API calls / minute."},
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("make", "who"), [(mistral, "mistral"), (ollama, "ollama"), (cohere, "cohere")])
async def test_too_many_requests_are_recognised(
    exported: Exported, server: Provider, monkeypatch: pytest.MonkeyPatch, how: How, make: Any, who: str
) -> None:
    # Cohere's client tries twice more, and waits seconds in between.
    monkeypatch.setattr("cohere.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.001)
    server.says(json_answer(REFUSED[who], status=429))
    with pytest.raises(Exception) as refused:
        await ask(make(server), how, exported)
    assert not isinstance(refused.value, AssertionError)
    call = exported.one("model")
    assert (429, True) == (call.attributes[names.HTTP_STATUS], call.attributes[names.RATE_LIMITED])
    assert names.USAGE_MISSING not in call.attributes


@pytest.mark.parametrize("how", HOWS)
async def test_a_prompt_that_ollama_did_not_count_is_missing_not_zero(
    exported: Exported, server: Provider, how: How
) -> None:
    server.says(ollama_answer(how, {key: value for key, value in OLLAMA_END.items() if key != "prompt_eval_count"}))
    await ask(ollama(server), how, exported)
    call = exported.one("model")
    assert names.USAGE_INPUT not in call.attributes
    assert (282, True) == (call.attributes[names.USAGE_OUTPUT], call.attributes[names.USAGE_MISSING])


@pytest.mark.parametrize("how", STREAMED)
async def test_a_thought_is_the_first_chunk_too(exported: Exported, server: Provider, how: How) -> None:
    """https://docs.ollama.com/capabilities/thinking"""
    thought = {"role": "assistant", "content": "", "thinking": "Let me see."}
    server.says(json_lines([{"model": "llama3.2", "message": thought, "done": False}, OLLAMA_END]))
    await ask(ollama(server, reasoning=True), how, exported)
    assert 0 < exported.record().ttft_ns


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_mistral_without_usage_says_so(exported: Exported, server: Provider, how: How) -> None:
    server.says(mistral_answer(how, usage={}))
    await ask(mistral(server), how, exported)
    assert exported.one("model").attributes[names.USAGE_MISSING] is True


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_plain_text_of_ollama_has_usage_too(exported: Exported, server: Provider, asynchronous: bool) -> None:
    """https://github.com/ollama/ollama/blob/main/docs/api.md#generate-a-completion"""
    end = {key: value for key, value in OLLAMA_END.items() if key != "message"}
    server.says(json_lines([{"model": "llama3.2", "response": "Hello.", "done": False}, {**end, "response": ""}]))
    model = OllamaLLM(model="llama3.2", base_url=server.url)
    config: Any = {"callbacks": [exported.handler()]}
    assert "Hello." == (await model.ainvoke("hello", config) if asynchronous else model.invoke("hello", config))
    call = exported.one("model")
    assert "text_completion" == call.attributes[names.OPERATION]
    assert {"input": 26, "output": 282} == tokens(exported.record())


def test_what_cohere_bills_is_what_counts_where_both_are_told() -> None:
    usage = usage_of(None, {"usage": COHERE_USAGE})
    assert usage is not None
    assert {names.USAGE_INPUT: 5, names.USAGE_OUTPUT: 418} == usage.attributes
    assert {} == guard.faults()
