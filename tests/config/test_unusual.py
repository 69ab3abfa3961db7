"""What is unusual, against plain sums: medians of past weeks, and bands around one's own past."""

from __future__ import annotations

from statistics import fmean, median, pstdev

from hypothesis import given, settings
from hypothesis import strategies as st

from graphmeter_config.anomalies import ErrorRateBand, TrafficDrop
from graphmeter_config.history import History, Slices
from graphmeter_config.unusual import above_band, drops

WEEK = 7 * 24 * 12
HOUR = 12


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=5, max_size=5), st.integers(0, 4), st.integers(1, 3))
def test_traffic_is_compared_with_the_median_of_the_weeks_that_are_known(
    hours: list[int], began: int, needs: int
) -> None:
    # The first is the hour that is judged, the others those of the weeks before; older ones than `began` are not known.
    at = 5 * WEEK
    runs = {at - week * WEEK - 1: hour for week, hour in enumerate(hours) if hour}
    runs = {then: hour for then, hour in runs.items() if then >= at - began * WEEK - 1} | {at - began * WEEK - HOUR: 1}
    drop = TrafficDrop.model_validate({"needs_weeks": needs, "at_least": 20})
    [held] = drops(drop, History(Slices.of(runs), ()), at, at + 1)

    def hour_before(then: int) -> int:
        return sum(count for begins, count in runs.items() if then - HOUR <= begins < then)

    past = [hour_before(at - week * WEEK) for week in range(1, began + 1)]
    usual = median(past) if past else 0
    expected = len(past) >= needs and usual >= 20 and 10 * hour_before(at) < 4 * usual
    assert expected == held


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(20, 30), st.integers(0, 20)), min_size=36, max_size=36), st.integers(19, 21))
def test_a_band_lies_around_what_was_six_hours_ago(hours: list[tuple[int, int]], least: int) -> None:
    band = ErrorRateBand.model_validate({"history": "1d", "needs": "2h", "at_least": least, "deviations": 1})
    history = History.empty(1)
    for hour, (runs, bad) in enumerate(hours):
        history.whole.add(hour * HOUR, runs)
        history.parts[0].add(hour * HOUR, bad)
    rates = [bad / runs if runs >= least else None for runs, bad in hours]
    # What began with an hour is all there is until just before the next one does.
    values = [rates[(at - 1) // HOUR] for at in range(1, len(hours) * HOUR + 1)]
    for at in (100, 300, 431):
        known = [value for value in values[max(at - 72 - 288, 0) : at - 72] if value is not None]
        value = values[at - 1]
        expected = value is not None and len(known) >= 24 and value > fmean(known) + 0.05 + pstdev(known)
        [held] = above_band(band, history, at, at + 1)
        assert expected == held


def test_who_was_never_seen_is_not_missed() -> None:
    assert [False, False] == drops(TrafficDrop(), History.empty(0), 5 * WEEK, 5 * WEEK + 2)
