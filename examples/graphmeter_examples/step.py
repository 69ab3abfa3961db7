"""A node from one `async` body, run natively in both worlds, that writes its outcomes to the tally.

LangGraph takes any Runnable as a node. A `Step` has a sync and an async way in: a body awaits `call(runnable, value)`, which
blocks in `invoke` and awaits in `ainvoke`, so that examples are written once and both ways are measured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import get_runtime
from langgraph.types import RetryPolicy

from graphmeter_examples.tally import Tally, outcome

In = TypeVar("In")
Out = TypeVar("Out")


class Call(Protocol):
    """Runs a model, a retriever or a graph, and waits for it in the way that suits the caller."""

    async def __call__(self, runnable: Runnable[In, Out], value: In, /) -> Out: ...


Body = Callable[[Any, Call], Awaitable[Mapping[str, Any]]]
"""State in, update out."""


class Step(Runnable[Any, Mapping[str, Any]]):
    """One node. Retries are LangGraph's own: pass `retry` to `add_node` as well."""

    def __init__(self, body: Body, tally: Tally, graph: str, path: str, retry: RetryPolicy | None = None) -> None:
        self.name = path.rpartition(".")[2]
        self.retry = retry
        self._body = body
        self._tally = tally
        self._graph = graph
        self._path = path

    def invoke(
        self,
        input: Any,  # noqa: A002  # LangChain's name for it
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Mapping[str, Any]:
        with outcome(self._record):
            return _run(self._body(input, _blocking))

    async def ainvoke(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Mapping[str, Any]:
        with outcome(self._record):
            return await self._body(input, _awaiting)

    def _record(self, status: str, error: BaseException | None) -> None:
        self._tally.attempt(self._graph, self._path, status, final=not self._will_retry(error))

    def _will_retry(self, error: BaseException | None) -> bool:
        if self.retry is None or not isinstance(error, Exception) or isinstance(error, GraphBubbleUp):
            return False
        info = get_runtime().execution_info
        assert info is not None  # LangGraph sets it for every node
        retryable = cast("Callable[[Exception], bool]", self.retry.retry_on)
        return info.node_attempt < self.retry.max_attempts and retryable(error)


async def _blocking(runnable: Runnable[In, Out], value: In, /) -> Out:
    return runnable.invoke(value)


async def _awaiting(runnable: Runnable[In, Out], value: In, /) -> Out:
    return await runnable.ainvoke(value)


def _run(body: Awaitable[Out]) -> Out:
    """Run a body whose calls all block: it never suspends, so one step takes it to its end."""
    try:
        body.__await__().send(None)
    except StopIteration as end:
        return cast("Out", end.value)
    raise RuntimeError("a node awaited something other than `call` in a graph run without an event loop")
