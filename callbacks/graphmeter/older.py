"""What an older LangGraph does not tell its callbacks, read from its runner instead.

Since 1.1.4 it stamps its graphs, since 1.1.8 it tells that a graph has paused. Before, a graph looks like any chain until
its first node starts, and `interrupt_before` like the end of the work. But what starts a root is `Pregel.stream` or
`astream`, a few frames up, and there is a variable that knows. Nothing here runs where LangGraph tells by itself.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Final
from uuid import UUID

try:
    from langgraph import errors as _langgraph
except ImportError:
    _langgraph = None  # type: ignore[assignment]
try:
    import langgraph.callbacks as _events
except ImportError:
    _events = None  # type: ignore[assignment]

TELLS: Final = _langgraph is None or _events is not None
"""Whether the installed LangGraph tells; without one there is nothing to be told."""

_runners: dict[UUID, FrameType] = {}
"""Frames that run a root, by its run id; LangGraph reports an end of every one, also of those that are abandoned."""


def runner_here() -> FrameType | None:
    """The frame of LangGraph's runner, if it is the first caller above LangChain's callbacks."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if not module.startswith(("graphmeter.", "langchain_core.callbacks.")):
            return frame if module.startswith("langgraph.pregel") else None
        frame = frame.f_back
    return None


def watch(run_id: UUID) -> None:
    """A root starts, called by its runner."""
    runner = runner_here()
    if runner is not None:
        _runners[run_id] = runner


def paused(run_id: UUID) -> bool:
    """Whether the root that ends has stopped at `interrupt_before` or `interrupt_after`."""
    runner = _runners.pop(run_id, None)
    if runner is None:
        return False
    # An asynchronous end is told in a task of its own, so the frame cannot be looked for now.
    status = getattr(runner.f_locals.get("loop"), "status", "")
    return status in ("interrupt_before", "interrupt_after")


def forget(run_id: UUID) -> None:
    """The root has failed or was left."""
    _runners.pop(run_id, None)
