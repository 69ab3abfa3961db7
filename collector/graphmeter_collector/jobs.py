"""What happens without a request: lost runs are found, gauges follow the database, the outbox is emptied.

A job that fails is counted and logged, and runs again at its next time; none of them can end the collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from graphmeter import names
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.expose.slos import budgets_left
from graphmeter_collector.expose.unended import UnendedGauges
from graphmeter_collector.objectives import Objectives
from graphmeter_collector.releases import Releases
from graphmeter_collector.retention import cutoffs
from graphmeter_collector.scheduled import Scheduled
from graphmeter_collector.store import Store, sizes
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config

if TYPE_CHECKING:
    from graphmeter_collector.budgets import Budgets
    from graphmeter_collector.forward.forwarder import Forwarder
    from graphmeter_collector.forward.sampling import Sampler
    from graphmeter_collector.notify.courier import Courier
    from graphmeter_collector.reservations import Reservations

_log = structlog.stdlib.get_logger(__name__)

GAUGES_EVERY_S: Final = 10.0
WAITS_EVERY_S: Final = 10.0
RELEASES_EVERY_S: Final = 10.0
RETENTION_EVERY_S: Final = 3600.0
SWEEP_AT_MOST_EVERY_S: Final = 30.0
SWEEP_AT_LEAST_EVERY_S: Final = 0.5
FIRST_SWEEP_AFTER_S: Final = 60.0
"""Clients that found no collector try again after half a minute at most."""
BACKLOG_EVERY_S: Final = 10.0
BACKLOG_REST: Final = 50
"""Counting a long outbox takes seconds; it is counted again after so many times as long."""
SIZES_EVERY_S: Final = 300.0
SIZES_PART_REST: Final = 50
SIZES_REST: Final = 10
"""SQLite reads its whole file to tell how large its tables are: with a rest of so many times as long after each part (a
fiftieth of a processor while it is asked), and again after so many times as long as the whole (0.2 % over all)."""
SAMPLING_ASK_EVERY_S: Final = 5.0
"""How often a collector that does not judge traces asks whether it should: when the one that does dies, it takes so long."""
SAMPLING_TURN_S: Final = 60.0
"""How long a collector judges before it asks for the lock again: a lock whose session died is noticed by then."""
REPORTS_EVERY_S: Final = 60.0
EXPIRE_EVERY_S: Final = 60.0
NOTIFY_EVERY_S: Final = 5.0
"""How often a collector looks for what is due again, or was owed by another one."""
_NS = 1_000_000_000
DAY_NS = 86_400 * _NS


class Jobs:
    """The jobs of one collector; `config` gives the configuration in force."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        counts: Counts,
        config: Callable[[], Config],
        destinations: Sequence[str] = (),
        settled: Callable[[], bool] = lambda: True,
        courier: Courier | None = None,
        budgets: Budgets | None = None,
        reservations: Reservations | None = None,
        releases: Releases | None = None,
        objectives: Objectives | None = None,
    ) -> None:
        """`settled` is whether the database knows what happened: nobody is judged by what still waits elsewhere."""
        self._store = store
        self._metrics = metrics
        self._counts = counts
        self._config = config
        self._destinations = tuple(destinations)
        self._settled = settled
        self._courier = courier
        self._budgets = budgets
        self._reservations = reservations
        self._releases = releases
        self._objectives = objectives or Objectives(store.reader, config)
        self._in_progress = UnendedGauges(names.RUNS_IN_PROGRESS, names.RUN_OLDEST)
        self._waiting = UnendedGauges(names.RUNS_WAITING, names.HUMAN_WAIT_OLDEST)
        self._backlog_rest_s = BACKLOG_EVERY_S
        self._sizes_rest_s = SIZES_EVERY_S

    async def run(self, forwarders: Sequence[tuple[str, Forwarder]], sampler: Sampler | None = None) -> None:
        """Run every job until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweeping())
            group.create_task(self._every(lambda: GAUGES_EVERY_S, "gauges", self.refresh_gauges))
            group.create_task(self._every(lambda: WAITS_EVERY_S, "waits", self.end_waits))
            group.create_task(self._every(lambda: RETENTION_EVERY_S, "retention", self.retain))
            group.create_task(self._watching_the_backlog())
            if self._courier is not None:
                group.create_task(self._every(lambda: 0.0, "notify", self._notifying(self._courier)))
                group.create_task(self._every(lambda: REPORTS_EVERY_S, "reports", self._reporting(self._courier)))
            if self._budgets is not None:
                group.create_task(self._every(lambda: 0.0, "budgets", self._budgets.look))
            if self._reservations is not None:
                group.create_task(self._every(lambda: EXPIRE_EVERY_S, "reservations", self._reservations.expire))
            if self._releases is not None:
                group.create_task(self._every(lambda: RELEASES_EVERY_S, "releases", self._releases.look))
            group.create_task(self._every(lambda: self._sizes_rest_s, "sizes", self.refresh_sizes))
            for name, forwarder in forwarders:
                group.create_task(self._every(lambda: 1.0, f"forward:{name}", forwarder.run))
            if sampler is not None:
                group.create_task(self._every(lambda: 1.0, "sampling", self._sampling(sampler)))

    async def _sweeping(self) -> None:
        # Not at once: after a downtime, applications first deliver what they could not, also of runs that are well.
        await asyncio.sleep(max(self._sweep_interval_s(), min(self._config().runs.lost_after_s, FIRST_SWEEP_AFTER_S)))
        await self._every(self._sweep_interval_s, "sweep", self.sweep)

    async def sweep(self) -> None:
        """Give up on runs that have been silent for too long."""
        if not self._settled():
            return
        async with self._store.job_lock("sweep") as ours:
            if not ours:
                return
            now_ns, lost_after_ns = time.time_ns(), round(self._config().runs.lost_after_s * _NS)
            while lost := await self._store.mark_lost(now_ns, lost_after_ns):
                self._counts.lost(lost)
                _log.warning("runs_lost", runs=len(lost), first=lost[0].run_id)

    async def end_waits(self) -> None:
        """Find the answers that interrupted runs waited for."""
        if not self._settled():
            return
        async with self._store.job_lock("waits") as ours:
            if ours:
                self._counts.waited(await self._store.end_waits(time.time_ns()))

    async def retain(self) -> None:
        """Delete what is older than the configuration keeps."""
        async with self._store.job_lock("retention") as ours:
            if not ours:
                return
            limits = cutoffs(self._config().retention, time.time_ns())
            expired = await self._store.outbox_expire(limits.bodies_day)
            gone = await self._store.retain(limits)
            if self._courier is not None:
                await self._courier.forget()
            if self._budgets is not None:
                await self._budgets.expire(time.time_ns())
        for destination, spans in expired.items():
            self._metrics.inc(names.COLLECTOR_FORWARD_DROPPED, destination, names.FORWARD_EXPIRED, by=spans)
            _log.warning("forward_expired", destination=destination, spans=spans)
        if any(gone.values()):
            _log.info("retention_applied", **gone)

    def _reporting(self, courier: Courier) -> Callable[[], Awaitable[None]]:
        scheduled = Scheduled(self._store.reader, courier, self._config)

        async def report() -> None:
            # What still waits elsewhere would be missing for good: a report is sent once.
            if not (self._config().reports and self._settled()):
                return
            async with self._store.job_lock("reports") as ours:
                if ours:
                    await scheduled.run(time.time_ns())

        return report

    def _notifying(self, courier: Courier) -> Callable[[], Awaitable[None]]:
        async def notify() -> None:
            # First the pause: a round that fails is not repeated at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NOTIFY_EVERY_S):
                    await courier.bell.wait()
            courier.bell.clear()
            if await courier.due():
                async with self._store.job_lock("notify") as ours:
                    if ours:
                        await courier.round()

        return notify

    async def refresh_gauges(self) -> None:
        """Read from the database what no counter can know."""
        if self._courier is not None:
            await self._courier.show()
        metrics = self._metrics
        self._in_progress.show(metrics, await self._store.runs_in_progress(), time.time_ns())
        now_ns = time.time_ns()
        self._waiting.show(metrics, await self._store.runs_waiting(now_ns), now_ns)
        unsettled, oldest_ns = await self._store.unsettled()
        metrics.set(names.COLLECTOR_UNSETTLED, value=unsettled)
        age_s = (time.time_ns() - oldest_ns) / _NS if unsettled else 0.0
        metrics.set(names.COLLECTOR_UNSETTLED_AGE, value=max(age_s, 0.0))
        if self._budgets is not None:
            await self._budgets.show()
        metrics.replace(names.SLO_BUDGET_REMAINING, budgets_left((await self._objectives.recent()).rows))

    async def _watching_the_backlog(self) -> None:
        await asyncio.sleep(self._backlog_rest_s)
        await self._every(lambda: self._backlog_rest_s, "backlog", self.refresh_backlog)

    async def refresh_backlog(self) -> None:
        """Tell how much waits to be forwarded, and since when."""
        began = time.monotonic()
        # Those of destinations that are gone stay visible: their rows wait, too.
        depth = dict.fromkeys(self._destinations, 0) | await self._store.outbox_depth()
        now_ns, oldest = time.time_ns(), await self._store.outbox_oldest()
        age = {name: max(now_ns - oldest[name], 0) / _NS if name in oldest else 0.0 for name in depth}
        self._metrics.replace(names.COLLECTOR_OUTBOX, {(name,): float(count) for name, count in depth.items()})
        self._metrics.replace(names.COLLECTOR_OUTBOX_AGE, {(name,): seconds for name, seconds in age.items()})
        self._backlog_rest_s = max(BACKLOG_EVERY_S, BACKLOG_REST * (time.monotonic() - began))

    async def refresh_sizes(self) -> None:
        """Tell how much room the tables take, and how much of it each run."""
        began = time.monotonic()
        # Also in front of a failure: it is no reason to read everything again soon.
        try:
            table_bytes = await self._store.table_bytes(SIZES_PART_REST)
        finally:
            self._sizes_rest_s = max(SIZES_EVERY_S, SIZES_REST * (time.monotonic() - began))
        kept = cutoffs(self._config().retention, time.time_ns())
        per_run = sizes.per_run(table_bytes, await self._store.ended_runs(), kept)
        self._metrics.replace(names.COLLECTOR_TABLE_BYTES, {(name,): float(n) for name, n in table_bytes.items()})
        self._metrics.replace(names.COLLECTOR_BYTES_PER_RUN, {(name,): n for name, n in per_run.items()})

    def _sampling(self, sampler: Sampler) -> Callable[[], Awaitable[None]]:
        async def sample() -> None:
            async with self._store.job_lock("sampling") as ours:
                if ours:
                    await sampler.run(time.monotonic() + SAMPLING_TURN_S)
                    return
            await asyncio.sleep(SAMPLING_ASK_EVERY_S)

        return sample

    def _sweep_interval_s(self) -> float:
        half = self._config().runs.lost_after_s / 2
        return min(max(half, SWEEP_AT_LEAST_EVERY_S), SWEEP_AT_MOST_EVERY_S)

    async def _every(self, interval_s: Callable[[], float], name: str, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await job()
            except CollectorError as error:
                self._metrics.inc(names.COLLECTOR_JOB_FAILURES, name)
                _log.warning("job_failed", job=name, error=str(error))
            except Exception:  # noqa: BLE001 - logged with its traceback, counted, tried again
                self._metrics.inc(names.COLLECTOR_JOB_FAILURES, name)
                _log.exception("job_failed", job=name)
            await asyncio.sleep(interval_s())
