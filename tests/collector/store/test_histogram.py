"""Packed histograms: exact merges, canonical bytes, and quantiles within the promised error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_collector.store import histogram

durations = st.lists(st.integers(0, 7 * 24 * 3600 * 10**9), max_size=60)
shares = st.floats(0, 1)


@given(durations.filter(bool), shares)
def test_quantiles_are_within_four_and_a_half_percent_of_the_nearest_rank(values: list[int], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]

    found = histogram.quantile(histogram.of(values), share)

    # Half a nanosecond is rounding.
    assert abs(found - exact) <= exact * 0.045 + 0.5


@given(durations, durations)
def test_merging_is_counting_together(left: list[int], right: list[int]) -> None:
    merged = histogram.of(left)
    histogram.merge(merged, histogram.of(right))

    assert histogram.of(left + right) == merged


@given(durations.flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
def test_equal_histograms_are_equal_bytes_and_survive_them(both: tuple[list[int], list[int]]) -> None:
    values, shuffled = both
    packed = histogram.pack(histogram.of(values))

    assert packed == histogram.pack(histogram.of(shuffled))
    assert histogram.of(values) == histogram.unpack(packed)


def test_buckets_are_those_of_opentelemetrys_scale_3() -> None:
    # Bucket i holds (base^i, base^(i+1)] with base 2^(1/8): a power of two is the upper bound of its bucket.
    assert [-1, 7, 12, 15, 18, 8 * 30 - 1] == [histogram.bucket_of(value) for value in (1, 2, 3, 4, 5, 1 << 30)]


def test_no_observation_has_no_quantile() -> None:
    assert 0 == histogram.quantile({}, 0.5)


def test_zero_and_negative_durations_share_a_bucket() -> None:
    buckets = histogram.of([0, -5, 0, 1_000])

    assert [0, 0, 1_000] == [
        histogram.quantile(buckets, 0.5),
        histogram.quantile(buckets, 0.75),
        pytest.approx(histogram.quantile(buckets, 1), rel=0.045),
    ]


def test_a_thousand_latencies_take_less_than_a_kilobyte() -> None:
    assert 1_000 > len(histogram.pack(histogram.of(10_000_000 + 3_000_000 * n for n in range(1_000))))


def test_bytes_of_a_later_version_are_refused_not_misread() -> None:
    packed = bytearray(histogram.pack(histogram.of([1])))
    packed[0] = 2

    with pytest.raises(ValueError, match="version 2"):
        histogram.unpack(bytes(packed))
