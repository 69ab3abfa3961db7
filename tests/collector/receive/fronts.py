"""The ingest routes in front of an `accept` that tells what reached it, and destinations that take logs and metrics."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graphmeter_collector.otlp import Request
from graphmeter_collector.receive.answers import Ack
from graphmeter_collector.receive.body import Limits, Room
from graphmeter_collector.receive.http import ingest_router
from graphmeter_collector.receive.passing import Passing, Target
from graphmeter_collector.records import Caller
from graphmeter_collector.telemetry import Metrics
from support import otlp

LIMITS = Limits(body_bytes=20_000, decompressed_bytes=50_000, spans=20)


@dataclass
class Front:
    """Routes under test: what they accepted, what they answer, what they counted."""

    http: httpx.AsyncClient
    app: FastAPI
    metrics: Metrics
    accepted: list[ExportTraceServiceRequest] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    answer: Ack | Exception | None = None
    """None acknowledges everything."""

    async def accept(self, request: Request, caller: Caller) -> Ack:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.accepted.append(ExportTraceServiceRequest.FromString(request.body))
        self.callers.append(caller)
        return self.answer or Ack(1, 0)

    async def post(
        self, body: Any, content_type: str = otlp.PROTOBUF, path: str = "/v1/traces", **headers: str
    ) -> httpx.Response:
        """Send a body; further headers by name with underscores."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type:
            given["content-type"] = content_type
        return await self.http.post(path, content=body, headers=given)


def front(targets: list[Target], accepts_within: Limits = LIMITS, room: Room | None = None) -> tuple[Front, Passing]:
    passing = Passing(targets)
    app, metrics = FastAPI(), Metrics()
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://collector")
    made = Front(http, app, metrics)
    app.include_router(ingest_router(made.accept, accepts_within, metrics, passing, room))
    return made, passing


class Destination:
    """A server that answers `status` and keeps what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        destination = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {key.lower(): value for key, value in self.headers.items()}
                destination.received.append((self.path, headers, body))
                self.send_response(destination.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
