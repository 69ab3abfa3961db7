"""From inside a run: code in a node, tool, thread or task asks where it is, and adds tags to the run that it is part of.

The run is found through the context (`contextvars`), which tasks, `asyncio.to_thread` and LangChain's thread pools carry
along. A thread started by hand has none: start it as `Thread(target=contextvars.copy_context().run, args=(work,))`.
"""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

from graphmeter import attribution, context, forks, guard, names
from graphmeter.records import Run, Value, anchor
from graphmeter.runs import RUNS

_MOST_TAGS: Final = 32
"""Tags of one run, those from its metadata included. Every span of the run carries them."""
_LONGEST_NAME: Final = 64

_lock = threading.Lock()


class RunInfo(NamedTuple):
    """Where the calling code is."""

    run_id: str
    """LangChain run id (UUID) of the root graph; what `graphmeter trace` takes."""
    trace_id: str
    """32 hex digits."""
    graph: str
    """Name of the root graph; empty if it is named after the service, which is known to the exporter only."""
    node: str
    """Path of the node through subgraphs, `research.search`; empty outside of nodes."""


def tag(**tags: object) -> None:
    """Add `graphmeter.tag.<name>` to every span of the current run that ends from now on, the run's own span included.

    A later value takes the place of an earlier one. Values are texts (256 characters), numbers, booleans, enums or UUIDs;
    names have at most 64 printable characters; a run has at most 32 tags. What is beyond that, and a tag outside of a run,
    has no effect but to be counted in `stats()`, and logged once. Never raises.
    """
    _tag(tags)


def current_run() -> RunInfo | None:
    """The run that the calling code is part of; None outside of graphs, and where nothing measures the graph."""
    run = _current()
    if run is None:
        return None
    tree = run.tree
    span = anchor(run)
    trace_id = tree.trace_id if span is None else span.context.trace_id
    return RunInfo(tree.run_id, f"{trace_id:032x}", tree.graph, run.node)


@guard.guarded
def _tag(tags: dict[str, object]) -> None:
    run = _current()
    if run is None:
        guard.noticed("tag outside of a run", "graphmeter.tag() works in the nodes and tools of a measured graph")
        return
    said: dict[str, str] = {}
    for name, value in tags.items():
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            guard.noticed("unusable tag name", f"{name[:_LONGEST_NAME]!r} is not of 1 to {_LONGEST_NAME} characters")
        elif text := attribution.text(value, f"tag {name}"):
            said[names.TAG_PREFIX + name] = text
    if said:
        _add(run, said)


def _add(run: Run, said: dict[str, str]) -> None:
    tree = run.tree
    with _lock:
        # A new dict: runs that have ended, and the exporter's thread, keep the one that they know.
        shared: dict[str, Value] = {**tree.shared}
        room = _MOST_TAGS - sum(key.startswith(names.TAG_PREFIX) for key in shared)
        refused = 0
        for key, text in said.items():
            if key not in shared:
                if room <= 0:
                    refused += 1
                    continue
                room -= 1
            shared[key] = text
        tree.shared = shared
    if refused:
        guard.noticed("too many tags", f"a run has at most {_MOST_TAGS}")


def _current() -> Run | None:
    """The innermost open run here that is part of a graph."""
    if not RUNS:  # nothing is being measured: nothing to look for, and nothing to load
        return None
    # Ends of runs are not undone in every context; whoever has ended points to who may not have.
    run = context.run_here()
    while run is not None and run.run_id not in RUNS:
        run = run.parent
    if run is None:
        from graphmeter import roots

        run = roots.parent_of(None)
    return run if run is not None and run.tree.run_id else None


def _after_fork() -> None:
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.Lock()


forks.in_child(_after_fork)
