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
        five, hour = count(inputs, "ephemeral_5m_input_tokens"), count(inputs, "ephemeral_1h_input_tokens")
        _add(attributes, names.USAGE_CACHE_READ, _tiered(inputs, "cache_read"))
        # langchain-anthropic sets cache_creation to 0 when it knows the split; others report both.
        _add(attributes, names.USAGE_CACHE_WRITE, max(_tiered(inputs, "cache_creation"), five + hour))
        cached = attributes.get(names.USAGE_CACHE_READ, 0) + attributes.get(names.USAGE_CACHE_WRITE, 0)
        if cached and bedrock.excluded(usage, attributes[names.USAGE_INPUT], attributes[names.USAGE_OUTPUT], cached):
            attributes[names.USAGE_INPUT] += cached
        _add(attributes, names.CACHE_WRITE_5M_TOKENS, five)
        _add(attributes, names.CACHE_WRITE_1H_TOKENS, hour)
        _add(attributes, names.USAGE_AUDIO_INPUT, _tiered(inputs, "audio"))
        _add(attributes, names.USAGE_IMAGE_INPUT, _tiered(inputs, "image"))
    outputs = details(usage, "output_token_details")
    if outputs:
        _add(attributes, names.USAGE_REASONING, _tiered(outputs, "reasoning"))
        _add(attributes, names.USAGE_AUDIO_OUTPUT, _tiered(outputs, "audio"))
        _add(attributes, names.USAGE_IMAGE_OUTPUT, _tiered(outputs, "image"))
    return attributes


def _tiered(found: Mapping[str, Any], key: str) -> int:
    return sum(count(found, tier + key) for tier in _TIERS)


def _add(attributes: dict[str, int], name: str, tokens: int) -> None:
    if tokens:
        attributes[name] = tokens
