"""Guards of one test are none of another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphmeter import runs
from graphmeter.budget import counts, desk
from graphmeter.budget.calls import OPEN


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Counts of guards start at zero, and no collector is known."""
    counts.forget()
    OPEN.clear()
    monkeypatch.setattr(desk, "_desks", {})
    in_use = desk.IN_USE.copy()
    desk.IN_USE.clear()
    yield
    desk.IN_USE[:] = in_use
    monkeypatch.setattr(runs, "spent", None)
