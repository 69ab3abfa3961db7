"""Case 26: LangChain's agents. Every model call is billed once, wherever a middleware or a tool makes it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.tools import tool

from callbacks.fakes import FakeChat
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

CALLS = [{"name": "weather", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}]
QUESTION: Any = {"messages": [("user", "weather?")]}


def weather(way: Way) -> Any:
    @tool("weather")
    def look(city: str) -> str:
        """Weather of a city."""
        return "sunny"

    @tool("weather")
    async def look_async(city: str) -> str:
        """Weather of a city."""
        return "sunny"

    return look_async if way.asynchronous else look


async def test_create_agent_counts_every_call_once(way: Way, spans: InMemorySpans, bound: Any) -> None:
    agent: Any = create_agent(FakeChat(tool_calls=CALLS), [weather(way)], name="helper")
    await way.invoke(agent, QUESTION, bound)
    assert (
        "run helper ok\n"
        f"  node model ok\n    {MINI}\n"
        "  node tools ok\n    tool weather ok\n"
        f"  node model ok\n    {MINI}" == whole(spans)
    )
    assert (20, 10) == tuple(sum(numbers) for numbers in zip(*(call.tokens for call in spans.spans()), strict=True))
    assert "call_1" == spans.one("tool").attributes[names.TOOL_CALL_ID]


async def test_tools_that_an_agent_calls_at_once_are_tasks_of_their_own(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    calls = [{**CALLS[0], "id": f"call_{number}"} for number in range(2)]
    agent: Any = create_agent(FakeChat(tool_calls=calls), [weather(way)], name="helper")
    await way.invoke(agent, QUESTION, bound)
    assert (
        "run helper ok\n"
        f"  node model ok\n    {MINI}\n"
        "  node tools ok\n    tool weather ok\n"
        "  node tools ok\n    tool weather ok\n"
        f"  node model ok\n    {MINI}" == whole(spans)
    )


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
async def test_create_react_agent_counts_every_call_once(way: Way, spans: InMemorySpans, bound: Any) -> None:
    from langgraph.prebuilt import create_react_agent

    agent = create_react_agent(FakeChat(tool_calls=CALLS), [weather(way)], name="helper")
    await way.invoke(agent, QUESTION, bound)
    assert (
        "run helper ok\n"
        f"  node agent ok\n    {MINI}\n"
        "  node tools ok\n    tool weather ok\n"
        f"  node agent ok\n    {MINI}" == whole(spans)
    )


class Summary(AgentMiddleware[Any, Any]):
    """Asks another model before every call, as summarizing and guarding middlewares do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = FakeChat(model="gpt-4o")

    def before_model(self, state: Any, runtime: Any) -> None:
        self.model.invoke("summarize")

    async def abefore_model(self, state: Any, runtime: Any) -> None:
        await self.model.ainvoke("summarize")


async def test_a_middleware_that_asks_a_model_is_a_node(way: Way, spans: InMemorySpans, bound: Any) -> None:
    agent: Any = create_agent(FakeChat(), [weather(way)], middleware=[Summary()], name="helper")
    await way.invoke(agent, QUESTION, bound)
    assert (
        "run helper ok\n"
        "  node Summary.before_model ok\n    model gpt-4o ok 10→5 $0.000075\n"
        f"  node model ok\n    {MINI}" == whole(spans)
    )


class Again(AgentMiddleware[Any, Any]):
    """Calls a second time where the first failed."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        try:
            return handler(request)
        except ConnectionError:
            return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except ConnectionError:
            return await handler(request)


async def test_a_middleware_that_repeats_the_call_repeats_it_in_the_node(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """One node attempt, two calls: only LangGraph's own retries are attempts."""
    model = FakeChat(failures=[ConnectionError("once")])
    agent: Any = create_agent(model, [weather(way)], middleware=[Again()], name="helper")
    await way.invoke(agent, QUESTION, bound)
    assert f"run helper ok\n  node model ok\n    model gpt-4o-mini error\n    {MINI}" == whole(spans)


async def test_an_agent_in_a_tool_of_an_agent_nests_there(way: Way, spans: InMemorySpans, bound: Any) -> None:
    helper: Any = create_agent(FakeChat(), name="helper")

    @tool("weather")
    def ask(city: str) -> str:
        """Ask a helper."""
        return str(helper.invoke(QUESTION)["messages"][-1].content)

    @tool("weather")
    async def ask_async(city: str) -> str:
        """Ask a helper."""
        return str((await helper.ainvoke(QUESTION))["messages"][-1].content)

    boss: Any = create_agent(FakeChat(tool_calls=CALLS), [ask_async if way.asynchronous else ask], name="boss")
    await way.invoke(boss, QUESTION, bound)
    assert (
        "run boss ok\n"
        f"  node model ok\n    {MINI}\n"
        "  node tools ok\n"
        "    tool weather ok\n"
        "      subgraph helper ok\n"
        f"        node model ok\n          {MINI}\n"
        f"  node model ok\n    {MINI}" == whole(spans)
    )
