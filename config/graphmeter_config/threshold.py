"""What all thresholds have in common: a limit, for whom it lies elsewhere, and which limits there can be.

Where a kind is measured decides, as for SLOs, by what it can be told apart, and where single events are judged, which limits
are possible: only bounds of its histogram. Overrides choose among what is judged by itself, and nothing else.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from graphmeter import names
from graphmeter_config.alerting import Severity
from graphmeter_config.indicators import DIMENSIONS, Dimension
from graphmeter_config.section import Section
from graphmeter_config.slo import EventSelector
from graphmeter_config.values import (
    Seconds,
    Share,
    decimal_text,
    duration_text,
    percent_text,
    size_text,
    wrong,
)

Unit = Literal["share", "seconds", "usd", "count"]
"""Of what is compared with the limit, and told; single events that are judged are counted."""

_MINUTE: Final = 60
_DAY: Final = 86_400


def _part(value: Decimal) -> Decimal:
    if not 0 < value < 1:
        raise wrong(f"{percent_text(value * 100)} is not above 0% and below 100%", "write 5%, or null for no alert")
    return value


def _window(value: float) -> float:
    if not 5 * _MINUTE <= value <= 7 * _DAY or value % _MINUTE:
        raise wrong("not a whole number of minutes from 5m to 7d", "write 15m or 1h")
    return value


def _wait(value: float) -> float:
    if value > _DAY or value % _MINUTE:
        raise wrong("not a whole number of minutes up to 1d", "write 5m, or null to be told at once")
    return value


def once_each(value: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
    """Dimensions in the order in which they are told; none may come twice."""
    twice = sorted({dimension for dimension in value if value.count(dimension) > 1})
    if twice:
        raise wrong(f"names {', '.join(twice)} twice", "name each once")
    return tuple(dimension for dimension in DIMENSIONS if dimension in value)


Part = Annotated[Share, AfterValidator(_part)]
Window = Annotated[Seconds, AfterValidator(_window)]
Wait = Annotated[Seconds, AfterValidator(_wait)]
PerDimensions = Annotated[tuple[Dimension, ...], AfterValidator(once_each)]
V = TypeVar("V")


class _Override(Section):
    select: EventSelector
    """For whom: only by what the threshold judges by itself (`per`)."""
    severity: Severity | None = None
    disabled: bool = False
    """No alert at all."""


class Above(_Override, Generic[V]):
    """Another limit for some. Of several that match the first counts."""

    above: V | None = None


class Below(_Override):
    """Another limit for some. Of several that match the first counts."""

    below: Part | None = None


class Limit(NamedTuple):
    """One limit of a threshold, and for whom it holds."""

    value: Fraction
    text: str
    """As people write it: `5%`, `10m`, `20 USD`."""
    severity: Severity
    select: EventSelector | None
    """None: for whom no other limit holds."""
    instead_of: tuple[EventSelector, ...]
    """Those for whom an earlier override holds, or none at all."""

    @property
    def whose(self) -> str:
        """`graph support-*, team a|b`; empty: of all others."""
        chosen = self.select.restricting() if self.select else {}
        return ", ".join(f"{field} {'|'.join(globs)}" for field, globs in chosen.items())


class Threshold(Section):
    """What all kinds have. `per` says what is judged by itself; an empty list: all together."""

    metrics: ClassVar[tuple[names.Metric, ...]]
    """All that it is computed from."""
    unit: ClassVar[Unit]
    bounds: ClassVar[tuple[float, ...]] = ()
    """Where single events are judged: the only limits there can be."""
    most: ClassVar[float] = 0.0
    """Limits have to be below; 0: any is possible."""
    compares: ClassVar[Literal["above", "below"]] = "above"

    for_s: Wait | None = Field(5.0 * _MINUTE, alias="for")
    """How long it has to be so before it is told; null: at once."""
    severity: Severity = "ticket"
    select: EventSelector = EventSelector()
    per: PerDimensions = ("graph",)

    @property
    def window(self) -> float:
        """Seconds that are looked at; 0: it is about this moment."""
        return 0.0

    @property
    def guard(self) -> Fraction:
        """Of what there has to be at least so much; 0: of nothing."""
        return Fraction(0)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What it can be told apart by."""
        first, *others = (set(metric.labels) for metric in self.metrics)
        return tuple(dimension for dimension in DIMENSIONS if dimension in first.intersection(*others))

    @property
    def limits(self) -> list[Limit]:
        """Every limit of it, that of the threshold itself last."""
        found: list[Limit] = []
        before: list[EventSelector] = []
        for override in self._overrides:
            if not override.disabled:
                value = self._limit_of(override)
                own = self._limit_of(self) if value is None else value
                severity = override.severity or self.severity
                found.append(Limit(_fraction(own), self.text(own), severity, override.select, tuple(before)))
            before.append(override.select)
        own = self._limit_of(self)
        return [*found, Limit(_fraction(own), self.text(own), self.severity, None, tuple(before))]

    @property
    def overridden(self) -> tuple[EventSelector, ...]:
        """For whom there is something else."""
        return tuple(override.select for override in self._overrides)

    def text(self, value: Any) -> str:
        """A limit as people write it."""
        if self.bounds and self.bounds is names.STATE_BYTES_BUCKETS:
            return size_text(int(value))
        if isinstance(value, float):
            return duration_text(value)
        if self.unit == "share":
            return percent_text(value * 100)
        return f"{decimal_text(value)} USD" if isinstance(value, Decimal) else str(value)

    def _limit_of(self, of: Threshold | _Override) -> Any:
        return getattr(of, self.compares)

    @property
    def _overrides(self) -> tuple[_Override, ...]:
        found: tuple[_Override, ...] = getattr(self, "overrides", ())
        return found

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for dimension in self.per:
            if dimension not in self.dimensions:
                raise wrong(f"is not told apart by {dimension}", f"write only {', '.join(self.dimensions)}", "per")
        for field in self.select.restricting():
            if field not in self.dimensions:
                remedy = f"write only {', '.join(self.dimensions)}"
                raise wrong(f"is not told apart by {field}", remedy, "select", field)
        self._check(self, ())
        for index, override in enumerate(self._overrides):
            self._check_override(override, ("overrides", index))
        return self

    def _check_override(self, override: _Override, at: tuple[str | int, ...]) -> None:
        chosen = override.select.restricting()
        if not chosen:
            raise wrong("matches everything", "say for whom it is, or change the threshold itself", *at, "select")
        for field in chosen:
            if field not in self.per:
                known = f"write only {', '.join(self.per)}" if self.per else "nothing is judged by itself"
                can = f", or add {field} to `per:`" if field in self.dimensions else ""
                raise wrong(f"{field} is not judged by itself", f"{known}{can}", *at, "select", field)
        changes = self._limit_of(override) is not None or override.severity is not None
        if override.disabled == changes:
            fault = "disabled, and something else as well" if changes else "changes nothing"
            raise wrong(fault, f"write `{self.compares}:`, `severity:` or `disabled: true`", *at)
        if self._limit_of(override) is not None:
            self._check(override, at)

    def _check(self, of: Threshold | _Override, at: tuple[str | int, ...]) -> None:
        value = self._limit_of(of)
        if self.bounds and float(value) not in self.bounds:
            nearest = [self._bound_text(value, bound) for bound in _nearest(float(value), self.bounds)]
            remedy = f"write {' or '.join(nearest)}"
            raise wrong("is none of the bounds that it is measured at", remedy, *at, self.compares)
        shortest = next((metric.buckets[0] for metric in self.metrics if metric.buckets), 0.0)
        if self.most and float(value) < shortest:
            remedy = f"write {self.text(shortest)} or more, or null for no alert"
            raise wrong("is shorter than anything that is told apart", remedy, *at, self.compares)
        if self.most and float(value) >= self.most:
            remedy = f"write less than {self.text(self.most)}, the longest that is measured"
            raise wrong("can never be exceeded", remedy, *at, self.compares)

    def _bound_text(self, like: Any, bound: float) -> str:
        return self.text(Decimal(repr(bound)) if isinstance(like, Decimal) else bound).removesuffix(" USD")


class InWindow(Threshold):
    """One that looks at a window."""

    window_s: Window = Field(15.0 * _MINUTE, alias="window")
    """What is looked at."""

    @property
    def window(self) -> float:
        return self.window_s


class Guarded(InWindow):
    """One that needs enough events in it."""

    at_least: int = Field(20, ge=1, le=1_000_000)
    """No alert with fewer events in the window."""

    @property
    def guard(self) -> Fraction:
        return Fraction(self.at_least)


def _fraction(value: Any) -> Fraction:
    # The shortest text of a float is what somebody wrote.
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _nearest(value: float, bounds: tuple[float, ...]) -> list[float]:
    below, above = [each for each in bounds if each < value], [each for each in bounds if each > value]
    return [*below[-1:], *above[:1]]
