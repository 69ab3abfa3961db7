"""Built spans on their way to one destination: batches out, each span counted in exactly one place until its fate is known.

One thread at a time builds and sends. Spans stay here until somebody has taken or refused them; while the other side is away
they wait.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from graphmeter import guard
from graphmeter.delivery import Backoff, Delivery, Refused, Unreachable
from graphmeter.report import Counts, Reports
from graphmeter.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from graphmeter.capture import Taken

_log = logging.getLogger("graphmeter")

BATCH_SPANS: Final = 512
_MOST_ATTRIBUTES: Final = 3
"""Captured attributes of one span: instructions, question and answer."""
_CONTENT_IN_BATCH: Final = 4 * 1024 * 1024
_CONTENT_WAITING: Final = 32 * 1024 * 1024
"""Most bytes of captured content in one request, and waiting to be sent."""


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
        self._batch = BATCH_SPANS
        self._content_bytes = _MOST_ATTRIBUTES * settings.capture_bytes
        self._weighed = 0
        self._built: deque[ReadableSpan] = deque()
        self._closed = False
        self._warned = False
        self.lock = threading.RLock()
        """Held whenever something moves from one count to another."""
        self.in_hand = 0
        """Items that have left the queue and are being built."""
        self._exported = self._dropped = self._failed = 0

    # --- for everybody --------------------------------------------------------------------------------------------

    def counts(self) -> Counts:
        """Every item is in exactly one of them."""
        with self.lock:
            waiting = len(self._queue) + self.in_hand + len(self._built)
            return Counts(self._exported, self._dropped, self._failed, waiting)

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
        """Whether nothing built waits any more."""
        return not self._built

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
        if self._built:
            return self._backoff.wait_s
        report = self._reports.wait_s
        return None if report is None else max(report, self._backoff.wait_s)

    # --- for the one that builds and sends ------------------------------------------------------------------------

    def connected(self) -> Delivery:
        """The delivery, connected if it is not yet."""
        with self._connecting:
            if self._delivery is None:
                self._delivery = self._connect()
            return self._delivery

    def put(self, spans: Sequence[ReadableSpan], failed: int) -> None:
        """What was in hand is now built, but for `failed` items that could not be."""
        with self.lock:
            self.in_hand = self._weighed = 0
            room = 0 if self._closed else max(self._capacity - len(self._built), 0)
            self._built.extend(spans[:room])
            beyond = len(spans[room:])
            self._failed += failed + (beyond if self._closed else 0)
            self._dropped += 0 if self._closed else beyond
        self._reports.changed()

    def weigh(self, taken: Taken) -> None:
        """`taken` is about to be part of a span: send fewer in one request; keep no more than its sizes of it while so much
        waits that content would fill the memory."""
        self._batch = max(min(BATCH_SPANS, _CONTENT_IN_BATCH // self._content_bytes), 1)
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
        while self._built or report:
            if self._backoff.wait_s and not force:
                return
            with self.lock:
                batch = [self._built[index] for index in range(min(len(self._built), self._batch))]
                last = len(batch) == len(self._built)
            if not self._deliver(delivery, batch, self._report(delivery, batch) if report and last else []):
                return
            report = report and not last

    def _deliver(self, delivery: Delivery, batch: Sequence[ReadableSpan], report: Sequence[ReadableSpan]) -> bool:
        try:
            refused = min(delivery.send([*batch, *report]), len(batch))
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
        self._backoff.answered()
        if report:
            self._reports.told()
        with self.lock:
            if self._closed:  # close() gave up waiting and has counted this batch as failed
                return False
            for _ in batch:
                self._built.popleft()
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

    def _report(self, delivery: Delivery, batch: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        """A report to go along with `batch`, which counts as exported: who reads the one has the other."""
        from graphmeter import spans

        counts = self.counts()
        after = counts._replace(exported=counts.exported + len(batch), queued=counts.queued - len(batch))
        return [spans.build_note(self._reports.write(after), delivery.resource)]

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
            "Graphmeter cannot reach the collector at %s (%s). Graphs run on unchanged; up to %d spans wait for it, "
            "more are dropped and counted. Is `graphmeter serve` running, or should GRAPHMETER_ENDPOINT be set?",
            delivery.where,
            error,
            self._capacity,
        )
