"""What became of a process's spans, told to the collector: counts in, a note out now and then, never because of itself.

A report is not counted, not queued and not tried again: it travels in the last request at hand, and the next one
contains it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import NamedTuple

from graphmeter import guard, names, runs
from graphmeter.attribution import Attribution
from graphmeter.records import Note, Value
from graphmeter.settings import Settings


class Counts(NamedTuple):
    """What became of the spans and notes given to a pipeline; reports are not among them."""

    exported: int
    dropped: int
    failed: int
    queued: int
    """Waiting in memory."""
    spooled: int = 0
    """Waiting on disk."""


class Reports:
    """Reports of one pipeline in one process.

    Two pipelines of a process are two clients: their collector, if it is one, adds them up.
    """

    def __init__(self, settings: Settings) -> None:
        self._interval_s = settings.report_s
        self._shared: Mapping[str, Value] = Attribution().over(settings).shared()
        self._client_id = secrets.randbits(128) or 1
        self._sequence = 0
        self._told = self._written = (Counts(0, 0, 0, 0), 0)
        self._next: float | None = None

    def changed(self) -> None:
        """There is something to tell."""
        if self._next is None and self._interval_s:
            self._next = time.monotonic() + self._interval_s

    @property
    def wait_s(self) -> float | None:
        """Seconds until a report is due; None: there is nothing to tell."""
        return None if self._next is None else max(self._next - time.monotonic(), 0.0)

    def news(self, counts: Counts) -> bool:
        """Whether `counts` differ from what the collector was told."""
        return bool(self._interval_s) and (counts, _faults()) != self._told

    def write(self, counts: Counts) -> Note:
        """The report that says `counts`."""
        self._sequence += 1
        faults = _faults()
        self._written = (counts, faults)
        facts: dict[str, Value] = {
            names.CLIENT_ID: f"{self._client_id:032x}",
            names.CLIENT_SEQUENCE: self._sequence,
            names.CLIENT_EXPORTED: counts.exported,
            names.CLIENT_DROPPED: counts.dropped,
            names.CLIENT_FAILED: counts.failed,
            names.CLIENT_QUEUED: counts.queued + counts.spooled,
            names.CLIENT_FAULTS: faults,
            names.CLIENT_OPEN_RUNS: runs.open_runs(),
        }
        salt = b"report %d" % self._sequence
        return Note(names.REPORT, self._client_id, salt, time.time_ns(), None, None, self._shared, facts)

    def nothing_new(self) -> None:
        """No report is due before something changes."""
        self._next = None

    def told(self) -> None:
        """The collector has the report that was written last."""
        self._told = self._written
        self._next = None


def _faults() -> int:
    return sum(guard.faults().values())
