"""Example series for a threshold: the value that is to come out of its rules goes in, what a collector would expose for it
comes out.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from graphmeter import names
from graphmeter_alerts.cases import growing, series, staying
from graphmeter_config.section import globs_match
from graphmeter_config.threshold import Limit, Threshold
from graphmeter_config.thresholds import Escalations

_EXAMPLES: Final = ("example", "another", "third", "0")
_OTHER_KIND: Final = "approved"
_MOST_TRIED: Final = 10_000
COLLECTORS: Final = ("a", "b")


class Phase(NamedTuple):
    """The value for so many minutes, and how many events there are a minute, where it is about such."""

    value: Fraction
    events: Fraction
    minutes: int


def matching(globs: Sequence[str]) -> list[str]:
    """Values that the patterns match."""
    return [
        glob.replace("*", each).replace("?", each[0])
        for glob in globs
        for each in (_EXAMPLES if set("*?") & set(glob) else _EXAMPLES[:1])
    ]


def identity(threshold: Threshold, limit: Limit) -> dict[str, str] | None:
    """What example events are told apart by, so that this limit holds for them; None: no such example was found."""
    chosen = limit.select.restricting() if limit.select else {}
    fields = threshold.dimensions
    candidates = [matching(chosen.get(field) or getattr(threshold.select, field)) for field in fields]
    for tried in itertools.islice(itertools.product(*candidates), _MOST_TRIED):
        of: dict[str, str] = dict(zip(fields, tried, strict=True))
        if holds(threshold, limit, of):
            return of
    return None


def holds(threshold: Threshold, limit: Limit, of: Mapping[str, str]) -> bool:
    """Whether the limit is the one for events with these labels."""
    if not all(globs_match(globs, of[name]) for name, globs in threshold.select.restricting().items()):
        return False
    return (limit.select is None or limit.select.matches(of)) and not any(
        other.matches(of) for other in limit.instead_of
    )


def traffic(name: str, threshold: Threshold, limit: Limit, of: Mapping[str, str], *phases: Phase) -> dict[str, str]:
    """Series of one thing that is judged."""
    return _MADE[name](threshold, limit, of, phases)


_Made = Callable[[Threshold, Limit, Mapping[str, str], Sequence[Phase]], dict[str, str]]


def _counter(metric: names.Metric, of: Mapping[str, str], values: str, suffix: str = "", **more: str) -> dict[str, str]:
    labels = {label: of[label] for label in metric.labels if label in of}
    return {series(metric.name + suffix, **labels, **more): values}


def _parts(phases: Sequence[Phase], share: Callable[[Phase], Fraction]) -> str:
    return growing(*((float(share(phase)), phase.minutes) for phase in phases))


def _bad(phase: Phase) -> Fraction:
    return phase.value * phase.events


def _good(phase: Phase) -> Fraction:
    return phase.events - _bad(phase)


def _all(phase: Phase) -> Fraction:
    return phase.events


def _error_rate(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    half = _parts(phases, lambda phase: _bad(phase) / 2)
    return {
        **_counter(names.RUNS, of, _parts(phases, _good), status=names.OK),
        **_counter(names.RUNS, of, half, status=names.ERROR),
        **_counter(names.RUNS, of, half, status=names.LOST),
        # Neither good nor bad.
        **_counter(names.RUNS, of, _parts(phases, lambda phase: 9 * phase.events), status=names.INTERRUPTED),
    }


def _node_error_rate(
    threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]
) -> dict[str, str]:
    return {
        **_counter(names.NODE_RUNS, of, _parts(phases, _good), status=names.OK),
        **_counter(names.NODE_RUNS, of, _parts(phases, _bad), status=names.ERROR),
    }


def _escalations(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    kind = matching(threshold.kind)[0] if isinstance(threshold, Escalations) else ""
    other = _counter(names.OUTCOMES, of, _parts(phases, _all), kind=_OTHER_KIND, good="true")
    return {
        **_counter(names.RUNS, of, _parts(phases, _all), status=names.OK),
        **_counter(names.OUTCOMES, of, _parts(phases, _bad), kind=kind, good="false"),
        **(other if isinstance(threshold, Escalations) and not globs_match(threshold.kind, _OTHER_KIND) else {}),
    }


def _rate_limited(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    return {
        **_counter(names.LLM_CALLS, of, _parts(phases, _good), status=names.OK),
        **_counter(names.LLM_CALLS, of, _parts(phases, _bad), status=names.ERROR),
        **_counter(names.RATE_LIMITED_CALLS, of, _parts(phases, _bad)),
    }


def _cache_hits(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    return {
        **_counter(names.LLM_CACHE_HITS, of, _parts(phases, _bad)),
        **_counter(names.LLM_CALLS, of, _parts(phases, _good), status=names.OK),
    }


def _waste(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    """Here `events` is the USD a minute that are for nothing."""
    half = _parts(phases, lambda phase: phase.events / 2)
    return {
        **_counter(names.COST, of, _parts(phases, lambda phase: phase.events / phase.value)),
        **_counter(names.WASTED_COST, of, half, reason=names.ERROR),
        **_counter(names.WASTED_COST, of, half, reason=names.RETRY),
    }


def _latency(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    """All events are in the bucket whose 95th percentile the value is: see `quantile`."""
    [metric] = threshold.metrics
    found = _counter(metric, of, _parts(phases, _all), "_count")
    for bound in (*metric.buckets, float("inf")):
        le = "+Inf" if bound == float("inf") else repr(bound)
        within = _parts(phases, lambda phase: phase.events if phase.value <= bound else Fraction(0))  # noqa: B023
        found |= _counter(metric, of, within, "_bucket", le=le)
    return found


def quantile(threshold: Threshold, seconds: Fraction) -> Fraction:
    """What Prometheus takes for the 95th percentile of events that all are in the bucket of so many seconds."""
    bounds = [Fraction(0), *(Fraction(repr(each)) for each in threshold.metrics[0].buckets)]
    above = bisect_left(bounds, seconds)
    if above == len(bounds):
        return bounds[-1]
    low, high = bounds[above - 1], bounds[above]
    return low + (high - low) * Fraction(95, 100)


def _single(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    """So many events of a window are above the limit, all others just within it."""
    metric = threshold.metrics[0]
    window = Fraction(threshold.window) / 60
    bound = float(limit.value)
    within = _parts(phases, lambda phase: phase.events - phase.value / window)
    at = metric.buckets.index(bound)
    found = _counter(metric, of, _parts(phases, _all), "_count") | _counter(
        metric, of, within, "_bucket", le=_shown(bound)
    )
    if at:
        found |= _counter(
            metric, of, _parts(phases, lambda _: Fraction(0)), "_bucket", le=_shown(metric.buckets[at - 1])
        )
    if at + 1 < len(metric.buckets):
        found |= _counter(metric, of, _parts(phases, _all), "_bucket", le=_shown(metric.buckets[at + 1]))
    return found


def _shown(bound: float) -> str:
    """As collectors expose it."""
    text = repr(bound)
    dot = text.index(".")
    if dot <= 6:
        return text
    return f"{text[0]}.{text[1:dot]}".rstrip("0").rstrip(".") + f"e+{dot - 1:02}"


def _in_window(metric: names.Metric, **more: str) -> _Made:
    def made(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
        window = Fraction(threshold.window) / 60
        found = _counter(metric, of, _parts(phases, lambda phase: phase.value / window), **more)
        if more:
            found |= _counter(metric, of, _parts(phases, _all), status=names.OK)
        return found

    return made


def _cost_per_run(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    return _counter(names.RUN_COST, of, _parts(phases, _all), "_count") | _counter(
        names.RUN_COST, of, _parts(phases, _bad), "_sum"
    )


def _human_wait(threshold: Threshold, limit: Limit, of: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    values = staying(*((float(phase.value), phase.minutes) for phase in phases))
    # Each collector tells the same: they must not be added.
    found: dict[str, str] = {}
    for each in COLLECTORS:
        found |= _counter(names.HUMAN_WAIT_OLDEST, of, values, instance=each)
    return found


_MADE: Final[Mapping[str, _Made]] = {
    "error_rate": _error_rate,
    "node_error_rate": _node_error_rate,
    "latency_p95": _latency,
    "node_latency_p95": _latency,
    "run_duration": _single,
    "run_cost_usd": _single,
    "spend_usd_per_hour": _in_window(names.COST),
    "cost_usd_per_run": _cost_per_run,
    "waste": _waste,
    "unpriced_calls": _in_window(names.UNPRICED_CALLS),
    "escalations": _escalations,
    "human_wait": _human_wait,
    "state_size": _single,
    "cache_hits": _cache_hits,
    "rate_limited": _rate_limited,
    "lost_runs": _in_window(names.RUNS, status=names.LOST),
}
