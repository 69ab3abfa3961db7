"""Where spans go and in whose name: settings and environment in, one collector address and one resource out.

Asked in the exporter's thread, right before the first request: by then the application has set up its own tracing, if it
ever does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.re import parse_env_headers

from graphmeter.names import SERVICE_NAME
from graphmeter.settings import Settings

_log = logging.getLogger("graphmeter")

DEFAULT_ENDPOINT = "http://localhost:4318"
_TRACES = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Destination:
    """A collector."""

    url: str
    """Full URL of its OTLP/HTTP trace endpoint."""
    reason: str
    """Which rule chose it, for the log."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def choose(settings: Settings, environ: Mapping[str, str] | None = None) -> Destination:
    """GRAPHMETER_ENDPOINT, else the application's OTLP endpoint if it has no tracing of its own, else localhost:4318.

    OTEL_EXPORTER_OTLP_HEADERS go along only with the endpoint they were meant for: they usually hold credentials.
    """
    env = os.environ if environ is None else environ
    headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    if settings.endpoint:
        problem = _problem(settings.endpoint)
        if not problem:
            return Destination(_traces_url(settings.endpoint), "GRAPHMETER_ENDPOINT", headers)
        _log.warning("GRAPHMETER_ENDPOINT=%r %s; using %s", settings.endpoint, problem, DEFAULT_ENDPOINT)
        return Destination(_traces_url(DEFAULT_ENDPOINT), "default", headers)
    general = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    if general and application_provider() is None and not _problem(general):
        if env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip().lower() != "grpc":
            theirs = parse_env_headers(env.get("OTEL_EXPORTER_OTLP_HEADERS", ""), liberal=True)
            return Destination(_traces_url(general), "OTEL_EXPORTER_OTLP_ENDPOINT", {**theirs, **headers})
        _log.warning("OTEL_EXPORTER_OTLP_ENDPOINT speaks gRPC, Graphmeter's client only HTTP: set GRAPHMETER_ENDPOINT")
    return Destination(_traces_url(DEFAULT_ENDPOINT), "default", headers)


def resource() -> Resource:
    """Service identity: the application's own, overridden by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES."""
    provider = application_provider()
    if provider is not None:
        return provider.resource.merge(OTELResourceDetector().detect())
    try:
        return Resource.create()
    except RuntimeError:
        # It asks its detectors in a thread pool, which a dying interpreter no longer has: a short script's last run.
        unknown = Resource({"telemetry.sdk.language": "python", SERVICE_NAME: "unknown_service:python"})
        return unknown.merge(OTELResourceDetector().detect())


def application_provider() -> TracerProvider | None:
    """The application's SDK tracer provider, if it has set one."""
    provider = trace.get_tracer_provider()
    return provider if isinstance(provider, TracerProvider) else None


def _traces_url(endpoint: str) -> str:
    base = endpoint.rstrip("/")
    return base if base.endswith(_TRACES) else base + _TRACES


def _problem(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError as error:
        return f"is not a URL ({error})"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not a URL like http://collector:4318"
    return ""
