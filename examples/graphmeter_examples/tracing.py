"""The tracing that an application sets up for itself, with nothing of Graphmeter's: a provider, an exporter, a name."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def own_tracing(service: str) -> TracerProvider:
    """The process's provider; the destination follows Graphmeter's own variable, then OTLP's."""
    endpoint = os.environ.get("GRAPHMETER_ENDPOINT", "").rstrip("/")
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces") if endpoint else OTLPSpanExporter()
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    # Known to the whole process: Graphmeter reads from it in whose name it speaks.
    trace.set_tracer_provider(provider)
    return provider
