"""The chat service: one trace from the request through graph and nodes to model calls and the database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from graphmeter import names
from graphmeter.testing import InMemorySpans, RecordedSpan, recorded_span
from graphmeter_examples.app import create_app
from graphmeter_examples.model import NO_TROUBLE, Trouble
from graphmeter_examples.models import StandIns

BILLING = {"message": "A billing question of customer C-104.", "user": "ada", "thread": "t-1"}
BILLING_PATH = (
    ("POST /chat",),
    ("POST /chat", "invoke_workflow support"),
    ("POST /chat", "invoke_workflow support", "invoke_node billing"),
    ("POST /chat", "invoke_workflow support", "invoke_node billing", "invoke_workflow billing"),
    ("POST /chat", "invoke_workflow support", "invoke_node billing", "invoke_workflow billing", "invoke_node decide"),
    (
        "POST /chat",
        "invoke_workflow support",
        "invoke_node billing",
        "invoke_workflow billing",
        "invoke_node decide",
        "chat gpt-4o",
    ),
    ("POST /chat", "invoke_workflow support", "invoke_node billing", "invoke_workflow billing", "invoke_node lookup"),
    (
        "POST /chat",
        "invoke_workflow support",
        "invoke_node billing",
        "invoke_workflow billing",
        "invoke_node lookup",
        "SELECT invoice",
    ),
    ("POST /chat", "invoke_workflow support", "invoke_node classify"),
    ("POST /chat", "invoke_workflow support", "invoke_node classify", "chat gpt-4o-mini"),
)


class Service:
    """The service in this process, with its own spans and Graphmeter's in memory."""

    def __init__(self, measured: InMemorySpans, trouble: Trouble = NO_TROUBLE) -> None:
        self.exporter = InMemorySpanExporter()
        self.measured = measured
        provider = TracerProvider(resource=Resource({"service.name": "chat"}))
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.app = create_app(StandIns(trouble=trouble), provider, team="web", handler=measured.handler())

    async def post(self, *bodies: dict[str, Any]) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://chat") as client:
            return [await client.post("/chat", json=body) for body in bodies]

    def spans(self) -> list[RecordedSpan]:
        return [*(recorded_span(span) for span in self.exporter.get_finished_spans()), *self.measured.spans()]


def paths(ids: dict[int, tuple[str, int | None]]) -> list[tuple[str, ...]]:
    """Names from the root to every span, given span id → (name, parent's id)."""

    def path(span_id: int | None) -> tuple[str, ...]:
        if span_id is None or span_id not in ids:
            return ()
        name, parent = ids[span_id]
        return (*path(parent), name)

    return sorted(path(span_id) for span_id in ids)


async def test_a_request_is_one_trace_down_to_the_model_and_the_database() -> None:
    with InMemorySpans() as measured:
        service = Service(measured)
        (response,) = await service.post(BILLING)
        spans = service.spans()
    assert response.status_code == 200, response.text
    assert response.json()["topic"] == "billing"
    assert paths({span.span_id: (span.name, span.parent_id) for span in spans}) == list(BILLING_PATH)
    assert {f"{span.trace_id:032x}" for span in spans} == {response.json()["trace_id"]}


async def test_a_streamed_answer_is_one_trace_too_although_it_is_made_after_the_endpoint_has_returned() -> None:
    with InMemorySpans() as measured:
        service = Service(measured)
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://chat") as client:
            response = await client.post("/chat/stream", json=BILLING)
        spans = service.spans()
    assert ["classify", "billing"] == [next(iter(json.loads(line))) for line in response.text.splitlines()]
    expected = [("POST /chat/stream", *path[1:]) for path in BILLING_PATH]
    assert paths({span.span_id: (span.name, span.parent_id) for span in spans}) == expected


async def test_the_run_says_who_asked() -> None:
    with InMemorySpans() as measured:
        service = Service(measured)
        await service.post(BILLING)
        run = measured.one(names.RUN)
    said = {key: run.attributes.get(key) for key in (names.GRAPH, names.TEAM, names.USER, names.CONVERSATION_ID)}
    assert said == {names.GRAPH: "support", names.TEAM: "web", names.USER: "ada", names.CONVERSATION_ID: "t-1"}


async def test_requests_do_not_run_into_each_other() -> None:
    with InMemorySpans() as measured:
        service = Service(measured)
        responses = await service.post(BILLING, {"message": "Just smalltalk."}, {"message": "A technical problem."})
        spans = service.spans()
    roots = [span for span in spans if span.parent_id is None]
    assert [span.name for span in roots] == ["POST /chat"] * 3
    assert {response.json()["trace_id"] for response in responses} == {f"{span.trace_id:032x}" for span in roots}
    assert {response.json()["topic"] for response in responses} == {"billing", "smalltalk", "technical"}


async def test_the_services_own_spans_are_its_own() -> None:
    with InMemorySpans() as measured:
        service = Service(measured)
        await service.post(BILLING)
        own = service.exporter.get_finished_spans()
    assert {span.name: span.kind for span in own} == {"POST /chat": SpanKind.SERVER, "SELECT invoice": SpanKind.CLIENT}


async def test_a_failing_provider_is_a_503_and_a_failed_run() -> None:
    with InMemorySpans() as measured:
        service = Service(measured, Trouble(0.0, 1.0))
        (response,) = await service.post(BILLING)
        run = measured.one(names.RUN)
    assert response.status_code == 503
    assert "500 The server had an error" in response.json()["detail"]
    assert run.status == names.ERROR


async def test_an_empty_message_is_refused_before_any_run() -> None:
    with InMemorySpans() as measured:
        service = Service(measured)
        (response,) = await service.post({"message": ""})
        assert measured.spans() == []
    assert response.status_code == 422


class _Sink(BaseHTTPRequestHandler):
    """Takes OTLP requests and keeps them on the server."""

    server: _SinkServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # quiet
        pass


class _SinkServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Sink)
        self.requests: list[ExportTraceServiceRequest] = []


@contextmanager
def sink() -> Iterator[_SinkServer]:
    server = _SinkServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def uvicorn(endpoint: str, log: Path) -> Iterator[str]:
    """`uvicorn graphmeter_examples.app:app` as a user starts it; its base URL."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "GRAPHMETER_")) and "API_KEY" not in k}
    command = [sys.executable, "-m", "uvicorn", "graphmeter_examples.app:app", "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stderr=output,
            stdout=output,
            env={**kept, "GRAPHMETER_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"},
        )
    try:
        deadline = time.monotonic() + 60
        while "Uvicorn running on" not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        yield text.partition("Uvicorn running on ")[2].split()[0]
    finally:
        process.terminate()
        process.wait(60)


def test_started_by_uvicorn_everything_arrives_under_one_service(tmp_path: Path) -> None:
    with sink() as server:
        with uvicorn(f"http://127.0.0.1:{server.server_port}", tmp_path / "log") as url:
            response = httpx.post(f"{url}/chat", json=BILLING, timeout=60, trust_env=False)
            assert response.status_code == 200, response.text
        # Stopping the service delivered the rest.
        arrived = [part for request in server.requests for part in request.resource_spans]
    services = {a.value.string_value for part in arrived for a in part.resource.attributes if a.key == "service.name"}
    assert services == {"chat-app"}
    ids = {
        int.from_bytes(span.span_id): (span.name, int.from_bytes(span.parent_span_id))
        for part in arrived
        for scope in part.scope_spans
        for span in scope.spans
        if span.name not in names.NOTE_NAMES.values()
    }
    assert paths({key: (name, parent or None) for key, (name, parent) in ids.items()}) == list(BILLING_PATH)
