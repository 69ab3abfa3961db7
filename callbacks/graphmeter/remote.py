"""Graphs on another server: requests in, a run for each out, as the caller sees it.

LangGraph's RemoteGraph calls no callback. As a node of a measured graph it is seen all the same: the node is. On its own it
becomes a run if it is metered, with its time, outcome and attribution; nodes, calls and money are measured where it runs.
`instrument()` leaves it alone: where both processes are instrumented, every run would be counted twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

from langchain_core.runnables.config import (
    RunnableConfig,
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    merge_configs,
)
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command

from graphmeter import guard, names, runs, waits

_STAMP = {"ls_integration": "langgraph"}
"""By this LangGraph's own graphs are known."""


class MeteredRemoteGraph(RemoteGraph):
    """A RemoteGraph that tells its callbacks of its start and end, as a local graph does."""

    def stream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Iterator[Any]:  # noqa: A002
        whole = _whole(self, config)
        manager = get_callback_manager_for_config(whole)
        run = manager.on_chain_start(None, input, name=self.get_name(), run_id=whole.get("run_id"))
        _resumed(run.run_id, input)
        last = None
        try:
            for last in super().stream(input, config, **options):
                _interrupted(run.run_id, last)
                yield last
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end(last)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AsyncIterator[Any]:  # noqa: A002
        whole = _whole(self, config)
        manager = get_async_callback_manager_for_config(whole)
        run = await manager.on_chain_start(None, input, name=self.get_name(), run_id=whole.get("run_id"))
        _resumed(run.run_id, input)
        last = None
        try:
            async with aclosing(cast("Any", super().astream(input, config, **options))) as stream:
                async for last in stream:
                    _interrupted(run.run_id, last)
                    yield last
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end(last)


def measured(graph: RemoteGraph) -> MeteredRemoteGraph:
    """A copy of `graph` that is measured, by the callbacks in its config."""
    attributes = dict(graph.__dict__)
    return MeteredRemoteGraph(attributes.pop("assistant_id"), **attributes)


def _whole(graph: RemoteGraph, config: RunnableConfig | None) -> RunnableConfig:
    whole = ensure_config(merge_configs(graph.config, config))
    thread_id = whole.get("configurable", {}).get("thread_id")
    thread = {} if thread_id is None else {"thread_id": thread_id}
    whole["metadata"] = {**thread, **whole.get("metadata", {}), **_STAMP}
    return whole


@guard.guarded
def _resumed(run_id: Any, given: Any) -> None:
    run = runs.RUNS.get(run_id.int)
    # The server does not say from which checkpoint. Nothing but an answer counts: `None` may mean anything here.
    if run is not None and run.kind is names.RUN and isinstance(given, Command) and given.resume is not None:
        waits.resumed(run, names.LATEST_CHECKPOINT)


@guard.guarded
def _interrupted(run_id: Any, part: Any) -> None:
    """Note that the graph asks for a human, where `part` of its stream says so: `values` and `updates` do."""
    if isinstance(part, tuple):
        part = part[-1] if not hasattr(part, "data") else part.data
    if not isinstance(part, dict):
        return
    if "__interrupt__" in part or (part.get("interrupts") and "type" in part):
        run = runs.RUNS.get(run_id.int)
        if run is not None:
            run.interrupted = True
