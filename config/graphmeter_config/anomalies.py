"""What is unusual for a graph itself: bands around its own past, and traffic against the same hour of past weeks.

A threshold needs somebody to know where it lies; a band is learnt. It lies around the mean of the past week, as far away as
the values themselves scatter and a margin more, without which what never changes would be unusual at once. What happens now
is not part of its own past: the last six hours are left out.

Defaults: fewer runs than ever is a ticket, for nothing else sees requests that do not arrive; errors and latency unusual
together are a page; each of them alone, and the cost, is `info`, which tells nobody but shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from graphmeter import names
from graphmeter_config.alerting import Severity
from graphmeter_config.indicators import Dimension
from graphmeter_config.section import Section
from graphmeter_config.slo import EventSelector
from graphmeter_config.threshold import Part, PerDimensions, Wait
from graphmeter_config.values import Seconds, Share, duration_text, percent_text, wrong

SAMPLE_S: Final = 300
"""Values are recorded so often."""
OWN_PAST_BEGINS_S: Final = 6 * 3600
"""What is younger is not yet compared with: it may be what is unusual, and would soon be usual."""
_HOUR: Final = 3600
_DAY: Final = 86_400
_DIMENSIONS: Final[tuple[Dimension, ...]] = ("graph", "team", "environment", "service")


def _history(value: float) -> float:
    if not _DAY <= value <= 28 * _DAY or value % _HOUR:
        raise wrong("not a whole number of hours from 1d to 28d", "write 7d")
    return value


def _needs(value: float) -> float:
    if not _HOUR <= value <= 28 * _DAY or value % SAMPLE_S:
        raise wrong("not a multiple of 5m from 1h to 28d", "write 1d")
    return value


def _margin(value: Decimal) -> Decimal:
    if not 0 < value <= 10:
        raise wrong(f"{percent_text(value * 100)} is not above 0% and up to 1000%", "write 25%")
    return value


def _points(value: Decimal) -> Decimal:
    if not 0 < value <= Decimal("0.5"):
        raise wrong(f"{percent_text(value * 100)} is not above 0% and up to 50%", "write 5%")
    return value


Margin = Annotated[Share, AfterValidator(_margin)]
Points = Annotated[Share, AfterValidator(_points)]


class Anomaly(Section):
    """What all have. `per` says what is judged by itself; an empty list: all together."""

    select: EventSelector = EventSelector()
    per: PerDimensions = ("graph",)
    for_s: Wait | None = Field(600.0, alias="for")
    severity: Severity = "info"

    @model_validator(mode="after")
    def _of_runs(self) -> Self:
        for dimension in self.per:
            if dimension not in _DIMENSIONS:
                raise wrong(f"runs are not told apart by {dimension}", f"write only {', '.join(_DIMENSIONS)}", "per")
        for field in self.select.restricting():
            if field not in _DIMENSIONS:
                raise wrong(
                    f"runs are not told apart by {field}", f"write only {', '.join(_DIMENSIONS)}", "select", field
                )
        return self


class TrafficDrop(Anomaly):
    """Fewer runs than in the same hour of past weeks (of UTC: where clocks change, an hour beside it for those weeks)."""

    below: Part = Decimal("0.4")
    """Of their median."""
    at_least: int = Field(30, ge=1, le=1_000_000)
    """Hours that usually have fewer runs are not judged."""
    weeks: int = Field(4, ge=1, le=8)
    """How far is looked back; weeks that Prometheus no longer holds, or not yet, are left out."""
    needs_weeks: int = Field(2, ge=1, le=8)
    """No alert before there are so many."""
    for_s: Wait | None = Field(900.0, alias="for")
    severity: Severity = "ticket"

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.needs_weeks > self.weeks:
            raise wrong(
                f"more than the {self.weeks} weeks that are looked at", "write less, or more `weeks:`", "needs_weeks"
            )
        return self


class Band(Anomaly):
    """The last hour against the hours before it."""

    metric: ClassVar[names.Metric]
    unit: ClassVar[Literal["ratio", "seconds", "usd"]]

    deviations: int = Field(3, ge=1, le=10)
    """How many standard deviations of the past are usual."""
    at_least: int = Field(20, ge=1, le=1_000_000)
    """Hours with fewer runs are neither judged nor part of the past."""
    history_s: Annotated[Seconds, AfterValidator(_history)] = Field(7.0 * _DAY, alias="history")
    needs_s: Annotated[Seconds, AfterValidator(_needs)] = Field(1.0 * _DAY, alias="needs")
    """No band before so much of it is known."""

    @model_validator(mode="after")
    def _known_at_all(self) -> Self:
        if self.needs_s > self.history_s:
            remedy = f"write up to {duration_text(self.history_s)}, or a longer `history:`"
            raise wrong("longer than the history that is looked at", remedy, "needs")
        return self

    @property
    def factor(self) -> Fraction:
        """The margin, as a part of the mean."""
        return Fraction(0)

    @property
    def points(self) -> Fraction:
        """The margin in the unit itself."""
        return Fraction(0)

    @property
    def margin_text(self) -> str:
        """`25%`."""
        return percent_text(Decimal(100) * Decimal(getattr(self, "margin")))  # noqa: B009

    @property
    def samples(self) -> int:
        """How many values of the past have to be known."""
        return round(self.needs_s / SAMPLE_S)


class _Relative(Band):
    margin: Margin = Decimal("0.25")
    """Of the mean."""

    @property
    def factor(self) -> Fraction:
        return Fraction(self.margin)


class ErrorRateBand(Band):
    """Share of runs that failed or were lost."""

    metric = names.RUNS
    unit = "ratio"

    margin: Points = Decimal("0.05")
    """Percentage points."""

    @property
    def points(self) -> Fraction:
        return Fraction(self.margin)


class LatencyBand(_Relative):
    """What 95 % of runs take at most."""

    metric = names.RUN_DURATION
    unit = "seconds"


class CostBand(_Relative):
    """What runs cost in the mean."""

    metric = names.RUN_COST
    unit = "usd"


class ErrorsAndLatency(Section):
    """Errors and latency above their bands at the same time."""

    for_s: Wait | None = Field(600.0, alias="for")
    severity: Severity = "page"


class Anomalies(Section):
    """All kinds; null: neither alert nor band."""

    traffic_drop: TrafficDrop | None = TrafficDrop()
    error_rate: ErrorRateBand | None = ErrorRateBand()
    latency_p95: LatencyBand | None = LatencyBand()
    cost_usd_per_run: CostBand | None = CostBand()
    errors_and_latency: ErrorsAndLatency | None = ErrorsAndLatency()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if "errors_and_latency" in self.model_fields_set and self.errors_and_latency and not self.both:
            fault = "needs bands of error_rate and latency_p95 with the same `per:`"
            raise wrong(fault, "make them alike, or write null", "errors_and_latency")
        return self

    @property
    def both(self) -> ErrorsAndLatency | None:
        """What is told of both together; None where they are not judged alike."""
        one, other = self.error_rate, self.latency_p95
        return self.errors_and_latency if one and other and one.per == other.per else None

    def wanted(self) -> Iterator[tuple[str, Anomaly]]:
        """Those that look at runs of their own, by the names that files give them."""
        if self.traffic_drop is not None:
            yield "traffic_drop", self.traffic_drop
        yield from self.bands()

    def bands(self) -> Iterator[tuple[str, Band]]:
        """Those that are on, by the names that files give them."""
        for name in ("error_rate", "latency_p95", "cost_usd_per_run"):
            band: Band | None = getattr(self, name)
            if band is not None:
                yield name, band
