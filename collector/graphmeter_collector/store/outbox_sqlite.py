"""Claims on an embedded file: read on a connection and a thread of their own, so that neither writes nor questions wait."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.records import Envelope
from graphmeter_collector.reports import OutboxItem
from graphmeter_collector.store.engine import BUSY_TIMEOUT_MS
from graphmeter_collector.store.outbox import Bodies, Held, key_of, keys, ranges
from graphmeter_collector.store.parts import Key, Part, fitting

_Answer = TypeVar("_Answer")
_OLDEST: Final = (
    "SELECT trace_id, span_id, day, more, size FROM outbox WHERE destination = ? "
    "ORDER BY queued_ns, trace_id, span_id LIMIT ?"
)
_BODY: Final = "SELECT trace_id, span_id, day, envelope_id, body FROM span_body WHERE trace_id = ?"
_SIDE_BY_SIDE: Final = f"{_BODY} AND day = ? AND span_id BETWEEN ? AND ? ORDER BY span_id LIMIT ?"
_ONE: Final = f"{_BODY} AND span_id = ? AND day = ?"
_ENVELOPE: Final = (
    "SELECT envelope_id, resource, scope, resource_schema_url, scope_schema_url FROM span_envelope "
    "WHERE envelope_id = ?"
)
_DELETE: Final = "DELETE FROM outbox WHERE destination = ? AND trace_id = ? AND span_id = ? AND day = ?"
_CHANGE: Final = (
    "UPDATE outbox SET span_id = ?, more = ? WHERE destination = ? AND trace_id = ? AND span_id = ? AND day = ?"
)

Write = Callable[[Callable[[sqlite3.Connection], None]], Awaitable[None]]
"""Runs work in a transaction of the one writer."""


class SqliteOutbox:
    """Claims of the one collector of a file."""

    def __init__(self, path: Path, write: Write) -> None:
        self._path = path
        self._write = write
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._db: sqlite3.Connection | None = None
        self._reading = asyncio.Lock()
        self._given: dict[str, set[Key]] = {}
        """Rows that somebody sends now, by destination."""
        self._closed = False

    @asynccontextmanager
    async def claim(self, destination: str, limit: int, max_bytes: int) -> AsyncIterator[SqliteClaim]:
        """A batch that is given to nobody else until the block ends."""
        given = self._given.setdefault(destination, set())
        async with self._reading:
            # As of now: what is released while this reads may be there still, as far as its snapshot knows.
            others = frozenset(given)
            parts, items, more = await self._call(lambda: self._take(destination, limit, max_bytes, others))
            claim = SqliteClaim(destination, parts, items, more, self._write, given)
        try:
            await claim.clean()
            yield claim
        finally:
            claim.release()

    def _take(
        self, destination: str, limit: int, max_bytes: int, given: Collection[Key]
    ) -> tuple[list[Part], list[OutboxItem], bool]:
        try:
            if self._db is None:
                self._db = self._connect()
            db = self._db
            # One moment for all: what a part holds and where its bytes are.
            db.execute("BEGIN")
            try:
                rows = db.execute(_OLDEST, (destination, limit + 1 + len(given)))
                found = []
                spans = 0
                for part in map(Part._make, rows):
                    if part.key in given:
                        continue
                    found.append(part)
                    spans += part.spans
                    if spans > limit:
                        break
                parts = fitting(found, limit, max_bytes)
                return parts, _items(db, parts), len(found) > len(parts)
            finally:
                db.execute("COMMIT")
        except sqlite3.Error as problem:
            raise StoreUnavailable(f"SQLite file {self._path}: {problem}") from problem

    def _connect(self) -> sqlite3.Connection:
        url = f"{self._path.absolute().as_uri()}?mode=ro"
        db = sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        return db

    async def _call(self, work: Callable[[], _Answer]) -> _Answer:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Close the connection, after what is being read."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._thread.shutdown)
            if self._db is not None:
                self._db.close()


def _items(db: sqlite3.Connection, parts: Sequence[Part]) -> list[OutboxItem]:
    bodies = Bodies(keys(parts))
    for each in ranges(parts):
        bodies.add(db.execute(_SIDE_BY_SIDE, each).fetchall())
    for key in bodies.missing:
        bodies.add(db.execute(_ONE, key).fetchall())
    rows = [db.execute(_ENVELOPE, (each,)).fetchone() for each in bodies.envelope_ids]
    return bodies.items({row[0]: Envelope(*row) for row in rows if row})


class SqliteClaim:
    """A `Claim` on rows that nobody else is given meanwhile."""

    def __init__(
        self,
        destination: str,
        parts: Sequence[Part],
        items: Sequence[OutboxItem],
        more: bool,
        write: Write,
        given: set[Key],
    ) -> None:
        """`given` are the rows that are given out, those of this claim from now on."""
        self._destination = destination
        self._held = Held(parts)
        self._keys = keys(parts)
        self._write = write
        self._given = given
        self._mine = {part.key for part in parts}
        given |= self._mine
        self.items = items
        self.more = more
        self.gone = len(self._keys) - len(items)

    def release(self) -> None:
        """What is left may be given to others."""
        self._given -= self._mine

    async def clean(self) -> None:
        """Take out what has no bytes any more."""
        if self.gone:
            await self._take_out(set(self._keys).difference(map(key_of, self.items)))

    async def delete(self, items: Sequence[OutboxItem]) -> None:
        await self._take_out({key_of(item) for item in items})

    async def _take_out(self, done: Collection[Key]) -> None:
        deleted, changed = self._held.without(done)
        if not deleted and not changed:
            return
        to = self._destination
        # A row has another key when its first span is gone.
        renamed = {after.key for _, after in changed}
        self._mine |= renamed
        self._given |= renamed

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_DELETE, [(to, *part.key) for part in deleted])
            db.executemany(_CHANGE, [(after.span_id, after.more, to, *before.key) for before, after in changed])

        await self._write(write)
