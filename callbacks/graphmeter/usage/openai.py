"""Usage as OpenAI's two APIs report it, and everybody who copies them. Totals contain their details."""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter.usage.shapes import Shape

CHAT_COMPLETIONS: Final = Shape(
    "openai chat completions",
    "https://platform.openai.com/docs/api-reference/chat/object",
    marks=(frozenset({"prompt_tokens"}), frozenset({"completion_tokens"})),
    counts={
        names.USAGE_INPUT: ("prompt_tokens",),
        names.USAGE_OUTPUT: ("completion_tokens",),
        names.USAGE_CACHE_READ: ("prompt_tokens_details.cached_tokens",),
        names.USAGE_CACHE_WRITE: ("prompt_tokens_details.cache_write_tokens",),
        names.USAGE_AUDIO_INPUT: ("prompt_tokens_details.audio_tokens",),
        names.USAGE_REASONING: ("completion_tokens_details.reasoning_tokens",),
        names.USAGE_AUDIO_OUTPUT: ("completion_tokens_details.audio_tokens",),
    },
)
"""Accepted and rejected prediction tokens are output like any other, and billed so: no part of their own."""

DEEPSEEK: Final = CHAT_COMPLETIONS._replace(
    name="deepseek chat completions",
    source="https://api-docs.deepseek.com/api/create-chat-completion",
    marks=(frozenset({"prompt_tokens", "prompt_cache_hit_tokens"}),),
    counts={**CHAT_COMPLETIONS.counts, names.USAGE_CACHE_READ: ("prompt_cache_hit_tokens",)},
)
"""Also says `prompt_cache_miss_tokens`: input that was not cached, not input that was written to a cache."""

RESPONSES: Final = Shape(
    "openai responses",
    "https://platform.openai.com/docs/api-reference/responses/object",
    # Anthropic has the same totals with another meaning, but neither their sum nor these details.
    marks=(
        frozenset({"input_tokens", "total_tokens"}),
        frozenset({"input_tokens", "input_tokens_details"}),
        frozenset({"output_tokens", "output_tokens_details"}),
    ),
    without=frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"}),
    counts={
        names.USAGE_INPUT: ("input_tokens",),
        names.USAGE_OUTPUT: ("output_tokens",),
        names.USAGE_CACHE_READ: ("input_tokens_details.cached_tokens",),
        names.USAGE_CACHE_WRITE: ("input_tokens_details.cache_write_tokens",),
        names.USAGE_REASONING: ("output_tokens_details.reasoning_tokens",),
    },
)
