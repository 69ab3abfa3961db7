"""What the stand-in says: messages and bound tools in, text or tool calls and drawn token counts out.

It follows the three kinds of instruction that the example graphs give, as a model would: "one of: a, b, c", "at most N
questions", and tools. Anything else gets a sentence. Everything is drawn from the conversation's text, so the same
conversation always gets the same reply and the same bill.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall
from langchain_core.messages.tool import tool_call

from graphmeter_examples.luck import Luck
from graphmeter_examples.model.catalogue import ModelSpec

_ONE_OF = re.compile(r"one of: ([\w, ]+)")
_AT_MOST = re.compile(r"at most (\d+) questions")
_REFERENCE = re.compile(r"\b[A-Z]-\d+\b")

_OPENINGS = ("In short", "As far as the sources say", "Put simply", "On balance", "From what is known")
_CLAIMS = (
    "the first step is to check the settings",
    "two of the three cases are covered",
    "the effect is small but steady",
    "the change took hold within a week",
    "costs fall faster than latency",
)
_QUESTIONS = ("What came before", "Who is affected by", "What does it cost to run", "What limits")


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said and what it took."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Mapping[str, int]
    """Tokens per exclusive bucket."""


def conversation_key(messages: Sequence[BaseMessage]) -> str:
    """The conversation as text, without the ids that differ from run to run."""
    return json.dumps(
        [
            (m.type, m.text, [(c["name"], c["args"]) for c in m.tool_calls] if isinstance(m, AIMessage) else ())
            for m in messages
        ]
    )


def reply_to(
    messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]], spec: ModelSpec, luck: Luck, key: str
) -> Reply:
    """The reply to a conversation. `tools` are OpenAI function schemas, `key` is its `conversation_key`."""
    calls = _tool_calls(messages, tools, luck, key) if tools else ()
    text = "" if calls else _text(messages, luck, key)
    return Reply(text, calls, _usage(spec, luck, key, len(key) // 4, len(text) // 4))


def _text(messages: Sequence[BaseMessage], luck: Luck, key: str) -> str:
    asked = "\n".join(m.text for m in messages)  # an instruction ends with its line
    said = next((m.text for m in reversed(messages) if isinstance(m, HumanMessage)), "")
    if choice := _ONE_OF.search(asked):
        options = [option.strip() for option in choice[1].split(",")]
        return next((option for option in options if option in said.lower()), None) or luck.pick(options, key, "choice")
    if limit := _AT_MOST.search(asked):
        count = luck.between(2, max(2, int(limit[1])), key, "questions")
        return "\n".join(f"{_QUESTIONS[i % len(_QUESTIONS)]} {said.rstrip('.?')}?" for i in range(count))
    return f"{luck.pick(_OPENINGS, key, 'opening')}, {luck.pick(_CLAIMS, key, 'claim')}: {said[:60]}"


def _tool_calls(
    messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]], luck: Luck, key: str
) -> tuple[ToolCall, ...]:
    """One or two calls in the first round, perhaps one more in the second, then an answer."""
    last_human = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=-1)
    rounds = sum(1 for m in messages[last_human + 1 :] if isinstance(m, AIMessage) and m.tool_calls)
    if rounds > 1 or (rounds == 1 and luck.unit(key, "another round") > 0.35):
        return ()
    count = luck.between(1, 2, key, "calls") if rounds == 0 else 1
    said = messages[last_human].text if last_human >= 0 else ""
    first = luck.between(0, len(tools) - 1, key, "tool")
    return tuple(
        tool_call(
            name=tool["name"],
            args={
                name: _argument(schema, said, luck, key, name)
                for name, schema in tool["parameters"].get("properties", {}).items()
            },
            id=f"call_{luck.between(0, 1 << 62, key, 'id', str(i)):016x}",
        )
        for i, tool in ((i, tools[(first + i) % len(tools)]) for i in range(count))
    )


def _argument(schema: Mapping[str, Any], said: str, luck: Luck, key: str, name: str) -> object:
    if options := schema.get("enum"):
        return luck.pick(options, key, name)
    if schema.get("type") == "integer":
        return luck.between(1, 9, key, name)
    reference = _REFERENCE.search(said)
    return reference[0] if reference else " ".join(said.split()[:3])


def _usage(spec: ModelSpec, luck: Luck, key: str, prompt: int, text: int) -> Mapping[str, int]:
    """Token counts: text is kept short so that runs are quick, the bill is as long as in production."""
    total = prompt + luck.between(150, 3600, key, "context")
    output = text + luck.between(20, 320, key, "length")
    usage = {"input": total, "output": output}
    if spec.reasons:
        usage["reasoning"] = 64 * luck.between(1, 12, key, "reasoning")
    # Providers cache prefixes of 1024 tokens and more; OpenAI in steps of 128.
    prefix = total // 128 * 128 - 128
    bucket = _cache_bucket(spec, luck.unit(key, "cache"))
    if bucket and prefix >= 1024:
        usage |= {"input": total - prefix, bucket: prefix}
    return usage


def _cache_bucket(spec: ModelSpec, draw: float) -> str:
    """Where the cacheable prefix is counted; empty when the cache plays no part."""
    if draw < 0.55:
        return "cache_read"
    if spec.provider != "anthropic" or draw > 0.9:
        return ""
    return "cache_write_5m" if draw < 0.8 else "cache_write_1h"
