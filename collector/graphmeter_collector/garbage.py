"""Python's collector of cycles, set for a process that holds many records for a short time.

Records of spans hold no cycles: they go when the last reference goes. But each one that lives makes the collector of cycles
look at all others every so often, which was a sixth of the time of storing a span. So what is there at the start, modules
above all, is never looked at again, and the rest is looked at less often. Cycles are made by few things here (tracebacks of
refused requests, cancelled tasks), some hundred bytes each: 50,000 objects are a few megabytes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

YOUNG: Final = 50_000
"""Objects made, and not gone, between two looks at the young ones; Python's default is 700 to 10,000 by version."""
OLDER: Final = (20, 50)
"""Looks at the young ones for one at the middle-aged, and of those for one at the old; the default is 10 and 10."""


def settle() -> None:
    """Set the collector; to be called once, when everything that stays has been made."""
    # Not collected before: some thousand objects of the start are garbage, and to find them takes a tenth of a second.
    gc.freeze()
    gc.set_threshold(YOUNG, *OLDER)


@contextmanager
def settled() -> Iterator[None]:
    """The collector set so for the length of a block: for a command that goes through many records, too."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    settle()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:  # else somebody meant it to stay so, and what is frozen cannot be told apart
            gc.unfreeze()
