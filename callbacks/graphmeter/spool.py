"""Requests on disk while the collector is away: bytes in, the same bytes out in order, also by another process later.

In one directory every process has files of its own: `<name>-<id>.lock`, which it holds by `flock` while it lives, and
append-only segments `<name>-<id>.<number>.spool`. Whoever gets the lock of a process that has ended owns its segments from
then on. A segment is removed when all of it has been delivered, so a process that is killed meanwhile may send its requests
again; the collector recognizes them.

Nothing is fsynced: what is written survives the death of the process, however sudden, not that of the machine.

A record is magic, length, number of spans, CRC-32 of those two and the body, then the body. A damaged one is skipped by
looking for the next magic.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from graphmeter import forks, guard

try:
    import fcntl
except ImportError:  # no POSIX: see Spool
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("graphmeter")

_MAGIC: Final = b"GMS1"
_HEADER: Final = struct.Struct(">4sIII")
_SEGMENT_BYTES: Final = 1 << 20
"""What a process reads at once, and sends again if it is killed while it sends."""
_TRIES: Final = 8

_open: set[int] = set()
"""Descriptors of locks and segments. A child that kept the locks' open would keep the locks, too."""


class Stored(NamedTuple):
    """One request."""

    body: bytes
    spans: int
    own: bool
    """Whether this process wrote it."""


class Lost(NamedTuple):
    """Spans that were given up, for want of room or because their record was damaged."""

    own: int
    others: int


class _Segment:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spans = 0
        """Written by this process."""


class _Owner:
    """The files of one process, dead or this one, and the lock on them."""

    def __init__(self, lock: int, path: Path, segments: list[_Segment]) -> None:
        self.lock = lock
        self.path = path
        self.segments = deque(segments)
        self.loaded: deque[Stored] = deque()
        """What is left of the first segment, once it has been read."""

    def remove_first(self) -> None:
        """The first segment is no longer needed."""
        self.loaded.clear()
        path = self.segments.popleft().path
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # whoever finds it later sends it again, which the collector recognizes
            guard.noticed("spool file not removed", f"{path}: {error}; remove it by hand")

    def release(self) -> None:
        """Let others have what is left; if nothing is, leave no trace."""
        if not self.segments:
            self.path.unlink(missing_ok=True)
        _close(self.lock)


class Spool:
    """The spool of one pipeline. Every method may raise OSError, and is safe from several threads.

    Args:
        directory: Made, for this user only, when it is first needed. On a local disk: `flock` is not to be trusted on NFS.
        name: Tells pipelines to different collectors apart.
        limit_bytes: Of the directory, all processes together. Beyond it the oldest segment that can be had is given up.
    """

    def __init__(self, directory: Path, name: str, limit_bytes: int) -> None:
        if fcntl is None:
            raise OSError(errno.ENOTSUP, "needs flock, which this platform does not have")
        self._directory = directory
        self._name = name
        self._limit = limit_bytes
        self._own: _Owner | None = None
        self._adopted: list[_Owner] = []
        self._number = 0
        self._writer = -1
        self._written = 0
        self._lost_own = self._lost_others = 0
        self._mutex = threading.Lock()
        self._closed = False

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._adopted) or (self._own is not None and bool(self._own.segments))

    def write(self, body: bytes, spans: int) -> None:
        """Append a request. After an error it is as if nothing had been written."""
        checked = struct.pack(">II", len(body), spans)
        record = _MAGIC + checked + struct.pack(">I", zlib.crc32(body, zlib.crc32(checked))) + body
        with self._mutex:
            if self._closed:
                raise OSError(errno.EBADF, "the spool is closed")
            self._make_room(len(record))
            segment = self._segment_for(len(record))
            try:
                _write_all(self._writer, record)
            except OSError:
                try:
                    os.ftruncate(self._writer, self._written)
                except OSError:  # then a reader skips the torn record
                    self._close_writer()
                raise
            self._written += len(record)
            segment.spans += spans

    def first(self) -> Stored | None:
        """The request to send next: of this process first, then of others, each in the order written."""
        with self._mutex:
            for owner in [*([self._own] if self._own else []), *self._adopted]:
                while owner.segments:
                    if owner.loaded:
                        return owner.loaded[0]
                    self._load(owner)
                if owner is not self._own:
                    self._adopted.remove(owner)
                    owner.release()
            return None

    def done(self, stored: Stored) -> bool:
        """`stored`, which `first` gave, has been dealt with; False if it was given up meanwhile."""
        with self._mutex:
            for owner in [*([self._own] if self._own else []), *self._adopted]:
                if owner.loaded and owner.loaded[0] is stored:
                    owner.loaded.popleft()
                    if not owner.loaded:
                        owner.remove_first()
                    return True
            return False

    def take_lost(self) -> Lost:
        """What was given up since this was last asked."""
        with self._mutex:
            lost = Lost(self._lost_own, self._lost_others)
            self._lost_own = self._lost_others = 0
            return lost

    def adopt(self) -> None:
        """Take over the files of processes that have ended."""
        with self._mutex:
            if self._closed or not self._directory.is_dir():
                return
            known = {owner.path for owner in self._adopted} | ({self._own.path} if self._own else set())
            for path in sorted(self._directory.glob(f"{self._name}-*.lock")):
                if path in known or (lock := _lock(path)) < 0:
                    continue
                stem = path.name.removesuffix(".lock")
                owner = _Owner(
                    lock, path, [_Segment(found) for found in sorted(self._directory.glob(f"{stem}.*.spool"))]
                )
                if owner.segments:
                    _log.info("Graphmeter sends what a process that has ended left in %s", path.with_suffix(".*"))
                    self._adopted.append(owner)
                else:
                    owner.release()

    def close(self) -> None:
        """Leave what is left to others."""
        with self._mutex:
            self._closed = True
            self._close_writer()
            for owner in [*([self._own] if self._own else []), *self._adopted]:
                owner.release()
            self._own = None
            self._adopted.clear()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _segment_for(self, size: int) -> _Segment:
        if self._own is None:
            self._own = self._new_owner()
        if self._writer >= 0 and self._written + size > _SEGMENT_BYTES:
            self._close_writer()
        if self._writer < 0:
            self._number += 1
            path = self._own.path.with_suffix(f".{self._number:08d}.spool")
            self._writer = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
            _open.add(self._writer)
            self._written = 0
            self._own.segments.append(_Segment(path))
        return self._own.segments[-1]

    def _new_owner(self) -> _Owner:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_TRIES):
            path = self._directory / f"{self._name}-{secrets.token_hex(16)}.lock"
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            # Whoever looks for the dead right now may take the new file for one of theirs, and remove it.
            if (lock := _lock(path)) >= 0:
                return _Owner(lock, path, [])
        raise OSError(errno.EBUSY, "cannot lock a file of its own in", str(self._directory))

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, -1
        if writer >= 0:
            _close(writer)

    def _load(self, owner: _Owner) -> None:
        """Read the first segment; it is gone if there is nothing in it."""
        segment = owner.segments[0]
        own = owner is self._own
        if own and len(owner.segments) == 1:
            self._close_writer()
        try:
            data = segment.path.read_bytes()
        except FileNotFoundError:  # somebody tidied up
            data = b""
        except OSError as error:
            guard.noticed("unreadable spool file", f"{segment.path}: {error}; the others are sent")
            data = b""
        damaged = 0
        for record in _records(data):
            if record is None:
                damaged += 1
            else:
                owner.loaded.append(Stored(*record, own))
        if damaged:
            guard.noticed("damaged spool record", f"{segment.path}: {damaged} skipped, the others are sent")
        if own:
            self._lost_own += max(segment.spans - sum(stored.spans for stored in owner.loaded), 0)
        if not owner.loaded:
            owner.remove_first()

    def _make_room(self, need: int) -> None:
        if need > self._limit:
            raise OSError(errno.EFBIG, f"a request of {need} bytes is larger than the spool may be")
        while self._size() + need > self._limit:
            victim = next((owner for owner in self._adopted if owner.segments), self._own)
            if victim is None or not victim.segments:
                raise OSError(errno.ENOSPC, "the spool is full of other processes' requests, in", str(self._directory))
            if not victim.loaded:
                self._load(victim)
            given_up = sum(stored.spans for stored in victim.loaded)
            if victim is self._own:
                self._lost_own += given_up
            else:
                self._lost_others += given_up
            if victim.loaded:
                victim.remove_first()

    def _size(self) -> int:
        try:
            with os.scandir(self._directory) as entries:
                return sum(entry.stat().st_size for entry in entries if entry.name.endswith(".spool"))
        except FileNotFoundError:  # no directory yet, or a file that was delivered meanwhile
            return 0 if not self._directory.is_dir() else self._size()


def _lock(path: Path) -> int:
    """A descriptor that holds the lock `path`; -1 if another process lives, the file is gone, or not ours."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, named = os.fstat(lock), path.lstat()
        if held.st_ino == named.st_ino and stat.S_ISREG(held.st_mode) and held.st_uid == os.geteuid():
            _open.add(lock)
            return lock
    except OSError:
        pass
    os.close(lock)
    return -1


def _close(file: int) -> None:
    _open.discard(file)
    os.close(file)


def _records(data: bytes) -> Iterator[tuple[bytes, int] | None]:
    """Bodies and numbers of spans; None for what lies between and is damaged."""
    at, in_step = 0, True
    while at < len(data):
        body = data[at + _HEADER.size :]
        if len(data) - at >= _HEADER.size:
            magic, length, spans, checksum = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + _HEADER.size + length]
            checked = data[at + 4 : at + 12]
            if magic == _MAGIC and len(body) == length and zlib.crc32(body, zlib.crc32(checked)) == checksum:
                yield body, spans
                at += _HEADER.size + length
                in_step = True
                continue
        if in_step:
            yield None
        in_step = False
        at = data.find(_MAGIC, at + 1)
        if at < 0:
            return


def _write_all(file: int, record: bytes) -> None:
    left = memoryview(record)
    while left:
        left = left[os.write(file, left) :]


def _after_fork() -> None:
    for file in _open:
        # Closed, not unlocked: the lock is the parent's as long as it lives.
        os.close(file)
    _open.clear()


forks.in_child(_after_fork)
