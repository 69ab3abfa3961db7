"""Environment variables and the choice of a destination."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from graphmeter import destination
from graphmeter.settings import Settings


def test_the_environment_sets_every_field() -> None:
    env = {
        "GRAPHMETER_ENDPOINT": " http://c:1 ",
        "GRAPHMETER_API_KEY": "k",
        "GRAPHMETER_TEAM": "cx",
        "GRAPHMETER_TENANT": "acme",
        "GRAPHMETER_ENVIRONMENT": "prod",
        "GRAPHMETER_RELEASE": "1",
        "GRAPHMETER_DEBUG": "on",
        "GRAPHMETER_ERROR_MESSAGES": "1",
        "GRAPHMETER_QUEUE_SPANS": "100",
        "GRAPHMETER_FLUSH_INTERVAL_S": "0.1",
        "GRAPHMETER_TIMEOUT_S": "2",
        "GRAPHMETER_EXIT_TIMEOUT_S": "0",
        "GRAPHMETER_FLUSH_ON_SIGTERM": "yes",
        "GRAPHMETER_CAPTURE": "media, state_diff",
        "GRAPHMETER_CAPTURE_BYTES": "4096",
        "GRAPHMETER_REDACT": "email,card",
    }
    expected = Settings("http://c:1", "k", "cx", "acme", "prod", "1", True, True, 100, 0.1, 2.0, 0.0, True)
    kinds = frozenset({"content", "media", "state", "state_diff"})
    expected = replace(expected, capture=kinds, capture_bytes=4096, redact="email,card")
    assert expected == Settings.from_env(env)
    assert Settings() == Settings.from_env({})


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf", "0"])
def test_an_unreadable_value_is_reported_and_replaced(value: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "graphmeter"):
        assert Settings().queue_spans == Settings.from_env({"GRAPHMETER_QUEUE_SPANS": value}).queue_spans
    assert f"GRAPHMETER_QUEUE_SPANS={value!r}" in caplog.text


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Settings(api_key="secret"))
    assert "secret" not in repr(destination.choose(Settings(api_key="secret"), {}))


def test_our_own_variable_wins_and_takes_no_credentials_of_another_backend() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318", "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret"}
    chosen = destination.choose(Settings(endpoint="http://c:1/", api_key="k"), env)
    assert ("http://c:1/v1/traces", {"authorization": "Bearer k"}) == (chosen.url, chosen.headers)


def test_the_otlp_endpoint_serves_when_the_application_has_no_tracing() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318", "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret"}
    chosen = destination.choose(Settings(), env)
    assert ("http://other:4318/v1/traces", {"x-key": "secret"}) == (chosen.url, chosen.headers)


def test_the_otlp_endpoint_of_an_application_with_tracing_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    chosen = destination.choose(Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318"})
    assert "http://localhost:4318/v1/traces" == chosen.url


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://x", "http://", "http://h:port"])
def test_an_endpoint_that_is_no_url_is_said_and_replaced(endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "graphmeter"):
        chosen = destination.choose(Settings(endpoint=endpoint), {})
    assert "http://localhost:4318/v1/traces" == chosen.url
    assert endpoint in caplog.text


def test_a_grpc_endpoint_is_not_spoken_to(caplog: pytest.LogCaptureFixture) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert "http://localhost:4318/v1/traces" == destination.choose(Settings(), env).url
    assert "gRPC" in caplog.text


def test_the_resource_is_the_applications_under_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider(resource=Resource({"service.name": "shop", "service.version": "7"}))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert ("shop", "7") == tuple(destination.resource().attributes[key] for key in ("service.name", "service.version"))
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "graphmeter.team=cx")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "till")
    said = destination.resource().attributes
    assert ("till", "7", "cx") == (said["service.name"], said["service.version"], said["graphmeter.team"])


def test_what_cannot_be_captured_is_said_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "graphmeter"):
        assert frozenset({"state"}) == Settings.from_env({"GRAPHMETER_CAPTURE": "state,prompts"}).capture
    assert "GRAPHMETER_CAPTURE: 'prompts' is none of content, media, state, state_diff" in caplog.text
    assert frozenset() == Settings.from_env({"GRAPHMETER_CAPTURE": "off"}).capture
