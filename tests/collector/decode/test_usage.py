"""Inclusive token totals in, exclusive buckets out: they sum, and none is negative, whatever a sender reports."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_collector.decode.attributes import MAX_COUNT
from graphmeter_collector.decode.usage import Reported, exclusive
from graphmeter_collector.records import NO_USAGE, TokenUsage

_counts = st.integers(0, MAX_COUNT)
_reports = st.builds(Reported, st.none() | _counts, st.none() | _counts, *[_counts] * 9)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (Reported(), NO_USAGE),
        (Reported(input=0, output=0), NO_USAGE),
        (Reported(input=100, output=20), TokenUsage(input=100, output=20)),
        (Reported(input=100, cache_read=30), TokenUsage(input=70, cache_read=30)),
        (Reported(input=100, cache_write=30), TokenUsage(input=70, cache_write_5m=30)),
        (Reported(input=100, cache_write_5m=30), TokenUsage(input=70, cache_write_5m=30)),
        (
            Reported(input=100, cache_write=50, cache_write_1h=20),
            TokenUsage(input=50, cache_write_5m=30, cache_write_1h=20),
        ),
        (
            Reported(input=100, cache_write=50, cache_write_5m=30, cache_write_1h=20),
            TokenUsage(input=50, cache_write_5m=30, cache_write_1h=20),
        ),
        (
            Reported(input=100, cache_read=10, audio_input=20, image_input=30),
            TokenUsage(input=40, cache_read=10, input_audio=20, input_image=30),
        ),
        (
            Reported(output=100, reasoning=60, audio_output=10, image_output=5),
            TokenUsage(output=25, reasoning=60, output_audio=10, output_image=5),
        ),
        (Reported(cache_read=30, reasoning=5), TokenUsage(cache_read=30, reasoning=5)),
    ],
)
def test_parts_are_taken_out_of_their_total(reported: Reported, expected: TokenUsage) -> None:
    repairs: Counter[str] = Counter()
    assert (expected, {}) == (exclusive(reported, repairs), dict(repairs))


def test_parts_beyond_their_total_are_cut_in_the_order_of_the_buckets_and_counted() -> None:
    repairs: Counter[str] = Counter()
    usage = exclusive(Reported(input=50, cache_read=30, cache_write=30, audio_input=5), repairs)
    assert (TokenUsage(cache_read=30, cache_write_5m=20), 1) == (usage, repairs["usage_exceeds_total"])


@given(_reports)
def test_no_report_gives_a_negative_bucket(reported: Reported) -> None:
    assert 0 <= min(exclusive(reported, Counter()))


@given(_reports)
def test_buckets_sum_to_the_totals_and_to_their_parts_where_there_is_no_total(reported: Reported) -> None:
    usage = exclusive(reported, Counter())
    writes = reported.cache_write or reported.cache_write_5m + reported.cache_write_1h
    parts_in = reported.cache_read + writes + reported.audio_input + reported.image_input
    parts_out = reported.reasoning + reported.audio_output + reported.image_output
    assert (
        parts_in if reported.input is None else reported.input,
        parts_out if reported.output is None else reported.output,
    ) == (usage.total_input, usage.total_output)


@given(_reports)
def test_a_part_is_never_more_than_was_reported_of_it(reported: Reported) -> None:
    usage = exclusive(reported, Counter())
    assert usage.cache_read <= reported.cache_read
    assert usage.reasoning <= reported.reasoning
    assert usage.cache_write_1h <= reported.cache_write_1h
