"""`opentelemetry-instrument python app.py` measures an application that has never heard of Graphmeter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from callbacks.fakes import FakeChat, asking, chain_of
from callbacks.otlp import Receiver, attributes
from graphmeter import names
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
    # The first says on every start that our SQLAlchemy is too new for it, the other that an old langchain-core is too old.
    off["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "sqlalchemy,langchain"
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


TRACED = """
import json
from typing import TypedDict
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
processor = SimpleSpanProcessor(exporter)
provider = trace.get_tracer_provider()
provider.add_span_processor(processor)
sampler, processors = provider.sampler, provider._active_span_processor._span_processors
tracer = trace.get_tracer("application")

class State(TypedDict, total=False):
    x: int

def think(state):
    with tracer.start_as_current_span("query") as span:
        seen.append(span.get_span_context())
    return {"x": int(interrupt("ok?"))}

seen = []
builder = StateGraph(State)
builder.add_node("think", think)
builder.add_edge(START, "think")
graph = builder.compile(name="support", checkpointer=InMemorySaver())
thread = {"configurable": {"thread_id": "t"}}
with tracer.start_as_current_span("POST /chat") as outer:
    graph.invoke({}, thread)
graph.invoke(Command(resume=3), thread)

assert provider is trace.get_tracer_provider() and sampler is provider.sampler
assert processors == provider._active_span_processor._span_processors and processor is processors[-1]
assert exporter is processor.span_exporter
print(json.dumps({
    "outer": f"{outer.get_span_context().span_id:016x}",
    "traces": [f"{context.trace_id:032x}" for context in seen],
    "sampled": [bool(context.trace_flags.sampled) for context in seen],
    "exported": [[s.name, f"{s.parent.span_id:016x}" if s.parent else ""] for s in exporter.get_finished_spans()],
}))
"""


@pytest.mark.parametrize(
    ("sampler", "sampled"), [("always_on", True), ("always_off", False), ("parentbased_traceidratio", False)]
)
def test_the_tracing_of_the_application_stays_exactly_as_it_is(
    receiver: Receiver, tmp_path: Path, sampler: str, sampled: bool
) -> None:
    script = tmp_path / "app.py"
    script.write_text(TRACED)
    chosen = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0", "GRAPHMETER_TOPOLOGY": "1"}
    # Other instrumentations of LangChain would export spans, too.
    chosen["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "sqlalchemy,langchain"
    done = opentelemetry_instrument(script, receiver.url, "--service_name", "shop", **chosen)
    assert (0, "") == (done.returncode, done.stderr)
    said = json.loads(done.stdout)
    spans = {kind: [span for span in receiver.spans if attributes(span)[names.KIND] == kind] for kind in names.KINDS}
    first, second = spans[names.RUN]
    nodes = [span.span_id.hex() for span in spans[names.NODE]]
    # Interrupt, resume and topology arrive; ids agree with the application's own, whatever it samples.
    assert [names.INTERRUPTED, names.OK] == [attributes(span)[names.STATUS] for span in (first, second)]
    assert [first.span_id] == [link.span_id for link in second.links]
    assert 1 == receiver.kinds().count(names.TOPOLOGY)
    assert (said["outer"], b"") == (first.parent_span_id.hex(), second.parent_span_id)
    assert said["traces"] == [first.trace_id.hex(), second.trace_id.hex()]
    assert [sampled, sampled] == said["sampled"]
    # What it exports is its own, in full or not at all, below our nodes.
    queries = [["query", node] for node in nodes]
    assert said["exported"] == ([queries[0], ["POST /chat", ""], queries[1]] if sampled else [])
    assert {"shop"} == {resource["service.name"] for resource in receiver.resources}
