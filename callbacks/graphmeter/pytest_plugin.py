"""For pytest, which finds it by its entry point: the fixture `graphmeter_runs`. Loads nothing until a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from graphmeter.testing import InMemorySpans


@pytest.fixture
def graphmeter_runs() -> Iterator[InMemorySpans]:
    """Keeps every run of the test in memory: `graphmeter_runs.run("support").assert_cost_below("0.02")`."""
    from graphmeter.testing import measure

    with measure() as measured:
        yield measured
