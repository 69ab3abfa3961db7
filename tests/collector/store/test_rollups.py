"""A writer remembers its rows exactly as long as it is sure of them."""

from __future__ import annotations

import pytest

from graphmeter_collector.store import histogram, rollups
from graphmeter_collector.store.facts import ROLLUP_SUMS, Rollup, RollupKey
from graphmeter_collector.store.rollups import Remembered

KEY: RollupKey = (1, "shop", "test", "support", "cx", "answer", "node", "", "")
ADDED = {KEY: Rollup([1] * len(ROLLUP_SUMS), histogram.of([1_000]))}
SIZE = len(KEY) + 1


def count(remembered: Remembered) -> int:
    """What the next transaction would write as the row's first sum."""
    [row] = remembered.rows("rollup_hour", ADDED, 0)
    assert sum(histogram.unpack(row[-1]).values()) == row[SIZE]
    return int(row[SIZE])


def test_what_is_committed_is_added_to_without_reading_it() -> None:
    remembered = Remembered()
    assert [KEY] == remembered.unknown("rollup_hour", ADDED)
    for expected in (1, 2, 3):
        with remembered.committed():
            assert expected == count(remembered)
    assert [] == remembered.unknown("rollup_hour", ADDED)
    assert [KEY] == remembered.unknown("rollup_day", ADDED)


def test_what_was_read_is_added_to() -> None:
    remembered = Remembered()
    remembered.learn("rollup_hour", KEY, (*[6] * len(ROLLUP_SUMS), histogram.pack(histogram.of([1_000] * 6))))
    assert 7 == count(remembered)


def test_what_is_rolled_back_was_never_written() -> None:
    remembered = Remembered()
    with remembered.committed():
        count(remembered)
        remembered.undo()
        assert 1 == count(remembered)
    assert 2 == count(remembered)


def test_after_a_failure_nothing_is_sure() -> None:
    remembered = Remembered()
    with remembered.committed():
        count(remembered)
    with pytest.raises(ZeroDivisionError), remembered.committed():
        assert count(remembered) / 0
    assert [KEY] == remembered.unknown("rollup_hour", ADDED)


def test_keys_that_never_repeat_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "MOST_REMEMBERED", 3)
    remembered = Remembered()
    keys: list[RollupKey] = [(hour, *KEY[1:]) for hour in range(5)]
    for key in keys:
        with remembered.committed():
            remembered.rows("rollup_hour", {key: ADDED[KEY]}, 0)
    assert keys[:3] == remembered.unknown("rollup_hour", dict.fromkeys(keys, ADDED[KEY]))
