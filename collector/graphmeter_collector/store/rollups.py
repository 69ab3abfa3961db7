"""What a transaction adds to rollups in, the rows to write out, without reading rows that this writer wrote last.

A row of a rollup belongs to one writer (a leased slot on Postgres, the only process on SQLite), so what it left there is
what is there: its last rows are remembered, and only others are read. What a transaction wrote counts once it is committed;
whoever cannot be sure of that, or of the slot, forgets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from graphmeter_collector.store import histogram
from graphmeter_collector.store.facts import Rollup, RollupKey, Row

MOST_REMEMBERED: Final = 4_096
"""Rows, of some kilobyte each; when there are more, all are forgotten."""

_Kept = tuple[Sequence[int], bytes]
"""Sums in the order of `ROLLUP_SUMS`, and the packed latency."""


class Remembered:
    """Rows of rollups as this writer left them, by table and key."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, RollupKey], _Kept] = {}
        self._written: dict[tuple[str, RollupKey], _Kept] = {}

    def unknown(self, table: str, rollups: Mapping[RollupKey, Rollup]) -> list[RollupKey]:
        """Those of the keys whose rows have to be read, if they are there."""
        return [key for key in rollups if (table, key) not in self._kept]

    def learn(self, table: str, key: RollupKey, row: Sequence[int | bytes]) -> None:
        """Take what was read: the columns of `ROLLUP_SUMS`, then the latency."""
        *sums, latency = row
        self._kept[table, key] = (sums, latency)  # type: ignore[assignment]  # columns of a row have no common type

    def rows(self, table: str, rollups: Mapping[RollupKey, Rollup], writer: int) -> list[Row]:
        """The rows to write in place of those known, which are there once they are `committed`."""
        rows: list[Row] = []
        for key, added in rollups.items():
            sums: Sequence[int] = added.sums
            latency = added.latency
            before = self._kept.get((table, key))
            if before is not None:
                sums = [old + new for old, new in zip(before[0], sums, strict=True)]
                latency = histogram.unpack(before[1])
                histogram.merge(latency, added.latency)
            packed = histogram.pack(latency)
            self._written[table, key] = (sums, packed)
            rows.append((*key, writer, *sums, packed))
        return rows

    @contextmanager
    def committed(self) -> Iterator[None]:
        """What is written within the block is committed at its end. If it raises, nobody knows, and all is forgotten."""
        try:
            yield
        except BaseException:
            self._kept.clear()
            self._written.clear()
            raise
        if len(self._kept) + len(self._written) > MOST_REMEMBERED:
            self._kept.clear()
        self._kept.update(self._written)
        self._written.clear()

    def undo(self) -> None:
        """What was written in the block so far has been rolled back, for sure."""
        self._written.clear()
