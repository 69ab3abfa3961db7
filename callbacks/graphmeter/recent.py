"""Runs that have ended lately, a little of each: so that what is said of one afterwards finds its trace, name and owner.

Bounded; what has left is still found by its run id, which makes the trace id, only its attribution is then unknown here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

from opentelemetry.trace import TraceState

from graphmeter.records import Run, Sink, Value

_MOST: Final = 1024
"""Some 600 bytes each."""


class Ended(NamedTuple):
    """What is left of a root run."""

    trace_id: int
    graph: str
    shared: Mapping[str, Value]
    state: TraceState
    sink: Sink


_ENDED: OrderedDict[int, Ended] = OrderedDict()
"""By number of the run id, the one that ended last is last. A plain dict of which the first is taken away again and again is
searched for its first from where it once began."""


def keep(run: Run) -> None:
    """Remember the root `run`, which has ended."""
    tree = run.tree
    put(run.number, Ended(run.trace_id, tree.graph, run.shared, tree.state, tree.sink))


def put(number: int, ended: Ended) -> None:
    """Remember `ended`; forget the oldest beyond the bound."""
    _ENDED[number] = ended
    if len(_ENDED) > _MOST:
        _ENDED.popitem(last=False)


def find(number: int) -> Ended | None:
    """What is remembered of the run with this number."""
    return _ENDED.get(number)


def forget(sink: Sink) -> None:
    """Nothing goes to `sink` any more, and nothing here keeps it alive."""
    for key, ended in _ENDED.copy().items():
        if ended.sink is sink:
            _ENDED.pop(key, None)
