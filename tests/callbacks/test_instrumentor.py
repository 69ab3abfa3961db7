"""`opentelemetry-instrument python app.py` measures an application that has never heard of Graphmeter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from callbacks.fakes import FakeChat, asking, chain_of
from callbacks.otlp import Receiver
from graphmeter.instrumentor import GraphmeterInstrumentor
from graphmeter.testing import InMemorySpans

APPLICATION = """
import sys
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    x: int

builder = StateGraph(State)
builder.add_node("think", lambda state: {"x": state["x"] + 1})
builder.add_edge(START, "think")
print(builder.compile(name="support").invoke({"x": 1}))
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def opentelemetry_instrument(
    script: Path, endpoint: str, *switches: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    off = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    # It says on every start that our SQLAlchemy is too new for it.
    off["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "sqlalchemy"
    return subprocess.run(
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), *switches, sys.executable, str(script)],
        env={**env, **off, "GRAPHMETER_ENDPOINT": endpoint, "GRAPHMETER_TOPOLOGY": "0", **environment},
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_application_without_a_line_of_ours_is_measured(receiver: Receiver, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(APPLICATION)
    done = opentelemetry_instrument(script, receiver.url, "--service_name", "shop")
    assert (0, "{'x': 2}\n", "") == (done.returncode, done.stdout, done.stderr)
    assert ["node", "run", "start"] == receiver.kinds()
    assert {"invoke_workflow support", "invoke_node think", "graphmeter.run_start"} == {
        span.name for span in receiver.spans
    }
    assert {"shop"} == {resource["service.name"] for resource in receiver.resources}


def test_an_application_that_also_instruments_itself_is_measured_once(receiver: Receiver, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text("import graphmeter\ngraphmeter.instrument()\n" + APPLICATION)
    done = opentelemetry_instrument(script, receiver.url)
    assert 0 == done.returncode, done.stderr
    assert ["node", "run", "start"] == receiver.kinds()


def test_it_can_be_switched_off_like_any_other_instrumentation(receiver: Receiver, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(APPLICATION)
    done = opentelemetry_instrument(script, receiver.url, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="graphmeter")
    assert (0, "{'x': 2}\n") == (done.returncode, done.stdout), done.stderr
    assert [] == receiver.spans


def test_an_application_without_langgraph_is_left_alone(receiver: Receiver, tmp_path: Path) -> None:
    # A folder that stands in front of the installed package, and is none.
    blocked = tmp_path / "langgraph"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError('langgraph', name='langgraph')")
    script = tmp_path / "app.py"
    script.write_text(textwrap.dedent("print('runs')"))
    done = opentelemetry_instrument(script, receiver.url)
    assert (0, "runs\n", "") == (done.returncode, done.stdout, done.stderr)


def test_the_entry_point_is_the_instrumentor() -> None:
    (found,) = entry_points(group="opentelemetry_instrumentor", name="graphmeter")
    assert found.load() is GraphmeterInstrumentor


def test_it_is_undone(spans: InMemorySpans) -> None:
    graph = chain_of(("ask", asking(FakeChat())))
    instrumentor = GraphmeterInstrumentor()
    instrumentor.instrument(handler=spans.handler())
    try:
        graph.invoke({})
    finally:
        instrumentor.uninstrument()
    graph.invoke({})
    assert 1 == len(spans.spans("run"))
