"""What tests of integrations get: a provider on this machine, spans kept in memory, and no fault left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from graphmeter import guard, runs
from graphmeter.testing import InMemorySpans
from providers.calls import Exported
from providers.server import Provider, provider


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, proxy or tracing of the developer's shell."""
    prefixes = (
        "GRAPHMETER_",
        "OTEL_",
        "LANGSMITH_",
        "LANGCHAIN_",
        "OPENAI_",
        "AZURE_",
        "ANTHROPIC_",
        "AWS_",
        "GOOGLE_",
    )
    for name in list(os.environ):
        if name.startswith(prefixes) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GRAPHMETER_ENDPOINT", "http://127.0.0.1:9")
    guard.forget()
    token = otel_context.attach(Context())
    yield
    otel_context.detach(token)
    runs.give_up()
    assert {} == dict(runs.RUNS)


@pytest.fixture
def spans() -> Iterator[InMemorySpans]:
    with InMemorySpans() as kept:
        yield kept


@pytest.fixture
def exported() -> Iterator[Exported]:
    """As `spans`, also as the collector reads them."""
    with Exported() as kept:
        yield kept


@pytest.fixture
def no_faults() -> Iterator[None]:
    yield
    assert {} == guard.faults()


@pytest.fixture
def server() -> Iterator[Provider]:
    with provider() as here:
        yield here
