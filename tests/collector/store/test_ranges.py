"""What answers a range covers it to the hour, once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from graphmeter_collector.store.facts import DAY_NS, HOUR_NS
from graphmeter_collector.store.ranges import Part, cover, parts
from graphmeter_collector.store.tables import rollup_day, rollup_hour

NOW_NS = 20_000 * DAY_NS + 13 * HOUR_NS + 25 * 60_000_000_000


def hours(found: list[Part]) -> Counter[int]:
    """How often each hour is read."""
    counted: Counter[int] = Counter()
    for part in found:
        each = 1 if part.table is rollup_hour else 24
        counted.update(range(part.first * each, part.end * each))
    return counted


@given(st.integers(0, NOW_NS + 3 * DAY_NS), st.integers(1, 400 * DAY_NS))
def test_every_hour_of_a_range_is_read_once(since_ns: int, length_ns: int) -> None:
    until_ns = since_ns + length_ns
    read = hours(parts(since_ns, until_ns, NOW_NS))

    wanted = set(range(since_ns // HOUR_NS, -(-until_ns // HOUR_NS)))
    assert set(read.values()) <= {1}
    assert wanted <= set(read)
    # Beyond it at most what is left of today, in which nothing has happened.
    assert {hour * HOUR_NS // DAY_NS for hour in set(read) - wanted} <= {NOW_NS // DAY_NS}
    assert until_ns >= NOW_NS or wanted == set(read)


def test_whole_days_are_read_as_days_and_the_ends_of_a_range_by_the_hour() -> None:
    now = NOW_NS // HOUR_NS
    today = NOW_NS // DAY_NS
    for days in (7, 30):
        assert [
            Part(rollup_hour, now - 24 * days, (today - days + 1) * 24),
            Part(rollup_day, today - days + 1, today + 1),
        ] == parts(NOW_NS - days * DAY_NS, NOW_NS, NOW_NS)
    assert [Part(rollup_hour, now - 8, now - 5)] == parts(NOW_NS - 8 * HOUR_NS, NOW_NS - 6 * HOUR_NS, NOW_NS)


@given(st.integers(0, NOW_NS), st.integers(0, 400 * DAY_NS), st.integers(0, NOW_NS // HOUR_NS + 48))
def test_a_cover_is_the_range_to_the_nanosecond(since_ns: int, length_ns: int, first_hour: int) -> None:
    until_ns = since_ns + length_ns
    found = cover(since_ns, until_ns, first_hour)
    start, end = found.whole

    assert set(range(start // HOUR_NS, end // HOUR_NS)) == set(hours(found.parts))
    assert {1} >= set(hours(found.parts).values())
    assert start == end or start >= first_hour * HOUR_NS
    assert length_ns == end - start + sum(stop - begin for begin, stop in found.rests)
    pieces = sorted([*found.rests, *([found.whole] if start < end else [])])
    assert [since_ns, *(stop for _, stop in pieces)] == [*(begin for begin, _ in pieces), until_ns]
