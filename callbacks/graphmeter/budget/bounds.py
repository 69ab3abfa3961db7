"""What a call takes at most, before it is made: its prompt and what it asks for in, tokens and nano-USD out.

A text has no more tokens than bytes in UTF-8, whatever the tokenizer: each token stands for one byte or more. So the bound
of a prompt is several times what it will be billed; it is held for as long as the call and its delivery take. What a call
may answer is what it asks for as its maximum. Where it asks for none, or holds more than text, an assumption stands in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from graphmeter import names
from graphmeter.budget import counts
from graphmeter.budget.bills import Bill, Book
from graphmeter.budget.calls import Call

ASSUMED_OUTPUT: Final = 4096
"""Tokens of an answer that nobody has set a maximum for."""
ASSUMED_PART: Final = 4096
"""Tokens of a part of a message that is no text: an image, a file, a sound."""
PER_MESSAGE: Final = 16
"""Tokens around a message: who says it, its name, its ends."""

_MAXIMA: Final = (
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_new_tokens",
    "max_tokens_to_sample",
    "maxOutputTokens",
    "maxTokens",
    "num_predict",
)
"""How integrations and providers call it."""
_NESTED: Final = (
    "generation_config",
    "generationConfig",
    "inferenceConfig",
    "inference_config",
    "options",
    "model_kwargs",
)
"""Where some put it."""
_CHOICES: Final = ("n", "candidate_count", "candidateCount")
_TOOLS: Final = ("tools", "functions", "response_format", "system", "instructions")
"""What is sent with the prompt, and billed as part of it."""
_CACHED: Final = "cache_control"
"""How Anthropic is asked to keep a part of a prompt."""
_DEEPEST: Final = 6


class Bound(NamedTuple):
    """At most."""

    nano: int | None
    """Nano-USD; None: the price has yet to be asked for."""
    tokens: int
    known: bool = True
    """False: nobody knows a price."""


def bound(call: Call, book: Book, call_nano: int = 0, call_tokens: int = 0) -> Bound:
    """What `call` takes at most. `call_nano` and `call_tokens` are what the application says of every call; 0: nothing."""
    if call_nano and call_tokens:
        return Bound(call_nano, call_tokens)
    prompt, cached = _prompt(call)
    output = _output(call, call_tokens)
    if call_tokens:
        prompt = call_tokens - output
    tokens = prompt + output
    if call_nano:
        return Bound(call_nano, tokens)
    facts = {
        names.PROVIDER: call.provider,
        names.REQUEST_MODEL: call.model,
        names.SERVER_ADDRESS: call.server,
        names.USAGE_INPUT: prompt,
        names.USAGE_OUTPUT: output,
    }
    # What is written to a provider's cache costs more than what is only read; the longest-lived costs most.
    variants = [facts, {**facts, names.CACHE_WRITE_1H_TOKENS: prompt}] if cached else [facts]
    found: list[int] = []
    for each in variants:
        bill = Bill(each, time.time_ns(), 0, failed=False, book=book)
        nano = bill.nano()
        if nano is None:
            return Bound(None, tokens)
        if bill.known:
            found.append(nano)
    return Bound(max(found, default=0), tokens, bool(found))


def _output(call: Call, call_tokens: int) -> int:
    asked = _asked(call.params)
    if call_tokens:
        # Of tokens of which nobody says what they are all may be those that cost more.
        return min(asked, call_tokens) if asked else call_tokens
    if asked:
        return asked
    counts.say_once(
        f"no maximum {call.model}",
        f"Calls of {call.model or 'a model'} say no maximum of output tokens: {ASSUMED_OUTPUT:,} are reserved for each; "
        "set max_tokens= on the model, or call_tokens= or call_usd= on the guard",
    )
    return ASSUMED_OUTPUT


def _asked(params: Mapping[str, Any] | None) -> int:
    """The most output tokens of all answers that are asked for; 0: nobody says."""
    if not params:
        return 0
    places = [params, *(each for name in _NESTED if isinstance(each := params.get(name), Mapping))]
    found = [
        value
        for place in places
        for name in _MAXIMA
        if isinstance(value := place.get(name), int) and not isinstance(value, bool) and value > 0
    ]
    if not found:
        return 0
    choices = [n for place in places for name in _CHOICES if isinstance(n := place.get(name), int)]
    return max(found) * max([1, *choices])


def _prompt(call: Call) -> tuple[int, bool]:
    """Tokens of the prompt at most, and whether it asks a provider to keep some of it."""
    weight = _Weight()
    for each in _flat(call.messages):
        weight.message(each)
    for name in _TOOLS:
        weight.sent((call.params or {}).get(name))
    return weight.tokens, weight.cached


def _flat(messages: Any) -> Iterable[Any]:
    # LangChain passes lists of prompts, of which a chat model has one.
    for each in messages or ():
        if isinstance(each, list | tuple):
            yield from each
        else:
            yield each


class _Weight:
    """Adds up what a prompt weighs."""

    def __init__(self) -> None:
        self.tokens = 0
        self.cached = False

    def text(self, text: str) -> None:
        self.tokens += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def sent(self, said: Any) -> None:
        """What goes along as JSON."""
        if said:
            text = json.dumps(said, default=str, ensure_ascii=False)
            self.cached |= _CACHED in text
            self.text(text)

    def message(self, message: Any) -> None:
        self.tokens += PER_MESSAGE
        if isinstance(message, str):
            self.text(message)
            return
        self._content(getattr(message, "content", message), _DEEPEST)
        for name in ("tool_calls", "additional_kwargs"):
            self.sent(getattr(message, name, None))

    def _content(self, content: Any, depth: int) -> None:
        if isinstance(content, str):
            self.text(content)
        elif isinstance(content, Mapping):
            self._part(content, depth)
        elif isinstance(content, Sequence) and depth:
            for each in content:
                self._content(each, depth - 1)

    def _part(self, part: Mapping[str, Any], depth: int) -> None:
        self.cached |= _CACHED in part
        kind = str(part.get("type", "text"))
        if isinstance(part.get("text"), str):
            self.text(part["text"])
        elif kind == "tool_result" or (isinstance(part.get("content"), str | list) and depth):
            self._content(part.get("content"), depth - 1)
        elif kind in ("tool_use", "tool_call", "function_call", "thinking", "reasoning"):
            self.sent(part)
        else:
            self.tokens += ASSUMED_PART
