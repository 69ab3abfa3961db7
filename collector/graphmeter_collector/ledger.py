"""Calls as the ledger keeps them: which are asked for, and what it says of each to those who price it once more.

The nouns between `store`, which reads and writes them, and `repricing`, which compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from graphmeter_collector.records import Cost, SpanRecord
from graphmeter_collector.reports import EFFECTIVE, EVERYTHING, View, Where


class CallKey(NamedTuple):
    """A call's place in the order in which calls are read."""

    start_ns: int
    trace_id: bytes
    span_id: bytes


class Which(NamedTuple):
    """Calls that are asked for, answers from caches included; `by` says their groups."""

    since_ns: int
    until_ns: int
    where: Where = EVERYTHING
    by: tuple[str, ...] = ()
    timezone: str = "UTC"
    view: View = EFFECTIVE
    models: tuple[str, ...] = ()
    """Patterns, of which the model that answered or the one that was asked for matches one; none: all."""


class StoredCall(NamedTuple):
    """A call on the ledger."""

    record: SpanRecord
    """All that decides its price, and whose it is; `cost` is what it counts with."""
    group: tuple[str, ...]
    version: int
    """Whose cost that is: 0 for as billed, else the repricing's."""

    @property
    def key(self) -> CallKey:
        return CallKey(self.record.start_ns, self.record.trace_id, self.record.span_id)


class Repriced(NamedTuple):
    """A call that costs something else now."""

    call: StoredCall
    cost: Cost


@dataclass(slots=True)
class Run:
    """One repricing, as it is written down with its first call."""

    prices: str
    """By which it was done: sources with their versions."""
    reason: str
    at_ns: int
    since_ns: int
    until_ns: int
    version: int = 0
    """0: nothing was written yet."""


class Versions(Protocol):
    """What is needed of the store to price calls again."""

    async def calls(self, which: Which, after: CallKey | None = None) -> list[StoredCall]:
        """The next calls in order; none: that was all."""
        ...

    def exclusively(self) -> Any:
        """An asynchronous context: nobody else prices calls of this database again meanwhile.

        Raises:
            Busy: somebody does.
        """
        ...

    async def write(self, run: Run, changed: list[Repriced]) -> None:
        """Put versions into force, and into the spend of budgets, in one transaction."""
        ...
