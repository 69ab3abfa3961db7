"""A clean environment for every test, and a check that none leaves anything open or any fault behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphmeter import client, neighbours
from support.measured import alone, no_faults, spans

__all__ = ["clean", "no_faults", "spans"]

# Its asserts hold of every tree; one that fails has to say what it saw.
pytest.register_assert_rewrite("callbacks.trees")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with alone(monkeypatch):
        # One more note at each graph's first run would be in every count; its own tests switch it on.
        monkeypatch.setenv("GRAPHMETER_TOPOLOGY", "0")
        # Nor should a run be, that takes half a minute on a machine where many others work.
        monkeypatch.setenv("GRAPHMETER_HEARTBEAT_S", "3600")
        # Settings are read from this environment, not from an earlier test's.
        monkeypatch.setattr(client, "_settings", None)
        # An instrumentation that another test has loaded is none of this test's.
        monkeypatch.setattr(neighbours, "present", lambda: False)
        yield
