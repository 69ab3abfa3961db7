"""Tokens of one model call: what a LangChain integration reports in, OpenTelemetry usage attributes out.

Everything is inclusive, as the conventions say: input counts cached tokens, output counts reasoning, details are parts of
them. Nothing is added up over choices or chunks: every choice of one answer carries the usage of the whole call.

`standard` reads LangChain's own `usage_metadata`, which nearly every integration fills. Where it is missing, the
provider's raw usage is looked up in `SHAPES`, one table per provider's API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from graphmeter import guard
from graphmeter.usage import anthropic, openai, standard
from graphmeter.usage.shapes import Shape, read

SHAPES: Final[tuple[Shape, ...]] = (
    openai.DEEPSEEK,
    openai.CHAT_COMPLETIONS,
    openai.RESPONSES,
    anthropic.MESSAGES,
)
"""Raw usage by provider's API. The first that fits reads it, so more particular ones come first."""

_PLACES: Final = ("token_usage", "usage")
"""Where integrations put the provider's own usage, in `llm_output` and in `response_metadata`."""


class Usage(NamedTuple):
    """Usage of one call."""

    attributes: dict[str, int]
    cached: bool
    """LangChain's own cache answered: nothing was spent, `attributes` say what it would have been."""


def usage_of(message: Any, llm_output: Mapping[str, Any] | None) -> Usage | None:
    """Usage from the first place that has it: the message's `usage_metadata`, then raw provider usage; None if nowhere.

    `message` is the first choice's AIMessage, or None for models that answer in plain text. A call without a single token
    does not exist: a report of nothing but zeros, as some servers send in place of none, is no report.
    """
    said = getattr(message, "usage_metadata", None)
    if isinstance(said, Mapping):
        cached = standard.is_cached(said)
        attributes = standard.attributes_of(said)
        if any(attributes.values()):
            return Usage(attributes, cached)
        if cached:  # what it saved is not known, which is not nothing
            return Usage({}, True)
    for place in (llm_output, getattr(message, "response_metadata", None)):
        if not isinstance(place, Mapping):
            continue
        for key in _PLACES:
            raw = place.get(key)
            if isinstance(raw, Mapping) and raw:
                attributes = _from_raw(raw)
                return Usage(attributes, False) if any(attributes.values()) else None
    return None


def _from_raw(usage: Mapping[str, Any]) -> dict[str, int]:
    for shape in SHAPES:
        if shape.fits(usage):
            return read(shape, usage)
    guard.noticed("usage of unknown shape", ", ".join(sorted(str(key) for key in usage)[:8]))
    return {}
