"""Built spans on their way to one destination: batches out, each span counted in exactly one place until its fate is known.

One thread at a time builds and sends. Spans stay here until somebody has taken or refused them. While the other side is away
they wait, on disk if there is a spool; once it is back new spans go first, and between them what is on disk, in order.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from graphmeter import guard
from graphmeter.delivery import Backoff, Delivery, Ready, Refused, Unreachable
from graphmeter.report import Counts, Reports
from graphmeter.settings import Settings

if TYPE_CHECKING:
    from graphmeter.backlog import Backlog
    from graphmeter.capture import Taken

_log = logging.getLogger("graphmeter")

BATCH_SPANS: Final = 512
_MOST_ATTRIBUTES: Final = 3
"""Captured attributes of one span: instructions, question and answer."""
_CONTENT_IN_BATCH: Final = 4 * 1024 * 1024
_CONTENT_WAITING: Final = 32 * 1024 * 1024
"""Most bytes of captured content in one request, and waiting to be sent."""
_REPLAYED_AT_ONCE: Final = 8
"""Requests from disk between two looks for new spans."""
_DISK_PATIENCE_S: Final = 1.0
_PROMPT_S: Final = 0.001


class Outbox:
    """See the module.

    Args:
        settings: Bounds and intervals.
        connect: Called once per process, by the first that needs the delivery.
        queue: What waits to be built; it is counted here, with the rest.
    """

    def __init__(self, settings: Settings, connect: Callable[[], Delivery], queue: deque[Any]) -> None:
        self._capacity = settings.queue_spans
        self._connect = connect
        self._queue = queue
        self._delivery: Delivery | None = None
        self._connecting = threading.Lock()  # apart: connecting may take a while, counting must not
        self._reports = Reports(settings)
        self._backoff = Backoff()
        self._batch_spans = BATCH_SPANS
        self._content_bytes = _MOST_ATTRIBUTES * settings.capture_bytes
        self._weighed = 0
        self._took_s = math.inf
        self._built: deque[Ready] = deque()
        self._closed = False
        self._warned = False
        self.lock = threading.RLock()
        """Held whenever something moves from one count to another."""
        self.in_hand = 0
        """Items that have left the queue and are being built."""
        self._exported = self._dropped = self._failed = self._spooled = 0
        self._moving = threading.Lock()
        """Held by whoever moves spans to disk."""

    # --- for everybody --------------------------------------------------------------------------------------------

    def counts(self) -> Counts:
        """Every item is in exactly one of them."""
        with self.lock:
            waiting = len(self._queue) + self.in_hand + len(self._built)
            return Counts(self._exported, self._dropped, self._failed, waiting, self._spooled)

    def drop(self) -> None:
        """Count an item that there was no room for."""
        with self.lock:
            self._dropped += 1
        self._reports.changed()

    @property
    def away(self) -> bool:
        """Whether the other side did not answer when it was last tried."""
        return self._backoff.away

    @property
    def delivered(self) -> bool:
        """Whether nothing built waits any more, in memory or on disk."""
        return not self._built and not self._spooled

    @property
    def is_connected(self) -> bool:
        """Whether spans can be built."""
        return self._delivery is not None

    @property
    def prompt(self) -> bool:
        """Whether delivering takes no time worth mentioning: somebody's exporter did the last time, without a network."""
        return self._delivery is not None and not self._delivery.reports and self._took_s < _PROMPT_S

    @property
    def spools(self) -> bool:
        """Whether what cannot be delivered may wait on disk."""
        return self._backlog is not None

    @property
    def waiting(self) -> bool:
        """Whether something on disk waits, of whichever process."""
        return self._backlog is not None and self._backlog.waiting

    @property
    def _backlog(self) -> Backlog | None:
        return None if self._delivery is None else self._delivery.backlog

    @property
    def lost(self) -> int:
        """Items that will never arrive."""
        return self._dropped + self._failed

    @property
    def news(self) -> bool:
        """Whether the collector does not know yet what became of everything."""
        return self._delivery is not None and self._delivery.reports and self._reports.news(self.counts())

    @property
    def wait_s(self) -> float | None:
        """Seconds until there is something to send without anything new; None: nothing to send."""
        if self._built or self.waiting:
            return self._backoff.wait_s
        report = self._reports.wait_s if self._delivery is not None and self._delivery.reports else None
        return None if report is None else max(report, self._backoff.wait_s)

    # --- for the one that builds and sends ------------------------------------------------------------------------

    def connected(self) -> Delivery:
        """The delivery, connected if it is not yet."""
        with self._connecting:
            if self._delivery is None:
                self._delivery = self._connect()
                if self._delivery.backlog is not None:
                    try:
                        self._delivery.backlog.adopt()
                    except OSError as error:
                        _say_unusable(error)
            return self._delivery

    def connects_within(self, timeout_s: float) -> bool:
        """Whether the delivery is connected, after waiting for another thread that may be about to connect it."""
        if self._delivery is None and self._connecting.acquire(timeout=timeout_s):
            self._connecting.release()
        return self._delivery is not None

    def put(self, spans: Sequence[Ready], failed: int) -> None:
        """What was in hand is now built, but for `failed` items that could not be."""
        with self.lock:
            self.in_hand -= len(spans) + failed
            self._weighed = 0
            room = 0 if self._closed else max(self._capacity - len(self._built), 0)
            self._built.extend(spans[:room])
            beyond = len(spans[room:])
            self._failed += failed + (beyond if self._closed else 0)
            self._dropped += 0 if self._closed else beyond
        self._reports.changed()

    def weigh(self, taken: Taken) -> None:
        """`taken` is about to be part of a span: send fewer in one request; keep no more than its sizes of it while so much
        waits that content would fill the memory."""
        self._batch_spans = max(min(BATCH_SPANS, _CONTENT_IN_BATCH // self._content_bytes), 1)
        waiting = len(self._built) + self._weighed
        self._weighed += 1
        if taken.snapshots and waiting * self._content_bytes >= _CONTENT_WAITING:
            taken.snapshots.clear()
            guard.noticed("captured content left out", "too many spans wait for the collector to keep it in memory")

    def send(self, *, force: bool) -> None:
        """Deliver what is built, and a report if one is due, unless it is too early to try again.

        `force`: it never is, and a report is due if there is anything to report.
        """
        delivery = self.connected()
        report = self._report_is_due(delivery, force=force)  # once: how a report fares is no reason for another one
        reachable = True
        while self._built or report:
            reachable = (force or not self._backoff.wait_s) and self._send_batch(delivery, report=report)
            if not reachable:
                break
            report = report and bool(self._built)
        if delivery.backlog is None:
            return
        try:
            if reachable and (force or not self._backoff.wait_s):
                self._replay(delivery, delivery.backlog, force=force)
            else:
                self._keep(delivery.backlog)
        except OSError as error:
            _say_unusable(error)
        finally:
            self._count_lost(delivery.backlog)

    def save(self, *, report: bool) -> None:
        """Move what is built to disk, in the caller's thread: the one that sends may hang. `report`: add a last one."""
        delivery = self._delivery
        if delivery is None or delivery.backlog is None:
            return
        try:
            self._keep(delivery.backlog)
            if report and self.news and self.waiting:  # with what it reports on
                delivery.backlog.keep((), self._report(delivery, ()))
        except OSError as error:
            _say_unusable(error)
        finally:
            self._count_lost(delivery.backlog)

    def _batch(self) -> tuple[list[Ready], bool]:
        """The spans to go next, and whether they are all there are."""
        with self.lock:
            batch = list(islice(self._built, self._batch_spans))
            return batch, len(batch) == len(self._built)

    def _keep(self, backlog: Backlog) -> None:
        if not self._moving.acquire(timeout=_DISK_PATIENCE_S):  # an exit must not wait for a disk that hangs
            return
        try:
            while self._built:
                batch, _ = self._batch()
                failed = backlog.keep(batch)
                with self.lock:
                    if self._take(batch):
                        self._failed += failed
                        self._spooled += len(batch) - failed
        finally:
            self._moving.release()

    def _take(self, batch: Sequence[Ready]) -> bool:
        """The fate of `batch` is known; False if it was decided elsewhere meanwhile: given up, delivered, moved to disk."""
        if batch and (not self._built or self._built[0] is not batch[0]):
            return False
        if len(batch) == len(self._built):
            self._built.clear()
        else:
            for _ in batch:
                self._built.popleft()
        return True

    def _replay(self, delivery: Delivery, backlog: Backlog, *, force: bool) -> None:
        """Send what is on disk: for a flush all that is our own, else a little of whatever comes next."""
        sent = 0
        while (force or sent < _REPLAYED_AT_ONCE) and not self._closed:
            try:
                replayed = backlog.replay(own=force)
            except Unreachable as error:
                self._backoff.failed(error)
                self._warn(error, delivery)
                return
            if replayed is None:
                return
            sent += 1
            self._backoff.answered()
            with self.lock:
                self._spooled -= replayed.spans if replayed.own else 0
                self._exported += replayed.spans - replayed.refused
                self._failed += replayed.refused
            self._reports.changed()

    def _count_lost(self, backlog: Backlog) -> None:
        lost = backlog.take_lost()
        if lost.own or lost.others:
            guard.noticed(
                "spooled spans lost",
                f"{lost.own + lost.others}: the directory is full, see GRAPHMETER_SPOOL_MB, or a file was damaged",
            )
            with self.lock:
                self._spooled -= lost.own
                self._dropped += lost.own + lost.others

    def _send_batch(self, delivery: Delivery, *, report: bool) -> bool:
        """Deliver the next spans, with a report if they are the last; False if the other side is away."""
        batch, last = self._batch()
        told = self._report(delivery, batch) if report and last else []
        began = time.perf_counter()
        try:
            refused = min(delivery.send([*batch, *told]), len(batch))
        except Unreachable as error:
            self._backoff.failed(error)
            self._warn(error, delivery)
            return False
        except Refused as error:
            guard.noticed("spans refused by the collector", f"{delivery.where}: {error}")
            refused = len(batch)
        except Exception as error:  # noqa: BLE001 - a user's exporter may raise anything; guard counts and logs
            guard.swallowed("exporter", error)
            refused = len(batch)
        self._took_s = time.perf_counter() - began
        self._backoff.answered()
        if told:
            self._reports.told()
        with self.lock:
            if self._take(batch):
                self._exported += len(batch) - refused
                self._failed += refused
        return True

    def _report_is_due(self, delivery: Delivery, *, force: bool) -> bool:
        if not delivery.reports or not (force or self._reports.wait_s == 0):
            return False
        if self._reports.news(self.counts()):
            return True
        self._reports.nothing_new()
        return False

    def _report(self, delivery: Delivery, batch: Sequence[Ready]) -> list[Ready]:
        """A report to go along with `batch`, which counts as exported: who reads the one has the other."""
        counts = self.counts()
        after = counts._replace(exported=counts.exported + len(batch), queued=counts.queued - len(batch))
        return [delivery.span_of_note(self._reports.write(after))]

    def close(self) -> None:
        """Nothing more is sent: what is left has failed."""
        with self.lock:
            self._closed = True
            self._failed += len(self._queue) + len(self._built)
            self._queue.clear()
            self._built.clear()

    def disconnect(self) -> None:
        """Part from the other side."""
        if self._delivery is None:
            return
        try:
            self._delivery.close()
        except Exception as error:  # noqa: BLE001 - somebody's exporter; guard counts and logs
            guard.swallowed("close exporter", error)

    def _warn(self, error: Unreachable, delivery: Delivery) -> None:
        if self._warned:
            return
        self._warned = True
        _log.warning(
            "Graphmeter cannot reach the collector at %s (%s). Graphs run on unchanged; %s wait for it, "
            "more are dropped and counted. Is `graphmeter serve` running, or should GRAPHMETER_ENDPOINT be set?",
            delivery.where,
            error,
            f"up to {self._capacity} spans" if delivery.backlog is None else "spans on disk",
        )


def _say_unusable(error: OSError) -> None:
    # A full disk, no permission …: they wait in memory, as they would without a spool.
    guard.noticed("spool unusable", f"GRAPHMETER_SPOOL_DIR: {error}; spans wait in memory instead")
