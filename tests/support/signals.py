"""Signals as a terminal's user has them, however the tests were started."""

from __future__ import annotations

import signal


def interruptible() -> None:
    """Run in a child before its program: Ctrl-C reaches it, also where a shell started the tests in the background.

    Shells without job control let background jobs ignore SIGINT, children inherit that, and Python keeps it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
