"""Objectives of one collector as this process knows them: what its `/api/slos/status` said last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

MAX_AGE_S: Final = 15.0
"""How old states may be while somebody asks for them."""
_NEVER: Final = float("-inf")


class Row(NamedTuple):
    """One of the things that an objective judges by themselves."""

    scope: Mapping[str, str]
    remaining_ratio: float
    burn_rate: float | None
    burning: tuple[str, ...]
    achieved_ratio: float | None
    good: int
    bad: int
    exhausted_at_ns: int | None


class Definition(NamedTuple):
    """An objective as the collector tells it."""

    per: tuple[str, ...]
    objective_percent: float


class Known(NamedTuple):
    """What a collector said."""

    definitions: Mapping[str, Definition]
    rows: Mapping[str, Sequence[Row]]


class Objectives:
    """Objectives of one collector. Any thread may use it: what is known is replaced as a whole."""

    def __init__(self) -> None:
        self.known: Known | None = None
        self.asked_at = _NEVER
        """When the last answer was asked for, by the monotonic clock."""
        self.used_at = _NEVER
        """When somebody wanted to know."""
        self.etag = ""

    @property
    def age_s(self) -> float:
        """Seconds since the last answer was asked for."""
        return time.monotonic() - self.asked_at

    def learn(self, said: Mapping[str, Any], etag: str) -> None:
        """Take an answer of `/api/slos/status`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        definitions = {
            str(each["slo"]): Definition(tuple(map(str, each["per"])), float(each["objective_percent"]))
            for each in said["definitions"]
        }
        rows: dict[str, list[Row]] = {}
        for each in said["slos"]:
            left = each["budget_remaining_ratio"]
            row = Row(
                {str(name): str(value) for name, value in each["scope"].items()},
                1.0 if left is None else float(left),
                None if each["burn_rate"] is None else float(each["burn_rate"]),
                tuple(map(str, each["crossed"])),
                None if each["achieved_ratio"] is None else float(each["achieved_ratio"]),
                int(each["good"]),
                int(each["bad"]),
                None if each["exhausted_at_ns"] is None else int(each["exhausted_at_ns"]),
            )
            rows.setdefault(str(each["slo"]), []).append(row)
        self.known, self.etag = Known(definitions, rows), etag
