"""SIGTERM, for those who ask for it: unsent spans go out first, then happens what would have happened without us.

A signal handler interrupts the main thread anywhere, perhaps inside a lock that sending needs. So a thread sends, and the
handler waits for it, for a bounded time. That thread is started without the `threading` module, whose own locks may be the
ones that are held.
"""

from __future__ import annotations

import _thread
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

_log = logging.getLogger("graphmeter")

_armed = False
_refused = False
_leaving = False
_postponed: Callable[[], None] | None = None


def arm(send: Callable[[], object], patience_s: float) -> None:
    """From now on SIGTERM calls `send`, waits for it at most `patience_s` seconds, then does what it did before.

    A process that ignores SIGTERM goes on ignoring it. Outside of the main thread, where Python installs no signal
    handlers, nothing is installed; that is logged, and the next call may succeed. Idempotent.
    """
    global _armed  # a process has one handler per signal
    if _armed:
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is signal.SIG_IGN:
        return
    if before is None:
        _refuse("its handler is not Python's")
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _postponed  # what the exit finds when it is done
        if _leaving:
            # The interrupted code sends already, and may hold what a second sender would wait for.
            _postponed = partial(_pass_on, before, number, frame)
            return
        _send(send, patience_s)
        _pass_on(before, number, frame)

    try:
        signal.signal(signal.SIGTERM, handle)
    except ValueError:
        _refuse("only the main thread may; make the first handler there")
        return
    _armed = True


@contextmanager
def leaving() -> Iterator[None]:
    """Around what is sent at the exit: a SIGTERM in the middle has its turn afterwards."""
    global _leaving, _postponed  # a process has one exit
    _leaving = True
    try:
        yield
    finally:
        _leaving = False
        postponed, _postponed = _postponed, None
        if postponed is not None:
            postponed()


def _pass_on(before: Any, number: int, frame: FrameType | None) -> None:
    if callable(before):
        before(number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _refuse(reason: str) -> None:
    global _refused  # said once
    if not _refused:
        _refused = True
        _log.warning("GRAPHMETER_FLUSH_ON_SIGTERM: cannot handle SIGTERM: %s", reason)


def _send(send: Callable[[], object], patience_s: float) -> None:
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            send()
        finally:
            done.release()

    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # no more threads: then the spans are lost, as they would be without us
        return
    done.acquire(timeout=patience_s)
