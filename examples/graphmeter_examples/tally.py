"""The known truth about a workload: nodes, models, tools and the driver write here what they did, Graphmeter is not asked.

Every count is a Counter whose keys are named tuples; `by` sums one over any of its fields, which is the shape that reports
are compared in. Statuses and token buckets are those of `graphmeter.names`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from langgraph.errors import GraphBubbleUp

from graphmeter import names

_team: ContextVar[str] = ContextVar("team", default="")


class Run(NamedTuple):
    """One invocation of a root graph; a resume is an invocation of its own."""

    graph: str
    team: str
    status: str


class Attempt(NamedTuple):
    """One try of a node. The last try is what the node's execution came to."""

    graph: str
    node: str
    """Path through subgraphs: `billing.lookup`."""
    status: str
    final: bool


class ModelCall(NamedTuple):
    """One request to a model provider."""

    graph: str
    team: str
    node: str
    model: str
    """The model that answered; the one asked for when none did."""
    status: str


class Tokens(NamedTuple):
    """Where tokens of an exclusive bucket went."""

    graph: str
    team: str
    node: str
    model: str
    type: str
    """One of `graphmeter.names.TOKEN_TYPES`."""


class Spend(NamedTuple):
    """Where money went."""

    graph: str
    team: str
    node: str
    model: str


class ToolCall(NamedTuple):
    """One execution of a tool, or of a retriever."""

    graph: str
    node: str
    tool: str
    status: str


Key = TypeVar("Key", Run, Attempt, ModelCall, Tokens, Spend, ToolCall)


class Tally:
    """Thread-safe counts of everything that happened. Equal when everything counted is equal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.runs: Counter[Run] = Counter()
        self.attempts: Counter[Attempt] = Counter()
        self.model_calls: Counter[ModelCall] = Counter()
        self.tool_calls: Counter[ToolCall] = Counter()
        self.retriever_calls: Counter[ToolCall] = Counter()
        self.tokens: Counter[Tokens] = Counter()
        self.cost_nano: Counter[Spend] = Counter()
        """Nano-USD; each call is rounded once, then summed."""

    def run(self, graph: str, team: str, status: str) -> None:
        with self._lock:
            self.runs[Run(graph, team, status)] += 1

    def attempt(self, graph: str, node: str, status: str, *, final: bool = True) -> None:
        with self._lock:
            self.attempts[Attempt(graph, node, status, final)] += 1

    def model_call(
        self, graph: str, node: str, model: str, status: str, usage: Mapping[str, int], cost_nano: int
    ) -> None:
        """`usage` is tokens per exclusive bucket; empty when the call brought no answer."""
        team = _team.get()
        with self._lock:
            self.model_calls[ModelCall(graph, team, node, model, status)] += 1
            for bucket, count in usage.items():
                if count:
                    self.tokens[Tokens(graph, team, node, model, bucket)] += count
            if cost_nano:
                self.cost_nano[Spend(graph, team, node, model)] += cost_nano

    def tool_call(self, graph: str, node: str, tool: str, status: str) -> None:
        with self._lock:
            self.tool_calls[ToolCall(graph, node, tool, status)] += 1

    def retriever_call(self, graph: str, node: str, retriever: str, status: str) -> None:
        with self._lock:
            self.retriever_calls[ToolCall(graph, node, retriever, status)] += 1

    @property
    def executions(self) -> Counter[Attempt]:
        """Node executions: the final attempts."""
        with self._lock:
            return Counter({key: count for key, count in self.attempts.items() if key.final})

    def counts(self) -> dict[str, Mapping[tuple[str | bool, ...], int]]:
        """A copy of everything counted."""
        with self._lock:
            return {
                "runs": Counter(self.runs),
                "attempts": Counter(self.attempts),
                "model_calls": Counter(self.model_calls),
                "tool_calls": Counter(self.tool_calls),
                "retriever_calls": Counter(self.retriever_calls),
                "tokens": Counter(self.tokens),
                "cost_nano": Counter(self.cost_nano),
            }

    def __eq__(self, other: object) -> bool:
        return self.counts() == other.counts() if isinstance(other, Tally) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"<Tally runs={self.runs.total()} attempts={self.attempts.total()} cost_nano={self.cost_nano.total()}>"


def by(facts: Mapping[Key, int], *fields: str) -> Counter[tuple[str, ...]]:
    """Sums over the named fields: `by(tally.cost_nano, "team")[("cx",)]` is what that team spent."""
    sums: Counter[tuple[str, ...]] = Counter()
    for key, count in facts.items():
        sums[tuple(str(getattr(key, field)) for field in fields)] += count
    return sums


@contextmanager
def spending_as(team: str) -> Iterator[None]:
    """Charge model calls inside to `team`, in every thread and task that LangGraph starts for them."""
    token = _team.set(team)
    try:
        yield
    finally:
        _team.reset(token)


@contextmanager
def outcome(record: Callable[[str, BaseException | None], None]) -> Iterator[None]:
    """Tell `record` the status that the body ended with, and the exception that ended it."""
    try:
        yield
    except GraphBubbleUp as error:  # an interrupt waits for a human, it is not a failure
        record(names.INTERRUPTED, error)
        raise
    except (asyncio.CancelledError, GeneratorExit) as error:
        record(names.CANCELLED, error)
        raise
    except Exception as error:
        record(names.ERROR, error)
        raise
    record(names.OK, None)
