"""langchain-openai's plain text models against documented completions.

https://platform.openai.com/docs/api-reference/completions/object
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_openai import OpenAI
from pydantic import SecretStr

from graphmeter import names
from providers.calls import Exported, tokens, told
from providers.server import Provider, events, json_answer

pytestmark = pytest.mark.usefixtures("no_faults")

ID = "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7"
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def instruct(server: Provider, **more: Any) -> OpenAI:
    made: dict[str, Any] = {"model": "gpt-3.5-turbo-instruct", "api_key": SecretStr("x"), "base_url": server.url}
    return OpenAI(**made, max_retries=0, **more)


def completion(*texts: str, usage: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "id": ID,
        "object": "text_completion",
        "created": 1589478378,
        "model": "gpt-3.5-turbo-instruct:20230824-v2",
        "choices": [
            {"text": text, "index": index, "logprobs": None, "finish_reason": "length"}
            for index, text in enumerate(texts)
        ],
        **({"usage": usage} if usage else {}),
    }


SAID = {
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-3.5-turbo-instruct",
    names.FINISH_REASONS: ["length"],
}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_completion_is_billed_by_its_totals(exported: Exported, server: Provider, asynchronous: bool) -> None:
    server.says(json_answer(completion("This is indeed a test", usage=USAGE)))
    config: Any = {"callbacks": [exported.handler()]}
    model = instruct(server)
    text = await model.ainvoke("hi", config) if asynchronous else model.invoke("hi", config)
    assert "This is indeed a test" == text
    usage = {names.USAGE_INPUT: 5, names.USAGE_OUTPUT: 7}
    assert SAID | usage | {names.RESPONSE_MODEL: "gpt-3.5-turbo-instruct"} == told(exported.one("model"))
    assert names.OP_TEXT == exported.record().operation
    assert {"input": 5, "output": 7} == tokens(exported.record())


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_streamed_completion_has_a_first_chunk(
    exported: Exported, server: Provider, asynchronous: bool
) -> None:
    parts = [completion(text) for text in ("This", " is", " a test")]
    server.says(events([*parts, {**completion(), "usage": USAGE}], done=True))
    config: Any = {"callbacks": [exported.handler()]}
    model = instruct(server)
    said = [part async for part in model.astream("hi", config)] if asynchronous else list(model.stream("hi", config))
    assert "This is a test" == "".join(said)
    assert SAID | {names.USAGE_MISSING: True} == told(exported.one("model"))
    assert exported.record().ttft_ns > 0
