"""What has to be counted, so that a threshold can be judged from what is stored: whose reading it is, nobody here knows.

Everything that is compared is a part of a whole, both sums over slices: failed runs of all runs, wasted of all spend. What
lies above a bound is a part by itself, so a quantile is a share, too: more than 5 % above 5 s is a p95 above 5 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final, NamedTuple

from graphmeter_config.anomalies import OWN_PAST_BEGINS_S, SAMPLE_S, Anomaly, Band, TrafficDrop
from graphmeter_config.provider_limits import ProviderLimit
from graphmeter_config.threshold import Threshold
from graphmeter_config.thresholds import Escalations

MINUTE_S: Final = 60
HOUR_S: Final = 3600
WEEK_S: Final = 7 * 86_400
TRAFFIC: Final = "traffic"
REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
RUNNING: Final = "running"
"""Runs that have not ended, or had not; a threshold on how long runs take asks for them as well."""
UNSTORED: Final = frozenset({"state_size"})
"""Kinds of thresholds whose quantity is in no table."""
LEVELS: Final = frozenset({RUNNING, "human_wait"})
"""What something is at a moment, not what happens: for each bound, what became older than it, and what of that ended."""


class Measure(NamedTuple):
    """What to count."""

    of: str
    """What, as thresholds are called in files, or one of the names above."""
    select: tuple[tuple[str, tuple[str, ...]], ...]
    """Of whom: labels with their globs."""
    per: tuple[str, ...]
    """What is judged by itself."""
    bounds: tuple[Fraction, ...] = ()
    """In seconds or USD: parts are what lies above each. Without any, there is one part."""
    types: tuple[str, ...] = ()
    """Kinds of tokens."""
    reach_s: int = 0
    """How far it looks back from a moment."""
    slice_s: int = MINUTE_S

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self.bounds) * (2 if self.of in LEVELS else 1) or 1


def of_threshold(name: str, threshold: Threshold) -> list[Measure]:
    """What a threshold compares; nothing where that is not stored."""
    if name in UNSTORED:
        return []
    select = dict(threshold.select.restricting())
    if isinstance(threshold, Escalations) and "*" not in threshold.kind:
        select["kind"] = threshold.kind
    chosen, reach_s = tuple(select.items()), round(threshold.window)
    found = [Measure(name, chosen, threshold.per, bounds_of(name, threshold), reach_s=reach_s)]
    return [*found, found[0]._replace(of=RUNNING)] if name == "run_duration" else found


def of_provider_limit(by: ProviderLimit, of: str) -> Measure:
    """What is counted against one limit of a provider: requests, or some kinds of tokens."""
    types = () if of == REQUESTS else by.token_types(of)
    name = TOKENS if types else REQUESTS
    return Measure(name, tuple(by.selecting().items()), by.per, types=types, reach_s=round(by.window_s))


def of_anomaly(name: str, anomaly: Anomaly) -> Measure:
    """What is compared with its own past, every five minutes."""
    select = tuple(anomaly.select.restricting().items())
    if isinstance(anomaly, TrafficDrop):
        # A week more: what is found there was known in all weeks that are looked at.
        reach_s = (anomaly.weeks + 1) * WEEK_S + HOUR_S
        return Measure(TRAFFIC, select, anomaly.per, reach_s=reach_s, slice_s=SAMPLE_S)
    assert isinstance(anomaly, Band)
    bounds = exact(anomaly.metric.buckets) if anomaly.unit == "seconds" else ()
    reach_s = round(anomaly.history_s) + OWN_PAST_BEGINS_S + HOUR_S
    return Measure(name, select, anomaly.per, bounds, reach_s=reach_s, slice_s=SAMPLE_S)


def exact(bounds: Iterable[float]) -> tuple[Fraction, ...]:
    """Bounds as they are written."""
    return tuple(Fraction(repr(bound)) for bound in bounds)


def bounds_of(name: str, threshold: Threshold) -> tuple[Fraction, ...]:
    """What has to be told from what lies above it, rising.

    Every limit of single events and of ages; for a quantile, the bounds of its histogram that its limits lie between.
    """
    limits = {limit.value for limit in threshold.limits}
    if is_quantile(threshold):
        return tuple(sorted({bound for limit in limits for bound in around(threshold, limit) if bound}))
    return tuple(sorted(limits)) if threshold.bounds or name in LEVELS else ()


def is_quantile(threshold: Threshold) -> bool:
    """Whether a p95 is compared."""
    return threshold.unit == "seconds" and bool(threshold.metrics[0].buckets) and not threshold.bounds


def around(threshold: Threshold, limit: Fraction) -> tuple[Fraction, Fraction]:
    """The bounds that a limit lies between, the upper one included; 0 below the first."""
    bounds = exact(threshold.metrics[0].buckets)
    return max((bound for bound in bounds if bound < limit), default=Fraction(0)), min(
        bound for bound in bounds if bound >= limit
    )
