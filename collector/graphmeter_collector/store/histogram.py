"""Packed exponential histograms of durations: thousands of observations in a few dozen bytes, merged exactly.

Bucket i holds (base^i, base^(i+1)] nanoseconds with base 2^(1/8), which is scale 3 of OpenTelemetry's exponential
histogram, so that it could be exported as one. A quantile is off by at most 4.5 % of its value.

A bucket that a bound of our metrics lies in also knows how many of its observations were at or under the bound, and how many
over: so the share within a threshold is exact, as it is in Prometheus. A second measure of the same things (how long model
calls took to their first token, beside how long they took) lies in the same column: it costs no row. Both stand behind all
else, where code that knows nothing of them does not look.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from graphmeter import names

SCALE = 3
_PER_OCTAVE = 1 << SCALE
RELATIVE_ERROR = 2 ** (1 / (2 * _PER_OCTAVE)) - 1
"""Largest relative error of a quantile: half a bucket on the logarithmic scale, 4.4 %."""

_VERSION = 1
_HEAD = struct.Struct("<BBcHQ")
"""Version, scale, width of a count, number of buckets, count of zeros; then all indexes, then all counts."""
_MORE = struct.Struct("<cH")
"""Width of a count, number of counts."""
_WIDTHS = ((1 << 8, "B"), (1 << 16, "H"), (1 << 32, "I"), (1 << 64, "Q"))
"""Counts below a limit take as many bytes as `struct` gives the letter: mostly one."""

Buckets = dict[int, int]
ZERO = -(1 << 15)
"""Key under which durations of zero are counted; no bucket of a positive duration comes near it."""


FIRST_TOKEN: Final = 1 << 11
"""Buckets of the second measure are those of the first, so much further."""
_ASIDE: Final = 1 << 10
"""Keys from here on are behind all else."""
UNDER: Final = 1 << 13
"""Bucket i's observations up to the bound that lies in it are also counted under key UNDER + i, others under OVER + i."""
OVER: Final = 1 << 14


def bucket_of(duration_ns: int) -> int:
    """Index of the bucket that a duration falls into."""
    if duration_ns <= 0:
        return ZERO
    return math.ceil(math.log2(duration_ns) * _PER_OCTAVE) - 1


def _bounds() -> dict[int, int]:
    """Bucket → the bound in it, ns; two bounds are never so close that they share one."""
    metrics = (names.RUN_DURATION, names.NODE_DURATION, names.LLM_DURATION, names.LLM_TTFT)
    bounds = {round(bound * 1e9) for metric in metrics for bound in metric.buckets}
    found = {bucket_of(bound): bound for bound in bounds}
    assert len(found) == len(bounds)
    return found


BOUNDS: Final = _bounds()


def observe(buckets: Buckets, duration_ns: int) -> None:
    """Count one duration."""
    observe_all(buckets, (duration_ns,))


def observe_all(buckets: Buckets, durations_ns: Iterable[int], measure: int = 0) -> None:
    """Count many durations; `measure` is 0 or `FIRST_TOKEN`."""
    log2, ceil, bounds = math.log2, math.ceil, BOUNDS
    for duration in durations_ns:
        index = ceil(log2(duration) * _PER_OCTAVE) - 1 if duration > 0 else ZERO
        key = index + measure
        buckets[key] = buckets.get(key, 0) + 1
        if index in bounds:
            key += UNDER if duration <= bounds[index] else OVER
            buckets[key] = buckets.get(key, 0) + 1


def merge(into: Buckets, other: Buckets) -> None:
    """Add the counts of another histogram."""
    for index, count in other.items():
        into[index] = into.get(index, 0) + count


def pack(buckets: Buckets) -> bytes:
    """Bytes for one column, three to four per bucket; equal histograms are equal bytes."""
    indexes = sorted(index for index in buckets if ZERO < index < _ASIDE)
    head = _HEAD.pack(_VERSION, SCALE, *_sizes(buckets, indexes), buckets.get(ZERO, 0))
    aside = sorted(index for index in buckets if index >= _ASIDE)
    if not aside:
        return head + _counts(buckets, indexes)
    return head + _counts(buckets, indexes) + _MORE.pack(*_sizes(buckets, aside)) + _counts(buckets, aside)


def _sizes(buckets: Buckets, indexes: Sequence[int]) -> tuple[bytes, int]:
    largest = max([buckets[index] for index in indexes], default=0)
    return next(letter for limit, letter in _WIDTHS if largest < limit).encode(), len(indexes)


def _counts(buckets: Buckets, indexes: Sequence[int]) -> bytes:
    width, size = _sizes(buckets, indexes)
    return _layout(size, width).pack(*indexes, *[buckets[index] for index in indexes])


def unpack(packed: bytes) -> Buckets:
    """The histogram in a column.

    Raises:
        ValueError: written by a version this code does not know.
    """
    buckets: defaultdict[int, int] = defaultdict(int)
    at = merge_packed(buckets, packed)
    return {**buckets, **_aside(packed, at)}


def merge_packed(into: defaultdict[int, int], packed: bytes) -> int:
    """Add the counts of a histogram in a column: `merge` of `unpack` in a third of the time, for reports of thousands.

    Sides of bounds and the second measure are left out; these begin at the offset that is returned.

    Raises:
        ValueError: written by a version this code does not know.
    """
    version, scale, width, size, zeros = _HEAD.unpack_from(packed)
    if version != _VERSION or scale != SCALE:
        raise ValueError(f"histogram of version {version} and scale {scale}; this code reads {_VERSION} and {SCALE}")
    layout = _layout(size, width)
    values = layout.unpack_from(packed, _HEAD.size)
    for index, count in zip(values[:size], values[size:], strict=True):
        into[index] += count
    if zeros:
        into[ZERO] += zeros
    return _HEAD.size + layout.size


class Above(NamedTuple):
    """How many observations there are, and how many of them are above a threshold."""

    total: int
    above: int
    unknown: int
    """Of `total`, those of which nobody knows: a collector from before bounds were looked at counted them. A part of them,
    by where the threshold lies in their bucket, is in `above`."""


def above(packed: bytes, threshold_ns: int, measure: int = 0) -> Above:
    """Observations above a threshold: exact where that is one of `BOUNDS`, else within the bucket that it lies in."""
    _, _, width, size, zeros = _HEAD.unpack_from(packed)
    layout, at, aside = _layout(size, width), bucket_of(threshold_ns), dict[int, int]()
    if measure:
        aside = _aside(packed, _HEAD.size + layout.size)
        counts = [(index - measure, count) for index, count in aside.items() if index < UNDER]
        total = sum([count for _, count in counts])
        over = sum([count for index, count in counts if index > at])
        within = aside.get(measure + at, 0)
    else:
        values = layout.unpack_from(packed, _HEAD.size)
        first = bisect_left(values, at, 0, size)
        within = values[size + first] if first < size and values[first] == at else 0
        total = sum(values[size:]) + zeros
        over = sum(values[size + bisect_right(values, at, 0, size) :])
    if not within:  # as in most rows
        return Above(total, over, 0)
    known = (0, 0)
    if BOUNDS.get(at) == threshold_ns:
        aside = aside or _aside(packed, _HEAD.size + layout.size)
        known = aside.get(UNDER + measure + at, 0), aside.get(OVER + measure + at, 0)
    unknown = within - sum(known)
    share = at + 1 - math.log2(threshold_ns) * _PER_OCTAVE
    return Above(total, over + known[1] + round(unknown * share), unknown)


def _aside(packed: bytes, start: int) -> Buckets:
    """What stands behind all else, from this offset on."""
    if start >= len(packed):
        return {}
    width, size = _MORE.unpack_from(packed, start)
    values = _layout(size, width).unpack_from(packed, start + _MORE.size)
    return dict(zip(values[:size], values[size:], strict=True))


@lru_cache(4096)
def _layout(size: int, width: bytes) -> struct.Struct:
    """Indexes and counts of a histogram with so many buckets."""
    return struct.Struct(f"<{size}h{size}{width.decode()}")


def quantile(buckets: Buckets, share: float) -> int:
    """The duration (ns) that `share` of the observations do not exceed; 0 without observations."""
    indexes = sorted(index for index in buckets if index < _ASIDE)
    total = sum(buckets[index] for index in indexes)
    if not total:
        return 0
    rank = max(1, math.ceil(share * total))
    seen = 0
    for index in indexes:
        seen += buckets[index]
        if seen >= rank:
            return 0 if index == ZERO else round(2 ** ((index + 0.5) / _PER_OCTAVE))
    raise AssertionError("ranks do not exceed the total")


def of(durations_ns: Iterable[int]) -> Buckets:
    """Histogram of many durations."""
    buckets: Buckets = {}
    observe_all(buckets, durations_ns)
    return buckets
