"""Cases 40 and 41: model calls that no config reaches, or that bring callbacks of their own."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage

from callbacks.fakes import FakeChat, State, chain_of
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import instrument, meter, names, uninstrument
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TREE = f"run demo ok\n  node ask ok\n    {MINI}"


@pytest.fixture
def instrumented(spans: InMemorySpans) -> Iterator[None]:
    instrument(spans.handler())
    yield
    uninstrument()


def asking_with(way: Way, config: Any) -> Any:
    """A graph whose only node asks a model, with `config` of its own."""

    def node(state: State) -> State:
        FakeChat().invoke("hi", config=config)
        return {"x": 1}

    async def node_async(state: State) -> State:
        await FakeChat().ainvoke("hi", config=config)
        return {"x": 1}

    return chain_of(("ask", node_async if way.asynchronous else node))


async def test_our_handler_given_again_inside_a_node_makes_no_second_tree(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 41."""
    await way.invoke(asking_with(way, bound), {}, bound)
    await way.invoke(asking_with(way, {"callbacks": [spans.handler()]}), {}, bound)
    assert f"{TREE}\n{TREE}" == whole(spans)


@pytest.mark.parametrize("callbacks", [[], [BaseCallbackHandler()]], ids=["none", "others"])
async def test_callbacks_that_leave_us_out_do_not_hide_what_a_call_costs(
    way: Way, spans: InMemorySpans, bound: Any, callbacks: Any
) -> None:
    """Case 41: an empty list keeps a model's tokens out of a stream; the call is billed all the same."""
    await way.invoke(asking_with(way, {"callbacks": callbacks}), {}, bound)
    await way.invoke(meter(asking_with(way, {"callbacks": callbacks}), handler=spans.handler()), {}, None)
    assert f"{TREE}\n{TREE}" == whole(spans)


async def test_generate_needs_no_callbacks_to_be_measured_in_a_measured_graph(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 41: `generate` looks at its own argument only, not at the node's config."""

    def node(state: State) -> State:
        FakeChat().generate([[HumanMessage("hi")]])
        return {"x": 1}

    async def node_async(state: State) -> State:
        await FakeChat().agenerate([[HumanMessage("hi")]])
        return {"x": 1}

    await way.invoke(chain_of(("ask", node_async if way.asynchronous else node)), {}, bound)
    assert TREE == whole(spans)


async def test_a_graph_called_with_no_callbacks_is_still_part_of_the_run(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 41."""
    inner = chain_of(("ask", way.asking(FakeChat())), name="inner")

    def node(state: State) -> State:
        inner.invoke({}, config={"callbacks": []})
        return {"x": 1}

    async def node_async(state: State) -> State:
        await inner.ainvoke({}, config={"callbacks": []})
        return {"x": 1}

    await way.invoke(chain_of(("n", node_async if way.asynchronous else node)), {}, bound)
    expected = f"run demo ok\n  node n ok\n    subgraph inner ok\n      node ask ok\n        {MINI}"
    assert expected == whole(spans)


def test_calls_between_the_parts_of_a_stream_are_the_callers_own(spans: InMemorySpans, bound: Any) -> None:
    graph = chain_of(("ask", Way(False).asking(FakeChat())))
    for _ in graph.stream({}, config=bound):
        FakeChat().invoke("hi")
        FakeChat().generate([[HumanMessage("hi")]])
    assert TREE == whole(spans)


@pytest.mark.usefixtures("instrumented")
async def test_a_call_in_a_thread_that_knows_nothing_of_its_node_is_billed_outside(
    way: Way, spans: InMemorySpans
) -> None:
    """Case 40: a pool of one's own starts without the context; the money is still seen."""

    def node(state: State) -> State:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(FakeChat().invoke, "hi").result()
        return {"x": 1}

    await way.invoke(chain_of(("n", way.node(node))), {}, None)
    assert f"run demo ok\n  node n ok\n{MINI}" == whole(spans)
    call = spans.one("model")
    assert not {names.RUN_ID, names.ATTEMPT_SPAN} & call.attributes.keys()
    assert spans.one("run").trace_id != call.trace_id


async def test_a_call_in_a_thread_with_the_context_belongs_to_its_node(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 40, with the remedy that docs/client.md names."""

    def node(state: State) -> State:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(contextvars.copy_context().run, FakeChat().invoke, "hi").result()
        return {"x": 1}

    await way.invoke(chain_of(("ask", way.node(node))), {}, bound)
    assert TREE == whole(spans)


def test_a_call_in_a_bare_thread_is_lost_without_instrument(spans: InMemorySpans, bound: Any) -> None:
    """Case 40: what LangChain tells nobody, nobody hears."""

    def node(state: State) -> State:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(FakeChat().invoke, "hi").result()
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config=bound)
    assert "run demo ok\n  node n ok" == whole(spans)
