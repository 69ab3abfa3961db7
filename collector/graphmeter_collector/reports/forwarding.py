"""What waits to be forwarded, and what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graphmeter_collector.records import Envelope


class OutboxItem(NamedTuple):
    """One committed span on its way to a destination."""

    trace_id: bytes
    span_id: bytes
    day: int
    body: bytes
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class TracePart:
    """A run of a trace, or the whole trace where it holds no run."""

    service: str
    environment: str
    graph: str
    team: str
    status: str
    duration_ns: int
    cost_nano: int
    ended: bool
    """Its root was seen, or it is lost."""


@dataclass(frozen=True, slots=True)
class WaitingTrace:
    """A trace of which spans wait for a decision."""

    trace_id: bytes
    first_ns: int
    """When the first of them was committed."""
    last_ns: int
    decided: bool
    """It was judged before: these spans came late."""
    kept: bool = False
    """It was judged to be kept: nothing below is told then."""
    settling: bool = False
    """Some of its spans wait for their ancestors: what they cost, and whose it is, is not known yet."""
    error: bool = False
    """One of its spans failed."""
    root_seen: bool = False
    parts: tuple[TracePart, ...] = ()


class Decision(NamedTuple):
    """What becomes of a trace, and why."""

    trace_id: bytes
    keep: bool
    reason: str
    rule: str
    decided_ns: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What storing decisions did."""

    new: Sequence[Decision]
    """Those that stand, revised ones included; others had been decided before."""
    kept: int
    """Spans that are on their way now."""
    dropped: int
    """Spans that will not be forwarded."""
