"""Shop assistant: an agent made by `langchain.agents.create_agent`, with tools one of which fails at times.

    model ⇄ tools      until the model asks for no more tools

The nodes are LangChain's, not ours: middleware stands inside them, one call of `wrap_model_call` per run of `model`, one of
`wrap_tool_call` per run of `tools` (LangChain sends every tool call to a run of its own), and keeps the tally.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from graphmeter_examples.luck import Luck
from graphmeter_examples.models import Models
from graphmeter_examples.tally import Tally, outcome

NAME = "agent"
MODEL = "model"
TOOLS = "tools"

_TOOL_S = 0.15
"""Median seconds of a tool."""
_STOCK_FAILS = 0.25
"""Share of stock questions that the warehouse does not answer."""


class WarehouseDown(Exception):
    """The warehouse gave no answer."""


def build(models: Models) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled agent; input and output `{"messages": […]}`."""
    return create_agent(
        models(NAME, MODEL, "gpt-4o"),
        _tools(models),
        system_prompt="Help customers of a shop. Look things up with the tools before you answer.",
        middleware=[_Truth(models.tally)],
        name=NAME,
    )


class _Truth(AgentMiddleware[Any, Any, Any]):
    """Keeps the tally, and turns a failed tool into an answer that the model can read."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        with outcome(self._model):
            return handler(request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        with outcome(self._model):
            return await handler(request)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        with outcome(self._tools):
            try:
                return handler(request)
            except WarehouseDown as error:
                return _excuse(request, error)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        with outcome(self._tools):
            try:
                return await handler(request)
            except WarehouseDown as error:
                return _excuse(request, error)

    def _model(self, status: str, _: BaseException | None) -> None:
        self._tally.attempt(NAME, MODEL, status)

    def _tools(self, status: str, _: BaseException | None) -> None:
        self._tally.attempt(NAME, TOOLS, status)


def _excuse(request: ToolCallRequest, error: WarehouseDown) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(f"{call['name']} failed: {error}", name=call["name"], tool_call_id=call["id"], status="error")


def _tools(models: Models) -> list[BaseTool]:
    luck = models.luck

    def order(order_id: str) -> str:
        days = luck.between(1, 9, "order", order_id)
        return f"Order {order_id} was sent {days} days ago."

    def stock(article: str) -> str:
        if luck.unit("stock", article) < _STOCK_FAILS:
            raise WarehouseDown(f"no answer about {article}")
        return f"{luck.between(0, 40, 'pieces', article)} pieces of {article} are in stock."

    def delivery(article: str, speed: str) -> str:
        return (
            f"{speed.capitalize()} delivery of {article} costs {luck.between(3, 19, 'delivery', article, speed)} USD."
        )

    express = {"type": "string", "enum": ["standard", "express"], "description": "How fast it has to be."}
    return [
        _tool(models, "find_order", "When an order was sent.", order, {"order_id": _text("Number of the order.")}),
        _tool(models, "check_stock", "How many pieces are there.", stock, {"article": _text("Number of the article.")}),
        _tool(
            models,
            "quote_delivery",
            "What delivery costs.",
            delivery,
            {"article": _text("Number of the article."), "speed": express},
        ),
    ]


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _tool(
    models: Models, name: str, description: str, answer: Callable[..., str], properties: Mapping[str, Any]
) -> BaseTool:
    """A tool that takes its time, sync and async, and is written down."""

    def seconds(arguments: Mapping[str, str]) -> float:
        return models.time_scale * models.luck.spread(_TOOL_S, 0.6, name, *arguments.values())

    def record(status: str, _: BaseException | None) -> None:
        models.tally.tool_call(NAME, TOOLS, name, status)

    def run(**arguments: str) -> str:
        with outcome(record):
            time.sleep(seconds(arguments))
            return answer(**arguments)

    async def run_async(**arguments: str) -> str:
        with outcome(record):
            await asyncio.sleep(seconds(arguments))
            return answer(**arguments)

    schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return StructuredTool(name=name, description=description, args_schema=schema, func=run, coroutine=run_async)


def wish(luck: Luck, ticket: int) -> Mapping[str, Any]:
    """The input of customer number `ticket`."""
    number = luck.between(1000, 9999, "number", str(ticket))
    text = luck.pick(
        (f"Where is my order A-{number}", f"Is article S-{number} in stock", f"What would article S-{number} cost me"),
        "wish",
        str(ticket),
    )
    return {"messages": [HumanMessage(f"{text}? I am customer number {ticket}.")]}
