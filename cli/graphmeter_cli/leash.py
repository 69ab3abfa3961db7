"""Process ids on standard input; when that ends, the processes that are left are told to end.

Run beside the servers as `python -m graphmeter_cli.leash`. A parent that is killed (`kill -9`, out of memory) cannot
stop its children, and no system but Linux does that for it; the end of a pipe is seen everywhere. A line is `+PID` or
`-PID`, the latter for one that has ended, so that a parent that leaves nobody behind ends nobody.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

GRACE_S = 20.0
_POLL_S = 0.1


class Leash:
    """The parent's end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def hold(self, pid: int) -> None:
        """From now on this process ends with us."""
        self._say(f"+{pid}")

    def release(self, pid: int) -> None:
        """It has ended: its number may soon be another's."""
        self._say(f"-{pid}")

    def _say(self, line: str) -> None:
        # Without anybody at the other end there is no leash, and the rest works as it did.
        with suppress(OSError, ValueError):
            self._pipe.write(f"{line}\n".encode())
            self._pipe.flush()


@contextmanager
def leash() -> Iterator[Leash]:
    """A leash for the servers that are started in the block and stopped before it ends."""
    watcher = subprocess.Popen(
        [sys.executable, "-m", "graphmeter_cli.leash"], stdin=subprocess.PIPE, start_new_session=True
    )
    assert watcher.stdin is not None
    held = Leash(watcher.stdin)
    try:
        yield held
    finally:
        with suppress(OSError):
            watcher.stdin.close()
        watcher.wait()


def watch(lines: Iterable[str]) -> set[int]:
    """Read until the parent has gone; the processes that it left behind."""
    held: set[int] = set()
    for line in lines:
        sign, pid = line[:1], line[1:].strip()
        if pid.isdecimal():
            (held.add if sign == "+" else held.discard)(int(pid))
    return held


def end(pids: set[int]) -> None:
    """Ask each to end, and after a while see to it."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 0.0)):
        pids = {pid for pid in pids if _signal(pid, number)}
        deadline = time.monotonic() + wait_s
        while pids and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            pids = {pid for pid in pids if _signal(pid, 0)}


def _signal(pid: int, number: int) -> bool:
    """Whether there was somebody to take it."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # gone, or already another's
        return False
    return True


if __name__ == "__main__":
    end(watch(sys.stdin))
