"""Captured attributes of a span in, readable lines out: who said what, what a tool was given and gave, what a node wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from graphmeter import names
from graphmeter_cli.render import plain

_LABELS = {
    names.SYSTEM_INSTRUCTIONS: "system",
    names.TOOL_ARGUMENTS: "arguments",
    names.TOOL_RESULT: "result",
    names.RETRIEVAL_QUERY: "query",
    names.RETRIEVAL_DOCUMENTS: "documents",
    names.STATE_DIFF: "wrote",
}


def lines(attributes: Mapping[str, str]) -> Iterator[Text]:
    """What was captured, in the order in which it happened; whatever it is, every line is harmless on a terminal."""
    for attribute in names.CAPTURED:
        said = attributes.get(attribute)
        if said is None:
            continue
        if attribute in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES):
            yield from _messages(said, ">" if attribute == names.OUTPUT_MESSAGES else " ")
        elif attribute == names.SYSTEM_INSTRUCTIONS:
            yield from _said("system", _of_parts(_parsed(said)) or said, " ")
        else:
            yield from _said(_LABELS[attribute], said, " ")


def _messages(said: str, sign: str) -> Iterator[Text]:
    messages = _parsed(said)
    if not isinstance(messages, list):  # of another sender, and not as the conventions have it
        yield from _said("messages", said, sign)
        return
    for message in messages:
        if isinstance(message, dict):
            yield from _said(str(message.get("role", "")), _of_parts(message.get("parts")), sign)
        else:
            yield from _said("", str(message), sign)


def _of_parts(parts: Any) -> str:
    return "\n".join(_of_part(part) for part in parts) if isinstance(parts, list) else ""


def _of_part(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    kind, content = part.get("type"), part.get("content")
    if kind == "text":
        return str(content)
    if kind == "reasoning":
        return f"(reasoning) {content}"
    if kind == "tool_call":
        return f"calls {part.get('name', '')} {_compact(part.get('arguments'))}"
    if kind == "tool_call_response":
        response = part.get("response", part.get("result"))
        return response if isinstance(response, str) else _compact(response)
    return _compact(part)


def _said(label: str, said: str, sign: str) -> Iterator[Text]:
    for number, line in enumerate(said.splitlines() or [""]):
        head = f"  {sign} {label:<10} " if number == 0 else " " * 15
        yield Text.assemble(plain(head, "dim"), plain(line))


def _parsed(said: str) -> Any:
    try:
        return json.loads(said)
    except ValueError:
        return None


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
