"""Which graph runs: found at the root's start, whoever attached us; drawn once, in the exporter's thread, as a note.

A callback is told a name, never the graph, and the name is the caller's `run_name=` where one is given. The graph itself
is a few frames up: `Pregel.stream` or `astream` is what starts the root. Looking there costs a few microseconds per
run, gives the name that the graph was compiled with, and nodes and edges, in all three ways of attaching alike.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet, ref

from graphmeter import client, forks, guard, langgraph, names
from graphmeter.records import Note, Run, Sink, Value

if TYPE_CHECKING:
    from types import FrameType

_MOST_FRAMES: Final = 12
_LEAST_FRAMES: Final = 5
"""Where the graph's own frame is looked for, counted from `graph_here`: one each for the guard, our callback, LangChain's
dispatch and its callback manager lie between, or one more. A graph that is further away is none of this run."""
_ENTRIES: Final = frozenset({"stream", "astream"})
_PATIENCE_S: Final = 60.0
"""Pause between topologies of one name: whoever compiles a graph anew for every request says it once a minute."""
_MOST_NAMES: Final = 1024
_MOST_NODES: Final = 500
_MOST_EDGES: Final = 2000
_DEEPEST: Final = 8
"""Subgraphs within subgraphs; a graph may contain itself."""

_pregel: type | None = None


class CannotDraw(Exception):
    """The graph's own drawing failed, or what it says is no text."""


class _Told:
    """What one sink has been told."""

    def __init__(self) -> None:
        self.graphs: WeakSet[Any] = WeakSet()
        self.next_s: dict[str, float] = {}
        """By name of the graph: no topology before then, on the monotonic clock."""


_told: WeakKeyDictionary[Sink, _Told] = WeakKeyDictionary()
_settled: dict[int, tuple[ref[Any], ref[Sink], float]] = {}
"""Graphs, by the number of the object, that one sink need not be told of before a time, in ns on `perf_counter_ns`: nearly
every root is one of theirs, and this is asked sooner than what was told."""
_MOST_SETTLED: Final = 256


@guard.guarded
def graph_here() -> tuple[Any, str] | None:
    """The compiled graph whose root is being started by the calling callback, and its name (`name_of`); None where it is
    not found.
    """
    pregel = _pregel or _find_pregel()
    if pregel is None:
        return None
    try:
        # From there on: each frame that is looked at is made an object first, which takes most of a microsecond.
        frame: FrameType | None = sys._getframe(_LEAST_FRAMES)
    except ValueError:  # so few callers: no graph is among them
        return None
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name in _ENTRIES:
            graph = frame.f_locals.get("self")
            if isinstance(graph, pregel):
                return graph, name_of(graph) or ""
            if type(graph).__module__ == "graphmeter.remote":
                return None  # what runs is on another server; a graph further up calls it
        frame = frame.f_back
    return None


@guard.guarded
def name_of(graph: Any) -> str:
    """The name that `graph` has of its own, by compilation, by a `run_name` bound to it, or by the function that is its
    `@entrypoint`; "LangGraph" for none.
    """
    own = str(graph.get_name())
    if own == langgraph.UNNAMED:
        own = str((graph.config or {}).get("run_name") or own)
    nodes = getattr(graph, "nodes", ())
    # What is built from nodes and edges is a subclass.
    if own == langgraph.UNNAMED and len(nodes) == 1 and type(graph) is (_pregel or _find_pregel()):
        own = str(next(iter(nodes)))
    return own


@guard.guarded
def tell(run: Run, graph: Any) -> None:
    """Say once per process what `graph`, whose root `run` has just begun, looks like, unless GRAPHMETER_TOPOLOGY is off."""
    tree = run.tree
    settled, now_ns = _settled.get(id(graph)), run.started_ns - tree.offset_ns
    if settled is not None and settled[0]() is graph and settled[1]() is tree.sink and now_ns < settled[2]:
        return
    if not client.settings().topology:
        return
    told = _told.get(tree.sink)
    if told is None:
        told = _told.setdefault(tree.sink, _Told())
    if graph in told.graphs or len(told.next_s) >= _MOST_NAMES:
        _settle(graph, tree.sink, math.inf)
        return
    now = time.monotonic()
    wait_s = told.next_s.get(tree.graph, 0.0) - now
    if wait_s > 0:
        _settle(graph, tree.sink, now_ns + wait_s * 1e9)
        return
    told.next_s[tree.graph] = now + _PATIENCE_S
    told.graphs.add(graph)
    note = Note(
        names.TOPOLOGY,
        tree.trace_id,
        b"topology",
        run.started_ns,
        run.run_id,
        tree.graph,
        run.shared,
        Drawing(graph),
        tree.state,
    )
    tree.sink.note(note)


def _settle(graph: Any, sink: Sink, until_ns: float) -> None:
    """`sink` need not be told of `graph` before then."""
    if len(_settled) >= _MOST_SETTLED:
        _settled.clear()
    _settled[id(graph)] = ref(graph), ref(sink), until_ns


class Drawing(Mapping[str, Value]):
    """The attributes of a topology note, made when they are first read: that is in the exporter's thread.

    Holds the graph until then, at most as long as a note waits to be built; a graph made for one request may be gone
    otherwise.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._facts: dict[str, Value] | None = None

    def _drawn(self) -> dict[str, Value]:
        if self._facts is None:
            graph, self._graph = self._graph, None
            self._facts = {}
            self._facts = {names.TOPOLOGY_JSON: drawn(graph)}
        return self._facts

    def __getitem__(self, key: str) -> Value:
        return self._drawn()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawn())

    def __len__(self) -> int:
        return len(self._drawn())


def drawn(graph: Any) -> str:
    """Nodes and edges of `graph` as JSON, see `graphmeter.names.TOPOLOGY_JSON`.

    A subgraph's nodes follow their node under its path, as in `graphmeter.node`: `research`, `research.search`; so do its
    own start and end. Graphs on another server are not asked.

    Raises:
        CannotDraw: see there; the cause is attached.
    """
    nodes: dict[str, None] = {}
    edges: list[tuple[str, str, bool]] = []
    try:
        complete = _draw(graph, "", 0, nodes, edges)
        text = json.dumps({"nodes": list(nodes), "edges": edges}, ensure_ascii=False, separators=(",", ":"))
    except Exception as error:
        raise CannotDraw(f"graph {name_of(graph)!r}: {type(error).__name__}: {error}") from error
    if not complete:
        guard.noticed("graph cut in its topology", f"more than {_MOST_NODES} nodes or {_MOST_EDGES} edges")
    return text


def _draw(graph: Any, path: str, depth: int, nodes: dict[str, None], edges: list[tuple[str, str, bool]]) -> bool:
    """Add `graph` under `path`; False if something had to be left out."""
    picture = graph.get_graph()
    complete = True
    for node in picture.nodes:
        if len(nodes) >= _MOST_NODES:
            complete = False
            break
        nodes[path + str(node)] = None
    for edge in picture.edges:
        source, target = path + str(edge.source), path + str(edge.target)
        if len(edges) >= _MOST_EDGES or source not in nodes or target not in nodes:
            complete = False
        else:
            edges.append((source, target, bool(edge.conditional)))
    pregel = _pregel or _find_pregel()
    for name, inner in graph.get_subgraphs():
        # A RemoteGraph would ask its server.
        if pregel is not None and isinstance(inner, pregel):
            below = depth + 1
            complete = below < _DEEPEST and _draw(inner, f"{path}{name}.", below, nodes, edges) and complete
    return complete


def _find_pregel() -> type | None:
    global _pregel  # looked up once; LangGraph is loaded where a graph runs, and never because of us
    found = getattr(sys.modules.get("langgraph.pregel"), "Pregel", None)
    _pregel = found if isinstance(found, type) else None
    return _pregel


def forget() -> None:
    """Nobody was told anything."""
    _settled.clear()
    _told.clear()


forks.in_child(forget)
