"""What tests of the client get: an environment of their own, spans kept in memory, and a check that nothing stays behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from graphmeter import guard, runs
from graphmeter.testing import InMemorySpans

_TRACING = ("GRAPHMETER_", "OTEL_", "LANGSMITH_", "LANGCHAIN_")


@contextmanager
def alone(monkeypatch: pytest.MonkeyPatch, *prefixes: str) -> Iterator[None]:
    """No variable of the developer's shell that configures tracing, or starts with one of `prefixes`; nothing open after."""
    for name in list(os.environ):
        if name.startswith((*_TRACING, *prefixes)):
            monkeypatch.delenv(name)
    # Nobody listens there: a test that means to reach a collector names its own.
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
def no_faults() -> Iterator[None]:
    yield
    assert {} == guard.faults()
