"""Cases 32 and 33: streamed answers, whole, without usage, and broken off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from callbacks.fakes import FakeStreamingChat, State, chain_of
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TREE = "run demo ok\n  node ask ok\n    "


class EarlyUsage(FakeStreamingChat):
    """Says what the prompt took with its first chunk, as Anthropic does, and the rest at the end."""

    def _chunks(self) -> Iterator[ChatGenerationChunk]:
        for number, chunk in enumerate(super()._chunks()):
            used: dict[int, Any] = {
                0: {"input_tokens": 10, "output_tokens": 0, "total_tokens": 10},
                3: {"input_tokens": 0, "output_tokens": 5, "total_tokens": 5},
            }
            message = AIMessageChunk(
                content=chunk.message.content,
                usage_metadata=used.get(number),
                response_metadata=chunk.message.response_metadata,
            )
            yield ChatGenerationChunk(message=message)


def streaming(way: Way, model: Any) -> Any:
    """A graph whose only node streams `model`."""

    def node(state: State) -> State:
        list(model.stream("hi"))
        return {"x": 1}

    async def node_async(state: State) -> State:
        async for _ in model.astream("hi"):
            pass
        return {"x": 1}

    return chain_of(("ask", node_async if way.asynchronous else node))


@pytest.mark.parametrize("model", [FakeStreamingChat, EarlyUsage])
async def test_a_stream_counts_the_usage_of_its_chunks_once(
    way: Way, spans: InMemorySpans, bound: Any, model: Any
) -> None:
    await way.invoke(streaming(way, model()), {}, bound)
    assert f"{TREE}{MINI}" == whole(spans)
    call = spans.one("model")
    assert call.attributes[names.REQUEST_STREAM] is True
    assert 0 < call.attributes[names.TIME_TO_FIRST_CHUNK] <= (call.end_ns - call.start_ns) / 1e9


async def test_a_stream_without_usage_says_that_it_is_missing(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 32: OpenAI-like servers send usage with a stream only when asked to."""
    await way.invoke(streaming(way, FakeStreamingChat(usage=None)), {}, bound)
    assert f"{TREE}model gpt-4o-mini ok usage missing" == whole(spans)
    call = spans.one("model").attributes
    assert names.TIME_TO_FIRST_CHUNK in call
    assert names.USAGE_INPUT not in call


async def test_a_stream_that_breaks_is_an_error_that_had_begun(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 33: a call that failed owes no usage."""
    with pytest.raises(ConnectionError):
        await way.invoke(streaming(way, FakeStreamingChat(break_after=2)), {}, bound)
    assert "run demo error\n  node ask error\n    model gpt-4o-mini error" == whole(spans)
    call = spans.one("model").attributes
    assert "ConnectionError" == call[names.ERROR_TYPE]
    assert names.TIME_TO_FIRST_CHUNK in call


async def test_a_stream_that_breaks_before_any_chunk_never_began(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 33."""
    with pytest.raises(ConnectionError):
        await way.invoke(streaming(way, FakeStreamingChat(break_after=0)), {}, bound)
    assert "run demo error\n  node ask error\n    model gpt-4o-mini error" == whole(spans)
    assert names.TIME_TO_FIRST_CHUNK not in spans.one("model").attributes


async def test_what_a_broken_stream_said_of_its_usage_is_billed(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 33: the provider has read the prompt by then, and charges for it."""
    with pytest.raises(ConnectionError):
        await way.invoke(streaming(way, EarlyUsage(break_after=2)), {}, bound)
    assert "run demo error\n  node ask error\n    model gpt-4o-mini error 10→0 $0.0000015" == whole(spans)


async def test_a_stream_that_its_reader_leaves_is_cancelled_in_a_node_that_is_not(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 33: a reader that has heard enough."""

    def node(state: State) -> State:
        stream: Any = EarlyUsage().stream("hi")
        next(stream)
        stream.close()
        return {"x": 1}

    async def node_async(state: State) -> State:
        stream: Any = EarlyUsage().astream("hi")
        await anext(stream)
        await stream.aclose()
        return {"x": 1}

    await way.invoke(chain_of(("ask", node_async if way.asynchronous else node)), {}, bound)
    assert f"{TREE}model gpt-4o-mini cancelled 10→0 $0.0000015" == whole(spans)
