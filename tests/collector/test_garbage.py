"""The collector of cycles leaves alone what is there at the start, and still finds cycles that are made later."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from graphmeter_collector import garbage


class _Node:
    itself: _Node


@pytest.fixture
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_as_before")
def test_what_is_there_is_left_alone_and_later_cycles_are_found() -> None:
    garbage.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1_000
    assert (garbage.YOUNG, *garbage.OLDER) == gc.get_threshold()[:3]

    node = _Node()
    node.itself = node
    gone = weakref.ref(node)
    del node
    kept: list[list[int]] = [[] for _ in range(garbage.YOUNG + 10_000)]
    assert gone() is None
    assert kept


@pytest.mark.usefixtures("_as_before")
def test_a_command_that_needs_it_leaves_everything_as_it_was() -> None:
    before = gc.get_threshold()
    with garbage.settled():
        assert gc.get_freeze_count() > 1_000
        assert (garbage.YOUNG, *garbage.OLDER) == gc.get_threshold()[:3]
    assert (0, before) == (gc.get_freeze_count(), gc.get_threshold())
