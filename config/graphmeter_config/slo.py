"""Service level objectives: which share of events has to be good over a window, and the error budget that leaves.

Which events there are to choose from stands in `indicators`. Budgets and states are exact fractions of event counts; nothing
here counts any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from graphmeter_config import slices
from graphmeter_config.burn import Plan, plan
from graphmeter_config.indicators import DIMENSIONS, KINDS, Dimension, Indicator, Kind, Of
from graphmeter_config.section import Section, Selector
from graphmeter_config.slices import Stretch
from graphmeter_config.values import (
    SECONDS_PER_DAY,
    Globs,
    Name,
    Percent,
    Seconds,
    Usd,
    decimal_text,
    duration_text,
    percent_text,
    seconds_of,
    wrong,
)


def _objective(value: Decimal) -> Decimal:
    if value >= 100:
        raise wrong("leaves no error budget", "write a percentage below 100, such as 99.9%")
    if value <= 0:
        raise wrong("asks for nothing", "write a percentage above 1, such as 99%")
    if value <= 1:
        raise wrong("looks like a ratio", f"write a percentage: {percent_text(value * 100)}")
    return value


CALENDAR_MONTH_TEXT: Final = "calendar_month"


class _CalendarMonth(float):
    """The longest month in seconds, so that whoever needs room for a window has enough; equal to nothing but itself."""

    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CalendarMonth)


CALENDAR_MONTH: Final = _CalendarMonth(31 * SECONDS_PER_DAY)
"""As a window: since the first of the month, UTC."""


def _window(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, _CalendarMonth) or value == CALENDAR_MONTH_TEXT:
        return CALENDAR_MONTH
    return _whole_days(seconds_of(value, info))


def _window_text(value: float) -> str:
    return CALENDAR_MONTH_TEXT if isinstance(value, _CalendarMonth) else duration_text(value)


def _whole_days(value: float) -> float:
    if not SECONDS_PER_DAY <= value <= 365 * SECONDS_PER_DAY:
        raise wrong("not between 1d and 365d", "write 7d, 28d, 30d, 90d or calendar_month")
    if value % SECONDS_PER_DAY:
        raise wrong("not a whole number of days", "write 7d, 28d, 30d, 90d or calendar_month")
    return value


def _per(value: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
    twice = sorted({dimension for dimension in value if value.count(dimension) > 1})
    if twice:
        raise wrong(f"names {', '.join(twice)} twice", "name each once")
    return tuple(dimension for dimension in DIMENSIONS if dimension in value)


class EventSelector(Selector):
    """Which events: every field has to match. The last five are for nodes, tools, model calls and outcomes."""

    node: Globs = ("*",)
    tool: Globs = ("*",)
    provider: Globs = ("*",)
    model: Globs = ("*",)
    kind: Globs = ("*",)
    """Of outcomes."""


class Slo(Section):
    """An objective for all matching events; each graph (or what else `per` says) is judged by itself."""

    name: Name
    description: str = ""
    indicator: Indicator = "availability"
    """What makes an event good: that it ended ok, that it stayed at or under the threshold, or what the application said."""
    of: Of = "runs"
    """What the events are."""
    threshold_s: Seconds | None = Field(None, alias="threshold")
    """Of latency and first_token: up to so many seconds is good; one of the bounds at which it is measured."""
    threshold_usd: Usd | None = None
    """Of cost: up to so many USD is good; one of the bounds as well."""
    objective: Annotated[Percent, AfterValidator(_objective)]
    """Percent of events that have to be good."""
    window_s: Annotated[
        float,
        PlainValidator(_window, json_schema_input_type=str),
        PlainSerializer(_window_text, return_type=str),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": r"^(calendar_month|(\d+(ms|[smhdw]))+)$",
                "examples": ["30d", "calendar_month"],
            }
        ),
    ] = Field(30.0 * SECONDS_PER_DAY, alias="window")
    """Rolling window in seconds, whole days; or `CALENDAR_MONTH`, which files call `calendar_month`."""
    select: EventSelector = EventSelector()
    per: Annotated[tuple[Dimension, ...], AfterValidator(_per)] = ()
    """What is judged by itself; an empty list: all events together. Left out: what is usual for the kind."""
    min_bad_events: int = Field(5, ge=1, le=1_000_000)
    """Burn alerts stay silent below this many bad events in their long window: one failure of two runs is no trend."""
    owner: Name | None = None
    """One of `alerting.owners`, who is told in place of the general receivers."""

    @model_validator(mode="before")
    @classmethod
    def _usual_per(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "per" in data:
            return data
        asked = str(data.get("indicator", "availability")), str(data.get("of", "runs"))
        return {**data, "per": next((kind.per for key, kind in KINDS.items() if key == asked), ())}

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        kind = KINDS.get((self.indicator, self.of))
        if kind is None:
            possible = " or ".join(of for indicator, of in KINDS if indicator == self.indicator)
            raise wrong(f"is not measured of {self.of}", f"write `of:` {possible}", "indicator")
        for dimension in self.per:
            if dimension not in kind.dimensions:
                raise wrong(*_unknown(self.of, kind.dimensions, dimension), "per")
        for field in self.select.restricting():
            if field not in kind.selectable:
                raise wrong(*_unknown(self.of, kind.selectable, field), "select", field)
        self._check_threshold(kind)
        return self

    def _check_threshold(self, kind: Kind) -> None:
        field = "threshold_usd" if self.indicator == "cost" else "threshold"
        given = {"threshold": self.threshold_s, "threshold_usd": self.threshold_usd}
        for name, value in given.items():
            if value is not None and (name != field or not kind.bounds):
                remedy = f"write `{field}:`" if kind.bounds else "leave it out, or choose another `indicator:`"
                raise wrong(f"does not belong to {self.indicator}", remedy, name)
        if not kind.bounds:
            return
        shown = [self._amount(bound) for bound in kind.bounds]
        if given[field] is None:
            raise wrong("has no threshold", f"add `{field}:`, one of {', '.join(shown)}", "indicator")
        if self.bound not in kind.bounds:
            nearest = " or ".join(_nearest(self.bound, kind.bounds, shown))
            raise wrong("is none of the bounds that it is measured at", f"write {nearest}", field)

    def _amount(self, bound: float) -> str:
        return decimal_text(Decimal(repr(bound))) if self.indicator == "cost" else duration_text(bound)

    @property
    def kind(self) -> Kind:
        """Which events are judged, and how."""
        return KINDS[self.indicator, self.of]

    @property
    def bound(self) -> float:
        """Threshold in seconds or USD; 0 where the status decides."""
        return float(self.threshold_usd or 0) if self.indicator == "cost" else self.threshold_s or 0.0

    @property
    def threshold_text(self) -> str:
        """`30s`, `0.5 USD`; empty where the status decides."""
        unit = " USD" if self.indicator == "cost" else ""
        return self._amount(self.bound) + unit if self.kind.bounds else ""

    @property
    def calendar(self) -> bool:
        """Whether the window is the calendar month: it begins anew with the first, UTC."""
        return isinstance(self.window_s, _CalendarMonth)

    @property
    def window_text(self) -> str:
        """`30d`; `calendar month`."""
        return _window_text(self.window_s).replace("_", " ")

    @property
    def window_suffix(self) -> str:
        """Of recorded series that hold the events of the window: `30d`; `_this_month`."""
        return "_this_month" if self.calendar else _window_text(self.window_s)

    def period_at(self, now_ns: int) -> Stretch:
        """The window at a moment: what was until then, or the whole month that holds it."""
        if self.calendar:
            return slices.calendar("month", "UTC", now_ns)
        return Stretch(now_ns - round(self.window_s * slices.NS), now_ns)

    def plan_at(self, now_ns: int) -> Plan:
        """The burn-rate tiers at a moment: those of a calendar month depend on its length."""
        start_ns, end_ns = self.period_at(now_ns)
        return plan(self.error_budget, (end_ns - start_ns) // slices.NS)

    @property
    def error_budget(self) -> Fraction:
        """Share of events that may be bad: 1/100 for an objective of 99 %."""
        return 1 - Fraction(self.objective) / 100

    def status(self, good: int, bad: int) -> SloStatus:
        """State of the objective after so many good and bad events within its window."""
        return SloStatus(self.error_budget, good, bad)


@dataclass(frozen=True, slots=True)
class SloStatus:
    """State of one SLO. Without events there is no ratio, and nothing has been spent."""

    error_budget: Fraction
    good: int
    bad: int

    def __post_init__(self) -> None:
        if self.good < 0 or self.bad < 0:
            raise ValueError(f"counts of events cannot be negative: good={self.good}, bad={self.bad}")

    @property
    def achieved(self) -> Fraction | None:
        """Share of events that were good."""
        total = self.good + self.bad
        return Fraction(self.good, total) if total else None

    @property
    def burn_rate(self) -> Fraction | None:
        """Speed of spending: at 1, the budget lasts exactly the window."""
        achieved = self.achieved
        return None if achieved is None else (1 - achieved) / self.error_budget

    @property
    def budget_remaining(self) -> Fraction | None:
        """Share of the error budget left: 1 untouched, 0 spent, negative overspent."""
        burn_rate = self.burn_rate
        return None if burn_rate is None else 1 - burn_rate

    @property
    def met(self) -> bool:
        """Whether the objective holds; it does while nothing happened."""
        remaining = self.budget_remaining
        return remaining is None or remaining >= 0


def slo_status(slo: Slo, good: int, bad: int) -> SloStatus:
    """State of `slo` after so many good and bad events within its window."""
    return slo.status(good, bad)


def _unknown(of: Of, known: Sequence[Dimension], dimension: str) -> tuple[str, str]:
    return f"{of} are not counted by {dimension}", f"write only {', '.join(known)}"


def _nearest(value: float, bounds: Sequence[float], shown: Sequence[str]) -> Sequence[str]:
    above = bisect_left(bounds, value)
    return shown[max(above - 1, 0) : above + 1]
