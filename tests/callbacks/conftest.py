"""A clean environment for every test, and a check that none leaves anything open or any fault behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from graphmeter import client, guard, neighbours, runs
from graphmeter.testing import InMemorySpans

# Its asserts hold of every tree; one that fails has to say what it saw.
pytest.register_assert_rewrite("callbacks.trees")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("GRAPHMETER_", "OTEL_", "LANGSMITH_", "LANGCHAIN_")):
            monkeypatch.delenv(name)
    # Nobody listens there: a test that means to reach a collector names its own.
    monkeypatch.setenv("GRAPHMETER_ENDPOINT", "http://127.0.0.1:9")
    # One more note at each graph's first run would be in every count; its own tests switch it on.
    monkeypatch.setenv("GRAPHMETER_TOPOLOGY", "0")
    monkeypatch.setattr(
        client, "_settings", None
    )  # settings are read from this environment, not from an earlier test's
    # An instrumentation that another test has loaded is none of this test's.
    monkeypatch.setattr(neighbours, "present", lambda: False)
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
