"""What guards decided in this process, counted for `graphmeter.stats()`; the first of each kind of trouble is logged."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Final

from graphmeter import forks

_log = logging.getLogger("graphmeter")
_lock = threading.Lock()
_counts: Counter[str] = Counter()
_logged: set[str] = set()
_MOST_LOGGED: Final = 256

STOPPED: Final = "stopped"
"""Calls that were not made."""
WARNED: Final = "warned"
"""Calls that were made beyond a limit, since the guard only warns."""
LEFT: Final = "left"
"""Calls beyond a limit that the application's own function decided about, and let pass."""
FAILED_OPEN: Final = "failed_open"
"""Calls that were made though nobody could tell."""
FAILED_CLOSED: Final = "failed_closed"
"""Calls that were not made since nobody could tell."""
UNPRICED: Final = "unpriced"
"""Calls whose cost is not known: caps and this process's own spend lack it."""
ASKED: Final = "asked"
"""Questions that `gate()` asked."""


def count(kind: str) -> None:
    """One more."""
    with _lock:
        _counts[kind] += 1


def say_once(what: str, message: str) -> None:
    """Log `message` as a warning unless something was said of `what` before."""
    with _lock:
        if what in _logged or len(_logged) >= _MOST_LOGGED:
            return
        _logged.add(what)
    _log.warning("%s", message)


def unsay(what: str) -> None:
    """`what` is over: it is said again when it comes back."""
    with _lock:
        _logged.discard(what)


def counted() -> dict[str, int]:
    """What was decided so far, by kind."""
    with _lock:
        return dict(_counts)


def forget() -> None:
    """Start counting anew: a forked child answers for itself only."""
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.Lock()
    _counts.clear()
    _logged.clear()


forks.in_child(forget)
