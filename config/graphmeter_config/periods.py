"""Calendar days, weeks and months of a named time zone: what budgets, reports and questions on spend mean by them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfoNotFoundError

from graphmeter_config.zones import zone

Period = Literal["month", "week", "day"]
PERIODS: Final[tuple[Period, ...]] = get_args(Period)
EXAMPLES: Final[dict[Period, str]] = {"month": "2026-11", "week": "2026-W47", "day": "2026-11-20"}
ZONE_REMEDY: Final = "write a name such as UTC or Europe/Berlin; systems without a list need `tzdata`"
_SHAPES: Final[dict[Period, str]] = {"month": r"\d{4}-\d\d", "week": r"\d{4}-W\d\d", "day": r"\d{4}-\d\d-\d\d"}
_NS: Final = 1_000_000_000


class NoPeriod(ValueError):
    """Text that names no period; the message says what to write."""


class NoZone(ValueError):
    """Text that names no time zone; the message says what to write."""


def known_zone(name: str) -> str:
    """The name of a time zone, if there is one.

    Raises:
        NoZone: there is none.
    """
    try:
        zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NoZone(f"{name[:80]!r} is an unknown time zone: {ZONE_REMEDY}") from None
    return name


class Stretch(NamedTuple):
    """One calendar period."""

    period: Period
    first: date
    """Its first day."""
    timezone: str

    @property
    def after(self) -> date:
        """The first day that is no longer part of it."""
        return dates(self.period, self.first)[1]

    @property
    def label(self) -> str:
        """`2026-11`, `2026-W47`, `2026-11-20`."""
        match self.period:
            case "month":
                return f"{self.first:%Y-%m}"
            case "week":
                year, week, _ = self.first.isocalendar()
                return f"{year:04}-W{week:02}"
            case "day":
                return self.first.isoformat()

    @property
    def since_ns(self) -> int:
        """When it begins."""
        return _ns(midnight(self.first, zone(self.timezone)))

    @property
    def until_ns(self) -> int:
        """When it is over: the first moment after it."""
        return _ns(midnight(self.after, zone(self.timezone)))

    def before(self) -> Stretch:
        """The period before this one."""
        return self._replace(first=dates(self.period, self.first - timedelta(days=1))[0])

    def following(self) -> Stretch:
        """The next one."""
        return self._replace(first=self.after)


def at(period: Period, now: datetime, timezone: str = "UTC") -> Stretch:
    """The period that holds a moment."""
    return Stretch(period, dates(period, now.astimezone(zone(timezone)).date())[0], timezone)


def between(period: Period, since_ns: int, until_ns: int, timezone: str = "UTC") -> Iterator[Stretch]:
    """Every period that has a part in [since, until)."""
    found = at(period, datetime.fromtimestamp(since_ns // _NS, UTC), known_zone(timezone))
    while found.since_ns < until_ns:
        yield found
        found = found.following()


def parse(period: Period, text: str, timezone: str = "UTC", now: datetime | None = None) -> Stretch:
    """`2026-11`, `2026-W47`, `2026-11-20`, or `this` and `last` (of `now`).

    Raises:
        NoPeriod: the text is none, or one that has not begun.
        NoZone: there is no such time zone.
    """
    current = at(period, now or datetime.now(UTC), known_zone(timezone))
    if text in ("this", "last"):
        return current if text == "this" else current.before()
    first = _first_day(period, text)
    if first is None or not 1970 < first.year < 2262:
        raise NoPeriod(f"{text[:80]!r} is not a {period}: write {EXAMPLES[period]}, `this` or `last`")
    if first > current.first:
        raise NoPeriod(f"the {period} {text} has not begun in {timezone}: write {current.label} or an earlier one")
    return Stretch(period, first, timezone)


def _first_day(period: Period, text: str) -> date | None:
    if not re.fullmatch(_SHAPES[period], text, re.ASCII):
        return None
    try:
        match period:
            case "month":
                return date.fromisoformat(f"{text}-01")
            case "week":
                return date.fromisocalendar(int(text[:4]), int(text[6:]), 1)
            case "day":
                return date.fromisoformat(text)
    except ValueError:
        return None


def dates(period: Period, today: date) -> tuple[date, date]:
    """First day of the period that holds a day, and the first day after it; weeks begin on Monday."""
    match period:
        case "day":
            return today, today + timedelta(days=1)
        case "week":
            monday = today - timedelta(days=today.weekday())
            return monday, monday + timedelta(weeks=1)
        case "month":
            first = today.replace(day=1)
            return first, (first + timedelta(days=31)).replace(day=1)


def midnight(day: date, where: tzinfo) -> datetime:
    """When a day begins, in UTC; where the clock jumps over midnight, with the jump."""
    # fold=0: of two midnights the first; a midnight that is jumped over becomes the instant of the jump.
    return datetime(day.year, day.month, day.day, tzinfo=where).astimezone(UTC)


def _ns(moment: datetime) -> int:
    return round(moment.timestamp()) * _NS
