"""Thresholds judged on what was counted: sliding sums, quantiles of histograms, limits for some."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from graphmeter import names
from graphmeter_config.crossing import crossed, limit_for
from graphmeter_config.history import History, Slices
from graphmeter_config.measures import RUNNING, bounds_of, of_threshold
from graphmeter_config.thresholds import CacheHits, ErrorRate, LatencyP95, RunDuration, StateSize, Waste

amounts = st.dictionaries(st.integers(-20, 60), st.integers(1, 9), max_size=40)


@settings(max_examples=25, deadline=None)
@given(amounts, st.integers(1, 30), st.integers(-5, 40), st.integers(1, 20))
def test_windows_are_sums_of_what_lies_in_them(happened: dict[int, int], length: int, first: int, many: int) -> None:
    slices, until = Slices.of(happened), first + many

    def between(start: int, end: int) -> int:
        return sum(amount for at, amount in happened.items() if start <= at < end)

    assert [between(at - length, at) for at in range(first, until)] == slices.windows(length, first, until)
    assert [between(-99, at) for at in range(first, until)] == slices.before(first, until)


def p95(durations: list[float], bounds: tuple[float, ...]) -> float:
    """As Prometheus takes it from a histogram."""
    counts = [0] * (len(bounds) + 1)
    for duration in durations:
        counts[bisect_left(bounds, duration)] += 1
    rank, sums = 0.95 * len(durations), list(accumulate(counts))
    at = next(index for index, below in enumerate(sums) if below >= rank)
    if at == len(bounds):
        return bounds[-1]
    start, below = (bounds[at - 1], sums[at - 1]) if at else (0.0, 0)
    return start + (bounds[at] - start) * (rank - below) / counts[at]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 3600), min_size=1, max_size=60), st.sampled_from((0.1, 3.0, 5.0, 7.3, 600.0, 2000.0)))
def test_a_quantile_is_above_a_limit_when_too_much_lies_above_it(durations: list[float], above: float) -> None:
    threshold = LatencyP95(above=above, at_least=1)
    bounds = bounds_of("latency_p95", threshold)
    counted = History.empty(len(bounds))
    counted.whole.add(0, len(durations))
    for bound, part in zip(bounds, counted.parts, strict=True):
        part.add(0, sum(duration > bound for duration in durations))
    [held] = crossed("latency_p95", threshold, threshold.limits[-1], {"latency_p95": counted}, 1, 2)
    found = p95(durations, names.RUN_DURATION_BUCKETS)
    # A rank of Prometheus is a float: where it lies on the limit, both are right.
    assert held == (found > above) or abs(found - above) < 1e-9 * above


def held(name: str, threshold: ErrorRate | Waste | CacheHits, whole: dict[int, int], part: dict[int, int]) -> str:
    history = History(Slices.of(whole), (Slices.of(part),))
    found = crossed(name, threshold, threshold.limits[-1], {name: history}, 1, 21)
    return "".join("01"[each] for each in found)


def test_few_events_are_not_judged() -> None:
    rate = ErrorRate.model_validate({"at_least": 10, "window": "5m"})
    assert "0" * 20 == held("error_rate", rate, {3: 9}, {3: 9})
    assert "0001111100" == held("error_rate", rate, {3: 10}, {3: 9})[:10]
    waste = Waste.model_validate({"at_least_usd": 1, "window": "5m"})
    assert "0" * 20 == held("waste", waste, {3: 10**9 - 1}, {3: 10**9 - 1})
    assert "0001111100" == held("waste", waste, {3: 10**9}, {3: 10**9})[:10]


def test_a_cache_that_never_answered_is_not_missed() -> None:
    hits = CacheHits.model_validate({"at_least": 1, "window": "5m"})
    calls = dict.fromkeys(range(20), 10)
    assert "0" * 20 == held("cache_hits", hits, calls, {})
    assert "000000000" + "1" * 11 == held("cache_hits", hits, calls, {4: 50})


def test_what_has_not_ended_is_as_long_as_what_did() -> None:
    threshold = RunDuration.model_validate({"window": "5m"})
    ended, running = History(Slices(), (Slices.of({10: 1}),)), History.empty(2)
    running.parts[0].add(4, 1)
    running.parts[1].add(8, 1)
    [limit] = threshold.limits
    both = crossed("run_duration", threshold, limit, {"run_duration": ended, RUNNING: running}, 0, 20)
    assert [*range(5, 9), *range(11, 16)] == [at for at, each in enumerate(both) if each]


def test_the_first_limit_that_matches_holds() -> None:
    threshold = ErrorRate.model_validate(
        {
            "per": ["graph", "team"],
            "overrides": [
                {"select": {"graph": "support-eu"}, "above": "50%"},
                {"select": {"team": "unattributed"}, "disabled": True},
                {"select": {"graph": "support-*"}, "severity": "page"},
            ],
        }
    )
    found = {
        group: limit and (limit.text, limit.severity)
        for group in (("support-eu", ""), ("support-us", ""), ("support-us", "cx"), ("chat", "cx"))
        for limit in [limit_for(threshold, group)]
    }
    assert {
        ("support-eu", ""): ("50%", "ticket"),
        ("support-us", ""): None,
        ("support-us", "cx"): ("5%", "page"),
        ("chat", "cx"): ("5%", "ticket"),
    } == found


def test_nothing_is_counted_of_what_is_not_stored() -> None:
    assert [] == of_threshold("state_size", StateSize())
