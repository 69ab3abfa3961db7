"""Cases 9 to 12: human in the loop. An interrupt is an error nowhere, and the run that goes on says from where."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

import pytest
from langchain_core.tools import tool
from langchain_core.tracers import context as tracers
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from callbacks.fakes import FakeChat, State, chain_of, nothing
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import GraphMeterCallbackHandler, names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

THREAD: Any = {"configurable": {"thread_id": "t1"}}


def approve(state: State) -> State:
    return {"x": int(interrupt("ok?"))}


def only_interrupts(spans: InMemorySpans) -> None:
    assert not [span.label for span in spans.spans() if span.otel_error or span.exception is not None]


async def test_an_interrupt_pauses_the_run_and_the_same_task_goes_on(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 9."""
    graph = chain_of(
        ("a", way.asking(FakeChat())), ("approve", way.node(approve)), ("b", way.node(nothing)),
        checkpointer=InMemorySaver(),
    )  # fmt: skip
    await way.invoke(graph, {}, {**bound, **THREAD})
    assert f"run demo interrupted\n  node a ok\n    {MINI}\n  node approve interrupted" == whole(spans)
    only_interrupts(spans)
    asked = spans.one("node", "approve")
    spans.clear()

    assert {"x": 1} == await way.invoke(graph, Command(resume=7), {**bound, **THREAD})
    assert "run demo ok\n  node approve ok\n  node b ok" == whole(spans)
    answered = spans.one("node", "approve")
    assert {"t1"} == {span.attributes[names.CONVERSATION_ID] for span in (asked, answered)}
    # The same task: namespace and step are those of the interrupted one, and it is no second attempt.
    for key in (names.LANGGRAPH_CHECKPOINT_NS, names.LANGGRAPH_STEP, names.ATTEMPT):
        assert asked.attributes[key] == answered.attributes[key]


async def test_the_run_that_goes_on_links_to_the_one_that_paused(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 9: by span link in one process, by thread and checkpoint id in any."""
    graph = chain_of(("approve", way.node(approve)), checkpointer=InMemorySaver())
    await way.invoke(graph, {}, {**bound, **THREAD})
    await way.invoke(graph, Command(resume=7), {**bound, **THREAD})
    assert "run demo interrupted\n  node approve interrupted\nrun demo ok\n  node approve ok" == whole(spans)
    first, second = spans.spans("run")
    assert (first.span_id,) == second.links
    # An older LangGraph does not name the checkpoint.
    checkpoint = first.attributes.get(names.LANGGRAPH_CHECKPOINT_ID, names.LATEST_CHECKPOINT)
    assert checkpoint == second.attributes[names.RESUMED_FROM]
    assert first.trace_id != second.trace_id


async def test_an_interrupt_in_a_subgraph_interrupts_every_level(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 10."""
    inner = chain_of(("before", way.node(nothing)), ("approve", way.node(approve)), name="inner")
    graph = chain_of(("outer", inner), checkpointer=InMemorySaver())
    await way.invoke(graph, {}, {**bound, **THREAD})
    assert (
        "run demo interrupted\n"
        "  node outer interrupted\n"
        "    subgraph inner interrupted\n"
        "      node before ok\n"
        "      node approve interrupted" == whole(spans)
    )
    only_interrupts(spans)
    spans.clear()
    await way.invoke(graph, Command(resume=7), {**bound, **THREAD})
    assert "run demo ok\n  node outer ok\n    subgraph inner ok\n      node approve ok" == whole(spans)


async def test_an_interrupt_in_a_tool_interrupts_every_level(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 10."""

    @tool("ask")
    def ask(question: str) -> str:
        """Ask a human."""
        return str(interrupt(question))

    @tool("ask")
    async def ask_async(question: str) -> str:
        """Ask a human."""
        return str(interrupt(question))

    def call(state: State) -> State:
        ask.invoke({"question": "?"})
        return {"x": 1}

    async def call_async(state: State) -> State:
        await ask_async.ainvoke({"question": "?"})
        return {"x": 1}

    graph = chain_of(("n", call_async if way.asynchronous else call), checkpointer=InMemorySaver())
    await way.invoke(graph, {}, {**bound, **THREAD})
    assert "run demo interrupted\n  node n interrupted\n    tool ask interrupted" == whole(spans)
    only_interrupts(spans)
    spans.clear()
    await way.invoke(graph, Command(resume="yes"), {**bound, **THREAD})
    assert "run demo ok\n  node n ok\n    tool ask ok" == whole(spans)


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
async def test_a_pause_before_or_after_a_node_interrupts_the_run(
    way: Way, spans: InMemorySpans, bound: Any, when: str
) -> None:
    """Case 11: no exception anywhere, only the event tells; before there was one, LangGraph's runner is asked."""
    where = {"interrupt_before": "b", "interrupt_after": "a"}[when]
    graph = chain_of(
        ("a", way.node(nothing)), ("b", way.node(nothing)), checkpointer=InMemorySaver(), **{when: [where]}
    )
    await way.invoke(graph, {}, {**bound, **THREAD})
    assert "run demo interrupted\n  node a ok" == whole(spans)
    only_interrupts(spans)
    spans.clear()
    await way.invoke(graph, None, {**bound, **THREAD})
    assert "run demo ok\n  node b ok" == whole(spans)
    assert 1 == len(spans.one("run").links)


@pytest.fixture
def hooked(spans: InMemorySpans) -> Iterator[InMemorySpans]:
    """A handler that LangChain's configure hook adds: such a one hears neither interrupts nor resumes."""
    before = tracers._configure_hooks.copy()
    handler = spans.handler()
    variable: ContextVar[GraphMeterCallbackHandler] = ContextVar("ours", default=handler)
    tracers.register_configure_hook(cast("Any", variable), inheritable=True, handle_class=GraphMeterCallbackHandler)
    yield spans
    tracers._configure_hooks[:] = before


async def test_without_events_the_interrupt_is_inferred_from_its_node(way: Way, hooked: InMemorySpans) -> None:
    """Case 12."""
    inner = chain_of(("approve", way.node(approve)), name="inner")
    graph = chain_of(("a", way.node(nothing)), ("outer", inner), checkpointer=InMemorySaver())
    await way.invoke(graph, {}, THREAD)
    assert (
        "run demo interrupted\n"
        "  node a ok\n"
        "  node outer interrupted\n"
        "    subgraph inner interrupted\n"
        "      node approve interrupted" == whole(hooked)
    )
    only_interrupts(hooked)
    hooked.clear()
    await way.invoke(graph, Command(resume=1), THREAD)
    assert "run demo ok\n  node outer ok\n    subgraph inner ok\n      node approve ok" == whole(hooked)
