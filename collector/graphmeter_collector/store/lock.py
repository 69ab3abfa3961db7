"""A file that at most one process holds: an embedded database has one writer."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from graphmeter_collector.errors import StartupError


class FileLock:
    """An advisory lock on a file beside the database, released by the kernel when the process ends, however it ends."""

    def __init__(self, database: Path, purpose: str, remedy: str) -> None:
        """`purpose` names the file, `remedy` ends the sentence that refuses."""
        self.path = database.with_name(f"{database.name}.{purpose}.lock")
        self._remedy = remedy
        self._file: int | None = None

    def acquire(self, wait_s: float = 0.0) -> None:
        """Take the lock, waiting up to `wait_s` seconds.

        Raises:
            StartupError: another process holds it, or the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise StartupError(f"cannot write beside the database: {problem}; choose another --data-dir") from problem
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
                os.close(file)
                raise StartupError(f"{self.path} is held by process {holder}: {self._remedy}") from None
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give the lock back; the file stays, so that nobody locks a deleted one."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
