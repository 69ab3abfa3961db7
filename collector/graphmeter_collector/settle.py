"""The job that settles foreign spans: commits ring it, ancestors that another collector stored are found by looking.

Every collector runs it; the store sees to it that each span is settled once. A collector that knows of no unsettled span
asks one question in a quarter of a minute, for what one that is no more has left behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from graphmeter import names
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.records import WriteResult
from graphmeter_collector.store import Store
from graphmeter_collector.telemetry import Metrics

_log = structlog.stdlib.get_logger(__name__)

GATHER_S: Final = 0.1
"""From a commit to the look that it causes: the spans of a trace come in several requests."""
LOOK_EVERY_S: Final = 0.5
"""While some wait: an ancestor may have gone to another collector, and time runs out."""
BREATHER: Final = 3
"""A look that takes longer than that is followed by a rest so many times as long: much waits, and little of it is ready."""
IDLE_LOOK_EVERY_S: Final = 15.0
AFTER_FAILURE_S: Final = 5.0
GIVE_UP_EVERY_S: Final = 5.0
"""At most: to learn that nobody replays takes a connection. Whoever waits for less is looked at as often."""
_NEVER_NS: Final = 1 << 62
_NS: Final = 1_000_000_000


class Settler:
    """Settles while `run` runs; `notice` is told of every commit."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        count: Callable[[WriteResult], None],
        settle_after_s: Callable[[], float],
        replayed: Callable[[], bool] = lambda: True,
    ) -> None:
        """`count` sees what was settled, as observers of the pipeline see what was stored.

        While `replayed` is false, ancestors may be on disk: no span is given up, however long it has waited.
        """
        self._store = store
        self._metrics = metrics
        self._count = count
        self._settle_after_s = settle_after_s
        self._replayed = replayed
        self._gave_up_at = -GIVE_UP_EVERY_S
        self._rung = asyncio.Event()
        self._took_s = 0.0
        self._waiting = True  # until the first look has told
        for by in ("ancestors", "timeout"):
            metrics.declare(names.COLLECTOR_SETTLED, by)

    def notice(self, result: WriteResult) -> None:
        """After a commit: look again if it may have stored what waits, or what is waited for."""
        if (self._waiting and result.new) or any(record.waits_for for record in result.new):
            self._rung.set()

    async def run(self) -> None:
        """Look again and again until cancelled. No failure ends it."""
        while True:
            pause_s, rest_s = LOOK_EVERY_S, GATHER_S
            try:
                while await self.settle():
                    pass
                if self._took_s > LOOK_EVERY_S:
                    rest_s = BREATHER * self._took_s
                pause_s = max(LOOK_EVERY_S, rest_s) if self._waiting else IDLE_LOOK_EVERY_S
            except CollectorError as error:
                self._metrics.inc(names.COLLECTOR_JOB_FAILURES, "settle")
                _log.warning("job_failed", job="settle", error=str(error))
                pause_s = AFTER_FAILURE_S
            except Exception:  # noqa: BLE001 - logged with its traceback, counted, tried again
                self._metrics.inc(names.COLLECTOR_JOB_FAILURES, "settle")
                _log.exception("job_failed", job="settle")
                pause_s = AFTER_FAILURE_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._rung.wait()
                await asyncio.sleep(rest_s)
            except TimeoutError:
                pass
            self._rung.clear()

    async def settle(self) -> int:
        """Look once; returns how many spans were settled."""
        wait_s = self._settle_after_s()
        due = time.monotonic() - self._gave_up_at >= min(GIVE_UP_EVERY_S, wait_s)
        if not (self._waiting and due and self._replayed()):
            return await self._look(_NEVER_NS)
        # Another collector holds this lock while it replays.
        async with self._store.job_lock("settle") as nobody_replays:
            settled = await self._look(round(wait_s * _NS) if nobody_replays else _NEVER_NS)
        if not settled:
            self._gave_up_at = time.monotonic()
        return settled

    async def _look(self, wait_ns: int) -> int:
        began = time.monotonic()
        settling = await self._store.settle(time.time_ns(), wait_ns)
        self._took_s = time.monotonic() - began
        self._waiting = settling.waiting
        result = settling.result
        settled = len(result.settled)
        for _, rejection in result.rejected:
            self._metrics.inc(names.COLLECTOR_REJECTED, rejection.reason)
            _log.error("span_not_counted", error=rejection.message)
        if settled:
            self._metrics.inc(names.COLLECTOR_SETTLED, "ancestors", by=settled - settling.given_up)
            self._metrics.inc(names.COLLECTOR_SETTLED, "timeout", by=settling.given_up)
            self._count(result)
        return settled + len(result.rejected)
