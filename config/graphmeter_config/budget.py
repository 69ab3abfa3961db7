"""Budgets: which spend counts, in which calendar period or rolling window, against which limit, and what is told of it.

Comparisons are made in integers (nano-USD or tokens) and exact shares; spend itself comes from the ledger, never from here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails

from graphmeter import names
from graphmeter_config import slices
from graphmeter_config.periods import Period
from graphmeter_config.section import Section
from graphmeter_config.slices import HOUR_NS, NS, Stretch
from graphmeter_config.spend import UNBOUNDED, Per, SpendSelector, fault
from graphmeter_config.values import (
    SECONDS_PER_DAY,
    Name,
    Seconds,
    Share,
    Usd,
    decimal_text,
    duration_text,
    percent_text,
    wrong,
)
from graphmeter_config.zones import Timezone

Unit = Literal["usd", "tokens"]

_LONGEST_ROLLING_S: Final = 92 * 86_400
_MOST_TOKENS: Final = 10**15
_MOST_OPENING: Final = 100
"""Times the limit: more than that was spent before is a slip of the pen."""
_COUNTING_VERSION: Final = 1
"""Of what spend is counted by; a new one counts everything anew."""


def _thresholds(value: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    if not value:
        raise wrong("a budget that warns at nothing", "write thresholds: [80%, 100%]")
    for share in value:
        if not 0 < share <= 10:
            raise wrong(f"{percent_text(share * 100)} is not above 0% and at most 1000%", "write 80% or 100%")
    if len(set(value)) != len(value):
        raise wrong("the same threshold twice", "write each threshold once")
    return tuple(sorted(value))


def _whole_hours(value: float) -> float:
    if value % 3600 or value > _LONGEST_ROLLING_S:
        raise wrong("not a whole number of hours of at most 92d", "write 24h, 7d or 30d")
    return value


def _tokens(value: Any) -> int:
    remedy = "write a whole number of tokens: 5000000 or 5_000_000"
    if isinstance(value, str) and re.fullmatch(r"\s*\d[\d_]*\s*", value):
        value = int(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong("not a whole number", remedy)
    if value <= 0:
        raise wrong("not above zero", remedy)
    if value > _MOST_TOKENS:
        raise wrong("more than 10^15 tokens", remedy)
    return value


def _amount(value: Any) -> Decimal:
    remedy = "write an amount in the limit's unit: 99.50, or a whole number of tokens"
    try:
        amount = Decimal(str(value).strip().removeprefix("$"))
    except InvalidOperation:
        raise wrong("not a number", remedy) from None
    if isinstance(value, bool) or not amount.is_finite():
        raise wrong("not a number", remedy)
    if amount <= 0:
        raise wrong("not above zero", remedy)
    if amount * names.NANO_PER_USD % 1:
        raise wrong("finer than a nano-USD", "write at most nine decimals")
    return amount


def _opening_in(value: str) -> str:
    try:
        slices.date_of(value)
    except ValueError:
        raise wrong("not a period", "write 2026-11, 2026-W47 or a day of the period, 2026-11-21") from None
    return value


Tokens = Annotated[
    int,
    BeforeValidator(_tokens),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}], "examples": [5_000_000]}),
]
"""A number of tokens."""
_Amount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    PlainSerializer(decimal_text),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]
_Receivers = Annotated[tuple[Name, ...], PlainSerializer(list)]


class Budget(Section):
    """A limit on spend; a wildcard covers teams and graphs that nobody has met yet."""

    name: Name
    description: str = Field("", max_length=500)
    limit_usd: Usd | None = None
    limit_tokens: Tokens | None = None
    """Instead of `limit_usd`: tokens of every kind, those of cached answers excepted."""
    period: Period = "month"
    timezone: Timezone = "UTC"
    """Where the period begins at midnight; weeks begin on Monday."""
    rolling_s: Annotated[Seconds, AfterValidator(_whole_hours)] | None = Field(None, alias="rolling")
    """Instead of a calendar period: the last so many hours, and the part of an hour before them."""
    match: SpendSelector = SpendSelector()
    """Which spend counts against the budget."""
    per: Per = ()
    """Each combination of values of these attributions has the whole limit for itself; none: all spend shares it."""
    per_team: bool | None = Field(None, exclude=True)
    """`true` is `per: [team]`, which newer files write."""
    thresholds: Annotated[tuple[Share, ...], AfterValidator(_thresholds)] = (Decimal("0.8"), Decimal(1))
    """Shares of the limit that are told, ascending: 0.8 is 80 %."""
    hard: bool = False
    """Whether guards in applications stop what would exceed the limit, rather than only warn."""
    opening_spend: _Amount | None = None
    """What was spent before Graphmeter counted, in the limit's unit, in the period of `opening_in`."""
    opening_in: Annotated[str, AfterValidator(_opening_in)] | None = None
    """The one period that `opening_spend` belongs to: 2026-11, 2026-W47, 2026-11-21."""
    receivers: _Receivers = ()
    """Names from `receivers:` that are told of each threshold that is crossed."""
    owner: Name | None = None
    """One of `alerting.owners`, whom Alertmanager tells in place of the general receivers."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        given = dict(value)
        old = given.get("per_team")
        if not isinstance(old, bool):
            return given  # absent, or a fault that its field tells
        if old and given.get("per") not in (None, (), [], ["team"], ("team",)):
            raise fault(cls.__name__, ("per_team",), old, wrong("given beside per", "write per alone"))
        del given["per_team"]
        if old:
            given["per"] = ("team",)
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_limit()
        self._check_opening()
        if self.rolling_s is not None and {"period", "timezone"} & self.model_fields_set:
            raise self._fault("rolling", duration_text(self.rolling_s), "given beside a period", "write one of the two")
        if len(set(self.receivers)) != len(self.receivers):
            raise self._fault("receivers", list(self.receivers), "the same receiver twice", "write each once")
        return self

    def _check_limit(self) -> None:
        if self.limit_usd is None and self.limit_tokens is None:
            missing = InitErrorDetails(type="missing", loc=("limit_usd",), input={})
            raise ValidationError.from_exception_data("Budget", [missing])
        if self.limit_usd is not None and self.limit_tokens is not None:
            raise self._fault("limit_tokens", self.limit_tokens, "given beside limit_usd", "make a budget of each")

    def _check_opening(self) -> None:
        if (self.opening_spend is None) != (self.opening_in is None):
            field, other = (
                ("opening_spend", "opening_in") if self.opening_in is None else ("opening_in", "opening_spend")
            )
            raise self._fault(field, getattr(self, field), f"given without {other}", f"add `{other}:`")
        if self.opening_spend is None:
            return
        shown = decimal_text(self.opening_spend)
        if self.rolling_s is not None:
            raise self._fault("opening_spend", shown, "given for a rolling window", "leave it out: it has no periods")
        if self.per:
            raise self._fault(
                "opening_spend",
                shown,
                "nobody knows whose it was",
                "leave per out, or make a budget with a match for each",
            )
        if self._units(self.opening_spend) > _MOST_OPENING * self.limit:
            raise self._fault(
                "opening_spend", shown, f"more than {_MOST_OPENING} times the limit", "check both figures"
            )
        if self.unit == "tokens" and self.opening_spend % 1:
            raise self._fault("opening_spend", shown, "not a whole number of tokens", "write a whole number")

    def _fault(self, field: str, value: object, message: str, remedy: str) -> Exception:
        return fault("Budget", (field,), value, wrong(message, remedy))

    # --- limits -----------------------------------------------------------------------------------------------------

    @property
    def unit(self) -> Unit:
        """What the limit is counted in."""
        return "usd" if self.limit_usd is not None else "tokens"

    @property
    def limit(self) -> int:
        """The limit in nano-USD or in tokens, as `unit` says."""
        return self._units(self.limit_usd if self.limit_usd is not None else self.limit_tokens or 0)

    @property
    def limit_nano(self) -> int:
        """The limit in nano-USD; 0 for one in tokens."""
        return self.limit if self.unit == "usd" else 0

    def _units(self, amount: Decimal | int) -> int:
        return int(amount * names.NANO_PER_USD) if self.unit == "usd" else int(amount)

    def used(self, spent: int) -> float:
        """Spend as a share of the limit."""
        return spent / self.limit

    def crossed(self, spent: int) -> tuple[str, ...]:
        """The thresholds that the spend has reached, as the configuration writes them: `80%`."""
        return tuple(percent_text(share * 100) for share in self.thresholds if spent >= self._at(share))

    def newly_crossed(self, before: int, after: int) -> tuple[str, ...]:
        """The thresholds reached between two states of spend."""
        known = self.crossed(before)
        return tuple(threshold for threshold in self.crossed(after) if threshold not in known)

    def _at(self, share: Decimal) -> Decimal:
        amount = self.limit_usd if self.limit_usd is not None else Decimal(self.limit_tokens or 0)
        return share * amount * (names.NANO_PER_USD if self.unit == "usd" else 1)

    # --- periods ----------------------------------------------------------------------------------------------------

    @property
    def rolling_ns(self) -> int:
        """Length of the rolling window; 0: there are calendar periods."""
        return 0 if self.rolling_s is None else round(self.rolling_s) * NS

    @property
    def nominal_s(self) -> int:
        """Length of a period in seconds, of a usual one: months have 30 days."""
        if self.rolling_s is not None:
            return round(self.rolling_s)
        days: dict[str, int] = {"day": 1, "week": 7, "month": 30}
        return days[self.period] * SECONDS_PER_DAY

    def stretch_at(self, at_ns: int) -> Stretch:
        """The period that holds a moment; for a rolling budget the window that ends with its hour."""
        if self.rolling_s is not None:
            return slices.rolling(self.rolling_ns, at_ns)
        return slices.calendar(self.period, self.timezone, at_ns)

    def slice_at(self, at_ns: int) -> Stretch:
        """The part of a period whose spend is kept as one number."""
        if self.rolling_s is not None or self.period == "day":
            return self._hour_at(at_ns)
        return slices.calendar("day", self.timezone, at_ns)

    def _hour_at(self, at_ns: int) -> Stretch:
        if self.rolling_s is not None:
            return slices.hour(at_ns)
        # From the day's own start, which in some zones is not on the hour of UTC.
        start, end = self.stretch_at(at_ns)
        begin = start + (at_ns - start) // HOUR_NS * HOUR_NS
        return Stretch(begin, min(begin + HOUR_NS, end))

    def period_at(self, now: datetime) -> tuple[datetime, datetime]:
        """The period that holds `now`, as [start, end) in UTC.

        Midnights are those of the budget's time zone, so a day with a clock change has 23 or 25 hours; where the clock
        jumps over midnight, the day begins with the jump.

        Raises:
            ValueError: `now` does not say its offset from UTC.
        """
        if now.utcoffset() is None:
            raise ValueError(f"{now!r} has no time zone: pass an aware datetime")
        start, end = self.stretch_at(int(now.timestamp()) * NS)
        return datetime.fromtimestamp(start // NS, UTC), datetime.fromtimestamp(end // NS, UTC)

    def period_name(self, start_ns: int) -> str:
        """Of the period that begins then: `2026-11`, `2026-W47`, `2026-11-21`; of a window the moment it begins."""
        if self.rolling_s is not None:
            return f"{datetime.fromtimestamp(start_ns // NS, UTC):%Y-%m-%dT%H:%MZ}"
        return slices.name_of(self.period, self.timezone, start_ns)

    @property
    def period_text(self) -> str:
        """`month`, `week`, `day`, or a window's length."""
        return self.period if self.rolling_s is None else duration_text(self.rolling_s)

    def opening(self, start_ns: int) -> int:
        """What was spent, in the limit's units, before Graphmeter counted in the period that begins then."""
        if self.opening_spend is None or self.opening_in is None:
            return 0
        held = slices.starting(self.period, self.timezone, slices.date_of(self.opening_in))
        return self._units(self.opening_spend) if held.start_ns == start_ns else 0

    # --- spend ------------------------------------------------------------------------------------------------------

    def matches(self, attributions: Mapping[str, str]) -> bool:
        """Whether spend with these attributions counts against the budget."""
        return self.match.matches(attributions)

    def scope_of(self, attributions: Mapping[str, str]) -> tuple[str, ...]:
        """Whose limit it counts against: the values of `per`."""
        return tuple(attributions.get(name, "") for name in self.per)

    @property
    def per_labels(self) -> tuple[str, ...]:
        """Those of `per` that metrics may show."""
        return tuple(name for name in self.per if name not in UNBOUNDED)

    def counting(self) -> dict[str, Any]:
        """What decides which spend counts, for whom and in which slices, canonical: equal ones share their spend."""
        when: dict[str, Any] = {"period": self.period, "timezone": self.timezone}
        if self.rolling_s is not None:
            when = {"rolling": duration_text(self.rolling_s)}
        return {
            "version": _COUNTING_VERSION,
            "match": self.match.model_dump(mode="json"),
            "per": list(self.per),
            **when,
        }

    @property
    def key(self) -> str:
        """16 hex digits that stand for `counting()`."""
        text = json.dumps(self.counting(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def definition(self) -> dict[str, Any]:
        """As a file would write it, without what has its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
