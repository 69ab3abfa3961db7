"""The process-wide side of the client: the shared pipeline, flushing, counting, forks and the interpreter's exit."""

from __future__ import annotations

import atexit
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphmeter import forks, guard, langgraph, models, names, recent, records, runs, terminate
from graphmeter.delivery import Delivery
from graphmeter.emit import Pipeline
from graphmeter.records import Run
from graphmeter.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from graphmeter.spool import Spool

_log = logging.getLogger("graphmeter")

_lock = threading.RLock()
_settings: Settings | None = None
_LAST_PATIENCE_S: Final = 1.0
"""Longest delay of the exit when no spans of this process wait: for the last report, and what others left on disk."""
_pipelines: dict[object, Pipeline] = {}
"""By endpoint ("" is the shared default), or by exporter."""
_diverted: Pipeline | None = None
"""Takes what would go to a collector; see `divert`."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the spans of this process since it started."""

    emitted: int
    """Spans and notes that runs gave rise to; the sum of the next five."""
    exported: int
    """Taken by a collector or exporter."""
    dropped: int
    """Discarded unsent because the queue was full."""
    failed: int
    """Refused by the collector, or given up at shutdown."""
    queued: int
    """Waiting to be sent, in memory."""
    spooled: int
    """Waiting to be sent, on disk. What other processes left there counts when it is sent, and as emitted then."""
    faults: int
    """Errors of our own that were kept away from the application."""
    open_runs: int
    """Runs, nodes, calls that have started and not ended."""
    fault_kinds: Mapping[str, int]
    guarded: Mapping[str, int] = field(default_factory=dict)
    """What budget guards did with model calls: `stopped`, `warned`, `left` to the application, `failed_open`,
    `failed_closed`; questions they `asked`, and calls that stayed `unpriced`."""


def settings() -> Settings:
    """Settings of this process, read from the environment on first use."""
    global _settings  # read once, and again in tests
    if _settings is None:
        with _lock:
            _settings = _settings or Settings.from_env()
    return _settings


def pipeline(*, endpoint: str = "", exporter: SpanExporter | None = None) -> Pipeline:
    """The pipeline to `exporter`, or to the collector at `endpoint`, or (neither given) the shared default."""
    key: object = exporter if exporter is not None else endpoint
    with _lock:
        found = _pipelines.get(key)
        if found is None:
            chosen = settings()
            connect = _deliveries(chosen, endpoint, exporter)
            found = _pipelines[key] = Pipeline(chosen, connect, finished, _arm_exit)
            if isinstance(key, str) and _diverted is not None:
                found.divert(_diverted)
            if chosen.flush_on_sigterm and chosen.exit_timeout_s > 0:
                # With a spool, what a flush could not deliver is then written.
                terminate.arm(_on_sigterm, chosen.exit_timeout_s + (_LAST_PATIENCE_S if chosen.spool_dir else 0.0))
        return found


def _deliveries(chosen: Settings, endpoint: str, exporter: SpanExporter | None) -> Callable[[], Delivery]:
    # Loaded when a handler is made, not when the first graph runs: it takes some 70 ms, and an import in the exporter's
    # thread would hold up that graph, too.
    from graphmeter import destination, send

    if chosen.spool_dir:
        from graphmeter import backlog  # noqa: F401 - for the thread, too

    def connect() -> Delivery:
        resource = destination.resource()
        if exporter is not None:
            return send.ExporterDelivery(exporter, resource)
        target = destination.choose(replace(chosen, endpoint=endpoint) if endpoint else chosen)
        _log.info("Graphmeter sends spans to %s (%s)", target.url, target.reason)
        return send.HttpDelivery(target, resource, chosen.timeout_s, _spool(chosen, endpoint))

    return connect


@guard.guarded
def _spool(chosen: Settings, endpoint: str) -> Spool | None:
    if not chosen.spool_dir:
        return None
    from graphmeter.spool import Spool

    # By pipeline, not by address: a collector that has moved gets what waited for it, another one does not.
    name = hashlib.blake2b(endpoint.encode(), digest_size=8).hexdigest() if endpoint else "spans"
    return Spool(Path(chosen.spool_dir).expanduser(), name, int(chosen.spool_mb * 1_000_000))


def finished(run: Run) -> None:
    """Redact what a finished run has in words; complete and price a model call; print finished trees in debug mode."""
    if run.captured is not None or run.failure is not None:
        _settle(run)
    if run.kind is names.MODEL:
        _complete(run)
    if run.tree.debug:
        _show(run)


@guard.guarded
def _complete(run: Run) -> None:
    """Read the answer of a model call, or what its stream told before it broke off; add the cost, where prices are known."""
    models.read(run)
    if run.told is not None and run.facts is not None and run.status != names.OK:
        models.broken_off(run.facts, run.told)
    if run.facts is not None and names.USAGE_INPUT in run.facts:
        cost = _prices().cost_of(run.facts, run.started_ns)
        if cost is not None:
            run.facts[names.COST_USD] = float(cost.usd)
            run.facts[names.COST_PRICE] = cost.price


@cache
def _prices() -> Any:
    """Loaded when the first call is priced, and not looked up for every one: that costs as much as pricing it."""
    from graphmeter import prices

    return prices


@guard.guarded
def _show(run: Run) -> None:
    from graphmeter import debug

    debug.collect(run)


def _settle(run: Run) -> None:
    try:
        from graphmeter.capture.settle import settle

        settle(run)
    except Exception as error:  # noqa: BLE001 - nothing unredacted may go on, whatever it was; guard counts and logs
        guard.swallowed("redact", error)
        run.captured = None
        if run.failure is not None:
            run.failure = run.failure._replace(message="")


def flush(timeout_s: float = 10.0) -> bool:
    """Send everything finished so far; False if something could not be delivered within `timeout_s` seconds.

    For notebooks, cron jobs and serverless functions, which may be frozen or killed right after their last line.
    """
    deadline = time.monotonic() + timeout_s
    complete = True
    for one in _all():
        complete = one.flush(max(deadline - time.monotonic(), 0.0)) and complete
    return complete


def shutdown(timeout_s: float = 10.0) -> bool:
    """Send everything, then stop for good: later spans are dropped and counted. Returns as `flush` does.

    Needed only by programs that end without the interpreter's exit; otherwise it happens there by itself, within
    GRAPHMETER_EXIT_TIMEOUT_S.
    """
    runs.give_up()
    deadline = time.monotonic() + timeout_s
    complete = True
    for one in _all():
        complete = one.shutdown(max(deadline - time.monotonic(), 0.0)) and complete
    return complete


def stats() -> Stats:
    """Counts of this process (a forked child starts at zero)."""
    counts = [one.counts() for one in _all()]
    kinds = guard.faults()
    exported = sum(count.exported for count in counts)
    dropped = sum(count.dropped for count in counts)
    failed = sum(count.failed for count in counts)
    queued = sum(count.queued for count in counts)
    spooled = sum(count.spooled for count in counts)
    return Stats(
        exported + dropped + failed + queued + spooled,
        exported,
        dropped,
        failed,
        queued,
        spooled,
        sum(kinds.values()),
        runs.open_runs(),
        kinds,
        _guarded(),
    )


def _guarded() -> dict[str, int]:
    counts = sys.modules.get("graphmeter.budget.counts")  # whoever guards has loaded it
    return {} if counts is None else counts.counted()


def divert(exporter: SpanExporter | None) -> None:
    """Give everything that would go to a collector to `exporter` instead, for tests; None: to the collectors again."""
    global _diverted  # of the process, as the pipelines are
    to = pipeline(exporter=exporter) if exporter is not None else None
    with _lock:
        _diverted = to
        for key, one in _pipelines.items():
            if isinstance(key, str):
                one.divert(to)


def discard(exporter: SpanExporter) -> None:
    """Forget the pipeline to `exporter` and end its thread."""
    with _lock:
        found = _pipelines.pop(exporter, None)
    if found is not None:
        recent.forget(found)
        found.shutdown(1.0)


def _all() -> list[Pipeline]:
    with _lock:
        return list(_pipelines.values())


@guard.guarded
def _at_exit() -> None:
    runs.give_up()
    patience = settings().exit_timeout_s
    if patience <= 0 and not settings().spool_dir:
        return
    with terminate.leaving():
        if any(one.counts().queued for one in _all()):
            shutdown(patience)
        elif any(one.unfinished for one in _all()):
            shutdown(min(patience, _LAST_PATIENCE_S))


@guard.guarded
def _on_sigterm() -> None:
    # No shutdown, and nothing is given up: the application's own handler may go on working for a while.
    if any(one.counts().queued for one in _all()) and not flush(settings().exit_timeout_s):
        for one in _all():
            one.save()


@guard.guarded
def _arm_exit() -> None:
    """Some children end by `os._exit`, without running atexit: join in at what they run instead."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=100)
    celery = sys.modules.get("celery.signals")
    if celery is not None:  # the children of its prefork pool; nobody else is sent this signal
        celery.worker_process_shutdown.connect(_at_worker_exit, weak=False, dispatch_uid="graphmeter")


def _at_worker_exit(**_: object) -> None:
    _at_exit()


def _after_fork() -> None:
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.RLock()
    guard.forget()
    langgraph.after_fork()
    records.after_fork()
    for one in _pipelines.values():
        one.after_fork()


atexit.register(_at_exit)
forks.in_child(_after_fork)
