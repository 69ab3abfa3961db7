"""A small OTLP/HTTP receiver on a free port: decodes real requests, answers as told."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names


class Receiver:
    """Collects spans and, apart from them, reports; `answers` are the HTTP statuses of the next requests, then 200."""

    def __init__(self, tls: SSLContext | None = None) -> None:
        self.spans: list[Span] = []
        self.reports: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.resources: list[dict[str, str]] = []
        self.scopes: set[str] = set()
        self.answers: list[int] = []
        self.reject = 0
        self.requests = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.requests += 1
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                answer = b"busy"
                if status == 200:
                    receiver._take(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
                    partial = ExportTracePartialSuccess(rejected_spans=receiver.reject, error_message="odd")
                    answer = ExportTraceServiceResponse(
                        partial_success=partial if receiver.reject else None
                    ).SerializeToString()
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.paths.append(path)
        self.headers.append(headers)
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body))
        for group in request.resource_spans:
            self.resources.append({item.key: item.value.string_value for item in group.resource.attributes})
            for scoped in group.scope_spans:
                self.scopes.add(scoped.scope.name)
                for span in scoped.spans:
                    said = attributes(span)
                    if said.get(names.KIND) == names.REPORT:
                        self.reports.append(said)
                    else:
                        self.spans.append(span)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def endings(self) -> list[str]:
        """Kinds of the spans received with their statuses, sorted."""
        return sorted(
            f"{said[names.KIND]} {said.get(names.STATUS, '')}".rstrip()
            for said in [attributes(span) for span in list(self.spans)]
        )

    def kinds(self) -> list[str]:
        """Kinds of the spans received, sorted."""
        return sorted(attributes(span)[names.KIND] for span in list(self.spans))


def attributes(span: Span) -> dict[str, Any]:
    """Attributes of a protobuf span as plain values."""
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes}
