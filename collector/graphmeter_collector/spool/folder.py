"""Who owns which files: a folder per process, held by a lock while it lives, and adopted by another when it is dead.

spool/                              --spool-dir
  graphmeter@db.example_5432-1f3a…/ one per database: what was meant for one never ends up in another
    6c2e…/                          one per process
      lock                          held (flock) by the owner
      00000000001795…-9f….spool     segments: time of their first request, and the mark of their frames
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from graphmeter_collector.spool.frames import MARK_BYTES

_LOCK: Final = "lock"
_NAME: Final = re.compile(r"(\d{20})-([0-9a-f]{16})\.spool")
_TRIES: Final = 8


def target(database_url: str) -> str:
    """Folder name of a database: readable, the same whoever connects with whatever password, different for every other."""
    url = make_url(database_url)
    place = f"{url.database or ''}@{url.host or ''}_{url.port or ''}"
    digest = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9@._-]', '_', place)[:100]}-{digest}"


class Segment:
    """One file of frames."""

    def __init__(self, path: Path, size: int = 0) -> None:
        found = _NAME.fullmatch(path.name)
        assert found is not None, path
        self.path = path
        self.size = size
        self.readable = True
        self.first_ns = int(found[1])
        """When its first request was received, or a little earlier."""
        self.mark = bytes.fromhex(found[2])

    @classmethod
    def new(cls, folder: Path, after_ns: int) -> Segment:
        """A name that sorts after all others; no file yet."""
        first_ns = max(time.time_ns(), after_ns + 1)
        return cls(folder / f"{first_ns:020d}-{secrets.token_hex(MARK_BYTES)}.spool")


class Owned:
    """A process's folder, and the lock on it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def segments(self) -> Iterator[Segment]:
        """Those on disk, oldest first."""
        for path in sorted(self.path.iterdir()):
            if _NAME.fullmatch(path.name):
                yield Segment(path, path.stat().st_size)

    def release(self) -> None:
        """Let others have what is left; if nothing is, leave no trace."""
        if not any(path.name != _LOCK for path in self.path.iterdir()):
            (self.path / _LOCK).unlink(missing_ok=True)
            self.path.rmdir()
        os.close(self._lock)


def claim(parent: Path) -> Owned:
    """A new folder for this process.

    Raises:
        OSError: it cannot be made or locked here.
    """
    for _ in range(_TRIES):
        path = parent / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        (path / _LOCK).touch(mode=0o600)
        # Whoever looks for the dead right now may take the new folder for one of theirs, and remove it.
        if (owned := _own(path)) is not None:
            sync_folder(path)
            sync_folder(parent)
            return owned
    raise OSError(f"cannot lock a folder of its own in {parent}")


def dead(parent: Path, but: frozenset[Path]) -> Iterator[Owned]:
    """Folders whose processes have ended, now ours."""
    for path in sorted(parent.iterdir()):
        if path not in but and path.is_dir() and (owned := _own(path)) is not None:
            yield owned


def _own(path: Path) -> Owned | None:
    """The folder, if nobody else holds it."""
    name = path / _LOCK
    try:
        lock = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == name.lstat().st_ino:
            return Owned(path, lock)
    except (BlockingIOError, FileNotFoundError):
        pass  # its owner lives, or somebody has just removed it
    os.close(lock)
    return None


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: a file that is synced but not named is lost with the power."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
