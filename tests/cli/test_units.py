"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_cli.units import duration, moment, percent, plural, usd, usd_places


@pytest.mark.parametrize(
    ("expected", "nano"),
    [
        ("$0.00", 0),
        ("$0.000000001", 1),
        ("$0.000123", 123_000),
        ("$0.0123", 12_345_000),
        ("$1.50", 1_500_000_000),
        ("$1,234,567.89", 1_234_567_890_000_000),
        ("-$0.250", -250_000_000),
    ],
)
def test_money_shows_enough_digits(expected: str, nano: int) -> None:
    assert expected == usd(nano)


def test_a_column_of_money_has_one_number_of_places() -> None:
    places = usd_places([0, 12_000_000_000, 400_000])

    assert places == 6
    assert [usd(nano, places) for nano in (0, 12_000_000_000, 400_000)] == ["$0.000000", "$12.000000", "$0.000400"]


def test_a_tiny_amount_beside_a_large_one_does_not_stretch_the_column_beyond_six_places() -> None:
    assert usd_places([3, 12_000_000_000]) == 6
    assert usd_places([3, 12]) == 9


@given(st.integers(min_value=1, max_value=10**18))
def test_no_amount_is_shown_as_nothing(nano: int) -> None:
    assert any(digit in "123456789" for digit in usd(nano))


@pytest.mark.parametrize(
    ("expected", "ns"),
    [
        ("-", None),
        ("0 s", 0),
        ("1 µs", 1_000),
        ("850 µs", 850_000),
        ("1 ms", 999_600),
        ("45.2 ms", 45_200_000),
        ("999 ms", 999_000_000),
        ("1 s", 999_900_000),
        ("1.23 s", 1_230_000_000),
        ("99.9 s", 99_900_000_000),
        ("1m 40s", 99_960_000_000),
        ("1m 40s", 100_000_000_000),
        ("2m 05s", 125_000_000_000),
        ("1h 00m", 3_599_900_000_000),
        ("1h 02m", 3_720_000_000_000),
        ("3d 04h", 273_600_000_000_000),
    ],
)
def test_a_duration_has_three_digits_or_two_units(expected: str, ns: int | None) -> None:
    assert expected == duration(ns)


def test_a_moment_is_utc_and_a_missing_one_a_dash() -> None:
    assert moment(1_795_233_830_123_456_789) == "2026-11-21 04:03:50"
    assert moment(None) == "-"


def test_a_ratio_of_nothing_is_a_dash() -> None:
    assert (percent(0.995), percent(None)) == ("99.5 %", "-")


def test_one_is_singular() -> None:
    assert (
        plural(1, "call"),
        plural(1200, "call"),
        plural(2, "retry", "retries"),
    ) == ("1 call", "1,200 calls", "2 retries")
