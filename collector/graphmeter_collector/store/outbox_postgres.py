"""Claims on Postgres: transactions that hold rows of `outbox` locked while a destination answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from graphmeter_collector.records import Envelope
from graphmeter_collector.reports import OutboxItem
from graphmeter_collector.store.outbox import Bodies, Held, key_of, keys, ranges
from graphmeter_collector.store.parts import Key, Part, fitting

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

MOST_ENVELOPES: Final = 256
"""Remembered by a destination's readers: most requests of an application have the same."""
_IDLE: Final = 4
"""Connections kept for each destination between claims."""
_FEWEST_ROWS: Final = 16

_CLAIM: Final = (
    "SELECT trace_id, span_id, day, more, size FROM outbox WHERE destination = $1 "
    "ORDER BY queued_ns, trace_id, span_id LIMIT $2 FOR UPDATE SKIP LOCKED"
)
_BODY: Final = "b.trace_id, b.span_id, b.day, b.envelope_id, b.body"
_SIDE_BY_SIDE: Final = (
    f"SELECT {_BODY} FROM unnest($1::bytea[], $2::int[], $3::bytea[], $4::bytea[], $5::int[]) "  # noqa: S608
    "AS k(trace_id, day, low, high, most) CROSS JOIN LATERAL (SELECT * FROM span_body WHERE span_body.trace_id = k.trace_id "
    "AND span_body.day = k.day AND span_body.span_id BETWEEN k.low AND k.high "
    "ORDER BY span_body.span_id LIMIT k.most) b"
)
_ONE_BY_ONE: Final = (
    f"SELECT {_BODY} FROM unnest($1::bytea[], $2::bytea[], $3::int[]) AS k(trace_id, span_id, day) "  # noqa: S608
    "JOIN span_body b ON b.trace_id = k.trace_id AND b.span_id = k.span_id AND b.day = k.day"
)
_ENVELOPES: Final = (
    "SELECT envelope_id, resource, scope, resource_schema_url, scope_schema_url FROM span_envelope "
    "WHERE envelope_id = ANY($1)"
)
_KEYS: Final = "unnest($2::bytea[], $3::bytea[], $4::int[]"
_SAME: Final = "o.destination = $1 AND o.trace_id = k.trace_id AND o.span_id = k.span_id AND o.day = k.day"
_DELETE: Final = f"DELETE FROM outbox o USING {_KEYS}) AS k(trace_id, span_id, day) WHERE {_SAME}"  # noqa: S608
_CHANGE: Final = (
    f"UPDATE outbox o SET span_id = k.first, more = k.rest FROM {_KEYS}, $5::bytea[], $6::bytea[]) "  # noqa: S608
    f"AS k(trace_id, span_id, day, first, rest) WHERE {_SAME}"
)


class PostgresOutbox:
    """Claims of one collector; each holds a connection, a few of which are kept between claims."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """`connect` opens a connection; within `translated` the database's failures become ours."""
        self._connect = connect
        self._translated = translated
        self._idle: dict[str, list[Connection]] = {}
        self._envelopes: dict[bytes, Envelope] = {}
        self._spans_per_row: dict[str, float] = {}
        self._closed = False

    @asynccontextmanager
    async def claim(self, destination: str, limit: int, max_bytes: int) -> AsyncIterator[PostgresClaim]:
        """A batch, locked until the block ends; what was deleted by then is committed, whatever ended the block."""
        idle = self._idle.setdefault(destination, [])
        connection = idle.pop() if idle else await self._connect()
        kept = False
        try:
            with self._translated():
                # A claim is idle for as long as a destination takes to answer; forwarding bounds that.
                await connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
                claim = await self._take(connection, destination, limit, max_bytes)
            try:
                yield claim
            finally:
                with self._translated():
                    await connection.execute("COMMIT")
                kept = not self._closed
        finally:
            if kept and len(idle) < _IDLE:
                idle.append(connection)
            else:
                # Locks go with it.
                connection.terminate()

    async def _take(self, connection: Connection, destination: str, limit: int, max_bytes: int) -> PostgresClaim:
        # Not more than are likely to be sent: what is locked here others must skip.
        per_row = self._spans_per_row.get(destination, 1.0)
        rows = max(min(int(limit / per_row) + 1, limit), min(_FEWEST_ROWS, limit))
        found = [Part(*row) for row in await connection.fetch(_CLAIM, destination, rows)]
        parts = fitting(found, limit, max_bytes)
        if parts:
            self._spans_per_row[destination] = sum(part.spans for part in parts) / len(parts)
        bodies = Bodies(keys(parts))
        if parts:
            bodies.add(map(tuple, await connection.fetch(_SIDE_BY_SIDE, *_columns(ranges(parts)))))
            if missing := bodies.missing:
                bodies.add(map(tuple, await connection.fetch(_ONE_BY_ONE, *_columns(missing))))
        items = bodies.items(await self._known(connection, bodies.envelope_ids))
        more = len(found) > len(parts) or len(found) == rows
        claim = PostgresClaim(connection, destination, parts, items, more, self._translated)
        await claim.clean()
        return claim

    async def _known(self, connection: Connection, wanted: set[bytes]) -> dict[bytes, Envelope]:
        if unknown := wanted - self._envelopes.keys():
            if len(self._envelopes) + len(unknown) > MOST_ENVELOPES:
                self._envelopes = {key: self._envelopes[key] for key in wanted & self._envelopes.keys()}
            rows = await connection.fetch(_ENVELOPES, sorted(unknown))
            self._envelopes |= {row[0]: Envelope(*row) for row in rows}
        return self._envelopes

    async def close(self) -> None:
        """Let go of every connection; claims under way end with theirs."""
        self._closed = True
        for idle in self._idle.values():
            while idle:
                idle.pop().terminate()


class PostgresClaim:
    """A `Claim` within an open transaction."""

    def __init__(
        self,
        connection: Connection,
        destination: str,
        parts: Sequence[Part],
        items: Sequence[OutboxItem],
        more: bool,
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._translated = translated
        self._connection = connection
        self._destination = destination
        self._held = Held(parts)
        self._keys = keys(parts)
        self.items = items
        self.more = more
        self.gone = len(self._keys) - len(items)

    async def clean(self) -> None:
        """Take out what has no bytes any more."""
        if self.gone:
            await self._take_out(set(self._keys).difference(map(key_of, self.items)))

    async def delete(self, items: Sequence[OutboxItem]) -> None:
        with self._translated():
            await self._take_out({key_of(item) for item in items})

    async def _take_out(self, done: Collection[Key]) -> None:
        deleted, changed = self._held.without(done)
        if deleted:
            await self._connection.execute(_DELETE, self._destination, *_columns([part.key for part in deleted]))
        if changed:
            rows = [(*before.key, after.span_id, after.more) for before, after in changed]
            await self._connection.execute(_CHANGE, self._destination, *_columns(rows))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
