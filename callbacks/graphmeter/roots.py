"""Where a run belongs: below an open run, below the application's span, or at the top of a trace of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config
from opentelemetry import trace

from graphmeter import attribution, context, guard, langgraph, marks
from graphmeter.capture import Capture
from graphmeter.records import Run, Sink, Tree, Value, trace_id_of
from graphmeter.runs import RUNS

NONE: Final = -1
"""No run has this number. LangChain lets pass what is no UUID where an application names its runs."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a handler gives to every tree that it plants."""

    sink: Sink
    shared: Mapping[str, Value]
    """Attributes, under those that a run's metadata says."""
    unnamed: str
    """Name of graphs that have none."""
    debug: bool
    capture: Capture
    mirror: bool = False


def parent_of(parent_run_id: UUID | None) -> Run | None:
    """The open run that a new one belongs to, also when the application passed `callbacks=[…]` of its own in between."""
    parent = RUNS.get(getattr(parent_run_id, "int", NONE))
    return parent if parent is not None else around()


def around() -> Run | None:
    """The open run whose body is running here, as LangChain knows it."""
    config = var_child_runnable_config.get()
    if config is None:
        return None
    run_id = getattr(config.get("callbacks"), "parent_run_id", None)
    return RUNS.get(getattr(run_id, "int", NONE))


def plant(ground: Ground, run_id: UUID, parent: Run | None, metadata: Mapping[str, Any], graph: str = "") -> Tree:
    """A tree for the root `run_id`: of a graph if `graph` names one, else of something outside of graphs.

    `parent` is a run outside of graphs that the root is part of; they share the trace.
    """
    shared = attribution.read(metadata, ground.shared)
    name = metadata.get(attribution.GRAPH)
    named = attribution.text(name, attribution.GRAPH) if name is not None else ""
    if graph:
        named = named or ("" if graph == langgraph.UNNAMED else graph) or ground.unnamed
    root_id = run_id if graph else None
    if parent is not None:
        above = parent.tree
        return Tree(
            root_id,
            named,
            shared,
            above.sink,
            above.trace_id,
            above.outer,
            above.flags,
            above.state,
            (above.inside, above.inside_call),
            debug=above.debug,
            unnamed=above.unnamed,
            capture=above.capture,
            mirror=above.mirror,
        )
    here, span = context.current()
    outer = context.around(here, span)
    provider = trace.get_tracer_provider()  # once: it may look into the environment each time
    if outer is not None:
        trace_id, flags, state = outer.trace_id, outer.trace_flags, outer.trace_state
    else:
        trace_id, flags, state = trace_id_of(run_id.int), context.SAMPLED, context.NO_STATE
        if type(provider) is not trace.ProxyTracerProvider and (asked := _ask_sampler(provider, trace_id, here)):
            flags, state = asked
    return Tree(
        root_id,
        named,
        shared,
        ground.sink,
        trace_id,
        outer,
        flags,
        state,
        marks.inside(state, provider),
        debug=ground.debug,
        unnamed=ground.unnamed,
        capture=ground.capture,
        mirror=ground.mirror,
    )


# The application's sampler may be anybody's code.
_ask_sampler = guard.guarded(context.sampling_of_application)
