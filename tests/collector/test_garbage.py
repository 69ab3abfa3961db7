"""The collector of cycles leaves alone what is there at the start, and still finds cycles that are made later.

Each in a process of its own: it concerns everything that a process holds, and that of the tests holds millions of objects.
"""

from __future__ import annotations

import subprocess
import sys

SETTLED = """
import gc, weakref
from graphmeter_collector import garbage

class Node: pass

garbage.settle()
assert gc.isenabled()
assert gc.get_freeze_count() > 1_000
assert (garbage.YOUNG, *garbage.OLDER) == gc.get_threshold()[:3]

node = Node()
node.itself = node
gone = weakref.ref(node)
del node
kept = [[] for _ in range(garbage.YOUNG + 10_000)]
assert gone() is None
print("found", len(kept) > garbage.YOUNG)
"""
AS_BEFORE = """
import gc
from graphmeter_collector import garbage

before = gc.get_threshold()
with garbage.settled():
    assert gc.get_freeze_count() > 1_000
    assert (garbage.YOUNG, *garbage.OLDER) == gc.get_threshold()[:3]
print("as before", (0, before) == (gc.get_freeze_count(), gc.get_threshold()))

gc.freeze()
with garbage.settled():
    pass
print("still frozen", gc.get_freeze_count() > 1_000)
"""


def said(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_what_is_there_is_left_alone_and_later_cycles_are_found() -> None:
    assert "found True\n" == said(SETTLED)


def test_a_command_that_needs_it_leaves_everything_as_it_was() -> None:
    assert "as before True\nstill frozen True\n" == said(AS_BEFORE)
