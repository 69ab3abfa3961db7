"""Case 16: tools that answer, fail and are told so, fail and are not, and do not exist."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import ToolException, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from callbacks.fakes import State, chain_of
from callbacks.trees import whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


def tools(way: Way) -> list[Any]:
    """`works` and `broken`."""

    @tool("works")
    def works(x: int) -> str:
        """Work."""
        return "yes"

    @tool("works")
    async def works_async(x: int) -> str:
        """Work."""
        return "yes"

    @tool("broken")
    def broken(x: int) -> str:
        """Break."""
        raise ValueError("no")

    @tool("broken")
    async def broken_async(x: int) -> str:
        """Break."""
        raise ValueError("no")

    return [works_async, broken_async] if way.asynchronous else [works, broken]


def graph(way: Way, **options: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(tools(way), **options))
    builder.add_edge(START, "tools")
    return builder.compile(name="demo")


def asked(*tool_names: str) -> Any:
    calls = [
        {"name": name, "args": {"x": 1}, "id": f"call_{number}", "type": "tool_call"}
        for number, name in enumerate(tool_names)
    ]
    return {"messages": [AIMessage("", tool_calls=calls)]}


async def test_a_tool_is_a_span_with_the_id_of_its_call(way: Way, spans: InMemorySpans, bound: Any) -> None:
    await way.invoke(graph(way), asked("works"), bound)
    assert "run demo ok\n  node tools ok\n    tool works ok" == whole(spans)
    call = spans.one("tool")
    assert ("execute_tool works", "works", "call_0", "tools") == (
        call.name,
        *(call.attributes[key] for key in (names.TOOL_NAME, names.TOOL_CALL_ID, names.NODE_PATH)),
    )


async def test_tools_of_one_message_run_side_by_side(way: Way, spans: InMemorySpans, bound: Any) -> None:
    await way.invoke(graph(way), asked("works", "works", "works"), bound)
    assert "run demo ok\n  node tools ok" + "\n    tool works ok" * 3 == whole(spans)
    assert ["call_0", "call_1", "call_2"] == sorted(call.attributes[names.TOOL_CALL_ID] for call in spans.spans("tool"))


async def test_a_tool_whose_error_is_handled_fails_alone(way: Way, spans: InMemorySpans, bound: Any) -> None:
    await way.invoke(graph(way, handle_tool_errors=True), asked("broken"), bound)
    assert "run demo ok\n  node tools ok\n    tool broken error" == whole(spans)
    assert "ValueError" == spans.one("tool").attributes[names.ERROR_TYPE]


async def test_a_tool_whose_error_is_not_handled_fails_node_and_run(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """ToolNode handles only wrong arguments unless it is told otherwise."""
    with pytest.raises(ValueError):
        await way.invoke(graph(way, handle_tool_errors=False), asked("broken"), bound)
    assert "run demo error\n  node tools error\n    tool broken error" == whole(spans)
    assert ["ValueError"] * 3 == [span.attributes[names.ERROR_TYPE] for span in spans.spans()]


async def test_wrong_arguments_are_an_error_of_the_tool_alone(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """They are found inside of the tool's run, and the model is told."""
    question = asked("works")
    question["messages"][0].tool_calls[0]["args"] = {"x": "many"}
    await way.invoke(graph(way), question, bound)
    assert "run demo ok\n  node tools ok\n    tool works error" == whole(spans)


async def test_a_tool_that_does_not_exist_is_not_seen(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """ToolNode answers the model by itself; LangChain hears nothing."""
    await way.invoke(graph(way), asked("unknown"), bound)
    assert "run demo ok\n  node tools ok" == whole(spans)


async def test_a_tool_that_answers_with_an_error_message_failed(way: Way, spans: InMemorySpans, bound: Any) -> None:
    @tool("broken")
    def broken(x: int) -> str:
        """Break."""
        raise ToolException("no")

    @tool("broken")
    async def broken_async(x: int) -> str:
        """Break."""
        raise ToolException("no")

    for one in (broken, broken_async):
        one.handle_tool_error = True
    call = {"name": "broken", "args": {"x": 1}, "id": "c1", "type": "tool_call"}

    def node(state: State) -> State:
        broken.invoke(call)
        return {"x": 1}

    async def node_async(state: State) -> State:
        await broken_async.ainvoke(call)
        return {"x": 1}

    await way.invoke(chain_of(("n", node_async if way.asynchronous else node)), {}, bound)
    assert "run demo ok\n  node n ok\n    tool broken error" == whole(spans)
