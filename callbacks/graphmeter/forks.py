"""Forking safely: a child starts with clean state, and is never born while one of our threads holds a module half imported.

A fork copies memory but only the forking thread. What another thread was importing at that moment stays half imported in the
child, its import lock held by nobody: the first import of it there, ours or the application's, would wait for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

_PATIENCE_S = 5.0

_held = False
_resets: list[Callable[[], object]] = []

gate = threading.Lock()
"""Held by our threads while they import, or hold a lock that no child could ever get; a fork waits for it."""


def in_child(reset: Callable[[], object]) -> None:
    """Call `reset` in every forked child, before anything else of ours runs there."""
    _resets.append(reset)


def _before() -> None:
    global _held
    _held = gate.acquire(timeout=_PATIENCE_S)


def _in_parent() -> None:
    global _held
    if _held:
        _held = False
        gate.release()


def _in_child() -> None:
    global _held, gate
    _held = False
    gate = threading.Lock()
    for reset in _resets:
        reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
