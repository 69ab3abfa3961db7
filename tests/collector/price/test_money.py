"""Rounding: once, unbiased, and parts that sum."""

from decimal import Decimal
from operator import mul

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_collector.price.money import charge, nano_of, round_half_even, split

SCALES = st.sampled_from([1, 2, 10, 1_000, 10**6])
COUNT = st.just(0) | st.integers(0, 12) | st.integers(0, 10**9)
COUNTS = st.tuples(*[COUNT] * 10) | st.tuples(*[COUNT] * 4, *[st.just(0)] * 2, *[COUNT] * 2, *[st.just(0)] * 2)
RATES = st.tuples(*[st.integers(0, 5) | st.integers(0, 10**9)] * 10)
PARTS = st.lists(st.integers(min_value=0, max_value=10**15), min_size=1, max_size=10)


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.00000000251", 3),
        ("1", 1_000_000_000),
        ("1234567890.123456789", 1_234_567_890_123_456_789),
    ],
)
def test_an_amount_becomes_whole_nano_usd_and_ties_go_to_the_even_one(usd: str, nano: int) -> None:
    assert nano == nano_of(Decimal(usd))


@given(parts=PARTS, scale=SCALES)
def test_parts_sum_to_the_total(parts: list[int], scale: int) -> None:
    total, shares = split(parts, scale)
    assert total == sum(shares)


@given(parts=PARTS, scale=SCALES)
def test_the_total_is_the_exact_sum_rounded_once(parts: list[int], scale: int) -> None:
    assert split(parts, scale)[0] == int((Decimal(sum(parts)) / scale).to_integral_value())


@given(parts=PARTS, scale=SCALES)
def test_a_part_is_never_a_whole_nano_usd_off(parts: list[int], scale: int) -> None:
    for part, share in zip(parts, split(parts, scale)[1], strict=True):
        assert abs(share * scale - part) < scale


@given(exact=st.integers(min_value=-(10**12), max_value=10**12), scale=SCALES)
def test_integer_rounding_agrees_with_decimal(exact: int, scale: int) -> None:
    assert round_half_even(exact, scale) == int((Decimal(exact) / scale).to_integral_value())


def test_the_largest_remainder_gets_the_missing_nano_and_the_earlier_one_on_a_tie() -> None:
    assert split([4, 8, 8], 10) == (2, (0, 1, 1))
    assert split([5, 5, 0], 10) == (1, (1, 0, 0))
    assert split([19, 11, 0], 10) == (3, (2, 1, 0))


@given(counts=COUNTS, rates=RATES, scale=SCALES | st.integers(1, 12), extra=st.just(0) | st.integers(-(10**9), 10**15))
def test_the_short_way_charges_what_the_long_one_does(
    counts: tuple[int, ...], rates: tuple[int, ...], scale: int, extra: int
) -> None:
    first, *others = map(mul, counts, rates)
    assert split((first + extra, *others), scale) == charge(counts, rates, scale, extra)


@pytest.mark.parametrize("missing", range(1, 6))
def test_equal_remainders_are_shared_out_in_order_by_the_short_way_too(missing: int) -> None:
    # Six parts of `missing` sixths each.
    parts = [*[1] * missing, *[0] * (6 - missing)]
    expected = (missing, (*parts[:4], 0, 0, *parts[4:], 0, 0))
    assert expected == charge((1, 1, 1, 1, 0, 0, 1, 1, 0, 0), (missing,) * 10, 6)
