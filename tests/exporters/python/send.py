"""The known trace, sent by OpenTelemetry's own exporter for the protocol that OTEL_EXPORTER_OTLP_PROTOCOL names.

Endpoint and compression are read by the exporter from the usual OTEL_* variables.
"""

from __future__ import annotations

import os

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_trace_id,
    set_span_in_context,
)

MS = 1_000_000


def main() -> None:
    start = int(os.environ["START_MS"]) * MS
    exporter = GrpcExporter() if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc" else HttpExporter()
    provider = TracerProvider(resource=Resource({"service.name": "exporter-test", "service.instance": 7}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("shop", "1.2.3")
    linked = SpanContext(
        0x0123456789ABCDEF0123456789ABCDEF, 0xFEDCBA9876543210, is_remote=True, trace_flags=TraceFlags(1)
    )
    parent = tracer.start_span(
        "checkout",
        kind=SpanKind.SERVER,
        start_time=start,
        attributes={
            "text": "ä€😀",
            "empty": "",
            "yes": True,
            "no": False,
            "whole": 42,
            "negative": -7,
            "large": 2**53 - 1,
            "fraction": 0.25,
            "texts": ["a", "b"],
            "wholes": [1, 2, 3],
            "fractions": [0.5, 1.5],
            "booleans": [True, False],
        },
        links=[Link(linked, {"why": "retry"})],
    )
    parent.add_event("paid", {"amount": 9.5, "currency": "EUR"}, start + 20 * MS)
    child = tracer.start_span("charge", set_span_in_context(parent), kind=SpanKind.CLIENT, start_time=start + 10 * MS)
    child.set_status(Status(StatusCode.ERROR, "declined"))
    child.end(start + 30 * MS)
    parent.set_status(Status(StatusCode.OK))
    parent.end(start + 50 * MS)
    provider.force_flush()
    provider.shutdown()
    print(format_trace_id(parent.get_span_context().trace_id))


if __name__ == "__main__":
    main()
