"""The kinds of plain thresholds beside SLOs, each with its unit, its guard against few events, and its default.

An SLO asks whether a promise is kept over weeks; a threshold, whether something is out of the ordinary now.

Defaults: what is always somebody's business is a ticket; what may be quite normal for a graph (it thinks for a minute,
it waits for a human over the weekend) is `info`, which tells nobody but shows; what means nothing without knowing the
graph is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Final

from pydantic import Field

from graphmeter import names
from graphmeter_config.alerting import Severity
from graphmeter_config.section import Section
from graphmeter_config.threshold import (
    Above,
    Below,
    Guarded,
    InWindow,
    Part,
    PerDimensions,
    Threshold,
    Wait,
    Window,
)
from graphmeter_config.values import Globs, Seconds, Size, Usd

_HOUR: Final = 3600
_DAY: Final = 86_400

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]


class ErrorRate(Guarded):
    """Share of runs that failed or were lost."""

    metrics = (names.RUNS,)
    unit = "share"

    above: Part = Decimal("0.05")
    overrides: tuple[Above[Part], ...] = ()


class NodeErrorRate(Guarded):
    """Share of executions of a node whose last attempt failed."""

    metrics = (names.NODE_RUNS,)
    unit = "share"

    above: Part = Decimal("0.1")
    per: PerDimensions = ("graph", "node")
    overrides: tuple[Above[Part], ...] = ()


class LatencyP95(Guarded):
    """What 95 % of runs take at most, without the wait for humans."""

    metrics = (names.RUN_DURATION,)
    unit = "seconds"
    most = names.RUN_DURATION_BUCKETS[-1]

    above: Seconds = 5.0
    severity: Severity = "info"
    overrides: tuple[Above[Seconds], ...] = ()


class NodeLatencyP95(Guarded):
    """What 95 % of a node's attempts take at most."""

    metrics = (names.NODE_DURATION,)
    unit = "seconds"
    most = names.NODE_DURATION_BUCKETS[-1]

    above: Seconds = 30.0
    severity: Severity = "info"
    per: PerDimensions = ("graph", "node")
    overrides: tuple[Above[Seconds], ...] = ()


class RunDuration(InWindow):
    """Single runs that took longer, or are still running."""

    metrics = (names.RUN_DURATION, names.RUN_OLDEST)
    unit = "count"
    bounds = names.RUN_DURATION_BUCKETS

    above: Seconds = 600.0
    for_s: Wait | None = Field(None, alias="for")
    severity: Severity = "info"
    overrides: tuple[Above[Seconds], ...] = ()


class RunCost(InWindow):
    """Single runs that cost more."""

    metrics = (names.RUN_COST,)
    unit = "count"
    bounds = names.RUN_COST_BUCKETS

    above: Usd = Decimal(20)
    window_s: Window = Field(1.0 * _HOUR, alias="window")
    for_s: Wait | None = Field(None, alias="for")
    overrides: tuple[Above[Usd], ...] = ()


class SpendPerHour(Threshold):
    """Spend of the last hour."""

    metrics = (names.COST,)
    unit = "usd"

    above: Usd = Decimal(100)
    per: PerDimensions = ()
    overrides: tuple[Above[Usd], ...] = ()

    @property
    def window(self) -> float:
        return float(_HOUR)


class CostPerRun(Guarded):
    """What runs cost in the mean."""

    metrics = (names.RUN_COST,)
    unit = "usd"

    above: Usd = Decimal(5)
    window_s: Window = Field(1.0 * _HOUR, alias="window")
    overrides: tuple[Above[Usd], ...] = ()


class Waste(InWindow):
    """Share of the spend that was for nothing: failed, retried, cancelled."""

    metrics = (names.WASTED_COST, names.COST)
    unit = "share"

    above: Part = Decimal("0.2")
    at_least_usd: Usd = Decimal(5)
    """No alert for less that was for nothing in the window."""
    window_s: Window = Field(6.0 * _HOUR, alias="window")
    overrides: tuple[Above[Part], ...] = ()

    @property
    def guard(self) -> Fraction:
        return Fraction(self.at_least_usd)


class UnpricedCalls(InWindow):
    """Model calls without a known price: the bill has a hole of their size."""

    metrics = (names.UNPRICED_CALLS,)
    unit = "count"

    above: Count = 0
    window_s: Window = Field(1.0 * _HOUR, alias="window")
    per: PerDimensions = ("provider", "model")
    overrides: tuple[Above[Count], ...] = ()


class Escalations(Guarded):
    """Share of runs with such an outcome, as the application tells it."""

    metrics = (names.OUTCOMES, names.RUNS)
    unit = "share"

    kind: Globs = ("escalated",)
    """Of outcomes, as in `graphmeter.outcome("escalated")`."""
    above: Part = Decimal("0.1")
    window_s: Window = Field(6.0 * _HOUR, alias="window")
    overrides: tuple[Above[Part], ...] = ()


class HumanWait(Threshold):
    """How long the oldest question has waited for its answer."""

    metrics = (names.HUMAN_WAIT_OLDEST,)
    unit = "seconds"
    most = 30.0 * _DAY

    above: Seconds = 24.0 * _HOUR
    severity: Severity = "info"
    overrides: tuple[Above[Seconds], ...] = ()


class StateSize(InWindow):
    """Node executions that were given a larger state, where clients capture its size."""

    metrics = (names.STATE_SIZE,)
    unit = "count"
    bounds = names.STATE_BYTES_BUCKETS

    above: Size = 5_000_000
    for_s: Wait | None = Field(None, alias="for")
    severity: Severity = "info"
    per: PerDimensions = ("graph", "node")
    overrides: tuple[Above[Size], ...] = ()


class CacheHits(Guarded):
    """Share of calls that a cache answered, of models that one has ever answered for."""

    metrics = (names.LLM_CACHE_HITS, names.LLM_CALLS)
    unit = "share"
    compares = "below"

    below: Part = Decimal("0.2")
    at_least: int = Field(100, ge=1, le=1_000_000)
    window_s: Window = Field(6.0 * _HOUR, alias="window")
    severity: Severity = "info"
    overrides: tuple[Below, ...] = ()


class RateLimited(Guarded):
    """Share of model calls that the provider refused for its rate limits."""

    metrics = (names.RATE_LIMITED_CALLS, names.LLM_CALLS)
    unit = "share"

    above: Part = Decimal("0.05")
    per: PerDimensions = ("provider", "model")
    overrides: tuple[Above[Part], ...] = ()


class LostRuns(InWindow):
    """Runs whose process died: they never reported an end."""

    metrics = (names.RUNS,)
    unit = "count"

    above: Count = 2
    window_s: Window = Field(1.0 * _HOUR, alias="window")
    for_s: Wait | None = Field(None, alias="for")
    overrides: tuple[Above[Count], ...] = ()


class Thresholds(Section):
    """All kinds; null: no alert of that kind."""

    error_rate: ErrorRate | None = ErrorRate()
    node_error_rate: NodeErrorRate | None = None
    latency_p95: LatencyP95 | None = LatencyP95()
    node_latency_p95: NodeLatencyP95 | None = None
    run_duration: RunDuration | None = RunDuration()
    run_cost_usd: RunCost | None = RunCost()
    spend_usd_per_hour: SpendPerHour | None = SpendPerHour()
    cost_usd_per_run: CostPerRun | None = CostPerRun()
    waste: Waste | None = Waste()
    unpriced_calls: UnpricedCalls | None = UnpricedCalls()
    escalations: Escalations | None = Escalations()
    human_wait: HumanWait | None = HumanWait()
    state_size: StateSize | None = StateSize()
    cache_hits: CacheHits | None = None
    rate_limited: RateLimited | None = RateLimited()
    lost_runs: LostRuns | None = LostRuns()

    def wanted(self) -> Iterator[tuple[str, Threshold]]:
        """Those that are on, by the names that files give them."""
        for name in type(self).model_fields:
            threshold: Threshold | None = getattr(self, name)
            if threshold is not None:
                yield name, threshold
