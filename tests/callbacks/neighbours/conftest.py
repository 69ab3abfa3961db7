"""Applications that are instrumented by others, too, and the switch that keeps those others out of every other test."""

from __future__ import annotations

import pytest

from callbacks.application import Application
from graphmeter import neighbours

_present = neighbours.present


@pytest.fixture(autouse=True)
def neighbours_count(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    """Other tests look away from what these have imported."""
    monkeypatch.setattr(neighbours, "present", _present)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Application:
    return Application(monkeypatch)
