"""Tokens of one model call: what a LangChain integration reports in, OpenTelemetry usage attributes out.

Everything is inclusive, as the conventions say: input counts cached tokens, output counts reasoning, details are parts of
them. Nothing is added up over choices or chunks: every choice of one answer carries the usage of the whole call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from graphmeter import guard, names

_MOST_TOKENS: Final = 1 << 53
"""Beyond any real call; a larger number is garbage, and would not survive JSON either."""

# OpenAI's service tiers prefix the details of the tier's tokens: `priority_cache_read`, `flex_reasoning`.
_TIERS: Final = ("", "priority_", "flex_")


class Usage(NamedTuple):
    """Usage of one call."""

    attributes: dict[str, int]
    cached: bool
    """LangChain's own cache answered: nothing was spent, `attributes` say what it would have been."""


def usage_of(message: Any, llm_output: Mapping[str, Any] | None) -> Usage | None:
    """Usage from the first place that has it: the message's `usage_metadata`, then raw provider usage; None if nowhere.

    `message` is the first choice's AIMessage, or None for models that answer in plain text.
    """
    standard = getattr(message, "usage_metadata", None)
    if isinstance(standard, Mapping):
        # LangChain's cache marks the answers it gives: `total_cost` is 0 there and absent elsewhere.
        cached = standard.get("total_cost") == 0
        said = "input_tokens" in standard or "output_tokens" in standard
        if said or cached:
            return Usage(_from_standard(standard) if said else {}, cached)
    response = getattr(message, "response_metadata", None)
    for place in (llm_output, response):
        if not isinstance(place, Mapping):
            continue
        for key in ("token_usage", "usage"):
            raw = place.get(key)
            if isinstance(raw, Mapping) and raw:
                return Usage(attributes, False) if (attributes := _from_raw(raw)) else None
    return None


def _from_standard(usage: Mapping[str, Any]) -> dict[str, int]:
    inputs, outputs = _details(usage, "input_token_details"), _details(usage, "output_token_details")
    five, hour = _count(inputs, "ephemeral_5m_input_tokens"), _count(inputs, "ephemeral_1h_input_tokens")
    # langchain-anthropic sets cache_creation to 0 when it knows the split; others report both.
    return _named(
        _count(usage, "input_tokens"),
        _count(usage, "output_tokens"),
        cache_read=_tiered(inputs, "cache_read"),
        cache_write=max(_tiered(inputs, "cache_creation"), five + hour),
        cache_write_5m=five,
        cache_write_1h=hour,
        reasoning=_tiered(outputs, "reasoning"),
        audio_input=_tiered(inputs, "audio"),
        audio_output=_tiered(outputs, "audio"),
        image_input=_tiered(inputs, "image"),
        image_output=_tiered(outputs, "image"),
    )


def _from_raw(usage: Mapping[str, Any]) -> dict[str, int]:
    """Usage as OpenAI (`prompt_tokens`) or Anthropic (`input_tokens`, without what is cached) spell it."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        inputs, outputs = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
        return _named(
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            cache_read=_count(inputs, "cached_tokens"),
            reasoning=_count(outputs, "reasoning_tokens"),
            audio_input=_count(inputs, "audio_tokens"),
            audio_output=_count(outputs, "audio_tokens"),
        )
    if "input_tokens" in usage or "output_tokens" in usage:
        read, write = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
        split = _details(usage, "cache_creation")
        return _named(
            _count(usage, "input_tokens") + read + write,
            _count(usage, "output_tokens"),
            cache_read=read,
            cache_write=write,
            cache_write_5m=_count(split, "ephemeral_5m_input_tokens"),
            cache_write_1h=_count(split, "ephemeral_1h_input_tokens"),
        )
    guard.noticed("usage of unknown shape", ", ".join(sorted(str(key) for key in usage)[:8]))
    return {}


def _named(
    tokens_in: int,
    tokens_out: int,
    *,
    cache_read: int = 0,
    cache_write: int = 0,
    cache_write_5m: int = 0,
    cache_write_1h: int = 0,
    reasoning: int = 0,
    audio_input: int = 0,
    audio_output: int = 0,
    image_input: int = 0,
    image_output: int = 0,
) -> dict[str, int]:
    attributes = {names.USAGE_INPUT: tokens_in, names.USAGE_OUTPUT: tokens_out}
    if cache_read:
        attributes[names.USAGE_CACHE_READ] = cache_read
    if cache_write:
        attributes[names.USAGE_CACHE_WRITE] = cache_write
    if cache_write_5m:
        attributes[names.CACHE_WRITE_5M_TOKENS] = cache_write_5m
    if cache_write_1h:
        attributes[names.CACHE_WRITE_1H_TOKENS] = cache_write_1h
    if reasoning:
        attributes[names.USAGE_REASONING] = reasoning
    if audio_input:
        attributes[names.USAGE_AUDIO_INPUT] = audio_input
    if audio_output:
        attributes[names.USAGE_AUDIO_OUTPUT] = audio_output
    if image_input:
        attributes[names.USAGE_IMAGE_INPUT] = image_input
    if image_output:
        attributes[names.USAGE_IMAGE_OUTPUT] = image_output
    return attributes


_NOTHING: Final[Mapping[str, Any]] = {}


def _details(usage: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = usage.get(key)
    return value if isinstance(value, Mapping) else _NOTHING


def _tiered(details: Mapping[str, Any], key: str) -> int:
    if not details:
        return 0
    return sum(_count(details, tier + key) for tier in _TIERS)


def _count(usage: Mapping[str, Any], key: str) -> int:
    """A token count: never negative, never a float; absent and None are 0, garbage is 0 and counted."""
    value = usage.get(key)
    if type(value) is int and 0 <= value <= _MOST_TOKENS:
        return value
    if value is None:
        return 0
    if isinstance(value, float) and 0 <= value <= _MOST_TOKENS and value == int(value):
        return int(value)
    guard.noticed(f"unusable token count {key}", repr(value)[:80])
    return 0
