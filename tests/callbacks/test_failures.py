"""What failed calls say of their provider's answer, by the shapes that exceptions of SDKs have."""

from __future__ import annotations

from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest

from graphmeter import failures, names


class ProviderError(Exception):
    def __init__(self, *args: Any, **said: Any) -> None:
        super().__init__(*args)
        self.__dict__.update(said)


LIMITED = {names.HTTP_STATUS: 429, names.RATE_LIMITED: True}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(ProviderError(status_code=429), LIMITED, id="openai-anthropic-groq-cohere-ollama"),
        pytest.param(ProviderError(response=SimpleNamespace(status_code=429)), LIMITED, id="httpx"),
        pytest.param(ProviderError(code=429, status="RESOURCE_EXHAUSTED"), LIMITED, id="google-genai"),
        pytest.param(ProviderError(code=HTTPStatus.TOO_MANY_REQUESTS), LIMITED, id="google-api-core"),
        pytest.param(ProviderError(status=429), LIMITED, id="aiohttp"),
        pytest.param(
            ProviderError(response={"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": 429}}),
            LIMITED,
            id="botocore",
        ),
        pytest.param(
            ProviderError(response={"Error": {"Code": "throttlingException"}}),
            {names.RATE_LIMITED: True},
            id="bedrock-in-a-stream",
        ),
        pytest.param(
            ProviderError(status_code=200, body={"type": "error", "error": {"type": "rate_limit_error"}}),
            {names.HTTP_STATUS: 200, names.RATE_LIMITED: True},
            id="anthropic-in-a-stream",
        ),
        pytest.param(
            ProviderError(code="rate_limit_exceeded"), {names.RATE_LIMITED: True}, id="openai-chat-in-a-stream"
        ),
        pytest.param(
            ValueError("rate_limit_exceeded: Rate limit reached"),
            {names.RATE_LIMITED: True},
            id="openai-responses-in-a-stream",
        ),
        pytest.param(
            ValueError(SimpleNamespace(code="rate_limit_exceeded")),
            {names.RATE_LIMITED: True},
            id="openai-responses-failed",
        ),
        pytest.param(ProviderError(status_code=500), {names.HTTP_STATUS: 500}, id="another-status"),
        pytest.param(ProviderError(status_code=-1), {}, id="ollama-without-a-status"),
        pytest.param(ProviderError(code=8, status_code=True), {}, id="no-http-status"),
        pytest.param(ConnectionError("refused"), {}, id="no-answer"),
        pytest.param(ValueError("we hit rate_limit_exceeded somewhere"), {}, id="texts-are-not-guessed-at"),
    ],
)
def test_what_a_failed_call_says(error: BaseException, expected: dict[str, Any]) -> None:
    assert expected == failures.facts_of(error)


def test_a_wrapped_error_is_known_by_its_cause() -> None:
    wrapped = RuntimeError("model failed")
    wrapped.__cause__ = ProviderError(status_code=429)
    assert LIMITED == failures.facts_of(wrapped)


def test_causes_that_go_in_circles_end() -> None:
    error = RuntimeError("a")
    error.__cause__ = error
    assert {} == failures.facts_of(error)
