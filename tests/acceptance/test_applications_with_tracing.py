"""Applications that trace by themselves: their spans stay theirs, every run of ours arrives, and the ids agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from acceptance.processes import collector, run_program, until
from acceptance.recording import recorder
from graphmeter import names

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import json
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
import os
from graphmeter import flush, meter

sampler = ALWAYS_OFF if os.environ["SAMPLER"] == "off" else ALWAYS_ON
provider = TracerProvider(sampler=sampler)
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(os.environ["APP_BACKEND"] + "/v1/traces")))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("application")

class State(TypedDict):
    text: str

inside = []

def work(state):
    with tracer.start_as_current_span("query database") as span:
        inside.append(span.get_span_context())
    return {"text": "done"}

builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
graph = meter(builder.compile(), name="traced", team="cx")

with tracer.start_as_current_span("POST /chat") as outer:
    context = outer.get_span_context()
    for _ in range(3):
        graph.invoke({"text": ""})
assert trace.get_current_span() is trace.INVALID_SPAN
assert trace.get_tracer_provider() is provider
assert flush(60)
print(json.dumps({
    "trace": f"{context.trace_id:032x}",
    "span": f"{context.span_id:016x}",
    "inside": [[f"{each.trace_id:032x}", bool(each.trace_flags.sampled)] for each in inside],
}))
"""


def test_an_application_that_samples_nothing_still_has_every_run(tmp_path: Path) -> None:
    with recorder() as backend, collector(tmp_path) as running:
        said = run(tmp_path, running.url, backend.url, "off")

        runs = until("three runs", lambda: [run for run in running.get("/api/runs") if run["status"] == "ok"])
        assert 3 == len(runs)
        assert {said["trace"]} == {run["trace_id"] for run in runs}
        assert [[said["trace"], False]] * 3 == said["inside"]
        assert [] == backend.spans()


def test_an_application_with_its_own_exporter_exports_its_own_spans_and_no_others(tmp_path: Path) -> None:
    with recorder() as backend, collector(tmp_path) as running:
        said = run(tmp_path, running.url, backend.url, "on")

        until("three runs", lambda: len([run for run in running.get("/api/runs") if run["status"] == "ok"]) == 3)
        spans = running.get(f"/api/runs/{said['trace']}/trace")
        shown = [span["name"] for span in spans if span["name"] not in names.NOTE_NAMES.values()]
        assert ["invoke_node work"] * 3 + ["invoke_workflow traced"] * 3 == sorted(shown)
        roots = {span["parent_id"] for span in spans if span["kind"] == "run"}
        assert {said["span"]} == roots

        theirs = backend.spans()
        assert ["POST /chat", *["query database"] * 3] == sorted(span.name for span in theirs)
        nodes = {span["span_id"] for span in spans if span["kind"] == "node"}
        queries = {span.parent_span_id.hex() for span in theirs if span.name == "query database"}
        assert nodes == queries


def run(folder: Path, collector_url: str, backend_url: str, sampler: str) -> dict[str, object]:
    printed = run_program(
        folder,
        PROGRAM,
        GRAPHMETER_ENDPOINT=collector_url,
        APP_BACKEND=backend_url,
        SAMPLER=sampler,
        OTEL_SERVICE_NAME="shop",
    )
    said: dict[str, object] = json.loads(printed.splitlines()[-1])
    return said
