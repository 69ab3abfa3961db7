"""Spans in, one OTLP/HTTP request out; the answer is sorted into accepted, refused for good, and worth another try.

Our own spans are encoded one by one as they are finished (`graphmeter.wire`), the application's by OpenTelemetry when they
go. The transport is ours, because `OTLPSpanExporter` logs every failed attempt by itself, does not tell a refusal from an
outage, cannot be woken from its back-off, and adds OTEL_EXPORTER_OTLP_HEADERS (the credentials of the application's own
backend) to whatever endpoint it is given.
"""

from __future__ import annotations

import gzip
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from graphmeter import forks, guard, wire
from graphmeter.delivery import Ready, Refused, Unreachable
from graphmeter.destination import Destination
from graphmeter.records import Note, Run
from graphmeter.spans import build, build_note, service_of

if TYPE_CHECKING:
    from graphmeter.backlog import Backlog
    from graphmeter.spool import Spool

# https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
_RETRYABLE = frozenset({429, 502, 503, 504})
_LONGEST_WAIT_S = 60.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpDelivery:
    """Sends to a collector."""

    reports = True

    def __init__(
        self, destination: Destination, resource: Resource, timeout_s: float, spool: Spool | None = None
    ) -> None:
        self.resource = resource
        self._service = service_of(resource)
        self.backlog: Backlog | None = None
        if spool is not None:
            from graphmeter.backlog import Backlog

            self.backlog = Backlog(self, spool)
        self.where = destination.url
        self._timeout_s = timeout_s
        self._opener = opener(self.where)
        self._headers = {
            **destination.headers,
            "content-type": "application/x-protobuf",
            "content-encoding": "gzip",
            "user-agent": "graphmeter-client",
        }

    def span_of(self, run: Run, *, error_messages: bool) -> Ready:
        return wire.encode(run, self._service, error_messages=error_messages)

    def span_of_note(self, note: Note) -> Ready:
        return wire.encode_note(note, self._service)

    def send(self, spans: Sequence[Ready]) -> int:
        body, unencodable = self.encode(spans)
        return unencodable + (self.post(body) if body else 0)

    def encode(self, spans: Sequence[Ready]) -> tuple[bytes, int]:
        """The request that holds `spans`, empty if it would hold none, and the number that could not be encoded."""
        ours = [span for span in spans if isinstance(span, bytes)]
        body = wire.request(ours, self.resource) if ours else b""
        unencodable = 0
        if len(ours) < len(spans):
            theirs, unencodable = _encode([span for span in spans if not isinstance(span, bytes)])
            body += theirs
        return (gzip.compress(body, compresslevel=1) if body else b""), unencodable

    def post(self, body: bytes) -> int:
        """Send a request that `encode` made; the number of spans refused for good."""
        request = urllib.request.Request(  # noqa: S310 - destination.choose accepts http and https only
            self.where, body, self._headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return _refused(response.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _RETRYABLE:
                    raise Unreachable(f"HTTP {error.code}", _retry_after_s(error.headers.get("retry-after"))) from None
                text = error.read(300).decode("utf-8", "replace").strip()
                raise Refused(f"HTTP {error.code} {text}".strip()) from None
        except urllib.error.URLError as error:
            raise Unreachable(str(error.reason) or type(error.reason).__name__) from None
        except (OSError, HTTPException) as error:
            raise Unreachable(str(error) or type(error).__name__) from None

    def close(self) -> None:
        """A connection lives for one request; what is on disk is left to others."""
        if self.backlog is not None:
            self.backlog.close()


def opener(url: str) -> urllib.request.OpenerDirector:
    """What opens requests to `url`. Redirects are not followed: urllib would turn the POST into a GET."""
    target = urlsplit(url)
    made = urllib.request.OpenerDirector()
    # A proxy knows nothing of this machine's loopback, and NO_PROXY seldom names it.
    made.add_handler(urllib.request.ProxyHandler({} if target.hostname in LOOPBACK else None))
    made.add_handler(urllib.request.HTTPHandler())
    if target.scheme == "https":
        import ssl

        # Once, not per request: it reads every certificate of the machine. Under a lock of OpenSSL's, which a child that is
        # forked meanwhile would wait for for ever.
        with forks.gate:
            made.add_handler(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    made.add_handler(urllib.request.HTTPDefaultErrorHandler())
    made.add_handler(urllib.request.HTTPErrorProcessor())
    return made


class ExporterDelivery:
    """Hands spans to an OpenTelemetry exporter that the user chose; retrying is that exporter's business."""

    reports = False
    backlog: Backlog | None = None

    def __init__(self, exporter: SpanExporter, resource: Resource) -> None:
        self.resource = resource
        self._service = service_of(resource)
        self.where = type(exporter).__name__
        self._exporter = exporter

    def span_of(self, run: Run, *, error_messages: bool) -> Ready:
        return build(run, self.resource, self._service, error_messages=error_messages)

    def span_of_note(self, note: Note) -> Ready:
        return build_note(note, self.resource, self._service)

    def send(self, spans: Sequence[Ready]) -> int:
        built = [span for span in spans if not isinstance(span, bytes)]  # all of them: none is made into bytes here
        if self._exporter.export(built) is not SpanExportResult.SUCCESS:
            raise Refused("the exporter reported a failure")
        return 0

    def close(self) -> None:
        self._exporter.shutdown()


def load_encoder() -> None:
    """Load what encodes the application's spans: few processes have any for us, and it takes longer than all of ours."""
    with forks.gate:
        import opentelemetry.exporter.otlp.proto.common.trace_encoder  # noqa: F401


def _encode(spans: Sequence[ReadableSpan]) -> tuple[bytes, int]:
    """OTLP bytes of `spans`; one that cannot be encoded is left out and counted, the others go."""
    load_encoder()
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    try:
        return encode_spans(spans).SerializeToString(), 0
    except Exception as error:  # noqa: BLE001 - the encoder's errors are not declared; guard counts them
        guard.swallowed("encode", error)
    good = []
    for span in spans:
        try:
            encode_spans([span]).SerializeToString()
        except Exception as error:  # noqa: BLE001 - as above
            guard.swallowed("encode", error)
        else:
            good.append(span)
    return (encode_spans(good).SerializeToString() if good else b""), len(spans) - len(good)


def _refused(body: bytes) -> int:
    if not body:  # all is well
        return 0
    try:
        with forks.gate:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception as error:  # noqa: BLE001 - DecodeError has moved between protobuf versions
        guard.swallowed("decode response", error)
        return 0
    if partial.rejected_spans:
        guard.noticed("spans refused by the collector", partial.error_message)
    return int(partial.rejected_spans)


def _retry_after_s(header: str | None) -> float:
    try:
        return min(max(float(header or 0), 0.0), _LONGEST_WAIT_S)
    except ValueError:  # a date: the usual back-off will do
        return 0.0
