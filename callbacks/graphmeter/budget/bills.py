"""What a call that has ended costs: its facts in, nano-USD and tokens out, as soon as its price is known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from graphmeter import names
from graphmeter.budget.tokens import NONE, Buckets, buckets


class Book(Protocol):
    """Who knows prices."""

    def cost(self, bill: Bill) -> tuple[int, bool] | None:
        """Nano-USD of a call, and whether that is what it cost; None: its price is not known yet."""


class Bill:
    """One call that has ended."""

    __slots__ = ("_book", "_nano", "duration_ns", "facts", "failed", "known", "started_ns", "tokens", "usage")

    def __init__(
        self, facts: Mapping[str, Any], started_ns: int, duration_ns: int, *, failed: bool, book: Book | None
    ) -> None:
        self.facts = facts
        self.started_ns = started_ns
        self.duration_ns = duration_ns
        self.failed = failed
        cached = bool(facts.get(names.CACHE_HIT))
        self.usage: Buckets = NONE if cached else buckets(facts)
        self.tokens = sum(self.usage)
        self.known = True
        """Whether `nano()` is what the call cost; False: it told no usage, or nobody knows its price."""
        self._book = book
        self._nano: int | None = 0 if cached else None

    @property
    def usage_missing(self) -> bool:
        """It owes usage and told none."""
        if self.facts.get(names.USAGE_MISSING):
            return True
        told = names.USAGE_INPUT in self.facts or names.USAGE_OUTPUT in self.facts
        return not told and not self.failed

    def nano(self) -> int | None:
        """Cost in nano-USD, 0 if it cannot be known; None: not known yet."""
        if self._nano is None:
            found = (0, False) if self._book is None else self._book.cost(self)
            if found is not None:
                self._nano, self.known = found
        return self._nano


class Paid:
    """A bill of which all is known from the start, as of nearly every call."""

    __slots__ = ("_nano", "tokens")

    known = True

    def __init__(self, nano: int, tokens: int) -> None:
        self._nano = nano
        self.tokens = tokens

    def nano(self) -> int:
        """Cost in nano-USD."""
        return self._nano


AnyBill = Bill | Paid
