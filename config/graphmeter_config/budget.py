"""Money budgets: which spend counts, in which calendar period of which time zone, and which thresholds it has reached.

Comparisons are made in integer nano-USD and exact shares; spend itself comes from the ledger, never from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

from graphmeter import names
from graphmeter_config.periods import Period, dates, midnight
from graphmeter_config.section import Section, Selector
from graphmeter_config.values import Name, Share, Usd, percent_text, wrong
from graphmeter_config.zones import Timezone, zone


def _thresholds(value: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    if not value:
        raise wrong("a budget that warns at nothing", "write thresholds: [80%, 100%]")
    for share in value:
        if not 0 < share <= 10:
            raise wrong(f"{percent_text(share * 100)} is not above 0% and at most 1000%", "write 80% or 100%")
    if len(set(value)) != len(value):
        raise wrong("the same threshold twice", "write each threshold once")
    return tuple(sorted(value))


class Budget(Section):
    """A limit on the spend of a calendar period; a wildcard covers teams and graphs that nobody has met yet."""

    name: Name
    description: str = ""
    limit_usd: Usd
    period: Period = "month"
    timezone: Timezone = "UTC"
    """Where the period begins at midnight; weeks begin on Monday."""
    match: Selector = Selector()
    """Which spend counts against the budget."""
    per_team: bool = False
    """Each team has the whole limit for itself; otherwise all matching spend shares it."""
    thresholds: Annotated[tuple[Share, ...], AfterValidator(_thresholds)] = (Decimal("0.8"), Decimal(1))
    """Shares of the limit that are told, ascending: 0.8 is 80 %."""

    @property
    def limit_nano(self) -> int:
        """The limit in nano-USD."""
        return int(self.limit_usd * names.NANO_PER_USD)

    def period_at(self, now: datetime) -> tuple[datetime, datetime]:
        """The period that holds `now`, as [start, end) in UTC.

        Midnights are those of the budget's time zone, so a day with a clock change has 23 or 25 hours; where the clock
        jumps over midnight, the day begins with the jump.

        Raises:
            ValueError: `now` does not say its offset from UTC.
        """
        if now.utcoffset() is None:
            raise ValueError(f"{now!r} has no time zone: pass an aware datetime")
        midnights = zone(self.timezone)
        first, after = dates(self.period, now.astimezone(midnights).date())
        return midnight(first, midnights), midnight(after, midnights)

    def matches(self, dimensions: Mapping[str, str]) -> bool:
        """Whether spend with these dimensions counts against the budget."""
        return self.match.matches(dimensions)

    def used(self, spent_nano: int) -> float:
        """Spend as a share of the limit."""
        return spent_nano / self.limit_nano

    def crossed(self, spent_nano: int) -> tuple[str, ...]:
        """The thresholds that the spend has reached, as the configuration writes them: `80%`."""
        return tuple(percent_text(share * 100) for share in self.thresholds if spent_nano >= self._at_nano(share))

    def newly_crossed(self, before_nano: int, after_nano: int) -> tuple[str, ...]:
        """The thresholds reached between two states of spend."""
        known = self.crossed(before_nano)
        return tuple(threshold for threshold in self.crossed(after_nano) if threshold not in known)

    def _at_nano(self, share: Decimal) -> Decimal:
        return share * self.limit_usd * names.NANO_PER_USD
