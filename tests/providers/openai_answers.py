"""Answers in OpenAI's shape, as its API reference documents them.

Chat completions: https://platform.openai.com/docs/api-reference/chat/object
Chunks: https://platform.openai.com/docs/api-reference/chat-streaming
Responses: https://platform.openai.com/docs/api-reference/responses/object
Events: https://platform.openai.com/docs/api-reference/responses-streaming
Examples in full: https://github.com/openai/openai-openapi
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from providers.server import Answer, events, json_answer

CHAT_ID: Final = "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG"
CHAT_MODEL: Final = "gpt-4.1-2025-04-14"
RESPONSE_ID: Final = "resp_67ccf18ef5fc8190b16dbee19bc54e5f087bb177ab789d5c"
RESPONSE_MODEL: Final = "gpt-5.4-2026-03-05"


def chat_usage(
    prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0, audio: tuple[int, int] = (0, 0), **more: Any
) -> dict[str, Any]:
    """Usage of a chat completion: totals that contain their details."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio[0]},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": audio[1],
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
            **more,
        },
    }


def completion(usage: dict[str, Any] | None, *choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chat completion, with one choice that says hello unless told otherwise."""
    body = {
        "id": CHAT_ID,
        "object": "chat.completion",
        "created": 1741570283,
        "model": CHAT_MODEL,
        "choices": list(choices) or [choice()],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
        **more,
    }
    return {key: value for key, value in body.items() if value is not None}


def choice(index: int = 0, finish: str = "stop", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "Hello there", "refusal": None, "annotations": [], **message}
    return {"index": index, "message": said, "logprobs": None, "finish_reason": finish}


def chunks(
    *deltas: dict[str, Any],
    usage: dict[str, Any] | None = None,
    finish: str = "stop",
    broken: bool = False,
    **more: Any,
) -> Answer:
    """A stream: the role, the `deltas`, why it ended and, if there is `usage`, a last chunk without choices."""

    def chunk(choices: Sequence[dict[str, Any]], used: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "id": CHAT_ID,
            "object": "chat.completion.chunk",
            "created": 1694268190,
            "model": CHAT_MODEL,
            "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
            "choices": list(choices),
            "usage": used,
            **more,
        }

    def part(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}])

    said = [
        part({"role": "assistant", "content": ""}),
        *map(part, deltas or ({"content": "Hello"}, {"content": " there"})),
    ]
    if not broken:
        said.append(part({}, finish))
        if usage is not None:
            said.append(chunk([], usage))
    return events(said, done=not broken, broken=broken)


def response_usage(
    inputs: int, outputs: int, *, cached: int = 0, written: int = 0, reasoning: int = 0
) -> dict[str, Any]:
    """Usage of a response: totals that contain their details."""
    return {
        "input_tokens": inputs,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": outputs,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": inputs + outputs,
    }


def response(usage: dict[str, Any] | None, *before: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A response with one message, after `before`: reasoning, tool calls."""
    return {
        "id": RESPONSE_ID,
        "object": "response",
        "created_at": 1741484430,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": RESPONSE_MODEL,
        "output": [*before, message("completed", [{"type": "output_text", "text": "Hi there!", "annotations": []}])],
        "parallel_tool_calls": True,
        "service_tier": "default",
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
        "metadata": {},
        **more,
    }


def message(status: str, content: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "message",
        "id": "msg_67c9fdcf37fc",
        "status": status,
        "role": "assistant",
        "content": list(content),
    }


def response_events(*last: dict[str, Any]) -> Answer:
    """A stream that says hello and ends with `last`."""
    text = {"item_id": "msg_67c9fdcf37fc", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "annotations": []}
    started = response(None, status="in_progress", output=[])
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": message("in_progress", [])},
        {"type": "response.content_part.added", **text, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **text, "delta": "Hi"},
        {"type": "response.output_text.delta", **text, "delta": " there!"},
        {"type": "response.output_text.done", **text, "text": "Hi there!"},
        {"type": "response.content_part.done", **text, "part": {**part, "text": "Hi there!"}},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": message("completed", [{**part, "text": "Hi there!"}]),
        },
        *last,
    ]
    return events([{**event, "sequence_number": number} for number, event in enumerate(said)], named=True)


def rate_limit(status: int = 429) -> Answer:
    """https://platform.openai.com/docs/guides/error-codes#api-errors"""
    error = {
        "message": "Rate limit reached for gpt-4.1 on tokens per min (TPM): Limit 30000. Please try again in 6ms.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    return json_answer({"error": error}, status, {"retry-after-ms": "1"})
