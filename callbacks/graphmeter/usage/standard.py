"""LangChain's `usage_metadata`, which nearly every integration fills: inclusive attributes out.

Source: https://reference.langchain.com/python/langchain_core/messages/ai/#langchain_core.messages.ai.UsageMetadata
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from graphmeter import names
from graphmeter.usage import bedrock
from graphmeter.usage.shapes import count, details

# What OpenAI serves at another tier stands in details of that tier: `priority_cache_read`, `flex_reasoning`. Details that
# are called like the tier itself (`priority`, `flex`) are what is left of the total, no further part of it.
_TIERS: Final = ("", "priority_", "flex_")


def _at_any_tier(parts: Mapping[str, str]) -> Mapping[str, str]:
    return {tier + key: name for key, name in parts.items() for tier in _TIERS}


_INPUT_PARTS: Final = {
    **_at_any_tier(
        {
            "cache_read": names.USAGE_CACHE_READ,
            "cache_creation": names.USAGE_CACHE_WRITE,
            "audio": names.USAGE_AUDIO_INPUT,
            "image": names.USAGE_IMAGE_INPUT,
        }
    ),
    "ephemeral_5m_input_tokens": names.CACHE_WRITE_5M_TOKENS,
    "ephemeral_1h_input_tokens": names.CACHE_WRITE_1H_TOKENS,
}
_OUTPUT_PARTS: Final = _at_any_tier(
    {
        "reasoning": names.USAGE_REASONING,
        "audio": names.USAGE_AUDIO_OUTPUT,
        "image": names.USAGE_IMAGE_OUTPUT,
    }
)


def is_cached(usage: Mapping[str, Any]) -> bool:
    """Whether LangChain's own cache gave this answer: it adds the integer 0 as `total_cost`.

    A proxy that reports what a call cost reports a float, also where that is 0.0: such a call was made.
    """
    cost = usage.get("total_cost")
    return type(cost) is int and cost == 0


def attributes_of(usage: Mapping[str, Any]) -> dict[str, int]:
    """Both totals, and the parts that are not zero."""
    attributes = {
        names.USAGE_INPUT: count(usage, "input_tokens"),
        names.USAGE_OUTPUT: count(usage, "output_tokens"),
    }
    inputs = details(usage, "input_token_details")
    if inputs:
        _add(attributes, inputs, _INPUT_PARTS)
        lives = attributes.get(names.CACHE_WRITE_5M_TOKENS, 0) + attributes.get(names.CACHE_WRITE_1H_TOKENS, 0)
        written = attributes.get(names.USAGE_CACHE_WRITE, 0)
        if lives > written:
            # langchain-anthropic sets cache_creation to 0 when it knows the split; others report both.
            attributes[names.USAGE_CACHE_WRITE] = written = lives
        cached = attributes.get(names.USAGE_CACHE_READ, 0) + written
        if cached and bedrock.excluded(usage, attributes[names.USAGE_INPUT], attributes[names.USAGE_OUTPUT], cached):
            attributes[names.USAGE_INPUT] += cached
    outputs = details(usage, "output_token_details")
    if outputs:
        _add(attributes, outputs, _OUTPUT_PARTS)
    return attributes


def _add(attributes: dict[str, int], found: Mapping[str, Any], parts: Mapping[str, str]) -> None:
    for key, value in found.items():
        name = parts.get(key)
        if name is not None and value and (tokens := count(found, key)):
            attributes[name] = attributes.get(name, 0) + tokens
