"""Parts of traces: what waits in `outbox` is packed into rows of many spans, and comes out again span by span.

A row for every span would cost more than the span itself: a key of five columns written, locked and deleted for each
destination. Spans of a trace that are committed together leave together, so they share a row: the key of the first, the
ids of the others behind it. A part is small, for it is sent or tried again as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

MOST_SPANS: Final = 64
MOST_BYTES: Final = 256 * 1024
"""Of the bodies of a part, but for a single larger one."""
SPAN_ID_BYTES: Final = 8
COUNT: Final = f"1 + coalesce(length(more), 0) / {SPAN_ID_BYTES}"
"""How many spans a row stands for, on both databases."""

Key = tuple[bytes, bytes, int]
"""Trace id, span id and day."""
Row = tuple[Any, ...]


class Part(NamedTuple):
    """A row of `outbox` without its destination."""

    trace_id: bytes
    span_id: bytes
    day: int
    more: bytes | None
    size: int

    @property
    def span_ids(self) -> list[bytes]:
        """Ids of its spans."""
        more = self.more or b""
        return [self.span_id, *(more[at : at + SPAN_ID_BYTES] for at in range(0, len(more), SPAN_ID_BYTES))]

    @property
    def spans(self) -> int:
        """How many spans it has."""
        return 1 + len(self.more or b"") // SPAN_ID_BYTES

    @property
    def key(self) -> Key:
        return self.trace_id, self.span_id, self.day

    def without(self, gone: Collection[Key]) -> Part | None:
        """What is left of it; None: nothing."""
        ids = [each for each in self.span_ids if (self.trace_id, each, self.day) not in gone]
        return self._replace(span_id=ids[0], more=b"".join(ids[1:])) if ids else None


def rows(spans: Iterable[tuple[bytes, int, bytes, int]], queued_ns: int) -> list[Row]:
    """Rows of `outbox` but for the destination; spans are trace id, day, span id and the size of their body."""
    traces: dict[tuple[bytes, int], list[tuple[bytes, int]]] = {}
    for trace_id, day, span_id, size in spans:
        try:
            traces[trace_id, day].append((span_id, size))
        except KeyError:
            traces[trace_id, day] = [(span_id, size)]
    return [
        (
            trace_id,
            part[0][0],
            day,
            queued_ns,
            b"".join([each[0] for each in part[1:]]),
            sum([each[1] for each in part]),
        )
        for (trace_id, day), whole in traces.items()
        for part in _split(whole)
    ]


def spans_of(row: Row) -> int:
    """How many spans one of `rows` stands for."""
    return 1 + len(row[4]) // SPAN_ID_BYTES


def _split(spans: list[tuple[bytes, int]]) -> list[list[tuple[bytes, int]]]:
    found: list[list[tuple[bytes, int]]] = []
    size = 0
    for span in spans:
        size += span[1]
        if not found or size > MOST_BYTES or len(found[-1]) >= MOST_SPANS:
            found.append([])
            size = span[1]
        found[-1].append(span)
    return found


def fitting(found: Sequence[Part], spans: int, size: int) -> list[Part]:
    """The first parts that fit together into so many spans and bytes; at least one, however large."""
    taken: list[Part] = []
    for part in found:
        spans -= part.spans
        size -= part.size
        if taken and (spans < 0 or size < 0):
            break
        taken.append(part)
    return taken
