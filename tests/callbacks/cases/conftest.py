"""What the cases share: each runs sync and async where LangGraph has both."""

from __future__ import annotations

from typing import Any

import pytest

from callbacks.ways import Way
from graphmeter.testing import InMemorySpans


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


@pytest.fixture
def bound(spans: InMemorySpans) -> dict[str, Any]:
    """A config with a handler that emits to `spans`."""
    return {"callbacks": [spans.handler()]}
