"""Sync and async: one test says what happens, and runs it both ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from callbacks.fakes import asking, asking_async


@dataclass(frozen=True, slots=True)
class Way:
    """How a graph is driven: invoke, or ainvoke with asynchronous nodes."""

    asynchronous: bool

    async def invoke(self, graph: Any, value: Any, config: Any, **options: Any) -> Any:
        """The result of `graph`."""
        if self.asynchronous:
            return await graph.ainvoke(value, config, **options)
        return graph.invoke(value, config, **options)

    async def stream(self, graph: Any, value: Any, config: Any, **options: Any) -> list[Any]:
        """Everything that `graph` streams."""
        if self.asynchronous:
            return [part async for part in graph.astream(value, config, **options)]
        return list(graph.stream(value, config, **options))

    def node(self, plain: Callable[..., Any]) -> Any:
        """`plain`, or a coroutine function that does the same."""
        if not self.asynchronous:
            return plain

        async def node(state: Any) -> Any:
            return plain(state)

        node.__name__ = plain.__name__
        return node

    def asking(self, model: Any) -> Any:
        """A node that asks `model`."""
        return asking_async(model) if self.asynchronous else asking(model)

    def slow(self, seconds: float) -> Any:
        """A node that takes that long."""

        async def wait(state: Any) -> Any:
            await asyncio.sleep(seconds)
            return {}

        def block(state: Any) -> Any:
            time.sleep(seconds)
            return {}

        return wait if self.asynchronous else block
