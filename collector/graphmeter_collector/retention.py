"""How long things stay: the configuration's durations and a clock in, points in time out."""

from __future__ import annotations

from typing import NamedTuple

from graphmeter_config.model import Retention

DAY_NS = 86_400_000_000_000


class Cutoffs(NamedTuple):
    """What is earlier goes. None: all of it stays."""

    spans_day: int
    """Days since the epoch: facts of spans, and what clients reported of them."""
    bodies_day: int
    """The spans' own bytes, and what was still to be forwarded of them."""
    runs_ns: int | None = None
    """Start of runs, with their nodes, waits, outcomes and late tags."""
    ledger_ns: int | None = None
    """Start of calls."""
    rollups_day: int | None = None
    """Hourly and daily rollups."""


def cutoffs(kept: Retention, now_ns: int) -> Cutoffs:
    """What `kept` means at `now_ns` (Unix epoch)."""
    today = now_ns // DAY_NS

    def start(days: int | None) -> int | None:
        return None if days is None else (today - days) * DAY_NS

    return Cutoffs(
        # A day longer than is accepted, so that whatever is accepted can still be seen as a duplicate.
        today - kept.spans_days - 1,
        today - kept.bodies_days,
        start(kept.runs_days),
        start(kept.ledger_days),
        None if kept.rollups_days is None else today - kept.rollups_days,
    )
