"""The collector's own requests as spans, sent to the forward destinations and never to itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from graphmeter_config import Tls

EXCLUDED = "^[a-z]+://[^/]*/(v1/(traces|logs|metrics)|metrics|health|ready)/?$"
"""URLs that tell nothing about the collector's users: a span per received batch of spans would never end."""

END_WITHIN_S = 1.0
"""How long the last spans may take."""


class Destination(Protocol):
    """Where spans go."""

    @property
    def endpoint(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def tls(self) -> Tls: ...


@contextmanager
def trace_requests(app: FastAPI, destinations: Sequence[Destination]) -> Iterator[None]:
    """Instrument the application until the block ends. Without destinations spans only name log lines."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "graphmeter-collector"}), shutdown_on_exit=False)
    for destination in destinations:
        if destination.tls.insecure_skip_verify:
            continue  # OpenTelemetry's exporter cannot be told to
        # Imported where it is used: without destinations, starting need not wait for an HTTP client.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(
            f"{destination.endpoint}/v1/traces",
            headers=dict(destination.headers),
            certificate_file=destination.tls.ca_file,
            client_key_file=destination.tls.key_file,
            client_certificate_file=destination.tls.cert_file,
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),
        excluded_urls=EXCLUDED,
        exclude_spans=["send", "receive"],
    )
    try:
        yield
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
        # Aside, and not for long: exporters retry, and a destination that is away must not hold up the end.
        ending = threading.Thread(target=provider.shutdown, name="end-tracing", daemon=True)
        ending.start()
        ending.join(END_WITHIN_S)
