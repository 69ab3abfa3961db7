"""Beside LangSmith: both see the whole run, whoever stands first, switched on in code or from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from langsmith import Client

from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of
from callbacks.neighbours import langsmith_api
from callbacks.otlp import Receiver
from graphmeter import instrument, meter, uninstrument
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TESTS = Path(__file__).parents[2]
TREE = "run demo ok\n  node ask ok\n    model gpt-4o-mini ok 10→5"


@pytest.fixture
def api() -> Iterator[langsmith_api.Api]:
    with langsmith_api.serving() as running:
        yield running


@pytest.fixture
def tracer(api: langsmith_api.Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[LangChainTracer]:
    monkeypatch.setenv("LANGSMITH_DISABLE_RUN_COMPRESSION", "true")
    client = Client(api_url=api.url, api_key="key", tracing_mode="langsmith")
    yield LangChainTracer(client=client)
    client.close()


def delivered(tracer: LangChainTracer) -> None:
    tracer.wait_for_futures()
    tracer.client.flush()


@pytest.mark.parametrize("first", ["LangSmith", "Graphmeter"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_both_see_the_whole_run(
    spans: InMemorySpans, api: langsmith_api.Api, tracer: LangChainTracer, first: str, asynchronous: bool
) -> None:
    callbacks: list[Any] = [tracer, spans.handler()]
    if first == "Graphmeter":
        callbacks.reverse()
    if asynchronous:
        assert {"x": 1} == await chain_of(("ask", asking_async(FakeChat()))).ainvoke(
            {}, config={"callbacks": callbacks}
        )
    else:
        assert {"x": 1} == chain_of(("ask", asking(FakeChat()))).invoke({}, config={"callbacks": callbacks})
    delivered(tracer)
    assert TREE == spans.tree()
    assert ["FakeChat", "ask", "demo"] == api.names()


@pytest.mark.parametrize("way", ["meter", "instrument"])
def test_both_see_interrupts_and_resumes(
    spans: InMemorySpans, api: langsmith_api.Api, tracer: LangChainTracer, way: str
) -> None:
    def approve(state: State) -> State:
        return {"x": int(interrupt("ok?"))}

    graph: Any = chain_of(("approve", approve), checkpointer=InMemorySaver())
    if way == "meter":
        graph = meter(graph, handler=spans.handler())
    else:
        instrument(spans.handler())
    config: Any = {"callbacks": [tracer], "configurable": {"thread_id": "t"}}
    try:
        graph.invoke({}, config=config)
        assert {"x": 1} == graph.invoke(Command(resume=1), config=config)
    finally:
        uninstrument()
    delivered(tracer)
    assert "run demo interrupted\n  node approve interrupted\nrun demo ok\n  node approve ok" == spans.tree()
    assert ["approve", "approve", "demo", "demo"] == api.names()


def test_langsmith_switched_on_from_outside_and_graphmeter_in_code(api: langsmith_api.Api) -> None:
    code = f"""
        import sys
        sys.path.insert(0, {str(TESTS)!r})
        from callbacks.fakes import FakeChat, asking, chain_of
        from graphmeter import meter
        print(meter(chain_of(("ask", asking(FakeChat())))).invoke({{}}))
        from langchain_core.tracers.langchain import wait_for_all_tracers
        wait_for_all_tracers()
    """
    receiver = Receiver()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    langsmith = {"TRACING": "true", "ENDPOINT": api.url, "API_KEY": "key", "DISABLE_RUN_COMPRESSION": "true"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={
                **kept,
                **{f"LANGSMITH_{key}": value for key, value in langsmith.items()},
                "GRAPHMETER_ENDPOINT": receiver.url,
                "GRAPHMETER_TOPOLOGY": "0",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        receiver.close()
    assert (0, "{'x': 1}\n", "") == (done.returncode, done.stdout, done.stderr)
    assert ["model", "node", "run", "start"] == receiver.kinds()
    assert ["FakeChat", "ask", "demo"] == api.names()
