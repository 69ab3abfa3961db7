"""Cases 8 and 25: subgraphs as nodes, in nodes and in tools, and commands to the graph above."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from callbacks.fakes import FakeChat, State, chain_of, nothing
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


async def test_a_subgraph_as_a_node_lengthens_the_path_and_bills_both(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 8. An unnamed subgraph is called as its node; cost stands on the call, and the path names every node above."""
    inner = chain_of(("search", way.asking(FakeChat())), name=None)
    await way.invoke(chain_of(("research", inner)), {}, bound)
    assert f"run demo ok\n  node research ok\n    subgraph research ok\n      node search ok\n        {MINI}" == whole(
        spans
    )
    assert "research.search" == spans.one("model").attributes[names.NODE_PATH]
    assert "research" == spans.one("subgraph").attributes[names.NODE_PATH]
    # Steps of a subgraph are its own; the run counts those of its own nodes.
    assert 1 == spans.one("node", "search").attributes[names.LANGGRAPH_STEP]
    assert 1 == spans.one("run").attributes[names.LANGGRAPH_STEP]


async def test_a_subgraph_called_in_a_node_nests_there(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 8."""
    inner = chain_of(("search", way.asking(FakeChat())), name="inner")

    async def call(state: State) -> State:
        await inner.ainvoke({})
        return {"x": 1}

    def call_sync(state: State) -> State:
        inner.invoke({})
        return {"x": 1}

    await way.invoke(chain_of(("n", call if way.asynchronous else call_sync)), {}, bound)
    assert f"run demo ok\n  node n ok\n    subgraph inner ok\n      node search ok\n        {MINI}" == whole(spans)
    assert "n.search" == spans.one("model").attributes[names.NODE_PATH]


async def test_a_subgraph_called_in_a_tool_nests_there(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 8."""
    inner = chain_of(("search", way.asking(FakeChat())), name="inner")

    @tool("look_up")
    def look_up(word: str) -> str:
        """Look a word up."""
        inner.invoke({})
        return word

    @tool("look_up")
    async def look_up_async(word: str) -> str:
        """Look a word up."""
        await inner.ainvoke({})
        return word

    async def call(state: State) -> State:
        await look_up_async.ainvoke({"word": "w"})
        return {"x": 1}

    def call_sync(state: State) -> State:
        look_up.invoke({"word": "w"})
        return {"x": 1}

    await way.invoke(chain_of(("n", call if way.asynchronous else call_sync)), {}, bound)
    assert (
        "run demo ok\n"
        "  node n ok\n"
        "    tool look_up ok\n"
        "      subgraph inner ok\n"
        "        node search ok\n"
        f"          {MINI}" == whole(spans)
    )
    assert "n.search" == spans.one("model").attributes[names.NODE_PATH]


async def test_a_node_with_the_name_of_a_chain_inside_is_one_node(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 8: everything inside of a node inherits its metadata; a runnable of the same name is no second node."""
    from langchain_core.runnables import RunnableLambda

    namesake = RunnableLambda(nothing, name="n")

    async def call(state: State) -> State:
        return await namesake.ainvoke(state)

    def call_sync(state: State) -> State:
        return namesake.invoke(state)

    await way.invoke(chain_of(("n", call if way.asynchronous else call_sync)), {}, bound)
    assert "run demo ok\n  node n ok" == whole(spans)


async def test_a_command_to_the_graph_above_is_no_error(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 25: it travels as an exception through node, subgraph and outer node."""

    def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="after", update={"x": 2})

    inner = StateGraph(State)
    inner.add_node("leave", way.node(leave))
    inner.add_edge(START, "leave")
    builder = StateGraph(State)
    builder.add_node("inner", inner.compile(name="inner"), destinations=("after",))
    builder.add_node("after", way.node(nothing))
    builder.add_edge(START, "inner")
    await way.invoke(builder.compile(name="demo"), {}, bound)
    expected = "run demo ok\n  node inner ok\n    subgraph inner ok\n      node leave ok\n  node after ok"
    assert expected == whole(spans)
    assert not any(span.otel_error for span in spans.spans())
