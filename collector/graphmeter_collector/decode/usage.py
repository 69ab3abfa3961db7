"""A provider's inclusive token counts in, exclusive buckets out.

The conventions report totals that contain their parts (input contains what came from a cache, output contains
reasoning). Here every token gets exactly one bucket, so that buckets may be added and priced. Source:
https://github.com/open-telemetry/semantic-conventions-genai (gen_ai.usage.*).
"""

from __future__ import annotations

from typing import NamedTuple

from graphmeter_collector.decode.attributes import Repairs
from graphmeter_collector.records import NO_USAGE, TokenUsage


class Reported(NamedTuple):
    """Token counts as reported, none negative; None where the sender said nothing."""

    input: int | None = None
    output: int | None = None
    cache_read: int = 0
    cache_write: int = 0
    """Of all lifetimes together."""
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    """Uncached audio; cached audio is in `cache_read`."""
    image_input: int = 0
    reasoning: int = 0
    audio_output: int = 0
    image_output: int = 0


def with_cached(input_tokens: int, output: int | None, total: int | None, cached: int) -> int:
    """The input with its cached part, for senders that pass on what providers say: some leave it out (Anthropic, Bedrock).

    It was left out if the total needs it, or if there is more of it than there is input.
    """
    left_out = input_tokens < cached or (total is not None and total == input_tokens + (output or 0) + cached)
    return input_tokens + cached if left_out else input_tokens


def exclusive(reported: Reported, repairs: Repairs) -> TokenUsage:
    """Split totals into buckets that sum to them.

    A missing total is the sum of its parts. Parts that exceed their total contradict it: the total stands, because it is
    what providers bill by, the parts are filled in the order of the buckets until it is used up, and `usage_exceeds_total`
    is counted.
    """
    if not any(reported):
        return NO_USAGE
    write_5m, write_1h = _cache_writes(reported, repairs)
    plain_in, cache_read, write_5m, write_1h, audio_in, image_in = _fill(
        reported.input,
        (reported.cache_read, write_5m, write_1h, reported.audio_input, reported.image_input),
        repairs,
    )
    plain_out, reasoning, audio_out, image_out = _fill(
        reported.output, (reported.reasoning, reported.audio_output, reported.image_output), repairs
    )
    return TokenUsage(
        plain_in,
        cache_read,
        write_5m,
        write_1h,
        audio_in,
        image_in,
        plain_out,
        reasoning,
        audio_out,
        image_out,
    )


def _cache_writes(reported: Reported, repairs: Repairs) -> tuple[int, int]:
    """Cache writes by lifetime. What names no lifetime lives five minutes, the providers' default."""
    named = reported.cache_write_5m + reported.cache_write_1h
    total = reported.cache_write or named
    unnamed, five, hour = _fill(total, (reported.cache_write_5m, reported.cache_write_1h), repairs)
    return five + unnamed, hour


def _fill(total: int | None, parts: tuple[int, ...], repairs: Repairs) -> tuple[int, ...]:
    """What is left of the total, then the parts, cut where the total ends. The result sums to the total."""
    if total is None:
        return (0, *parts)
    left = total
    filled = []
    for part in parts:
        taken = min(part, left)
        left -= taken
        filled.append(taken)
    if sum(parts) > total:
        repairs["usage_exceeds_total"] += 1
    return (left, *filled)
