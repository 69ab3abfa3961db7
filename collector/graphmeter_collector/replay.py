"""From the spool to the database: notices that it is back, and brings what waited the normal way, oldest first.

Live requests go straight to the database again as soon as the first replayed transaction is through; replay then takes
turns with them. Order means nothing to the store, so the present need not wait for the past.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

import structlog

from graphmeter import names
from graphmeter_collector.errors import CollectorError, StoreUnavailable
from graphmeter_collector.pipeline import Pipeline
from graphmeter_collector.spool.frames import Spooled
from graphmeter_collector.spool.spool import Batch, Spool
from graphmeter_collector.store import Store
from graphmeter_collector.telemetry import Metrics

_log = structlog.stdlib.get_logger(__name__)

BATCH_SPANS: Final = 2_048
"""Spans per replayed transaction: some 50 ms, which is how long a live one may have to wait for it."""
BATCH_BYTES: Final = 4 << 20
ASK_EVERY_S: Final = 0.5
"""How often the database is asked whether it is back."""
ASK_AT_LEAST_EVERY_S: Final = 30.0
"""A database that answers, but fails what it is given, is asked less and less often."""
ASK_WITHIN_S: Final = 5.0
TRIED_ALONE: Final = 8
"""When so many requests fail one by one, and none gets through, it is not the requests."""
ADOPT_EVERY_S: Final = 30.0
TURN_S: Final = 10.0
"""How long one replay goes on before it gives whoever else replays the chance to hold the sweep off."""
SETTLED_AFTER_S: Final = 60.0
"""Other collectors need a while to notice that the database is back, clients one to send what they could not."""


class Opening(Protocol):
    """Makes the database usable: migration, writer slot, known series. Raises CollectorError while that cannot be."""

    def __call__(self) -> Awaitable[None]:
        """Do it."""
        ...


class Replay:
    """The replay of one collector. `open_store` is called, until it succeeds, before anything is replayed."""

    def __init__(
        self, pipeline: Pipeline, spool: Spool, store: Store, metrics: Metrics, open_store: Opening | None = None
    ) -> None:
        self._pipeline = pipeline
        self._spool = spool
        self._store = store
        self._metrics = metrics
        self._open_store = open_store
        self._unsettled_at = -SETTLED_AFTER_S
        self.replaying = False
        """Whether counters move for what happened earlier."""
        self._failures = 0
        """Of transactions in a row, although the database answers."""
        self._said = ""

    @property
    def settled(self) -> bool:
        """Whether the database knows what happened: nobody may be called lost for what this collector still has on disk."""
        return time.monotonic() - self._unsettled_at >= SETTLED_AFTER_S

    def show(self) -> None:
        """Bring the gauges up to date."""
        for metric, value in (
            (names.COLLECTOR_DATABASE_AWAY, float(self._pipeline.away)),
            (names.COLLECTOR_SPOOL_BYTES, float(self._spool.size)),
            (names.COLLECTOR_SPOOL_LIMIT, float(self._spool.limit)),
            (names.COLLECTOR_SPOOL_OLDEST, self._spool.oldest_s()),
            (names.COLLECTOR_REPLAYING, float(self.replaying)),
        ):
            self._metrics.set(metric, value=value)

    async def run(self) -> None:
        """Watch and replay until cancelled."""
        adopted_at = -ADOPT_EVERY_S
        while True:
            try:
                if time.monotonic() - adopted_at >= ADOPT_EVERY_S:
                    adopted_at = time.monotonic()
                    await self._spool.adopt()
                if self._pipeline.away or not self._spool.empty:
                    self._unsettled_at = time.monotonic()
                    await self._turn()
                self._said = ""
            except CollectorError as error:
                self._say(str(error))
            except Exception:  # noqa: BLE001 - logged with its traceback, counted, tried again
                self._metrics.inc(names.COLLECTOR_JOB_FAILURES, "replay")
                _log.exception("replay_failed")
            await asyncio.sleep(min(ASK_EVERY_S * 2**self._failures, ASK_AT_LEAST_EVERY_S))

    def _say(self, why: str) -> None:
        """Once per reason: an outage of an hour is not worth thousands of lines."""
        if why != self._said:
            self._said = why
            _log.warning("replay_waits", why=why, bytes=self._spool.size)

    async def _turn(self) -> None:
        await self._ask()
        if self._spool.empty:
            self._pipeline.came_back()
            return
        # Whoever is called lost while the end of its run lies here, or in the spool of another, would be a false alarm; so
        # would a call that is said to belong to no node. The sweep and the settling each skip a turn, and only for this.
        async with self._store.job_lock("sweep"), self._store.job_lock("settle"):
            self.replaying = True
            try:
                await self._replay(time.monotonic() + TURN_S)
            finally:
                self.replaying = False

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(ASK_WITHIN_S):
                await self._store.ping()
        except TimeoutError:
            raise StoreUnavailable(f"the database does not answer within {ASK_WITHIN_S:g} s") from None
        if self._open_store is not None:
            await self._open_store()
            self._open_store = None

    async def _replay(self, until: float) -> None:
        began, spans = time.monotonic(), 0
        while time.monotonic() < until and (batch := await self._spool.next(BATCH_SPANS, BATCH_BYTES)) is not None:
            batch_began = time.monotonic()
            await self._store_batch(batch.requests)
            await self._spool.done(batch)
            self._tell_damage(batch)
            self._pipeline.came_back()
            self._failures = 0
            spans += sum(request.spans for request in batch.requests)
            self._unsettled_at = time.monotonic()
            if self._pipeline.queued_spans:
                # Half of the time belongs to those who wait for an answer.
                await asyncio.sleep(time.monotonic() - batch_began)
        _log.info(
            "spool_replayed", spans=spans, seconds=round(time.monotonic() - began, 3), bytes_left=self._spool.size
        )

    async def _store_batch(self, requests: Sequence[Spooled]) -> None:
        """All of them; those that fail alone, while others succeed, go to the end of the spool."""
        if not requests:
            return
        try:
            await self._pipeline.store_again(requests)
        except StoreUnavailable as error:
            await self._ask()
            self._failures += 1
            failed = await self._one_by_one(requests) if len(requests) > 1 else requests
            if len(failed) == len(requests):
                raise
            for request in failed:
                await self._spool.append(request)
            if failed:
                _log.error("replay_put_off", requests=len(failed), error=str(error))

    async def _one_by_one(self, requests: Sequence[Spooled]) -> Sequence[Spooled]:
        """Those that failed; all of them if it is not the requests' fault."""
        failed: list[Spooled] = []
        for at, request in enumerate(requests):
            try:
                await self._pipeline.store_again([request])
            except StoreUnavailable:
                failed.append(request)
                if len(failed) == TRIED_ALONE == at + 1:
                    return requests
        return failed

    def _tell_damage(self, batch: Batch) -> None:
        for damage in batch.damage:
            reason = "torn" if damage.torn else "damaged"
            self._metrics.inc(names.COLLECTOR_SPOOL_DAMAGED, reason, by=damage.size)
            _log.error("spool_damaged", file=str(batch.path), offset=damage.offset, bytes=damage.size, reason=reason)
