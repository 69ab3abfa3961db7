"""Keeps the processors of a virtual machine awake while something is measured.

A virtual processor that sleeps is woken wherever its host has room, often beside somebody else on the same core: the same
work then takes 1.6 to 1.8 times as much processor time, for milliseconds or seconds, until the host moves it. What often
waits for its turn, as contestants and collectors do, meets this again and again. A processor that never sleeps stays where
it runs well.

One process for each processor spins in the scheduling class that gets only what nobody else wants (SCHED_IDLE, on Linux;
elsewhere nothing is done). Its time is in no figure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == int(sys.argv[2]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """No processor that this process may use sleeps inside."""
    if not hasattr(os, "SCHED_IDLE"):
        yield
        return
    spinning = [
        subprocess.Popen([sys.executable, "-c", _SPIN, str(processor), str(os.getpid())])
        for processor in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()
