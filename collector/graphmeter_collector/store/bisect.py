"""One bad span must not cost its neighbours: a group the database refuses is halved until the culprit stands alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from graphmeter_collector.errors import Permanent
from graphmeter_collector.records import Rejection, Settling, WriteResult
from graphmeter_collector.store.batch import Batch, Given, delivered, together

SETTLED_AT_ONCE: Final = 1_024
"""Spans per transaction: some 50 ms, which is how long a write may have to wait for it."""


class Settle(Protocol):
    """Settles up to `limit` spans in one transaction; with `count=False` nothing else follows from it."""

    async def __call__(self, limit: int, *, count: bool) -> Settling: ...


class SpanRefused(Permanent):
    """The database refused a value: of this group, some span can never be stored."""

    reason = "refused_by_database"


_FEWER = 32


async def settle_what_can_be_settled(attempt: Settle) -> Settling:
    """Settle a batch, or else fewer spans, or else one that is not counted because the database refuses that."""
    limit = SETTLED_AT_ONCE
    while True:
        try:
            return await attempt(limit, count=True)
        except SpanRefused:
            if limit == 1:
                return await attempt(1, count=False)
            limit //= _FEWER


async def write_what_can_be_written(given: Given, attempt: Callable[[Batch], Awaitable[WriteResult]]) -> WriteResult:
    """Write all spans in one transaction, or else all but those that the database refuses, in several."""
    deliveries = delivered(given)
    try:
        return await attempt(together(deliveries))
    except SpanRefused as refusal:
        records = [record for delivery in deliveries for record in delivery.given]
        if len(records) == 1:
            [record] = records
            message = f"span {record.span_id.hex()} of trace {record.trace_id.hex()}: {refusal}"
            return WriteResult(
                new=[], duplicates=0, finished=[], rejected=[(record, Rejection(refusal.reason, message))]
            )
    middle = len(records) // 2
    first = await write_what_can_be_written(records[:middle], attempt)
    second = await write_what_can_be_written(records[middle:], attempt)
    return WriteResult(
        new=first.new + second.new,
        duplicates=first.duplicates + second.duplicates,
        finished=first.finished + second.finished,
        rejected=first.rejected + second.rejected,
        merged=first.merged + second.merged,
        clients=first.clients + second.clients,
        wasted=first.wasted + second.wasted,
    )
