"""The spool of one collector: requests in, fsynced together; out again in the order of their receipt, until they are done.

There is no timer: whatever was handed in while one fsync ran is the next group. Files are touched by one thread, in turn.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import structlog

from graphmeter_collector.errors import SpoolFull
from graphmeter_collector.spool import folder
from graphmeter_collector.spool.folder import Owned, Segment
from graphmeter_collector.spool.frames import OVERHEAD, Damage, Spooled, decode, encode

_log = structlog.stdlib.get_logger(__name__)

SEGMENT_BYTES: Final = 8 << 20
"""What is read at once, and written again to the database by whoever follows a process that died while it replayed."""
REFUSES_FOR_S: Final = 5.0
"""After a request that had no room, or a failed write, the spool calls itself full for so long; then it is tried again."""

_Answer = TypeVar("_Answer")


class Batch(NamedTuple):
    """Requests to replay next; `Spool.done` is told when they are stored."""

    requests: Sequence[Spooled]
    damage: Sequence[Damage]
    """What lay between them."""
    path: Path
    last: bool
    """Nothing follows in this file."""


class Spool:
    """Files below `directory` for the requests that one database is to get.

    Args:
        directory: On a local disk: neither locks nor syncs are to be trusted on every network file system.
        database_url: Names the folder, without password and options.
        limit_bytes: Of what this process holds, what it adopted of dead ones included.
    """

    def __init__(self, directory: Path, database_url: str, limit_bytes: int) -> None:
        self._directory = directory
        self._parent = directory / folder.target(database_url)
        self._limit = limit_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._own: Owned | None = None
        self._adopted: dict[Path, Owned] = {}
        self._segments: list[Segment] = []
        self._writer = -1
        self._writing: Segment | None = None
        self._reading: tuple[Segment, Iterator[Spooled | Damage]] | None = None
        self._batch: Batch | None = None
        self._pending: list[tuple[Spooled, asyncio.Future[None]]] = []
        self._pending_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._refused_at = -REFUSES_FOR_S

    # --- what there is ----------------------------------------------------------------------------------------------

    @property
    def known(self) -> bool:
        """Whether a collector has used this database and this directory together before."""
        return self._parent.is_dir()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._segments and not self._pending

    @property
    def accepts(self) -> bool:
        """Whether a request could be taken now."""
        return self.size + self._pending_bytes < self._limit and time.monotonic() - self._refused_at >= REFUSES_FOR_S

    def oldest_s(self) -> float:
        """Age of the request that has waited longest, in seconds; 0 when none waits."""
        first_ns = min((segment.first_ns for segment in self._segments), default=0)
        return max(time.time_ns() - first_ns, 0) / 1e9 if first_ns else 0.0

    def others(self) -> list[str]:
        """Folders of other databases in which something waits that nobody will replay unless a collector is told to."""
        if not self._directory.is_dir():
            return []
        folders = (path for path in sorted(self._directory.iterdir()) if path.is_dir() and path != self._parent)
        return [path.name for path in folders if any(path.glob("*/*.spool"))]

    # --- in ---------------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """See whether the directory can be written and synced.

        Raises:
            OSError: it cannot.
        """
        await self._call(self._check)

    def _check(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self._directory / f"probe-{os.getpid()}"
        try:
            with probe.open("wb") as file:
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)

    async def remember(self) -> None:
        """Make the folder, which tells a later start that this database can be trusted to come back.

        Raises:
            OSError: it cannot be made.
        """
        await self._call(lambda: self._parent.mkdir(mode=0o700, parents=True, exist_ok=True))

    async def append(self, request: Spooled) -> None:
        """Returns when the request is on the disk.

        Raises:
            SpoolFull: it is not: there is no room, or the disk failed.
        """
        size = len(request.body) + OVERHEAD
        if self.size + self._pending_bytes + size > self._limit:
            self._refused_at = time.monotonic()
            raise SpoolFull(
                f"the database is away, and the spool holds its limit of {self._limit} bytes: send again later"
            )
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((request, written))
        self._pending_bytes += size
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await written

    async def _flush(self) -> None:
        while self._pending:
            group, self._pending = self._pending, []
            requests = [request for request, _ in group]
            problem: Exception | None = None
            try:
                await self._call(partial(self._write, requests))
            except OSError as error:
                self._refused_at = time.monotonic()
                problem = SpoolFull(f"the database is away, and the spool cannot be written: {error}")
                _log.error("spool_write_failed", error=str(error), requests=len(group))
            except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
                problem = error
            self._pending_bytes -= sum(len(request.body) + OVERHEAD for request in requests)
            for _, written in group:
                if written.done():  # the sender hung up
                    continue
                if problem is None:
                    written.set_result(None)
                else:
                    written.set_exception(problem)

    def _write(self, requests: Sequence[Spooled]) -> None:
        """All of them durable, or none to be found."""
        segment = self._segment_to_write()
        before = segment.size
        data = b"".join(encode(request, segment.mark) for request in requests)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._writer, left) :]
            # The names of a new file and its folder were synced when they were made.
            os.fdatasync(self._writer)
        except OSError:
            # What a failed sync leaves in the file is anybody's guess: nothing is appended to it any more.
            try:
                os.ftruncate(self._writer, before)
            except OSError as error:
                _log.warning("spool_not_truncated", file=str(segment.path), error=str(error))
            self._close_writer()
            if before == 0:
                self._remove(segment)
            raise
        segment.size += len(data)

    def _segment_to_write(self) -> Segment:
        if self._writing is not None and self._writing.size < SEGMENT_BYTES:
            return self._writing
        self._close_writer()
        if self._own is None:
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own = folder.claim(self._parent)
            folder.sync_folder(self._directory)
        segment = Segment.new(self._own.path, max((each.first_ns for each in self._segments), default=0))
        self._writer = os.open(segment.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        folder.sync_folder(self._own.path)
        self._writing = segment
        self._segments.append(segment)
        return segment

    def _close_writer(self) -> None:
        writer, self._writer, self._writing = self._writer, -1, None
        if writer >= 0:
            os.close(writer)

    # --- out --------------------------------------------------------------------------------------------------------

    async def adopt(self) -> int:
        """Take over what processes that have ended left for this database; returns the bytes."""
        return await self._call(self._adopt)

    def _adopt(self) -> int:
        if not self.known:
            return 0
        adopted = 0
        ours = frozenset({*self._adopted, *([self._own.path] if self._own else [])})
        for owned in folder.dead(self._parent, ours):
            found = [segment for segment in owned.segments() if segment.size]
            if not found:
                for segment in owned.segments():
                    segment.path.unlink()
                owned.release()
                continue
            size = sum(segment.size for segment in found)
            _log.info("spool_adopted", folder=str(owned.path), bytes=size)
            self._adopted[owned.path] = owned
            self._segments = sorted([*self._segments, *found], key=lambda segment: segment.first_ns)
            adopted += size
        return adopted

    async def next(self, max_spans: int, max_bytes: int) -> Batch | None:
        """The oldest requests that wait, all of one file; the same again until `done` is told. None when none waits."""
        if self._batch is None:
            self._batch = await self._call(partial(self._next, max_spans, max_bytes))
        return self._batch

    def _next(self, max_spans: int, max_bytes: int) -> Batch | None:
        if not self._segments:
            return None
        segment, found = self._reading or self._open_oldest()
        requests: list[Spooled] = []
        damage: list[Damage] = []
        spans = size = 0
        for each in found:
            if isinstance(each, Damage):
                damage.append(each)
                continue
            spans += each.spans
            size += len(each.body)
            if requests and (spans > max_spans or size > max_bytes):
                self._reading = segment, chain([each], found)
                return Batch(requests, damage, segment.path, last=False)
            requests.append(each)
        return Batch(requests, damage, segment.path, last=True)

    def _open_oldest(self) -> tuple[Segment, Iterator[Spooled | Damage]]:
        segment = self._segments[0]
        if segment is self._writing:
            self._close_writer()
        try:
            data = segment.path.read_bytes()
        except OSError as error:
            # Left where it is, and given up: what follows must not wait for a disk that does not answer.
            segment.readable = False
            _log.error("spool_unreadable", file=str(segment.path), error=str(error), bytes=segment.size)
            found: Iterator[Spooled | Damage] = iter([Damage(0, segment.size, torn=False)])
        else:
            found = decode(data, segment.mark)
        self._reading = segment, found
        return self._reading

    async def done(self, batch: Batch) -> None:
        """The requests are in the database: what was read is needed no more."""
        self._batch = None
        if batch.last:
            await self._call(self._forget_oldest)

    def _forget_oldest(self) -> None:
        assert self._reading is not None
        segment, _ = self._reading
        self._reading = None
        self._remove(segment)
        for path, owned in list(self._adopted.items()):
            if not any(path.glob("*.spool")):
                del self._adopted[path]
                owned.release()

    def _remove(self, segment: Segment) -> None:
        self._segments.remove(segment)
        if not segment.readable:
            return
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:  # whoever finds it later replays it, which changes nothing
            _log.warning("spool_not_removed", file=str(segment.path), error=str(error))

    # --- the end ----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Leave what waits to whoever comes next."""
        if self._flushing is not None:
            await self._flushing
        await self._call(self._release)
        self._thread.shutdown()

    def _release(self) -> None:
        self._close_writer()
        for owned in [*([self._own] if self._own else []), *self._adopted.values()]:
            owned.release()
        self._own = None
        self._adopted.clear()

    async def _call(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
