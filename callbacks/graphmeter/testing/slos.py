"""Objectives for tests of applications: what their graphs do while an error budget runs low, with no collector.

with slos(**{"support-availability": {"remaining_ratio": 0.05, "burning": ["page-fast"]}}):
    assert "from the cache" in application.answer("Where is my order?")
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from graphmeter.budget import desk as desks
from graphmeter.budget.objectives import Objectives
from graphmeter.testing.budgets import KnownBudgets

_KNOWN: Final = frozenset(
    {"remaining_ratio", "burn_rate", "burning", "achieved_ratio", "good", "bad", "objective_percent", "exhausted_in_s"}
)


class _Told(Objectives):
    """Knows what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False


class KnownSlos:
    """The objectives of one `with` block. See `slos`."""

    def __init__(self, given: Mapping[str, Mapping[str, Any]]) -> None:
        self._given = {name: _checked(name, said) for name, said in given.items()}
        self.objectives = _Told()
        self._tell()

    def say(self, slo: str, **changed: Any) -> None:
        """The objective is different from now on: `remaining_ratio=0.02`."""
        self._given[slo] = _checked(slo, {**self._given.get(slo, {}), **changed})
        self._tell()

    def fail(self, *, failing: bool = True) -> None:
        """The collector cannot be reached any more, nor was it ever. With `failing=False` it is back."""
        self.objectives.away = failing
        if failing:
            self.objectives.known = None
        else:
            self._tell()

    def _tell(self) -> None:
        rows = [_row(name, said) for name, said in self._given.items()]
        definitions = [
            {"slo": name, "per": [], "objective_percent": said.get("objective_percent", 99)}
            for name, said in self._given.items()
        ]
        self.objectives.learn({"slos": rows, "definitions": definitions}, "")
        self.objectives.asked_at = time.monotonic()


@contextmanager
def slos(**given: Mapping[str, Any]) -> Iterator[KnownSlos]:
    """Let `graphmeter.slo.status()` know these objectives, and no others, until the block ends; wherever it is called from.

    Args:
        given: By name, what `graphmeter.slo.Status` has: `remaining_ratio`, `burn_rate`, `burning`, `achieved_ratio`,
            `good`, `bad`, `objective_percent`, `exhausted_in_s`. Names that are no Python names: `**{"a-b": {…}}`.

    Raises:
        ValueError: something else besides.
    """
    known, before = KnownSlos(given), desks.diverted()
    # With `budgets()` around, its desk tells both.
    desk = KnownBudgets({}, None).desk if before is None else before
    others, desk.slos = desk.slos, known.objectives
    desks.divert(desk)
    try:
        yield known
    finally:
        desk.slos = others
        desks.divert(before)


def _checked(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(said.keys() - _KNOWN)
    if unknown:
        raise ValueError(f"SLO {name!r}: {unknown[0]} is none of {', '.join(sorted(_KNOWN))}")
    return dict(said)


def _row(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    lasts_s = said.get("exhausted_in_s")
    return {
        "slo": name,
        "scope": {},
        "good": said.get("good", 0),
        "bad": said.get("bad", 0),
        "achieved_ratio": said.get("achieved_ratio"),
        "budget_remaining_ratio": said.get("remaining_ratio", 1.0),
        "burn_rate": said.get("burn_rate"),
        "crossed": list(said.get("burning", ())),
        "exhausted_at_ns": None if lasts_s is None else time.time_ns() + round(lasts_s * 1e9),
    }
