"""What a LangChain event means in LangGraph terms: graph, node, or nothing; and how a run ended.

Facts this rests on (measured on langgraph 1.2): a node, and nothing else, changes `langgraph_checkpoint_ns` against its
parent; every other metadata key of a node is inherited by all that runs inside it. A subgraph looks like any chain until
its first node starts. Control flow travels as exceptions that are no errors.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Mapping
from traceback import StackSummary, walk_tb
from typing import Any

from graphmeter import context, older, runs
from graphmeter.names import CANCELLED, ERROR, INTERRUPTED, OK, RUN, SUBGRAPH
from graphmeter.records import CHAIN, Failure, Run, Tree

try:
    from langgraph import errors as _errors
except ImportError:
    _errors = None  # type: ignore[assignment]


def _named(*names_: str) -> tuple[type[BaseException], ...]:
    # One by one: what this LangGraph does not have yet must not hide what it has.
    return tuple(found for name in names_ if (found := getattr(_errors, name, None)) is not None)


_INTERRUPTS = _named("GraphInterrupt")
_STOPS = _named("GraphDrained")
_TIMEOUTS = _named("NodeTimeoutError")
_CONTROL = _named("ParentCommand", "GraphBubbleUp")

NS = "langgraph_checkpoint_ns"
UNNAMED = "LangGraph"
"""What LangGraph calls a graph compiled without a name."""
HIDDEN = "langsmith:hidden"
"""Tag of runs that LangGraph asks tracers not to show."""
_CANCELLED = (
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    GeneratorExit,  # a stream closed or abandoned before its end
    KeyboardInterrupt,
    SystemExit,
)
_MOST_FRAMES = 24

_promotion = threading.Lock()


def is_graph(metadata: Mapping[str, Any], parent: Run | None) -> bool:
    """Whether a chain that starts under `parent` is known at once to be a root graph.

    LangGraph stamps `ls_integration` on the graph, and everything inside inherits it; so it tells only outside of graphs.
    Before 1.1.4 it did not; there the caller tells.
    """
    if NS in metadata or (parent is not None and parent.tree.root_id is not None):
        return False
    return "ls_integration" in metadata or (not older.TELLS and older.runner_here() is not None)


def become_node(run: Run, parent: Run, metadata: Mapping[str, Any]) -> None:
    """Fill in what a node attempt below `parent` has."""
    name = metadata.get("langgraph_node") or run.name
    run.name = name = name if type(name) is str else str(name)
    run.node = f"{parent.node}.{name}" if parent.node else name
    step = metadata.get("langgraph_step")
    if isinstance(step, int):
        run.step = step
        if parent.kind is RUN:
            # A thread's steps go on from run to run; this run made only those from its first one on.
            tree = run.tree
            if tree.first_step is None:
                tree.first_step = step
            if step - tree.first_step >= tree.steps:
                tree.steps = step - tree.first_step + 1


def ensure_graph(chain: Run) -> None:
    """`chain`, a mere chain so far, has tasks; it is thereby a graph."""
    # Several nodes may start at once, each in its own thread; one of them makes the graph.
    with _promotion:
        if chain.kind is not CHAIN:
            return
        if chain.tree.root_id is not None:
            kind = SUBGRAPH
            if chain.name == UNNAMED and chain.task is not None:
                chain.name = chain.task.name
        else:
            kind = RUN
            chain.tree = Tree(
                chain.run_id,
                chain.tree.graph or ("" if chain.name == UNNAMED else chain.name) or chain.tree.unnamed,
                chain.tree.shared,
                chain.tree.sink,
                chain.tree.trace_id,
                chain.tree.outer,
                chain.tree.flags,
                chain.tree.state,
                (chain.tree.inside, chain.tree.inside_call),
                debug=chain.tree.debug,
                unnamed=chain.tree.unnamed,
                capture=chain.tree.capture,
                mirror=chain.tree.mirror,
            )
        runs.place(chain, *context.current())
        chain.tree.sink.open(chain, kind)
        # Last: other threads read the kind without the lock.
        chain.kind = kind


def after_fork() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _promotion  # a lock cannot be reset
    _promotion = threading.Lock()


def outcome(error: BaseException | None) -> tuple[str, Failure | None]:
    """Status of a run that ended with `error`, and the failure if it is one."""
    if error is None:
        return OK, None
    if isinstance(error, _INTERRUPTS):
        return INTERRUPTED, None
    if isinstance(error, (*_CANCELLED, *_STOPS)):
        return CANCELLED, None
    if isinstance(error, _CONTROL):
        return OK, None
    return ERROR, failure_of(error)


def failure_of(error: BaseException) -> Failure:
    """Type, text and frames of `error`; the frames hold file, line and function, no variables."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - somebody else's __str__ is broken; the type still says a lot
        message = ""
    frames = StackSummary.extract(walk_tb(error.__traceback__), limit=-_MOST_FRAMES, lookup_lines=False)
    node = getattr(error, "node", "") if isinstance(error, _TIMEOUTS) else ""
    return Failure(name, message[:4096], frames, node)
