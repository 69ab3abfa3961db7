"""A time range in, what answers it out: spans up to a day, hourly rollups up to a week, daily ones beyond.

Each step reads a tenth or less of what the one before would. Days are whole days of UTC, so a longer range begins, and if it
does not reach into the present ends, with the hours of a day that it has only a part of.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Table

from graphmeter_collector.store.facts import DAY_NS, HOUR_NS
from graphmeter_collector.store.tables import rollup_day, rollup_hour

_ASKING_NS: Final = 60_000_000_000
"""What may pass until "24 h ago" becomes a question."""
EXACT_RANGE_NS: Final = DAY_NS + _ASKING_NS
"""Longest range answered from spans."""
HOURLY_RANGE_NS: Final = 7 * DAY_NS + _ASKING_NS
"""Longest range answered from hourly rollups alone."""
_HOURS: Final = DAY_NS // HOUR_NS


class Part(NamedTuple):
    """Consecutive periods of one rollup table."""

    table: Table
    first: int
    """Hours or days since the epoch, as the table's first column."""
    end: int
    """The one after the last."""


def parts(since_ns: int, until_ns: int, now_ns: int) -> list[Part]:
    """What covers [since, until) to the hour, without a gap and without an overlap; whole hours at both ends."""
    first, end = since_ns // HOUR_NS, -(-until_ns // HOUR_NS)
    if until_ns - since_ns <= HOURLY_RANGE_NS:
        return [Part(rollup_hour, first, end)]
    first_day, end_day = -(-first // _HOURS), end // _HOURS
    if until_ns >= now_ns:  # nothing has happened in what is left of today
        end_day = max(end_day, now_ns // DAY_NS + 1)
    found = [
        Part(rollup_hour, first, first_day * _HOURS),
        Part(rollup_day, first_day, end_day),
        Part(rollup_hour, end_day * _HOURS, end),
    ]
    return [part for part in found if part.first < part.end]
