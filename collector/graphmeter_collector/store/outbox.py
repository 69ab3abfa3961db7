"""Spans on their way out: keys in `outbox`, bytes in `span_body`; batches claimed by one collector at a time.

A batch is bounded by count and by bytes, so memory holds one batch whatever waits. On Postgres a claim is a transaction
that holds the rows locked: other collectors skip them, and a collector that dies lets go of them with its connection.
An embedded file has one collector, and that one sender per destination.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import and_, func, select

from graphmeter_collector.reports import OutboxItem
from graphmeter_collector.store.tables import outbox, span_body, span_envelope

if TYPE_CHECKING:
    import asyncpg

    from graphmeter_collector.store.read import SqlReader

    Connection = asyncpg.Connection[asyncpg.Record]

Key = tuple[bytes, bytes, int]
"""Trace id, span id and day."""

_SAME_SPAN = and_(
    span_body.c.trace_id == outbox.c.trace_id,
    span_body.c.span_id == outbox.c.span_id,
    span_body.c.day == outbox.c.day,
)
_KEYS = "unnest($1::bytea[], $2::bytea[], $3::int[]) AS k(trace_id, span_id, day)"
_CLAIM = (
    "SELECT o.trace_id, o.span_id, o.day, octet_length(b.body) FROM outbox o "
    "JOIN span_body b ON b.trace_id = o.trace_id AND b.span_id = o.span_id AND b.day = o.day "
    "WHERE o.destination = $1 ORDER BY o.queued_ns, o.trace_id, o.span_id LIMIT $2 FOR UPDATE OF o SKIP LOCKED"
)
_BODIES = (
    "SELECT b.trace_id, b.span_id, b.day, b.body, e.envelope_id, e.resource, e.scope, e.resource_schema_url, "  # noqa: S608
    f"e.scope_schema_url FROM {_KEYS} JOIN span_body b ON b.trace_id = k.trace_id AND b.span_id = k.span_id "
    "AND b.day = k.day JOIN span_envelope e ON e.envelope_id = b.envelope_id"
)
_DELETE = (
    f"DELETE FROM outbox o USING {_KEYS} "  # noqa: S608
    "WHERE o.destination = $4 AND o.trace_id = k.trace_id AND o.span_id = k.span_id AND o.day = k.day"
)


class Claim(Protocol):
    """A batch that nobody else sends while the claim lasts."""

    @property
    def items(self) -> Sequence[OutboxItem]:
        """Oldest first."""
        ...

    async def delete(self, items: Sequence[OutboxItem]) -> None:
        """The destination is done with these; durable at the latest when the claim ends."""
        ...


def prefix(sized: Iterable[tuple[Key, int]], max_bytes: int) -> list[Key]:
    """The first keys whose sizes fit together; at least one, however large."""
    taken: list[Key] = []
    total = 0
    for key, size in sized:
        total += size
        if taken and total > max_bytes:
            break
        taken.append(key)
    return taken


async def take(reader: SqlReader, destination: str, limit: int, max_bytes: int) -> list[OutboxItem]:
    """The oldest spans that a destination has not had; for the one who sends them."""
    oldest = (
        select(outbox.c.trace_id, outbox.c.span_id, outbox.c.day)
        .join(span_body, _SAME_SPAN)
        .where(outbox.c.destination == destination)
        .order_by(outbox.c.queued_ns, outbox.c.trace_id, outbox.c.span_id)
    )
    sized = oldest.add_columns(func.length(span_body.c.body).label("size")).limit(limit)
    fitting = prefix(
        [((r["trace_id"], r["span_id"], r["day"]), r["size"]) for r in await reader.rows(sized)], max_bytes
    )
    # The same rows again, this time with their bytes: what was committed since comes behind them.
    whole = (
        oldest.add_columns(span_body.c.body, *span_envelope.columns)
        .join(span_envelope, span_envelope.c.envelope_id == span_body.c.envelope_id)
        .limit(len(fitting))
    )
    return [OutboxItem(**row) for row in await reader.rows(whole)] if fitting else []


class PostgresOutbox:
    """Claims on Postgres, each destination on a connection of its own that is kept between claims."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """`connect` opens a connection; within `translated` the database's failures become ours."""
        self._connect = connect
        self._translated = translated
        self._idle: dict[str, Connection] = {}
        self._closed = False

    @asynccontextmanager
    async def claim(self, destination: str, limit: int, max_bytes: int) -> AsyncIterator[PostgresClaim]:
        """A batch, locked until the block ends; what was deleted by then is committed, whatever ended the block."""
        connection = self._idle.pop(destination, None) or await self._connect()
        kept = False
        try:
            with self._translated():
                # A claim is idle for as long as a destination takes to answer; forwarding bounds that.
                await connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
                rows = await connection.fetch(_CLAIM, destination, limit)
                keys = prefix((((row[0], row[1], row[2]), row[3]) for row in rows), max_bytes)
                items = await _bodies(connection, keys)
            try:
                yield PostgresClaim(connection, destination, items, self._translated)
            finally:
                with self._translated():
                    await connection.execute("COMMIT")
                kept = not self._closed
        finally:
            if kept and destination not in self._idle:
                self._idle[destination] = connection
            else:
                # Locks go with it.
                connection.terminate()

    async def close(self) -> None:
        """Let go of every connection; claims under way end with theirs."""
        self._closed = True
        while self._idle:
            _, connection = self._idle.popitem()
            connection.terminate()


class PostgresClaim:
    """A `Claim` within an open transaction."""

    def __init__(
        self,
        connection: Connection,
        destination: str,
        items: Sequence[OutboxItem],
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._translated = translated
        self._connection = connection
        self._destination = destination
        self.items = items

    async def delete(self, items: Sequence[OutboxItem]) -> None:
        with self._translated():
            await self._connection.execute(_DELETE, *_columns(map(_key, items)), self._destination)


class PlainClaim:
    """A `Claim` where nobody else could send; `forget` removes rows."""

    def __init__(
        self, items: Sequence[OutboxItem], forget: Callable[[Sequence[OutboxItem]], Awaitable[object]]
    ) -> None:
        self.items = items
        self._forget = forget

    async def delete(self, items: Sequence[OutboxItem]) -> None:
        await self._forget(items)


def _key(item: OutboxItem) -> Key:
    return item.trace_id, item.span_id, item.day


def _columns(keys: Iterable[Key]) -> tuple[list[bytes], list[bytes], list[int]]:
    all_keys = list(keys)
    return [key[0] for key in all_keys], [key[1] for key in all_keys], [key[2] for key in all_keys]


async def _bodies(connection: Connection, keys: Sequence[Key]) -> list[OutboxItem]:
    if not keys:
        return []
    found = {(row[0], row[1], row[2]): OutboxItem(**row) for row in await connection.fetch(_BODIES, *_columns(keys))}
    return [found[key] for key in keys if key in found]
