"""From inside a run: code in a node, tool, thread or task asks where it is, and adds tags to the run that it is part of.

The run is found through the context (`contextvars`), which tasks, `asyncio.to_thread` and LangChain's thread pools carry
along. A thread started by hand has none: start it as `Thread(target=contextvars.copy_context().run, args=(work,))`.
Afterwards, and elsewhere, a run is found by its id.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from time import time_ns
from typing import Final, NamedTuple
from uuid import UUID

from opentelemetry.trace import TraceState

from graphmeter import attribution, context, forks, guard, names, recent
from graphmeter.records import Note, Run, Sink, Value, anchor, now_ns, trace_id_of
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


def tag(run_id: str | UUID | None = None, /, **tags: object) -> None:
    """Add `graphmeter.tag.<name>` to every span of the current run that ends from now on, the run's own span included.

    With the id of a run as first argument it is about that run. One that has ended, or runs in another process, gets its
    tags by a note of their own: the run has them, its spans do not.

    A later value takes the place of an earlier one. Values are texts (256 characters), numbers, booleans, enums or UUIDs;
    names have at most 64 printable characters; a run has at most 32 tags. What is beyond that, and a tag outside of a run,
    has no effect but to be counted in `stats()`, and logged once. Never raises.
    """
    _tag(run_id, tags)


def current_run() -> RunInfo | None:
    """The run that the calling code is part of; None outside of graphs, and where nothing measures the graph."""
    run = current()
    if run is None:
        return None
    tree = run.tree
    span = anchor(run)
    trace_id = tree.trace_id if span is None else span.context.trace_id
    return RunInfo(tree.run_id, f"{trace_id:032x}", tree.graph, run.node)


class Subject(NamedTuple):
    """A run that something is said about."""

    run: Run | None
    """One of its runs, if it is open in this process."""
    run_id: UUID
    trace_id: int
    graph: str | None
    shared: Mapping[str, Value]
    state: TraceState | None
    sink: Sink

    def say(self, kind: str, facts: Mapping[str, Value]) -> None:
        """Emit a note of `kind`."""
        at_ns = time_ns() if self.run is None else now_ns(self.run)
        # Random: to say a thing twice is to say two things, whoever says them; to send one twice is not.
        salt = kind.encode() + os.urandom(8)
        self.sink.note(Note(kind, self.trace_id, salt, at_ns, self.run_id, self.graph, self.shared, facts, self.state))


def subject(run_id: object, what: str) -> Subject | None:
    """The run with this id, or (None) the current one. `what` is to be said of it, for the message that there is none."""
    if run_id is None:
        run = current()
        if run is None:
            guard.noticed(
                f"{what.partition(' ')[0]} outside of a run",
                f"{what}: nothing measures the code around it; inside of nodes and tools the run is known, elsewhere pass "
                "its run id",
            )
            return None
        return _open(run)
    key = _uuid(run_id)
    if key is None:
        guard.noticed("unusable run id", f"{what}: {shown(run_id)} is not a UUID; pass current_run().run_id")
        return None
    run = RUNS.get(key.int)
    if run is not None and run.tree.root_id is not None:
        return _open(run)
    ended = recent.find(key.int)
    if ended is not None:
        return Subject(None, key, ended.trace_id, ended.graph, ended.shared, ended.state, ended.sink)
    # Some other process's, or long ago: the trace id is the run's own unless the application had a span around it.
    from graphmeter import client

    ours = attribution.Attribution().over(client.settings()).shared()
    return Subject(None, key, trace_id_of(key.int), None, ours, None, client.pipeline())


def shown(value: object) -> str:
    """`value` as a message may quote it."""
    text = repr(value)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"


def _open(run: Run) -> Subject:
    tree = run.tree
    span = anchor(run)
    trace_id = tree.trace_id if span is None else span.context.trace_id
    return Subject(run, tree.root_id or run.run_id, trace_id, tree.graph, tree.shared, tree.state, tree.sink)


def _uuid(value: object) -> UUID | None:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


@guard.guarded
def _tag(run_id: object, tags: dict[str, object]) -> None:
    about = subject(run_id, "tag")
    if about is None:
        return
    said: dict[str, Value] = {}
    for name, value in tags.items():
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            guard.noticed("unusable tag name", f"{name[:_LONGEST_NAME]!r} is not of 1 to {_LONGEST_NAME} characters")
        elif text := attribution.text(value, f"tag {name}"):
            said[names.TAG_PREFIX + name] = text
    if not said:
        return
    if about.run is not None:
        tree = about.run.tree
        with _lock:
            # A new dict: runs that have ended, and the exporter's thread, keep the one that they know.
            tree.shared = _with_tags(tree.shared, said)
    elif said := _with_tags({}, said):
        about.say(names.TAGS, said)
        if (ended := recent.find(about.run_id.int)) is not None:
            recent.put(about.run_id.int, ended._replace(shared=_with_tags(ended.shared, said)))


def _with_tags(shared: Mapping[str, Value], said: Mapping[str, Value]) -> dict[str, Value]:
    """`shared` with what is `said`, as far as there is room for it."""
    tagged = dict(shared)
    room = _MOST_TAGS - sum(key.startswith(names.TAG_PREFIX) for key in shared)
    refused = 0
    for key, text in said.items():
        if key not in tagged:
            if room <= 0:
                refused += 1
                continue
            room -= 1
        tagged[key] = text
    if refused:
        guard.noticed("too many tags", f"a run has at most {_MOST_TAGS}")
    return tagged


def current() -> Run | None:
    """The innermost open run here that is part of a graph."""
    if not RUNS:  # nothing is being measured: nothing to look for, and nothing to load
        return None
    # Ends of runs are not undone in every context; whoever has ended points to who may not have.
    run = context.run_here()
    while run is not None and run.number not in RUNS:
        run = run.parent
    if run is None:
        from graphmeter import roots

        run = roots.parent_of(None)
    return run if run is not None and run.tree.root_id is not None else None


def _after_fork() -> None:
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.Lock()


forks.in_child(_after_fork)
