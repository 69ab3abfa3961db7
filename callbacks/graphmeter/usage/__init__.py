"""Tokens of one model call: what a LangChain integration reports in, OpenTelemetry usage attributes out.

Everything is inclusive, as the conventions say: input counts cached tokens, output counts reasoning, details are parts of
them. Nothing is added up over choices or chunks: every choice of one answer carries the usage of the whole call.

`standard` reads LangChain's own `usage_metadata`, which nearly every integration fills. Where it is missing, the
provider's raw usage is looked up in `SHAPES`, one table per provider's API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from graphmeter import guard, names
from graphmeter.usage import anthropic, bedrock, google, openai, others, standard
from graphmeter.usage.shapes import Shape, is_mapping, read

SHAPES: Final[tuple[Shape, ...]] = (
    google.GENERATE_CONTENT,
    bedrock.CONVERSE,
    bedrock.INVOKE_MODEL,
    others.COHERE,
    others.OLLAMA,
    openai.DEEPSEEK,
    openai.CHAT_COMPLETIONS,
    openai.RESPONSES,
    anthropic.MESSAGES,
)
"""Raw usage by provider's API. The first that fits reads it, so more particular ones come first."""

_PLACES: Final = ("token_usage", "usage", "usage_metadata", "token_count")
"""Where integrations put the provider's own usage, in `llm_output`, `response_metadata` or a generation's info."""
_TELLING: Final = frozenset({*_PLACES, *(key for marks in others.OLLAMA.marks for key in marks)})
"""A mapping with none of these keys has no usage: most answers say it in `usage_metadata` alone."""
_TOTALS: Final = (names.USAGE_INPUT, names.USAGE_OUTPUT)
_NOTHING: Final[Mapping[str, Any]] = {}


class Usage(NamedTuple):
    """Usage of one call."""

    attributes: dict[str, int]
    """A total that is not among them is not known."""
    cached: bool
    """LangChain's own cache answered: nothing was spent, `attributes` say what it would have been."""

    @property
    def complete(self) -> bool:
        """Whether both totals are known."""
        return names.USAGE_INPUT in self.attributes and names.USAGE_OUTPUT in self.attributes


def usage_of(
    message: Any,
    llm_output: Mapping[str, Any] | None,
    info: Mapping[str, Any] | None = None,
    provider: str = "",
    whole: Mapping[str, Any] | None = None,
) -> Usage | None:
    """Usage from the first place that has it: the message's `usage_metadata`, then raw provider usage; None if nowhere.

    `message` is the first choice's AIMessage, or None for models that answer in plain text; `info` what else that choice
    came with; `provider` the gen_ai.provider.name; `whole` stands in for `usage_metadata` where that is not the call's.

    A call without a single token does not exist: a report of nothing but zeros, as some servers send in place of none, is
    no report. Neither does one without input: there it is not known.
    """
    said = whole if whole is not None else getattr(message, "usage_metadata", None)
    metadata: Mapping[str, Any] = getattr(message, "response_metadata", None) or _NOTHING
    if is_mapping(said):
        cached = standard.is_cached(said)
        attributes = standard.attributes_of(said)
        if provider.startswith("gcp."):
            google.amend(attributes, said, metadata)
        elif "input_token_details" not in said and "output_token_details" not in said:
            _add_parts(attributes, llm_output, metadata)
        if attributes.get(names.USAGE_INPUT):
            return Usage(attributes, cached)
        if any(attributes.values()):
            attributes.pop(names.USAGE_INPUT, None)
            return Usage(attributes, cached)
        if cached:  # what it saved is not known, which is not nothing
            return Usage({}, True)
        if bedrock.is_blocked(metadata):
            return Usage(attributes, False)
    # LangChain hands on the whole body of an answer that says it failed: what it used up to there is billed.
    raw = _raw(llm_output, metadata, info, metadata.get("body"))
    if raw is None:
        return None
    attributes = _from_raw(raw)
    return Usage(attributes, False) if any(attributes.values()) else None


def _raw(*places: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The provider's own usage, from the first place that has it."""
    for place in places:
        if not place or not is_mapping(place) or _TELLING.isdisjoint(place):
            continue
        for key in _PLACES:
            raw = place.get(key)
            if raw and is_mapping(raw):
                return raw
        if others.OLLAMA.fits(place):
            return place
    return None


def _add_parts(attributes: dict[str, int], *places: Mapping[str, Any] | None) -> None:
    """Where an integration passes on totals only: parts, from raw usage with the same totals (langchain-mistralai)."""
    raw = _raw(*places)
    # Of any other shape it may be: the totals are known.
    shape = _shape_of(raw) if raw is not None else None
    if raw is None or shape is None:
        return
    found = read(shape, raw)
    if all(found.get(total) == attributes[total] for total in _TOTALS):
        attributes.update(found)


def _from_raw(usage: Mapping[str, Any]) -> dict[str, int]:
    shape = _shape_of(usage)
    if shape is not None:
        return read(shape, usage)
    guard.noticed("usage of unknown shape", ", ".join(sorted(str(key) for key in usage)[:8]))
    return {}


def _shape_of(usage: Mapping[str, Any]) -> Shape | None:
    return next((shape for shape in SHAPES if shape.fits(usage)), None)
