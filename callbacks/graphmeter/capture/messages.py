"""LangChain messages in, messages and parts of the OpenTelemetry GenAI conventions out, as plain data.

The schema is `gen-ai-input-messages.json` and its siblings in `semantic-conventions-genai` (main as of 2026-11): a message
is a role and parts, a part has a type. What LangChain and its integrations put into `content` is of many shapes; one that is
not known here goes on as a part of its own type, with its own keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from graphmeter.capture.plain import Walk

_ROLES: Final = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "tool"}
_MODALITIES: Final = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "file": "document",
    "input_file": "document",
    "document": "document",
    "text-plain": "document",
    "media": "document",
}
# The message says the same in `tool_calls`, whole and parsed.
_CALLS: Final = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta", "toolUse"})
_SERVER_CALLS: Final = frozenset({"server_tool_call", "server_tool_use", "web_search_call", "code_interpreter_call"})
# Their API takes instructions apart from the conversation; LangChain's integrations move system messages there.
_SEPARATE_SYSTEM: Final = frozenset({"anthropic", "aws.bedrock", "gcp.gemini", "gcp.vertex_ai"})
_MOST_BLOCKS: Final = 200

_Part = dict[str, Any]


def asked(
    batch: Sequence[Any], provider: object, walk: Walk, *, media: bool = False
) -> tuple[list[Any], list[_Part], int]:
    """Messages sent to a model, system instructions that its provider takes apart, and the number of older messages
    left out because the newer ones fill the walk."""
    sent: list[Any] = list(batch)
    instructions: list[_Part] = []
    while provider in _SEPARATE_SYSTEM and sent and getattr(sent[0], "type", "") == "system":
        instructions.extend(_parts(sent.pop(0), walk, media=media))
    said = []
    for one in reversed(sent):
        if walk.full:  # further back is less worth than what is there already
            break
        said.append(message(one, walk, media=media))
    said.reverse()
    return said, instructions, len(sent) - len(said)


def prompted(prompts: Iterable[str]) -> list[Any]:
    """What a text completion model was asked."""
    return [{"role": "user", "parts": [{"type": "text", "content": str(prompt)}]} for prompt in prompts]


def answered(generations: Iterable[Any], walk: Walk, *, media: bool = False) -> list[Any]:
    """One message per choice of an answer."""
    said = []
    for one in generations:
        answer = getattr(one, "message", None)
        if answer is not None:
            said.append(message(answer, walk, media=media))
        else:
            text = getattr(one, "text", "")
            said.append({"role": "assistant", "parts": [{"type": "text", "content": str(text)}]})
    return said


def message(one: Any, walk: Walk, *, media: bool = False) -> _Part:
    """One message."""
    walk.count()
    kind = str(getattr(one, "type", "")).removesuffix("MessageChunk").lower()
    role = getattr(one, "role", None) if kind == "chat" else _ROLES.get(kind)
    said: _Part = {"role": str(role or kind or "user"), "parts": _parts(one, walk, media=media)}
    if name := getattr(one, "name", None):
        said["name"] = str(name)
    return said


def _parts(one: Any, walk: Walk, *, media: bool) -> list[_Part]:
    content = getattr(one, "content", None)
    call_id = getattr(one, "tool_call_id", None)
    if call_id is not None:
        return [{"type": "tool_call_response", "id": str(call_id), "response": _response(content, walk, media=media)}]
    calls = getattr(one, "tool_calls", None) or ()
    parts: list[_Part] = []
    extra = getattr(one, "additional_kwargs", None) or {}
    thought = extra.get("reasoning_content")
    if isinstance(thought, str) and thought:
        parts.append({"type": "reasoning", "content": thought})
    blocks: Sequence[Any] = content if isinstance(content, list) else (content,) if content else ()
    for block in blocks[:_MOST_BLOCKS]:
        part = _part(block, walk, media=media, with_calls=not calls)
        if part is not None:
            parts.append(part)
    if len(blocks) > _MOST_BLOCKS:
        mark = f"…[cut: {len(blocks) - _MOST_BLOCKS} of {len(blocks)} parts]"
        parts.append({"type": "text", "content": mark})
    if isinstance(extra.get("refusal"), str):
        parts.append({"type": "refusal", "content": extra["refusal"]})
    # An invalid call's arguments are the text that could not be parsed.
    parts.extend(_call(call, "args", walk) for call in (*calls, *(getattr(one, "invalid_tool_calls", None) or ())))
    return parts


def _response(content: Any, walk: Walk, *, media: bool) -> Any:
    if isinstance(content, list) and any(isinstance(block, dict) and "type" in block for block in content):
        return [
            part
            for block in content[:_MOST_BLOCKS]
            if (part := _part(block, walk, media=media, with_calls=True)) is not None
        ]
    return walk.plain(content)


def _call(call: Mapping[str, Any], arguments: str, walk: Walk) -> _Part:
    part: _Part = {"type": "tool_call", "name": str(call.get("name") or "")}
    if identity := call.get("id") or call.get("call_id"):
        part["id"] = str(identity)
    part["arguments"] = walk.plain(call.get(arguments))
    return part


def _part(block: Any, walk: Walk, *, media: bool, with_calls: bool) -> _Part | None:
    if isinstance(block, str):
        return {"type": "text", "content": walk.plain(block)} if block else None
    if not isinstance(block, dict):
        return {"type": "text", "content": str(walk.plain(block))}
    kind = str(block.get("type") or "")
    text = block.get("text")
    if kind in ("text", "input_text", "output_text", "") and isinstance(text, str):
        return {"type": "text", "content": walk.plain(text)} if text else None
    if kind in ("thinking", "reasoning", "reasoning_content", "redacted_thinking"):
        return {"type": "reasoning", "content": _thought(block)}
    if kind in _CALLS:
        return _call(block, "args" if "args" in block else "input", walk) if with_calls else None
    if kind in _SERVER_CALLS:
        return {
            "type": "server_tool_call",
            "name": str(block.get("name") or kind),
            **({"id": str(block["id"])} if block.get("id") else {}),
            "server_tool_call": {"type": kind, **_rest(block, walk)},
        }
    if kind in _MODALITIES and (part := _medium(block, kind, media=media)) is not None:
        return part
    return {"type": kind or "unknown", **_rest(block, walk)}


def _rest(block: Mapping[Any, Any], walk: Walk) -> dict[str, Any]:
    return {key: value for key, value in walk.plain(dict(block)).items() if key not in ("type", "id")}


def _thought(block: Mapping[str, Any]) -> str:
    for key in ("thinking", "reasoning", "text"):
        if isinstance(block.get(key), str):
            return str(block[key])
    inner = block.get("reasoning_content") or block.get("summary")
    if isinstance(inner, dict):
        return str(inner.get("text") or "")
    if isinstance(inner, list):  # the responses API of OpenAI
        return "\n".join(str(one.get("text") or "") for one in inner if isinstance(one, dict))
    return "[encrypted]" if "data" in block or "encrypted_content" in block else ""


def _medium(block: Mapping[str, Any], kind: str, *, media: bool) -> _Part | None:
    """A picture, sound, film or document: by reference, or by its size alone unless `media`."""
    inner = block.get(kind)
    source = next((one for one in (block.get("source"), inner) if isinstance(one, dict)), block)
    mime = source.get("mime_type") or source.get("media_type") or source.get("format") or block.get("mime_type")
    part: _Part = {"type": "uri", "modality": _MODALITIES[kind]}
    if isinstance(mime, str) and mime:
        part["mime_type"] = mime if "/" in mime else f"{part['modality']}/{mime}"
        if kind == "media" and (group := mime.partition("/")[0]) in ("image", "audio", "video"):
            part["modality"] = group
    address = source.get("url") or source.get("image_url") or source.get("file_uri") or inner
    data = source.get("data") or source.get("base64") or source.get("file_data")
    identity = source.get("file_id") or source.get("id")
    if isinstance(address, str) and address.startswith("data:"):
        head, _, data = address.partition(",")
        part.setdefault("mime_type", head[5:].partition(";")[0])
    elif isinstance(address, str):
        return {**part, "uri": address}
    if isinstance(data, str | bytes):
        if source.get("type") == "text":  # a document given as its text
            return None
        part["type"] = "blob"
        # The schema asks for the content; a size beside it says what is not there.
        part["content"] = data if media and isinstance(data, str) else ""
        part["size"] = len(data) * 3 // 4 if isinstance(data, str) else len(data)
        return part
    if isinstance(identity, str):
        return {**part, "type": "file", "file_id": identity}
    return None
