"""A time range in, what answers it out: spans up to a day, rollups beyond, of days wherever a whole day lies within.

Rollups of days are sums of those of hours, to the last bucket, so that only the ends of a range need hours. A day reads a
tenth of what its hours would. Days are days of UTC.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Table

from graphmeter_collector.store.facts import DAY_NS, HOUR_NS
from graphmeter_collector.store.tables import rollup_day, rollup_hour

EXACT_RANGE_NS: Final = DAY_NS + 60_000_000_000
"""Longest range whose percentiles come from spans: a day, and what may pass until "24 h ago" becomes a question."""
_HOURS: Final = DAY_NS // HOUR_NS


class Part(NamedTuple):
    """Consecutive periods of one rollup table."""

    table: Table
    first: int
    """Hours or days since the epoch, as the table's first column."""
    end: int
    """The one after the last."""


class Cover(NamedTuple):
    """A range to the nanosecond: whole hours from rollups, the rest row by row."""

    parts: list[Part]
    whole: tuple[int, int]
    """What `parts` cover, [since, until) in ns; equal where they cover nothing."""
    rests: list[tuple[int, int]]
    """What they do not cover, [since, until) in ns."""


def parts(since_ns: int, until_ns: int, now_ns: int) -> list[Part]:
    """What covers [since, until) to the hour, without a gap and without an overlap; whole hours at both ends."""
    first, end = since_ns // HOUR_NS, -(-until_ns // HOUR_NS)
    today = now_ns // DAY_NS
    if until_ns >= now_ns and first <= today * _HOURS:  # nothing has happened in what is left of today
        end = max(end, (today + 1) * _HOURS)
    return _parts(first, end)


def cover(since_ns: int, until_ns: int, first_hour: int) -> Cover:
    """What covers [since, until) exactly, where rollups know all hours from `first_hour` on."""
    first, end = max(-(-since_ns // HOUR_NS), first_hour), until_ns // HOUR_NS
    if first >= end:
        return Cover([], (since_ns, since_ns), [(since_ns, until_ns)])
    whole = (first * HOUR_NS, end * HOUR_NS)
    ends = [(since_ns, whole[0]), (whole[1], until_ns)]
    return Cover(_parts(first, end), whole, [(start, stop) for start, stop in ends if start < stop])


def _parts(first: int, end: int) -> list[Part]:
    """Hours from `first` on and before `end`, as days where that can be."""
    first_day, end_day = -(-first // _HOURS), end // _HOURS
    if first_day >= end_day:
        return [Part(rollup_hour, first, end)]
    found = [
        Part(rollup_hour, first, first_day * _HOURS),
        Part(rollup_day, first_day, end_day),
        Part(rollup_hour, end_day * _HOURS, end),
    ]
    return [part for part in found if part.first < part.end]
