"""The composition root: settings in, a running collector out. Everything is made here, started here and stopped here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from graphmeter import names
from graphmeter_collector import telemetry
from graphmeter_collector.budgets import Budgets
from graphmeter_collector.door.keyring import Keyring
from graphmeter_collector.door.middleware import Door
from graphmeter_collector.errors import (
    CollectorError,
    DatabaseAway,
    Permanent,
    StartupError,
    StoreUnavailable,
    Transient,
)
from graphmeter_collector.expose.api import api_router, sentence
from graphmeter_collector.expose.budgets import budgets_router
from graphmeter_collector.expose.costs import costs_router
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.expose.health import health_router
from graphmeter_collector.expose.page import page_router
from graphmeter_collector.expose.prices import prices_router
from graphmeter_collector.expose.reservations import reservations_router
from graphmeter_collector.expose.slos import slos_router
from graphmeter_collector.forward.sampling import Sampler
from graphmeter_collector.jobs import Jobs
from graphmeter_collector.keys import BadKeys
from graphmeter_collector.notify.courier import Courier
from graphmeter_collector.objectives import Objectives
from graphmeter_collector.outbound import Destination, outbound
from graphmeter_collector.pipeline import Pipeline
from graphmeter_collector.price import published
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.price.listing import effective
from graphmeter_collector.price.providers import Call
from graphmeter_collector.receive.body import Limits, Room
from graphmeter_collector.receive.http import ingest_router
from graphmeter_collector.receive.passing import Passing, Target
from graphmeter_collector.records import SpanRecord, WriteResult
from graphmeter_collector.releases import Releases
from graphmeter_collector.replay import Replay
from graphmeter_collector.reservations import Reservations
from graphmeter_collector.settings import Settings
from graphmeter_collector.settle import Settler
from graphmeter_collector.spool.spool import Spool
from graphmeter_collector.store import Store, make_store
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.decisions import UNDECIDED
from graphmeter_collector.store.keys import KeyTable
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.notifications import NotificationTable
from graphmeter_collector.store.releases import ReleaseTable
from graphmeter_collector.store.reservations import ReservationTable
from graphmeter_collector.tracing import trace_requests
from graphmeter_config import Config, ConfigError, load
from graphmeter_config.sampling import Part

if TYPE_CHECKING:
    from graphmeter_collector.forward.forwarder import Forwarder
from graphmeter_collector.hosts import KnownHosts

_log = structlog.stdlib.get_logger(__name__)

_KNOWN_SERIES_NS = 30 * 86_400_000_000_000
"""How far back combinations of dimensions are pre-created in the metrics."""
_KEYS_END_WITHIN_S = 2.0
"""How long the keys' last query may take at the end."""


class Collector:
    """A collector that is running: its HTTP application, its store and its configuration. Made by `running`."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        store: Store,
        keys: KeyTable,
        notifications: NotificationTable,
        budgets: BudgetTable,
        reservations: ReservationTable,
        releases: ReleaseTable,
        spool: Spool | None = None,
    ) -> None:
        self.settings = settings
        self.config = config
        self.store = store
        self.metrics = telemetry.Metrics(label_caps={**telemetry.LABEL_CAPS, **config.labels.caps})
        self.keyring = Keyring(keys, settings.keys, self.metrics, allow_anonymous=settings.allow_anonymous)
        self.courier = Courier(notifications, lambda: self.config, self.metrics)
        self.budgets = Budgets(budgets, lambda: self.config, self.metrics, self.courier.tell)
        self.reservations = Reservations(reservations, self.metrics)
        self.objectives = Objectives(store.reader, lambda: self.config)
        self.releases = Releases(releases, self.metrics)
        self.counts = Counts(self.metrics, self.budgets.labels_of)
        self._published = _stamp(settings)
        self.book = PriceBook([_catalogue(settings)], config.prices)
        self.destinations = _destinations(settings, config)
        self.counts.traced = self._traced()
        names_of_destinations = [each.name for each in self.destinations]
        self.forwarders = [(each.name, self._forwarder(each)) for each in self.destinations]
        self.settler = Settler(
            store,
            self.metrics,
            self.counts.count,
            lambda: self.config.runs.settle_after_s,
            lambda: self.replay is None or self.replay.settled,
        )
        self.sampler = self._sampler()
        self.pipeline = Pipeline(
            store,
            self.book,
            self.metrics,
            observers=(self.counts.count, self._ring, self.settler.notice, self.budgets.notice, self.releases.notice),
            destinations=self._queues(),
            retention_days=config.retention.spans_days,
            max_queue_spans=settings.max_queue_spans,
            max_queue_bytes=settings.max_queue_bytes,
            spool=spool,
        )
        self.spool = spool
        self.opened = asyncio.Event()
        """Set when the database has been migrated and can be asked."""
        self.replay = Replay(self.pipeline, spool, store, self.metrics, self._open_once) if spool else None
        self.passing = Passing([Target(each.endpoint, each.headers, each.ssl) for each in self.destinations])
        self.jobs = Jobs(
            store,
            self.metrics,
            self.counts,
            lambda: self.config,
            names_of_destinations,
            settled=lambda: self.replay is None or self.replay.settled,
            courier=self.courier,
            budgets=self.budgets,
            reservations=self.reservations,
            releases=self.releases,
            objectives=self.objectives,
        )
        self.room = Room(settings.max_bodies_bytes)
        self.limits = Limits(
            settings.max_body_bytes,
            settings.max_decompressed_bytes,
            settings.max_spans_per_request,
            settings.body_timeout_s,
        )
        self.app = self._application()

    def _forwarder(self, destination: Destination) -> Forwarder:
        # Its HTTP client is a tenth of the time to get ready, and most collectors on a laptop forward nothing.
        from graphmeter_collector.forward.forwarder import Forwarder

        return Forwarder(self.store, destination, self.metrics)

    def _sampler(self) -> Sampler | None:
        if not self.destinations:
            return None
        sampled = [each.name for each in self.destinations if each.sampled]
        return Sampler(self.store, self.metrics, lambda: self.config.sampling, sampled, self._ring_all)

    def _traced(self) -> Callable[[SpanRecord, int], bool] | None:
        """Which traces exemplars may name: those that sampling keeps for certain, whatever else comes of them."""
        sampling = self.config.sampling
        if not sampling.rules or not self.destinations or not all(each.sampled for each in self.destinations):
            return None

        def traced(record: SpanRecord, cost_nano: int) -> bool:
            dimensions = {
                "service": record.service,
                "environment": record.environment,
                "graph": record.graph,
                "team": record.team,
            }
            # A node that takes long or fails makes a run that does.
            return sampling.surely_kept(Part(dimensions, record.status, record.duration_ns, cost_nano), record.trace_id)

        return traced

    def _queues(self) -> list[str]:
        """Where new spans wait: for the destinations themselves, or for a decision."""
        if not self.config.sampling.rules:
            return [each.name for each in self.destinations]
        at_once = [each.name for each in self.destinations if not each.sampled]
        return at_once if len(at_once) == len(self.destinations) else [*at_once, UNDECIDED]

    def reload(self) -> None:
        """Load the configuration again; a bad file keeps the old one. Destinations and caps change at the next start."""
        before = self.config
        try:
            self.config = load(self.settings.config_path())
        except ConfigError as error:
            _log.error("config_rejected", error=str(error))
            return
        self.book.use(self.config.prices, self._newer_catalogue())
        self.pipeline.retention_days = self.config.retention.spans_days
        self.pipeline.destinations = tuple(self._queues())
        self.counts.traced = self._traced()
        if (before.forward, before.labels) != (self.config.forward, self.config.labels):
            _log.warning("restart_needed", why="forward and labels are read at the start")
        self._show_config()
        _log.info("config_reloaded", hash=self.config.hash)

    def _newer_catalogue(self) -> list[Catalogue] | None:
        """The catalogue, if `graphmeter prices update` was run since it was read."""
        stamp = _stamp(self.settings)
        if stamp == self._published:
            return None
        self._published = stamp
        return [_catalogue(self.settings)]

    def _prices_of(self, asked: Sequence[tuple[str, ...]], now_ns: int, *, alone: bool = False) -> dict[str, Any]:
        return effective(self.book, [*([] if alone else self.book.seen()), *(Call(*each) for each in asked)], now_ns)

    async def open(self) -> None:
        """Migrate, take a writer slot, show what is known.

        Raises:
            StartupError: it cannot be; `DatabaseAway` if nothing answers where the database should be.
        """
        await asyncio.to_thread(migrate, self.settings.database())
        await self.store.open()
        await self.pipeline.rehearse()
        await self.precreate()
        if self.spool is not None:
            await self.spool.remember()
        self.opened.set()

    async def _open_once(self) -> None:
        if not self.opened.is_set():
            await self.open()

    async def work(self) -> None:
        """Run the jobs, as soon as there is a database to run them on."""
        await self.opened.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.jobs.run(self.forwarders, self.sampler))
            group.create_task(self.settler.run())

    async def can_acknowledge(self) -> None:
        """Raise unless a request could be acknowledged now."""
        if self.spool is None or not self.spool.accepts:
            await self.store.ping()

    async def precreate(self) -> None:
        """Show what the database knows before the first event of this process."""
        self.counts.precreate(await self.store.reader.series(time.time_ns() - _KNOWN_SERIES_NS))
        self._show_config()
        self.metrics.set(names.COLLECTOR_BUILD, version("graphmeter"), value=1)
        await self.jobs.refresh_gauges()
        await self.jobs.refresh_backlog()

    def _show_config(self) -> None:
        self.metrics.replace(names.COLLECTOR_CONFIG, {(self.config.hash,): 1.0})
        self.metrics.replace(names.COLLECTOR_RULES, {(self.config.rules_hash,): 1.0})

    def _ring(self, result: WriteResult) -> None:
        if result.new:
            self._ring_all()

    def _ring_all(self) -> None:
        for _, forwarder in self.forwarders:
            forwarder.notify()

    def _render(self, accept: str) -> tuple[bytes, str]:
        self.metrics.set(names.COLLECTOR_QUEUE, value=self.pipeline.queued_spans)
        if self.replay is not None:
            self.replay.show()
        return self.metrics.render(accept)

    def health_routes(self) -> APIRouter:
        """`/health`, `/ready` and `/metrics`."""
        return health_router(self._render, self.can_acknowledge, lambda: self.pipeline.accepting)

    def _application(self) -> FastAPI:
        app = FastAPI(
            title="Graphmeter collector",
            version=version("graphmeter"),
            summary="Latency, errors and spend of LangGraph applications.",
        )
        app.add_middleware(Door, self.keyring, open_metrics=self.settings.open_metrics)
        if not self.settings.allow_anonymous:
            app.add_middleware(KnownHosts, lambda: not self.keyring.required)
        app.include_router(ingest_router(self.pipeline.accept, self.limits, self.metrics, self.passing, self.room))
        app.include_router(self.health_routes())
        app.include_router(prices_router(self.store.reader, self._prices_of))
        app.include_router(costs_router(self.store.reader))
        app.include_router(api_router(self.store.reader, self.budgets))
        app.include_router(budgets_router(self.budgets))
        app.include_router(reservations_router(self.reservations))
        app.include_router(slos_router(self.objectives))
        app.include_router(page_router(self.store.reader))

        @app.exception_handler(CollectorError)
        async def say(_: Request, error: CollectorError) -> JSONResponse:
            status = error.http_status if isinstance(error, Permanent) else 503
            headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Transient) else None
            return JSONResponse({"detail": str(error)}, status, headers)

        @app.exception_handler(RequestValidationError)
        async def explain(_: Request, error: RequestValidationError) -> JSONResponse:
            return JSONResponse({"detail": sentence(error)}, 422)

        return app


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Collector]:
    """A collector from migration to drain; HTTP is the caller's.

    Raises:
        StartupError: it cannot start; the message says what to change.
        ConfigError: graphmeter.yaml holds faults; all of them are named.
    """
    config = load(settings.config_path())
    store = make_store(settings.database())
    keys = KeyTable(settings.database())
    notifications = NotificationTable(settings.database())
    budgets = BudgetTable(settings.database())
    reservations = ReservationTable(settings.database())
    releases = ReleaseTable(settings.database())
    spool = await _open_spool(settings)
    try:
        collector = Collector(settings, config, store, keys, notifications, budgets, reservations, releases, spool)
        with trace_requests(collector.app, collector.destinations):
            await _open(collector)
            stopping = asyncio.Event()
            knowing = asyncio.create_task(collector.keyring.keep_fresh(stopping))
            tasks = [asyncio.create_task(collector.work()), asyncio.create_task(collector.pipeline.run())]
            if collector.replay is not None:
                tasks.append(asyncio.create_task(collector.replay.run()))
            try:
                yield collector
            finally:
                stopping.set()
                await collector.pipeline.drain(settings.drain_timeout_s)
                # Not cancelled at once: a driver that is left in the middle of a query complains.
                await asyncio.wait([knowing], timeout=_KEYS_END_WITHIN_S)
                await _end(*tasks, knowing)
                await collector.passing.close()
    finally:
        if spool is not None:
            await spool.close()
        await keys.close()
        await notifications.close()
        await budgets.close()
        await reservations.close()
        await releases.close()
        await store.close()


def _stamp(settings: Settings) -> tuple[int, int] | None:
    """Changes when a catalogue is fetched; None: none was."""
    try:
        found = published.file_in(settings.data_dir).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _catalogue(settings: Settings) -> Catalogue:
    """The catalogue that was fetched, if it is newer than the installed one."""
    try:
        found = published.kept(settings.data_dir)
    except published.BadPublication as problem:
        _log.warning(
            "prices_not_used", error=str(problem), what="the built-in catalogue is; run `graphmeter prices update`"
        )
        found = None
    return Catalogue() if found is None else found.catalogue()


async def _read_keys(keyring: Keyring) -> None:
    try:
        await keyring.refresh()
    except (BadKeys, StoreUnavailable) as problem:
        raise StartupError(str(problem)) from problem


async def _open(collector: Collector) -> None:
    """Open the database; without it, begin all the same if it was there before and requests can wait on disk."""
    try:
        await collector.open()
    except DatabaseAway as away:
        # A database that was never reached is more likely misspelt than away: that must not be found out days later, unless
        # somebody answers for it. And where keys may be in the database only, nobody can be let in before they are read.
        settings = collector.settings
        if collector.spool is None or not (collector.spool.known or settings.assume_database):
            raise
        if not (settings.keys() or settings.allow_anonymous):
            raise
        collector.pipeline.went_away(str(away))
        with contextlib.suppress(StoreUnavailable):
            await collector.keyring.refresh()
        return
    await _read_keys(collector.keyring)


async def _open_spool(settings: Settings) -> Spool | None:
    """The spool, if there is to be one; a default place that cannot be written costs only the spool."""
    directory = settings.spool()
    if directory is None:
        return None
    spool = Spool(directory, settings.database(), settings.spool_max_bytes)
    try:
        await spool.check()
    except OSError as problem:
        if settings.spool_dir is not None:
            raise StartupError(
                f"cannot write the spool {directory}: {problem}; choose another --spool-dir"
            ) from problem
        _log.warning("no_spool", folder=str(directory), error=str(problem), what="set --spool-dir, or --data-dir")
        return None
    for folder in spool.others():
        _log.warning(
            "spool_of_another_database", folder=str(directory / folder), what="start a collector with that one"
        )
    return spool


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _destinations(settings: Settings, config: Config) -> Sequence[Destination]:
    """Those of graphmeter.yaml, then those of the flags, named by host, port and path.

    Raises:
        StartupError: two have one name, by which the outbox tells them apart; or a certificate cannot be used.
    """
    known = {each.name: outbound(each) for each in config.forward.destinations}
    for url in dict.fromkeys(settings.forward):
        parts = urlsplit(url)
        name = parts.netloc.rpartition("@")[2] + parts.path
        if name in known:
            raise StartupError(f"two forward destinations are named {name!r}: drop the --forward, or rename the other")
        known[name] = Destination(name, url)
    return list(known.values())
