"""Every shape of content that LangChain's integrations use, as parts of the GenAI conventions."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from graphmeter.capture.messages import message
from graphmeter.capture.plain import Walk

PNG = "iVBORw0KGgo="


def parts(content: Any, *, media: bool = False, **more: Any) -> Any:
    return message(AIMessage(content, **more), Walk(), media=media)["parts"]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("plain", {"type": "text", "content": "plain"}),
        ({"type": "text", "text": "t"}, {"type": "text", "content": "t"}),
        ({"type": "output_text", "text": "t"}, {"type": "text", "content": "t"}),
        # reasoning: standard, Anthropic, encrypted, OpenAI's responses, Bedrock
        ({"type": "reasoning", "reasoning": "r"}, {"type": "reasoning", "content": "r"}),
        ({"type": "thinking", "thinking": "r", "signature": "s"}, {"type": "reasoning", "content": "r"}),
        ({"type": "redacted_thinking", "data": "x"}, {"type": "reasoning", "content": "[encrypted]"}),
        ({"type": "reasoning", "summary": [{"text": "r"}, {"text": "s"}]}, {"type": "reasoning", "content": "r\ns"}),
        (
            {"type": "reasoning_content", "reasoning_content": {"text": "r", "signature": "s"}},
            {"type": "reasoning", "content": "r"},
        ),
        # pictures: OpenAI, standard by URL, by bytes and by id, Anthropic, Google
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
            {"type": "uri", "modality": "image", "uri": "https://e.com/a.png"},
        ),
        (
            {"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "", "size": 9},
        ),
        (
            {"type": "image", "url": "https://e.com/a.png", "mime_type": "image/png"},
            {"type": "uri", "modality": "image", "mime_type": "image/png", "uri": "https://e.com/a.png"},
        ),
        (
            {"type": "image", "base64": PNG, "mime_type": "image/png"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "", "size": 9},
        ),
        ({"type": "image", "file_id": "f1"}, {"type": "file", "modality": "image", "file_id": "f1"}),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "", "size": 9},
        ),
        (
            {"type": "media", "mime_type": "video/mp4", "file_uri": "gs://b/a.mp4"},
            {"type": "uri", "modality": "video", "mime_type": "video/mp4", "uri": "gs://b/a.mp4"},
        ),
        (
            {"type": "media", "mime_type": "audio/wav", "data": b"123"},
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "", "size": 3},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "", "size": 9},
        ),
        (
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "file", "modality": "document", "file_id": "f1"},
        ),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        ),
        (
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
            {
                "type": "server_tool_call",
                "name": "web_search",
                "id": "s1",
                "server_tool_call": {"type": "server_tool_use", "name": "web_search", "input": {"query": "q"}},
            },
        ),
        ({"type": "of tomorrow", "a": [1]}, {"type": "of tomorrow", "a": [1]}),
        ({"image": {"format": "png", "source": {"bytes": b"123"}}}, None),
    ],
)
def test_a_block_of_content_is_a_part(block: Any, expected: Any) -> None:
    (part,) = parts([block])
    if expected is None:
        expected = {"type": "unknown", "image": {"format": "png", "source": {"bytes": "[bytes: 3 bytes]"}}}
    assert expected == part


def test_bytes_are_there_when_asked_for() -> None:
    (part,) = parts([{"type": "image", "base64": PNG, "mime_type": "image/png"}], media=True)
    assert {"type": "blob", "modality": "image", "mime_type": "image/png", "content": PNG, "size": 9} == part


def test_a_call_is_shown_once_though_content_and_message_have_it() -> None:
    call: Any = {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    blocks: Any = [{"type": "text", "text": "t"}, {"type": "tool_use", "name": "add", "input": {"a": 1}, "id": "c1"}]
    asks = {"type": "tool_call", "name": "add", "id": "c1", "arguments": {"a": 1}}
    assert [{"type": "text", "content": "t"}, asks] == parts(blocks, tool_calls=[call])
    user: Any = HumanMessage(blocks)
    assert [{"type": "text", "content": "t"}, asks] == message(user, Walk())["parts"]


def test_reasoning_and_refusal_beside_the_content_are_parts() -> None:
    extra = {"reasoning_content": "r", "refusal": "no"}
    assert [
        {"type": "reasoning", "content": "r"},
        {"type": "text", "content": "t"},
        {"type": "refusal", "content": "no"},
    ] == parts("t", additional_kwargs=extra)


def test_a_tool_may_answer_in_blocks() -> None:
    answer = ToolMessage(
        [{"type": "text", "text": "t"}, {"type": "image", "url": "https://e.com/a.png"}], tool_call_id="c"
    )
    (part,) = message(answer, Walk())["parts"]
    assert [
        {"type": "text", "content": "t"},
        {"type": "uri", "modality": "image", "uri": "https://e.com/a.png"},
    ] == part["response"]


@pytest.mark.parametrize(
    ("one", "role"),
    [
        (HumanMessage("hi"), "user"),
        (AIMessage("hi"), "assistant"),
        (AIMessageChunk(content="hi"), "assistant"),
        (SystemMessage("hi"), "system"),
        (ToolMessage("hi", tool_call_id="c"), "tool"),
        (FunctionMessage(content="hi", name="f"), "tool"),
        (ChatMessage(content="hi", role="critic"), "critic"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_roles_are_those_of_the_conventions(one: Any, role: str) -> None:
    assert role == message(one, Walk())["role"]


def test_too_many_blocks_are_cut() -> None:
    said = parts(["word"] * 1000)
    assert 201 == len(said)
    assert {"type": "text", "content": "…[cut: 800 of 1000 parts]"} == said[-1]
