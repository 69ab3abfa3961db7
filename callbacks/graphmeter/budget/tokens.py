"""Usage attributes of a call in, its tokens by bucket out: as the collector splits them, so that both bill the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from graphmeter import names

Buckets = tuple[int, int, int, int, int, int, int, int, int, int]
"""In the order of `graphmeter.names.TOKEN_TYPES`; no token is in two of them."""
NONE: Buckets = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


PARTS: Final = frozenset(
    {
        names.USAGE_CACHE_WRITE,
        names.CACHE_WRITE_5M_TOKENS,
        names.CACHE_WRITE_1H_TOKENS,
        names.USAGE_AUDIO_INPUT,
        names.USAGE_IMAGE_INPUT,
        names.USAGE_AUDIO_OUTPUT,
        names.USAGE_IMAGE_OUTPUT,
    }
)
"""What few calls report."""


def buckets(facts: Mapping[str, Any]) -> Buckets:
    """Tokens of a call by bucket.

    A total is what providers bill by: parts that exceed it are cut where it ends. A missing one is the sum of its parts.
    """
    get = facts.get
    read = get(names.USAGE_CACHE_READ) or 0
    if PARTS.isdisjoint(facts):
        # Nearly every call; the general way below would say the same.
        reasoning = get(names.USAGE_REASONING) or 0
        plain_in, plain_out = get(names.USAGE_INPUT, -1) - read, get(names.USAGE_OUTPUT, -1) - reasoning
        if plain_in >= 0 and plain_out >= 0:
            return plain_in, read, 0, 0, 0, 0, plain_out, reasoning, 0, 0
    five, hour = get(names.CACHE_WRITE_5M_TOKENS) or 0, get(names.CACHE_WRITE_1H_TOKENS) or 0
    # What names no lifetime lives five minutes, the providers' default.
    unnamed, five, hour = _fill(get(names.USAGE_CACHE_WRITE) or five + hour, five, hour)
    audio, image = get(names.USAGE_AUDIO_INPUT) or 0, get(names.USAGE_IMAGE_INPUT) or 0
    plain_in, read, five, hour, audio, image = _fill(get(names.USAGE_INPUT), read, five + unnamed, hour, audio, image)
    reasoning = get(names.USAGE_REASONING) or 0
    audio_out, image_out = get(names.USAGE_AUDIO_OUTPUT) or 0, get(names.USAGE_IMAGE_OUTPUT) or 0
    plain_out, reasoning, audio_out, image_out = _fill(get(names.USAGE_OUTPUT), reasoning, audio_out, image_out)
    return plain_in, read, five, hour, audio, image, plain_out, reasoning, audio_out, image_out


def _fill(total: int | None, *parts: int) -> tuple[int, ...]:
    """What is left of the total, then the parts."""
    if total is None:
        return (0, *parts)
    left, filled = total, []
    for part in parts:
        taken = part if part < left else left
        left -= taken
        filled.append(taken)
    return (left, *filled)
