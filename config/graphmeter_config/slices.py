"""Calendar periods and rolling windows: a moment in, the stretch of time that a budget judges out, and its slices.

Spend is kept per slice of a period (a day of a month or week, an hour of a day or window): so the spend of a period is a
short sum, and how fast it grew of late is known. All moments here are ns since the epoch, all stretches [start, end).
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from graphmeter_config.periods import Period, dates, midnight
from graphmeter_config.zones import zone

NS: Final = 1_000_000_000
HOUR_NS: Final = 3600 * NS
_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")
_WEEK: Final = re.compile(r"(\d{4})-W(\d{2})")


class Stretch(NamedTuple):
    """[start, end) in ns since the epoch."""

    start_ns: int
    end_ns: int

    def holds(self, at_ns: int) -> bool:
        return self.start_ns <= at_ns < self.end_ns


@lru_cache(maxsize=4096)
def calendar(period: Period, timezone: str, at_ns: int) -> Stretch:
    """The calendar period that holds a moment.

    Midnights are those of the zone, so a day with a clock change has 23 or 25 hours; where the clock jumps over midnight,
    the day begins with the jump. Weeks begin on Monday.
    """
    where = zone(timezone)
    seconds = at_ns // NS
    today = datetime.fromtimestamp(seconds, where).date()
    found = _stretch(period, timezone, today)
    # Where midnight comes twice, the second one's hour has the date of the day before already.
    return found if found.holds(at_ns) else _stretch(period, timezone, _around(found, at_ns, today))


def rolling(window_ns: int, now_ns: int) -> Stretch:
    """The window that ends with the current hour: at least `window_ns` before now, begun with a whole hour."""
    return Stretch((now_ns - window_ns) // HOUR_NS * HOUR_NS, (now_ns // HOUR_NS + 1) * HOUR_NS)


def hour(at_ns: int) -> Stretch:
    """The hour since the epoch that holds a moment."""
    start = at_ns // HOUR_NS * HOUR_NS
    return Stretch(start, start + HOUR_NS)


def date_of(written: str) -> date:
    """`2026-11`, `2026-W47` or `2026-11-21` → its first day.

    Raises:
        ValueError: it is none of these.
    """
    if found := _MONTH.fullmatch(written):
        return date(int(found[1]), int(found[2]), 1)
    if found := _WEEK.fullmatch(written):
        return date.fromisocalendar(int(found[1]), int(found[2]), 1)
    return date.fromisoformat(written)


def name_of(period: Period, timezone: str, start_ns: int) -> str:
    """A calendar period's name, by its start: `2026-11`, `2026-W47`, `2026-11-21`."""
    day = datetime.fromtimestamp(start_ns // NS, zone(timezone)).date()
    match period:
        case "month":
            return f"{day:%Y-%m}"
        case "week":
            year, week, _ = day.isocalendar()
            return f"{year:04}-W{week:02}"
        case "day":
            return day.isoformat()


@lru_cache(maxsize=4096)
def _stretch(period: Period, timezone: str, today: date) -> Stretch:
    first, after = dates(period, today)
    where = zone(timezone)
    return Stretch(_ns(midnight(first, where)), _ns(midnight(after, where)))


def starting(period: Period, timezone: str, day: date) -> Stretch:
    """The calendar period that holds a date."""
    return _stretch(period, timezone, day)


def _around(found: Stretch, at_ns: int, today: date) -> date:
    return today + timedelta(days=1 if at_ns >= found.end_ns else -1)


def _ns(moment: datetime) -> int:
    return round(moment.timestamp()) * NS
