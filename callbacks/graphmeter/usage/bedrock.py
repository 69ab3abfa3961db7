"""Usage as Amazon Bedrock reports it: input leaves out what was read from or written to a cache.

Its integrations do not agree on that: current ones add what was cached, earlier ones pass Bedrock's number on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from graphmeter import names
from graphmeter.usage.shapes import Shape


def _lives(usage: Mapping[str, Any]) -> dict[str, Any]:
    """`usage` with its cache writes by lifetime: `[{"ttl": "1h", "inputTokens": 60}]` → `{"cacheDetails": {"1h": 60}}`."""
    writes = usage.get("cacheDetails")
    if not isinstance(writes, list):
        return dict(usage)
    lives = {one.get("ttl"): one.get("inputTokens") for one in writes if isinstance(one, Mapping)}
    return {**usage, "cacheDetails": lives}


CONVERSE: Final = Shape(
    "bedrock converse",
    "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html",
    marks=(frozenset({"inputTokens"}), frozenset({"outputTokens"})),
    spelled=_lives,
    counts={
        names.USAGE_INPUT: ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
        names.USAGE_OUTPUT: ("outputTokens",),
        names.USAGE_CACHE_READ: ("cacheReadInputTokens",),
        names.USAGE_CACHE_WRITE: ("cacheWriteInputTokens",),
        names.CACHE_WRITE_5M_TOKENS: ("cacheDetails.5m",),
        names.CACHE_WRITE_1H_TOKENS: ("cacheDetails.1h",),
    },
)

INVOKE_MODEL: Final = Shape(
    "bedrock invoke model",
    "https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html",
    # langchain-aws spells the headers of InvokeModel like this.
    marks=(frozenset({"prompt_tokens", "cache_read_input_tokens", "cache_write_input_tokens"}),),
    counts={
        names.USAGE_INPUT: ("prompt_tokens", "cache_read_input_tokens", "cache_write_input_tokens"),
        names.USAGE_OUTPUT: ("completion_tokens",),
        names.USAGE_CACHE_READ: ("cache_read_input_tokens",),
        names.USAGE_CACHE_WRITE: ("cache_write_input_tokens",),
    },
)


def excluded(said: Mapping[str, Any], tokens_in: int, tokens_out: int, cached: int) -> bool:
    """Whether the input of a `usage_metadata` leaves out its `cached` tokens: only then does their sum make the total.

    Where there is no total, parts that are more than the whole show it.
    """
    total = said.get("total_tokens")
    if isinstance(total, int) and total:
        return total == tokens_in + tokens_out + cached
    return cached > tokens_in


def is_blocked(metadata: Mapping[str, Any]) -> bool:
    """Whether a guardrail answered in the model's place: such a call may really have used nothing.

    https://docs.aws.amazon.com/bedrock/latest/userguide/guardrails-use-converse-api.html
    """
    return metadata.get("stopReason") == "guardrail_intervened"
