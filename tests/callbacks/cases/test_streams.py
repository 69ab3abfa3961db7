"""Cases 17, 18 and 20: every way to stream makes the tree of invoke, and a stream left early is cancelled, not failed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field

from callbacks.fakes import FakeStreamingChat, State, chain_of, nothing
from callbacks.trees import MINI, whole
from callbacks.versions import STREAM_EVENTS_V3, needs_langgraph
from callbacks.ways import Way
from graphmeter import names, runs
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

MODES = ["updates", "values", "messages", "custom", "debug", "tasks", "checkpoints", ["updates", "messages"]]
TREE = f"run demo ok\n  node a ok\n  node ask ok\n    {MINI}"


def two_nodes(way: Way) -> Any:
    return chain_of(("a", way.node(nothing)), ("ask", way.asking(FakeStreamingChat())))


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_every_stream_mode_makes_the_tree_of_invoke(
    way: Way, spans: InMemorySpans, bound: Any, mode: Any
) -> None:
    """Case 17. The model streams, and has a first chunk, only if somebody wants its messages."""
    await way.stream(two_nodes(way), {}, bound, stream_mode=mode)
    assert TREE == whole(spans)
    assert ("messages" in mode) is (names.TIME_TO_FIRST_CHUNK in spans.one("model").attributes)


async def test_a_stream_with_subgraphs_makes_the_tree_of_invoke(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 17."""
    inner = chain_of(("ask", way.asking(FakeStreamingChat())), name="inner")
    parts = await way.stream(chain_of(("sub", inner)), {}, bound, stream_mode=["messages", "updates"], subgraphs=True)
    assert {0, 1} == {len(part[0]) for part in parts}
    assert f"run demo ok\n  node sub ok\n    subgraph inner ok\n      node ask ok\n        {MINI}" == whole(spans)


async def test_streamed_events_make_the_tree_of_invoke(spans: InMemorySpans, bound: Any) -> None:
    """Case 17: LangChain's own events, which exist only async."""
    way = Way(True)
    events = [event["event"] async for event in two_nodes(way).astream_events({}, bound, version="v2")]
    assert "on_chat_model_stream" in events
    assert TREE == whole(spans)
    assert names.TIME_TO_FIRST_CHUNK in spans.one("model").attributes


@needs_langgraph(STREAM_EVENTS_V3, "stream_events")
@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
async def test_streamed_protocol_events_make_the_tree_of_invoke(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 17: LangGraph's events, version 3."""
    graph = two_nodes(way)
    if way.asynchronous:
        stream = await graph.astream_events({}, bound, version="v3")
        assert [event async for event in stream]
    else:
        assert list(graph.stream_events({}, bound, version="v3"))
    assert TREE == whole(spans)
    assert names.TIME_TO_FIRST_CHUNK in spans.one("model").attributes


@pytest.mark.parametrize("how", ["close", "break", "forget"])
async def test_a_stream_left_early_is_cancelled_not_failed(
    way: Way, spans: InMemorySpans, bound: Any, how: str
) -> None:
    """Case 18."""
    graph = chain_of(("a", way.node(nothing)), ("b", way.node(nothing)))
    if way.asynchronous:
        stream = graph.astream({}, bound)
        if how == "break":
            async for _ in stream:
                break
        else:
            await anext(stream)
        if how == "close":
            await stream.aclose()
        del stream
        gc.collect()
        # What is forgotten is closed by the event loop, in a task of its own.
        for _ in range(1000):
            await asyncio.sleep(0.005)
            if not runs.open_runs():
                break
    else:
        stream = graph.stream({}, bound)
        if how == "break":
            for _ in stream:
                break
        else:
            next(stream)
        if how == "close":
            stream.close()
        del stream
        gc.collect()
    assert "run demo cancelled\n  node a ok" == whole(spans)
    assert not any(span.otel_error for span in spans.spans())
    assert 0 == runs.open_runs()


class Stalling(FakeStreamingChat):
    """Says what the prompt cost with its first chunk, as Anthropic does, and then (or `silent` from the start) nothing."""

    silent: bool = False
    stalled: asyncio.Event = Field(default_factory=asyncio.Event)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        usage: Any = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}
        chunk = ChatGenerationChunk(message=AIMessageChunk(content="hel", usage_metadata=usage))
        if not self.silent:
            if run_manager is not None:
                await run_manager.on_llm_new_token("hel", chunk=chunk)
            yield chunk
        self.stalled.set()
        await asyncio.sleep(60)
        yield chunk


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("streamer", ["node", "graph"])
async def test_a_cancelled_stream_bills_what_it_said_so_far(
    spans: InMemorySpans, bound: Any, streamer: str, silent: bool
) -> None:
    """Case 20: cancelling is an asynchronous thing. LangChain reports no end of a call that streams for the graph's sake."""
    model = Stalling(silent=silent)

    async def node(state: State) -> State:
        if streamer == "graph":
            await model.ainvoke("hi")
        else:
            async for _ in model.astream("hi"):
                pass
        return {"x": 1}

    mode = "messages" if streamer == "graph" else "updates"
    running = asyncio.create_task(Way(True).stream(chain_of(("ask", node)), {}, bound, stream_mode=mode))
    await model.stalled.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    said = "" if silent else " 10→1 $0.0000021"
    assert f"run demo cancelled\n  node ask cancelled\n    model gpt-4o-mini cancelled{said}" == whole(spans)
    assert silent is (names.TIME_TO_FIRST_CHUNK not in spans.one("model").attributes)
    assert 0 == runs.open_runs()
