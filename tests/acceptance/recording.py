"""An OTLP/HTTP receiver independent of the collector: it records what real clients send, to be looked at or sent again."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

if TYPE_CHECKING:
    from collections.abc import Iterator


class Recorder:
    """Requests received so far, in order of arrival."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[ExportTraceServiceRequest] = []
        self.lock = threading.Lock()

    def spans(self) -> list[Span]:
        """Every span of every request."""
        with self.lock:
            return [
                span
                for request in self.requests
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def single_span_requests(self) -> list[bytes]:
        """The same spans, each in a request of its own with its resource and scope."""
        bodies = []
        with self.lock:
            for request in self.requests:
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            one = ExportTraceServiceRequest()
                            into = one.resource_spans.add()
                            into.resource.CopyFrom(resource.resource)
                            scoped = into.scope_spans.add()
                            scoped.scope.CopyFrom(scope.scope)
                            scoped.spans.append(span)
                            bodies.append(one.SerializeToString())
        return bodies


@contextmanager
def recorder(port: int = 0) -> Iterator[Recorder]:
    """Listen on a port, any free one by default, until the block ends."""
    record = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            with record.lock:
                record.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Quiet: the tests say what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    record.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
