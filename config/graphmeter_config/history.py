"""What happened, slice by slice of time, kept small: amounts in as they were stored, sums over sliding windows out.

Slices are whole numbers since the epoch, of a minute or of five; only those in which something happened take room, sixteen
bytes each. Windows are laid out densely for one thing at a time, and forgotten.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from operator import sub
from typing import NamedTuple, Self


class Slices:
    """One amount of one thing over time."""

    __slots__ = ("_amounts", "_at")

    def __init__(self) -> None:
        self._at = array("q")
        self._amounts = array("q")

    @classmethod
    def of(cls, amounts: Mapping[int, int]) -> Self:
        """Slice → amount."""
        found = cls()
        for at in sorted(amounts):
            found.add(at, amounts[at])
        return found

    def add(self, at: int, amount: int) -> None:
        """Count something in a slice, which is none before those that are known."""
        if self._at and self._at[-1] == at:
            self._amounts[-1] += amount
        else:
            assert not self._at or self._at[-1] < at, "slices come in order"
            self._at.append(at)
            self._amounts.append(amount)

    @property
    def first(self) -> int | None:
        """The first slice in which anything happened; None: nothing ever did."""
        return self._at[0] if self._at else None

    def windows(self, length: int, first: int, until: int) -> list[int]:
        """Sums over the last `length` slices before each of the slices [first, until)."""
        sums = self._sums(first - length, until - 1)
        return list(map(sub, sums[length:], sums))

    def before(self, first: int, until: int) -> list[int]:
        """Sums of all that happened before each of the slices [first, until)."""
        past = sum(self._amounts[: bisect_left(self._at, first)])
        return [past + each for each in self._sums(first, until - 1)]

    def _sums(self, first: int, until: int) -> list[int]:
        """Sums from `first` on until before each of the slices [first, until]."""
        dense = [0] * max(until - first, 0)
        for index in range(bisect_left(self._at, first), bisect_left(self._at, until)):
            dense[self._at[index] - first] = self._amounts[index]
        return [0, *accumulate(dense)]


class History(NamedTuple):
    """All that is known of one thing that is judged by itself."""

    whole: Slices
    """What there was of it at all."""
    parts: tuple[Slices, ...]
    """Those of it that a measure asks for, in its order."""

    @classmethod
    def empty(cls, parts: int) -> Self:
        """Nothing yet, of so many parts."""
        return cls(Slices(), tuple(Slices() for _ in range(parts)))

    def column(self, number: int) -> Slices:
        """0 is the whole, then come its parts."""
        return self.parts[number - 1] if number else self.whole
