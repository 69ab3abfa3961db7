"""Spans on their way out: parts of traces in `outbox`, bytes in `span_body`; batches that one sender at a time is given.

A batch is bounded by count and by bytes, so memory holds a few of them whatever waits. On Postgres a claim is a transaction
that holds the rows locked: other senders skip them, and a collector that dies lets go of them with its connection. An
embedded file has one collector, which remembers what it has given out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from graphmeter_collector.records import Envelope
from graphmeter_collector.reports import OutboxItem
from graphmeter_collector.store.parts import Key, Part

SURPLUS: Final = 2
"""Spans of a part lie side by side among those of its trace, mostly with nothing in between. So they are read from the
first to the last of them, but at most so many times as many: the rest is looked up one by one."""


class Claim(Protocol):
    """A batch that nobody else sends while the claim lasts."""

    @property
    def items(self) -> Sequence[OutboxItem]:
        """Oldest first."""
        ...

    @property
    def more(self) -> bool:
        """Whether others wait behind these."""
        ...

    @property
    def gone(self) -> int:
        """Spans whose bytes are not kept any more: they wait no longer."""
        ...

    async def delete(self, items: Sequence[OutboxItem]) -> None:
        """The destination is done with these; durable at the latest when the claim ends."""
        ...


def ranges(parts: Sequence[Part]) -> list[tuple[bytes, int, bytes, bytes, int]]:
    """Where most of the bodies are: trace id, day, first and last span id, and how many rows to read at most."""
    found = []
    for part in parts:
        ids = part.span_ids
        found.append((part.trace_id, part.day, min(ids), max(ids), SURPLUS * len(ids)))
    return found


def keys(parts: Sequence[Part]) -> list[Key]:
    """The spans of some parts, in order."""
    return [(part.trace_id, span_id, part.day) for part in parts for span_id in part.span_ids]


class Bodies:
    """The bytes of a claim's spans, found in two steps: side by side, then one by one."""

    def __init__(self, wanted: Sequence[Key]) -> None:
        self._wanted = wanted
        self._found: dict[Key, tuple[bytes, bytes]] = {}

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take rows of trace id, span id, day, envelope id and bytes; those that nobody wants are welcome."""
        self._found.update([((row[0], row[1], row[2]), (row[3], row[4])) for row in rows])

    @property
    def missing(self) -> list[Key]:
        found = self._found
        return [key for key in self._wanted if key not in found]

    @property
    def envelope_ids(self) -> set[bytes]:
        return {found[0] for key in self._wanted if (found := self._found.get(key))}

    def items(self, envelopes: Mapping[bytes, Envelope]) -> list[OutboxItem]:
        """Those that are all there, in order."""
        items = []
        for key in self._wanted:
            found = self._found.get(key)
            if found is not None and (envelope := envelopes.get(found[0])) is not None:
                items.append(OutboxItem(*key, found[1], envelope))
        return items


class Held:
    """The rows behind a claim: which of them go, and which shrink, when spans are done with."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)

    def without(self, done: Collection[Key]) -> tuple[list[Part], list[tuple[Part, Part]]]:
        """Take spans out; returns the rows to delete, and those to change with what is left of them."""
        deleted: list[Part] = []
        changed: list[tuple[Part, Part]] = []
        kept: list[Part] = []
        for part in self._parts:
            left = part.without(done)
            if left is None:
                deleted.append(part)
                continue
            if left is not part and left != part:
                changed.append((part, left))
            kept.append(left)
        self._parts = kept
        return deleted, changed


def key_of(item: OutboxItem) -> Key:
    """The key of its span."""
    return item.trace_id, item.span_id, item.day
