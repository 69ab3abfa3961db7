"""Usage as Anthropic's Messages API reports it: input leaves out what was read from or written to its cache."""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter.usage.shapes import Shape

MESSAGES: Final = Shape(
    "anthropic messages",
    "https://docs.anthropic.com/en/api/messages#response-usage",
    marks=(frozenset({"input_tokens"}), frozenset({"output_tokens"})),
    # Requests of its server tools (`server_tool_use`) are billed one by one, and are no tokens.
    counts={
        names.USAGE_INPUT: ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        names.USAGE_OUTPUT: ("output_tokens",),
        names.USAGE_CACHE_READ: ("cache_read_input_tokens",),
        names.USAGE_CACHE_WRITE: ("cache_creation_input_tokens",),
        names.USAGE_REASONING: ("output_tokens_details.thinking_tokens",),
        names.CACHE_WRITE_5M_TOKENS: ("cache_creation.ephemeral_5m_input_tokens",),
        names.CACHE_WRITE_1H_TOKENS: ("cache_creation.ephemeral_1h_input_tokens",),
    },
)
