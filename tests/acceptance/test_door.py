"""A collector that everybody on the network reaches, and the programs that have its keys."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from acceptance import processes

SEND, LOOK, TEAM = ("send" * 5, "look" * 5, "team" * 5)

EXPORT = """
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider(resource=Resource.create({"graphmeter.team": "somebody"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
with provider.get_tracer("opentelemetry.openai").start_as_current_span("chat gpt-4o", attributes={
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100,
}):
    pass
provider.shutdown()
"""

MEASURE = """
import graphmeter
from langgraph.graph import END, START, StateGraph

builder = StateGraph(dict)
builder.add_node("think", lambda state: {})
builder.add_edge(START, "think")
builder.add_edge("think", END)
graphmeter.meter(builder.compile(), name="support", team="cx").invoke({})
print(graphmeter.flush(60), graphmeter.stats().failed)
"""


def read(it: processes.Collector, path: str, key: str) -> Any:
    request = urllib.request.Request(it.url + path, headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_with_keys_a_collector_listens_to_everybody_and_every_exporter_gets_in(tmp_path: Path) -> None:
    keys = f"ingest:{SEND},read:{LOOK},ingest:finance:{TEAM}"
    with processes.collector(tmp_path, "--host", "0.0.0.0", GRAPHMETER_API_KEYS=keys) as it:
        processes.run_program(
            tmp_path,
            EXPORT,
            OTEL_EXPORTER_OTLP_ENDPOINT=it.url,
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{TEAM}",
        )
        said = processes.run_program(tmp_path, MEASURE, GRAPHMETER_ENDPOINT=it.url, GRAPHMETER_API_KEY=SEND)
        assert "True 0" in said
        assert [401, 403] == [read(it, "/api/runs", key) for key in ("", SEND)]
        [run] = read(it, "/api/runs", LOOK)
        assert ("support", "cx", "ok") == (run["graph"], run["team"], run["status"])
        spent = read(it, "/api/cost?by=team", LOOK)
        assert [("finance", 3_500_000)] == [
            (row["group"]["team"], row["cost_nano"]) for row in spent if row["cost_nano"]
        ]
        refused = processes.run_program(tmp_path, MEASURE, GRAPHMETER_ENDPOINT=it.url, GRAPHMETER_API_KEY=LOOK)
        assert refused.splitlines()[-1].startswith("False ")
        assert SEND not in it.log.read_text()
