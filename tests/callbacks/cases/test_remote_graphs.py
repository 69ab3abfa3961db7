"""Case 37: graphs on another server, through the real RemoteGraph and its real client, as a node and on their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import NotFoundError
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callbacks.agent_server import AgentServer, agent_server
from callbacks.fakes import chain_of
from callbacks.trees import whole
from callbacks.ways import Way
from graphmeter import instrument, meter, names, runs, uninstrument
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

THREAD: Any = {"configurable": {"thread_id": "t1"}}


@pytest.fixture(scope="module")
def running() -> Iterator[AgentServer]:
    with agent_server() as server:
        yield server


class Remotes:
    """RemoteGraphs of one server, and the clients that have to be closed."""

    def __init__(self, server: AgentServer) -> None:
        server.requests.clear()
        self.server = server
        self.client, self.sync_client = get_client(url=server.url), get_sync_client(url=server.url)

    def graph(self, assistant: str, name: str = "remote") -> RemoteGraph:
        return RemoteGraph(assistant, client=self.client, sync_client=self.sync_client, name=name)


@pytest.fixture
async def remotes(running: AgentServer) -> AsyncIterator[Remotes]:
    made = Remotes(running)
    yield made
    made.sync_client.http.client.close()
    await made.client.http.client.aclose()


async def test_a_remote_graph_as_a_node_is_that_node(
    way: Way, spans: InMemorySpans, bound: Any, remotes: Remotes
) -> None:
    """What it asks of models is measured, and billed, where it runs; attribution travels there."""
    graph = chain_of(("remote", remotes.graph("good")))
    said = {**bound, **THREAD, "metadata": {"graphmeter_team": "cx"}}
    assert {"x": 2} == await way.invoke(graph, {"x": 1}, said)
    assert "run demo ok\n  node remote ok" == whole(spans)
    (request,) = remotes.server.requests
    assert "cx" == request.body["config"]["metadata"]["graphmeter_team"]


async def test_a_remote_graph_that_fails_fails_its_node(
    way: Way, spans: InMemorySpans, bound: Any, remotes: Remotes
) -> None:
    with pytest.raises(RemoteException):
        await way.invoke(chain_of(("remote", remotes.graph("broken"))), {"x": 1}, bound)
    assert "run demo error\n  node remote error" == whole(spans)
    assert "langgraph.pregel.remote.RemoteException" == spans.one("node").attributes[names.ERROR_TYPE]


async def test_a_remote_graph_that_asks_interrupts_its_node(
    way: Way, spans: InMemorySpans, bound: Any, remotes: Remotes
) -> None:
    graph = chain_of(("remote", remotes.graph("asks")), checkpointer=InMemorySaver())
    await way.invoke(graph, {"x": 1}, {**bound, **THREAD})
    assert "run demo interrupted\n  node remote interrupted" == whole(spans)


async def test_a_server_that_refuses_fails_the_node(
    way: Way, spans: InMemorySpans, bound: Any, remotes: Remotes
) -> None:
    with pytest.raises(NotFoundError):
        await way.invoke(chain_of(("remote", remotes.graph("unknown"))), {"x": 1}, bound)
    assert "run demo error\n  node remote error" == whole(spans)


async def test_the_server_is_told_the_trace_and_the_node(
    way: Way, spans: InMemorySpans, bound: Any, remotes: Remotes
) -> None:
    """With httpx instrumented: what the server makes of the request nests below the node, in one trace."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for client in (remotes.client.http.client, remotes.sync_client.http.client):
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=provider)
    await way.invoke(chain_of(("remote", remotes.graph("good"))), {"x": 1}, bound)
    node = spans.one("node")
    (sent,) = kept.get_finished_spans()
    assert sent.parent is not None
    assert (node.trace_id, node.span_id) == (sent.parent.trace_id, sent.parent.span_id)
    (request,) = remotes.server.requests
    assert f"{node.trace_id:032x}-{sent.context.span_id:016x}" == request.headers["traceparent"][3:52]


async def test_on_its_own_it_is_measured_where_it_runs(way: Way, spans: InMemorySpans, remotes: Remotes) -> None:
    """Neither a handler in the config nor instrument() makes a run of it here: LangGraph tells callbacks nothing."""
    handler = spans.handler()
    instrument(handler)
    try:
        assert {"x": 2} == await way.invoke(remotes.graph("good"), {"x": 1}, {"callbacks": [handler]})
    finally:
        uninstrument()
    assert "" == whole(spans)


def test_a_remote_graph_is_guarded_where_it_runs(remotes: Remotes) -> None:
    for guarded in ({"budget": "support"}, {"per_run_usd": 1}, {"per_run_tokens": 1}):
        with pytest.raises(ValueError, match="model calls of a RemoteGraph are made elsewhere"):
            meter(remotes.graph("good"), **guarded)


async def test_metered_it_is_a_run_as_its_caller_sees_it(way: Way, spans: InMemorySpans, remotes: Remotes) -> None:
    graph = meter(remotes.graph("good"), name="support", team="cx", handler=spans.handler())
    assert isinstance(graph, RemoteGraph)
    assert {"x": 2} == await way.invoke(graph, {"x": 1}, THREAD)
    assert [{"n": {"x": 2}}] == await way.stream(graph, {"x": 1}, THREAD)
    assert "run support ok\nrun support ok" == whole(spans)
    assert {("cx", "t1")} == {
        (span.attributes[names.TEAM], span.attributes[names.CONVERSATION_ID]) for span in spans.spans()
    }
    assert {"support"} == {
        request.body["config"]["metadata"]["graphmeter_graph"] for request in remotes.server.requests
    }


async def test_metered_it_fails_and_waits_like_a_local_one(way: Way, spans: InMemorySpans, remotes: Remotes) -> None:
    handler = spans.handler()
    with pytest.raises(RemoteException):
        await way.invoke(meter(remotes.graph("broken"), handler=handler), {"x": 1}, {})
    assert "run remote error" == whole(spans)
    spans.clear()
    graph = meter(remotes.graph("asks"), handler=handler)
    await way.invoke(graph, {"x": 1}, THREAD)
    await way.invoke(graph, Command(resume=5), THREAD)
    assert "run remote interrupted\nrun remote ok" == whole(spans)
    first, second = spans.spans("run")
    assert (first.span_id,) == second.links
    assert first.attributes[names.RUN_ID] == second.attributes[names.RESUMED_RUN]


async def test_metered_its_stream_may_be_left(way: Way, spans: InMemorySpans, remotes: Remotes) -> None:
    graph = meter(remotes.graph("slow"), handler=spans.handler())
    if way.asynchronous:
        stream: Any = graph.astream({"x": 1}, stream_mode="values")
        await anext(stream)
        await stream.aclose()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(graph.ainvoke({"x": 1}), 0.3)
        assert "run remote cancelled\nrun remote cancelled" == whole(spans)
    else:
        plain: Any = graph.stream({"x": 1}, stream_mode="values")
        next(plain)
        plain.close()
        assert "run remote cancelled" == whole(spans)
    assert 0 == runs.open_runs()


async def test_metered_it_is_the_node_of_a_graph_around_it(
    way: Way, spans: InMemorySpans, bound: Any, remotes: Remotes
) -> None:
    inner = meter(remotes.graph("good"), handler=spans.handler())
    await way.invoke(chain_of(("remote", inner)), {"x": 1}, bound)
    assert "run demo ok\n  node remote ok" == whole(spans)
