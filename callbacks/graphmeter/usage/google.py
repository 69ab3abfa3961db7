"""Usage of Gemini models, as Google's two APIs report it: the total is prompt + tool use + candidates + thoughts.

The prompt contains what was cached; thoughts and the results of Google's own tools stand beside candidates and prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from graphmeter import guard, names
from graphmeter.usage.shapes import Shape, count, read

_CAMEL: Final = {
    "promptTokenCount": "prompt_token_count",
    "toolUsePromptTokenCount": "tool_use_prompt_token_count",
    "cachedContentTokenCount": "cached_content_token_count",
    "candidatesTokenCount": "candidates_token_count",
    "thoughtsTokenCount": "thoughts_token_count",
    "promptTokensDetails": "prompt_tokens_details",
    "cacheTokensDetails": "cache_tokens_details",
    "candidatesTokensDetails": "candidates_tokens_details",
}
"""REST's spelling → that of Google's Python libraries."""
_AUDIO: Final = ("AUDIO", 4)
_IMAGE: Final = ("IMAGE", 2)
"""Modalities by name, and by number as protobuf's dictionaries have them:
https://cloud.google.com/python/docs/reference/aiplatform/latest/google.cloud.aiplatform_v1.types.Modality"""


def _flat(usage: Mapping[str, Any]) -> dict[str, Any]:
    """`usage` in one spelling, with its lists by modality as counts of what was not cached."""
    flat = {_CAMEL.get(key, key): value for key, value in usage.items()}
    # A prompt that was blocked has no candidates, and counts of zero are left out.
    flat.setdefault("candidates_token_count", 0)
    for name, modality in (("audio", _AUDIO), ("image", _IMAGE)):
        cached = _of(flat.get("cache_tokens_details"), modality)
        flat[f"{name}_input"] = max(_of(flat.get("prompt_tokens_details"), modality) - cached, 0)
        flat[f"{name}_output"] = _of(flat.get("candidates_tokens_details"), modality)
    return flat


def _of(by_modality: Any, modality: tuple[str, int]) -> int:
    if not isinstance(by_modality, list):
        return 0
    return sum(
        count(one, "tokenCount") + count(one, "token_count")
        for one in by_modality
        if isinstance(one, Mapping) and one.get("modality") in modality
    )


GENERATE_CONTENT: Final = Shape(
    "google generateContent",
    "https://ai.google.dev/api/generate-content#UsageMetadata",
    marks=(frozenset({"promptTokenCount"}), frozenset({"prompt_token_count"})),
    spelled=_flat,
    counts={
        names.USAGE_INPUT: ("prompt_token_count", "tool_use_prompt_token_count"),
        names.USAGE_OUTPUT: ("candidates_token_count", "thoughts_token_count"),
        names.USAGE_CACHE_READ: ("cached_content_token_count",),
        names.USAGE_REASONING: ("thoughts_token_count",),
        names.USAGE_AUDIO_INPUT: ("audio_input",),
        names.USAGE_IMAGE_INPUT: ("image_input",),
        names.USAGE_AUDIO_OUTPUT: ("audio_output",),
        names.USAGE_IMAGE_OUTPUT: ("image_output",),
    },
)


def amend(attributes: MutableMapping[str, int], said: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Put right what LangChain's integrations made of it.

    `said` is the message's `usage_metadata`. langchain-google-vertexai keeps Google's own beside it, which says more. Older
    versions leave thoughts out of the output, or tool use out of the input; the total shows which.
    """
    raw = metadata.get("usage_metadata")
    if isinstance(raw, Mapping) and GENERATE_CONTENT.fits(raw):
        attributes.clear()
        attributes.update(read(GENERATE_CONTENT, raw))
        return
    left = count(said, "total_tokens") - attributes[names.USAGE_INPUT] - attributes[names.USAGE_OUTPUT]
    if left <= 0:
        return
    thoughts = attributes.get(names.USAGE_REASONING, 0)
    if not thoughts:
        guard.noticed("tokens of unknown kind", f"{left} of Google's total are neither input nor output")
    elif left == thoughts or attributes[names.USAGE_OUTPUT] < thoughts <= left:
        attributes[names.USAGE_OUTPUT] += thoughts
        attributes[names.USAGE_INPUT] += left - thoughts
    else:
        attributes[names.USAGE_INPUT] += left
