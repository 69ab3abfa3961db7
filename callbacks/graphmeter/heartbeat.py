"""Signs of life: open root runs in, one note each per interval out, so that a run whose process has died is missed soon.

Asked in the exporter's thread, which sleeps until the next one is due. A process that is stopped or killed is silent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from time import perf_counter_ns
from typing import Final

from graphmeter import guard, names
from graphmeter.records import Note, Run, Sink, Value
from graphmeter.runs import RUNS

_MOST: Final = 1000
"""Notes per beat: with more runs open at once, those that started first."""
_RESOLUTION: Final = 0.1
"""Of an interval: beats this close to each other go together, so that many runs do not make many wake-ups."""


class Heartbeats:
    """Of the runs of one sink in one process. `interval_s` 0: none."""

    def __init__(self, sink: Sink, interval_s: float) -> None:
        self._sink = sink
        self._interval_ns = int(interval_s * 1e9)
        # A forked child has its parent's open runs, too: they are the parent's to speak for.
        self._born_ns = self._looked_ns = perf_counter_ns()
        self._next: float | None = None
        self.promise: Mapping[str, Value] = {names.HEARTBEAT_S: float(interval_s)} if interval_s else {}
        """What start notes say of the heartbeats to come."""
        self._kept_promise = self.promise

    def started(self) -> None:
        """A root has started."""
        if self._next is None and self._interval_ns:
            self._next = time.monotonic() + self._interval_ns / 1e9

    @property
    def wait_s(self) -> float | None:
        """Seconds until the next look; None: there is nothing to look for."""
        return None if self._next is None else max(self._next - time.monotonic(), 0.0)

    def due(self, *, away: bool) -> list[Note]:
        """Signs of life to be sent now. None while the collector is `away`: late ones would say nothing."""
        if self._next is None or time.monotonic() < self._next:
            return []
        interval_ns, now_ns = self._interval_ns, perf_counter_ns()
        least_wait_ns = int(interval_ns * _RESOLUTION)
        if away:
            self._next = time.monotonic() + least_wait_ns / 1e9
            return []
        roots = [
            run
            for run in RUNS.copy().values()
            if run.kind is names.RUN and run.tree.sink is self._sink and _started_ns(run) >= self._born_ns
        ]
        if len(roots) > _MOST:
            guard.noticed("more open runs than heartbeats", f"{len(roots)} are open, {_MOST} are kept alive")
            del roots[_MOST:]
            self.promise = {}
        else:
            self.promise = self._kept_promise
        notes = []
        for run in roots:
            # Whenever a full interval has passed since the run's start, however late we look.
            age_ns = now_ns - _started_ns(run)
            beat = age_ns // interval_ns
            if beat > (self._looked_ns - _started_ns(run)) // interval_ns:
                notes.append(_beat(run, now_ns, beat))
        self._looked_ns = now_ns
        waits = [interval_ns - (now_ns - _started_ns(run)) % interval_ns for run in roots]
        self._next = time.monotonic() + max(min(waits), least_wait_ns) / 1e9 if waits else None
        return notes


def _started_ns(run: Run) -> int:
    return run.started_ns - run.tree.offset_ns


def _beat(run: Run, now_ns: int, number: int) -> Note:
    tree = run.tree
    return Note(
        names.HEARTBEAT,
        run.context.trace_id,
        b"heartbeat %d" % number,
        now_ns + tree.offset_ns,
        run.run_id,
        tree.graph,
        tree.shared,
        {},
        tree.state,
        tree,
    )
