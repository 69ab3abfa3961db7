"""What questions of the reading API have in common: their parameters, and the answers to impossible ones."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel

from graphmeter_collector.errors import BadRequest

NS = 1_000_000_000
DAY_S = 86_400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_S, "w": 7 * DAY_S}
_MOST: Final = 1 << 63
"""No column holds this or more."""


def storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character, which no stored text does")
    return text


Text = Annotated[str, Query(max_length=500), AfterValidator(storable)]
Reference = Annotated[str, Path(max_length=500), AfterValidator(storable)]
Amount = Annotated[int, Query(ge=0, lt=_MOST)]
Since = Annotated[str, Query(description="Time back from now: 30m, 24h, 7d.")]
Ns = Annotated[int, Query(ge=0, lt=_MOST, description="Unix time in ns; takes the place of `since`.")]


class Problem(BaseModel):
    """What is wrong, and what to do about it."""

    detail: str


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "The question makes no sense"},
    404: {"model": Problem, "description": "There is no such thing"},
    422: {"model": Problem, "description": "A parameter has an impossible value"},
    503: {"model": Problem, "description": "The database is away; ask again later"},
}


def time_range(since: str, since_ns: int, until_ns: int) -> tuple[int, int]:
    """[since, until) in ns."""
    now = time.time_ns()
    start = since_ns or max(now - _duration_s(since) * NS, 0)
    # What started this very nanosecond belongs to "until now".
    return start, until_ns or now + 1


def _duration_s(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not re.fullmatch("[0-9]{1,9}", number) or not int(number):
        raise BadRequest(f"{text[:80]!r} is not a duration: write 30m, 24h or 7d", reason="bad_duration")
    return int(number) * _UNITS[unit]
