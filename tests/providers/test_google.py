"""langchain-google-genai against Google's documented answers: Gemini API and Vertex AI.

Answers: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
Usage: https://ai.google.dev/api/generate-content#UsageMetadata
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.oauth2.credentials import Credentials
from langchain_google_genai import ChatGoogleGenerativeAI
from pydantic import SecretStr

from graphmeter import guard, names
from graphmeter.usage import usage_of
from providers.calls import HOWS, Exported, How, ask, tokens, told
from providers.server import Provider, events, json_answer

pytestmark = [
    pytest.mark.usefixtures("no_faults"),
    # google-genai derives from aiohttp's session, which aiohttp discourages.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

STREAMED = ("stream", "astream")
MODEL = "gemini-2.5-flash"
CREDENTIALS = Credentials("x")  # type: ignore[no-untyped-call]


def gemini(server: Provider, **more: Any) -> ChatGoogleGenerativeAI:
    made: dict[str, Any] = {"model": MODEL, "google_api_key": SecretStr("x"), "base_url": server.url, "max_retries": 1}
    return ChatGoogleGenerativeAI(**{**made, **more})


def vertex(server: Provider, **more: Any) -> ChatGoogleGenerativeAI:
    made: dict[str, Any] = {"project": "p", "location": "us-central1", "credentials": CREDENTIALS}
    return gemini(server, google_api_key=None, **made, **more)


def candidate(text: str, reason: str | None = "STOP", index: int = 0) -> dict[str, Any]:
    said = {"content": {"parts": [{"text": text}], "role": "model"}, "index": index}
    return {**said, "finishReason": reason} if reason else said


def response(usage: dict[str, Any] | None, *candidates: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "candidates": list(candidates or (candidate("Hello."),)),
        "modelVersion": "gemini-2.5-flash-preview-09-2025",
        "responseId": "mAitaLmkHPPlz7IPvtfUqQ4",
    }
    return said if usage is None else {**said, "usageMetadata": usage}


# The total is the sum of prompt, tool use, candidates and thoughts; the prompt contains what was cached.
USAGE: dict[str, Any] = {
    "promptTokenCount": 2152,
    "toolUsePromptTokenCount": 31,
    "cachedContentTokenCount": 2027,
    "candidatesTokenCount": 710,
    "thoughtsTokenCount": 1300,
    "totalTokenCount": 4193,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}, {"modality": "AUDIO", "tokenCount": 1152}],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}, {"modality": "AUDIO", "tokenCount": 1027}],
    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 710}],
}
SAID: dict[str, Any] = {
    names.PROVIDER: "gcp.gemini",
    names.REQUEST_MODEL: MODEL,
    names.RESPONSE_MODEL: "gemini-2.5-flash-preview-09-2025",
    names.FINISH_REASONS: ["STOP"],
}


@pytest.mark.parametrize("how", HOWS)
async def test_thoughts_tool_use_and_cache_are_parts_of_the_totals(
    exported: Exported, server: Provider, how: How
) -> None:
    if how in STREAMED:
        # Counts of a stream are cumulative.
        first = {"promptTokenCount": 2152, "thoughtsTokenCount": 900, "totalTokenCount": 3052}
        server.says(
            events(
                [
                    response(first, candidate("Hel", None)),
                    response({**first, "candidatesTokenCount": 700, "totalTokenCount": 3752}, candidate("lo", None)),
                    response(USAGE, candidate(".")),
                ]
            )
        )
    else:
        server.says(json_answer(response(USAGE)))
    answer = await ask(gemini(server), how, exported)
    assert "Hello." == answer.content

    usage = {
        names.USAGE_INPUT: 2183,
        names.USAGE_OUTPUT: 2010,
        names.USAGE_CACHE_READ: 2027,
        names.USAGE_REASONING: 1300,
    }
    # The integration drops `responseId`; what it puts in its place is LangChain's own, and said nowhere.
    assert {**SAID, **usage} == told(exported.one("model"))
    record = exported.record()
    # It also drops the details by modality: audio of the prompt is input like any other.
    assert {"input": 156, "cache_read": 2027, "output": 710, "reasoning": 1300} == tokens(record)
    assert USAGE["totalTokenCount"] == sum(record.usage)
    assert (how in STREAMED) == (record.ttft_ns > 0)


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_several_candidates_are_one_call(exported: Exported, server: Provider, how: How) -> None:
    usage = {"promptTokenCount": 4, "candidatesTokenCount": 20, "totalTokenCount": 24}
    server.says(json_answer(response(usage, candidate("a"), candidate("b", "MAX_TOKENS", 1))))
    await ask(gemini(server, n=2), how, exported)
    assert ["STOP", "MAX_TOKENS"] == told(exported.one("model"))[names.FINISH_REASONS]
    assert {"input": 4, "output": 20} == tokens(exported.record())


@pytest.mark.parametrize("how", HOWS)
async def test_vertex_is_a_provider_of_its_own(exported: Exported, server: Provider, how: How) -> None:
    usage = {"promptTokenCount": 4, "candidatesTokenCount": 20, "totalTokenCount": 24, "trafficType": "ON_DEMAND"}
    server.says(events([response(usage)]) if how in STREAMED else json_answer(response(usage)))
    await ask(vertex(server), how, exported)
    assert "/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash:" in server.requests[0].path
    expected = {**SAID, names.PROVIDER: "gcp.vertex_ai", names.USAGE_INPUT: 4, names.USAGE_OUTPUT: 20}
    assert expected == told(exported.one("model"))


@pytest.mark.parametrize(
    ("more", "environment", "provider"),
    [
        pytest.param({"vertexai": False, "project": "p"}, "", "gcp.gemini", id="argument-wins"),
        pytest.param({"credentials": CREDENTIALS, "project": "p"}, "", "gcp.vertex_ai", id="credentials"),
        pytest.param({"project": "p"}, "false", "gcp.gemini", id="environment-before-project"),
        pytest.param({}, "", "gcp.gemini", id="neither"),
    ],
)
def test_the_backend_is_told_as_the_integration_chooses_it(
    exported: Exported,
    server: Provider,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    environment: str,
    provider: str,
) -> None:
    if environment:
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", environment)
    server.says(json_answer(response({"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6})))
    model = gemini(server, **({**more, "location": "us-central1"} if "project" in more else more))
    model.invoke("hello", {"callbacks": [exported.handler()]})
    assert ("/projects/" in server.requests[0].path) == (provider == "gcp.vertex_ai")
    assert provider == exported.one("model").attributes[names.PROVIDER]


@pytest.mark.parametrize("how", HOWS)
async def test_missing_usage_is_said(exported: Exported, server: Provider, how: How) -> None:
    server.says(events([response(None)]) if how in STREAMED else json_answer(response(None)))
    await ask(gemini(server), how, exported)
    assert {**SAID, names.USAGE_MISSING: True} == told(exported.one("model"))


@pytest.mark.parametrize("how", HOWS)
async def test_a_blocked_prompt_has_no_candidates_and_still_costs(
    exported: Exported, server: Provider, how: How
) -> None:
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
        "modelVersion": "gemini-2.5-flash-preview-09-2025",
    }
    server.says(events([blocked]) if how in STREAMED else json_answer(blocked))
    await ask(gemini(server), how, exported)
    call = exported.one("model")
    if how in STREAMED:
        assert {"input": 8} == tokens(exported.record())
    else:
        # The integration makes an empty answer without usage.
        assert call.attributes[names.USAGE_MISSING] is True


@pytest.mark.parametrize("how", STREAMED)
async def test_a_reason_that_is_repeated_in_a_stream_is_told_once(
    exported: Exported, server: Provider, how: How
) -> None:
    """LangChain puts texts of chunks together, those of metadata, too: STOPSTOP."""
    usage = {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6}
    server.says(events([response(usage, candidate("a")), response(usage, candidate("b"))]))
    await ask(gemini(server), how, exported)
    expected = {**SAID, names.USAGE_INPUT: 4, names.USAGE_OUTPUT: 2}
    assert expected == told(exported.one("model"))


# https://ai.google.dev/gemini-api/docs/troubleshooting
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("make", [gemini, vertex])
async def test_too_many_requests_are_recognised(exported: Exported, server: Provider, how: How, make: Any) -> None:
    error = {"error": {"code": 429, "message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED"}}
    server.says(json_answer(error, status=429))
    with pytest.raises(Exception, match="RESOURCE_EXHAUSTED"):
        await ask(make(server), how, exported)
    call = exported.one("model")
    assert (429, True) == (call.attributes[names.HTTP_STATUS], call.attributes[names.RATE_LIMITED])


# --- what other versions and integrations pass on -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(USAGE, id="as-sent"),
        pytest.param(
            {
                "prompt_token_count": 2152,
                "tool_use_prompt_token_count": 31,
                "cached_content_token_count": 2027,
                "candidates_token_count": 710,
                "thoughts_token_count": 1300,
                "total_token_count": 4193,
                "prompt_tokens_details": [
                    {"modality": "TEXT", "token_count": 1000},
                    {"modality": 4, "token_count": 1152},
                ],
                "cache_tokens_details": [{"modality": 1, "token_count": 1000}, {"modality": 4, "token_count": 1027}],
                "candidates_tokens_details": [{"modality": 1, "token_count": 710}],
            },
            id="as-langchain-google-vertexai-keeps-it",
        ),
    ],
)
def test_raw_usage_tells_modalities_and_what_of_them_was_cached(raw: dict[str, Any]) -> None:
    usage = usage_of(SimpleNamespace(usage_metadata=None, response_metadata={"usage_metadata": raw}), None)
    assert usage is not None
    expected = {
        names.USAGE_INPUT: 2183,
        names.USAGE_OUTPUT: 2010,
        names.USAGE_CACHE_READ: 2027,
        names.USAGE_REASONING: 1300,
        names.USAGE_AUDIO_INPUT: 125,  # the rest of 1152 came from the cache
    }
    assert expected == usage.attributes
    assert {} == guard.faults()


@pytest.mark.parametrize(
    ("standard", "expected"),
    [
        pytest.param(
            {"input_tokens": 10, "output_tokens": 4, "total_tokens": 64, "output_token_details": {"reasoning": 50}},
            (10, 54, 50),
            id="output-without-thoughts",
        ),
        pytest.param(
            {"input_tokens": 10, "output_tokens": 54, "total_tokens": 95, "output_token_details": {"reasoning": 50}},
            (41, 54, 50),
            id="input-without-tool-use",
        ),
    ],
)
def test_what_older_versions_leave_out_of_a_total_is_found_again(
    standard: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    usage = usage_of(SimpleNamespace(usage_metadata=standard), None, provider="gcp.gemini")
    assert usage is not None
    keys = (names.USAGE_INPUT, names.USAGE_OUTPUT, names.USAGE_REASONING)
    assert expected == tuple(usage.attributes.get(key, 0) for key in keys)


def test_tokens_of_unknown_kind_are_counted_not_guessed() -> None:
    standard = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 64}
    usage = usage_of(SimpleNamespace(usage_metadata=standard), None, provider="gcp.gemini")
    assert usage is not None
    assert {names.USAGE_INPUT: 10, names.USAGE_OUTPUT: 4} == usage.attributes
    assert {"tokens of unknown kind": 1} == guard.faults()
    guard.forget()
