"""Our own pipeline: finished runs in from any thread, OTLP requests out of one daemon thread, bounded in between.

It knows no sampler and no processor of the application. The application's side is one length check and one append; spans
are built, priced, printed and sent in the thread, as far as whoever flushes does not do it. While the collector is away
spans wait up to the bound, then new ones are dropped and counted: the graph never waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # the SDK's own processors import it, too

from graphmeter import following, guard, mirror, names
from graphmeter.delivery import Delivery, Ready
from graphmeter.heartbeat import Heartbeats
from graphmeter.outbox import Outbox
from graphmeter.records import Note, Run, start_of
from graphmeter.report import Counts
from graphmeter.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_SHORTEST_SLEEP_S: Final = 0.01
_BUILT_AT_ONCE: Final = 32
"""Spans built between two looks at how much is waiting."""
_BUILT_IN_PLACE: Final = 4096
"""Most spans that a flush builds in its caller's thread: some 20 ms, so that its timeout holds."""
_TURN_S: Final = 1.0
"""Longest wait for somebody else who builds and sends. A signal may have interrupted him, whose handler waits for us."""
_SPOOLING_PATIENCE_S: Final = 1.0
"""Longest shutdown where the collector is known to be away and spans can wait on disk."""


@contextmanager
def _untraced() -> Iterator[None]:
    """Own requests must not be traced by the application's HTTP instrumentation."""
    token = otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        otel_context.detach(token)


class _Flush:
    """Somebody waits for the delivery of what was queued before."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.complete = False


class Pipeline:
    """A sink that sends.

    Args:
        settings: Bounds and intervals.
        connect: Called once per process, in the thread.
        finished: Sees every finished run there, before it becomes a span. Must not raise.
        started: Called when the thread starts, once per process. Must not raise.
    """

    opens_all = False
    slow: ClassVar[bool] = False
    """Whether building a span may take any time: something captured is redacted, or code of the application is called. Of
    the whole process, as one pipeline may be given what another one should have had."""

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Delivery],
        finished: Callable[[Run], object],
        started: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._finished = finished
        self._started = started
        self._capacity = settings.queue_spans
        self._half = settings.queue_spans // 2
        self.close: Callable[[Run], object] = self._put
        """Queue a finished run. Nearly every event comes by here; `divert` replaces it."""
        self._keep: Callable[[Run | Note | ReadableSpan], object] = self._put
        self._reset()

    def _reset(self) -> None:
        self._queue: deque[Run | Note | ReadableSpan] = deque()
        self._flushes: deque[_Flush] = deque()
        self._outbox = Outbox(self._settings, lambda: self._connect(), self._queue)
        self._heartbeats = Heartbeats(self, self._settings.heartbeat_s)
        self._starting = threading.RLock()
        self._rounds = threading.Lock()
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._asleep = True
        self._stopping = False
        self._complete = True

    # --- the application's side -----------------------------------------------------------------------------------

    def open(self, run: Run, kind: str) -> None:
        """Announce `run` at once if it is a root."""
        if kind is names.RUN:
            self._keep(start_of(run, self._heartbeats.promise))
            if following.active:
                following.begun(run.tree.trace_id)

    def hurry(self) -> None:
        """Export without waiting for more."""
        self._hurry.set()

    def note(self, note: Note) -> None:
        """Queue `note`."""
        self._keep(note)

    def take(self, span: ReadableSpan) -> None:
        """Queue a finished span of the application."""
        self._keep(span)

    def divert(self, to: Pipeline | None) -> None:
        """From now on queue everything in `to` instead; None: here again."""
        self._keep = self.close = self._put if to is None else to._put

    def _put(self, item: Run | Note | ReadableSpan) -> None:
        waiting = len(self._queue)
        if waiting >= self._capacity or self._stopping:
            self._outbox.drop()
            return
        self._queue.append(item)
        if self._asleep:
            self._wake()
        elif waiting == self._half:
            self._hurry.set()

    def _wake(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._serve, name="graphmeter", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:
                        # The interpreter is going down, or out of threads: flush() exports in its caller's thread.
                        guard.swallowed("start thread", error)
                        return
                    self._thread = thread
                    self._started()
        self._asleep = False
        self._work.set()

    def flush(self, timeout_s: float) -> bool:
        """Deliver what was queued before the call; False if that failed or took longer than `timeout_s`."""
        if self._stopping:
            return self._empty
        lost = self._outbox.lost
        if self._help():
            return self._outbox.lost == lost
        request = _Flush()
        self._flushes.append(request)
        self._hurry.set()  # before it wakes: left over, it would hurry the next run's spans
        self._wake()
        if self._thread is None:
            self._round()
        return request.done.wait(timeout_s) and request.complete and self._outbox.lost == lost

    def _help(self) -> bool:
        """Build what is queued in the calling thread, which waits for it anyway and has it at hand: another processor would
        fetch it all first. Whether nothing is left to do; what may take long is left to our own thread."""
        if self.slow or len(self._queue) > _BUILT_IN_PLACE or not self._outbox.is_connected:
            return False
        if not self._rounds.acquire(blocking=False):
            return False
        try:
            with _untraced():
                self._build()
                if self._outbox.prompt:
                    self._outbox.send(force=True)
            return self._outbox.delivered and not self.unfinished
        finally:
            self._rounds.release()

    def shutdown(self, timeout_s: float) -> bool:
        """Deliver what is queued, then stop for good; what cannot be delivered in `timeout_s` is on disk or has failed.

        Once stopped, the answer is whether everything left before that.
        """
        if self._stopping:
            return self._complete
        if self._outbox.spools and self._outbox.away:  # nothing is lost by leaving soon
            timeout_s = min(timeout_s, _SPOOLING_PATIENCE_S)
        deadline = time.monotonic() + timeout_s
        self._complete = (self._empty and not self._outbox.news) or self.flush(timeout_s)
        thread = self._thread
        while self._complete and thread is not None and self._leftovers and time.monotonic() < deadline:
            time.sleep(_SHORTEST_SLEEP_S)
        self._stopping = True
        if thread is not None and thread is not threading.current_thread():
            self._hurry.set()
            self._work.set()
            thread.join(0.2)
        if thread is None or thread.is_alive():
            self._save(report=True)
        self._outbox.close()
        return self._complete

    def save(self) -> None:
        """Put what is queued on disk, where there is a spool: the process may be about to end without delivering it."""
        self._save(report=False)

    @property
    def unfinished(self) -> bool:
        """Whether there is something to send besides spans: a report, or what dead processes left on disk."""
        return not self._stopping and ((self._outbox.news and not self._outbox.away) or self._leftovers)

    @property
    def _leftovers(self) -> bool:
        return self._outbox.waiting and not self._outbox.away

    @property
    def _empty(self) -> bool:
        return not self._queue and self._outbox.delivered

    def counts(self) -> Counts:
        """What became of everything so far."""
        return self._outbox.counts()

    def after_fork(self) -> None:
        """In a forked child: the queue, the thread and the connection are the parent's."""
        self._reset()

    # --- the thread's side ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        # Own requests must not be traced by the application's HTTP instrumentation.
        otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            # At once: what a resource is made from may be gone when a short script comes to its end.
            self._outbox.connected()
        except Exception as error:  # noqa: BLE001 - tried again with the first spans; guard counts and logs
            guard.swallowed("connect", error)
        while not self._stopping:
            self._sleep()
            try:
                for note in self._heartbeats.due(away=self._outbox.away):
                    self._put(note)
                self._round()
            except Exception as error:  # noqa: BLE001 - the thread must live; guard counts and logs
                guard.swallowed("export", error)
        self._save(report=True)
        self._outbox.disconnect()

    def _sleep(self) -> None:
        """Until there is something to do, and then a little, for others to come along."""
        self._asleep = True
        if not self._queue and not self._flushes:
            waits = [wait for wait in (self._outbox.wait_s, self._heartbeats.wait_s) if wait is not None]
            self._work.wait(max(min(waits), _SHORTEST_SLEEP_S) if waits else None)
        self._asleep = False
        self._work.clear()
        if self._queue or self._flushes:
            self._hurry.wait(self._settings.flush_interval_s)
        self._hurry.clear()

    def _round(self) -> None:
        """Build everything queued, then send everything built, unless it is too early to try again."""
        # Taken first: what was queued before a flush is then built and sent before it is answered.
        flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
        complete = False
        mine = self._rounds.acquire(timeout=_TURN_S)
        try:
            with _untraced():
                lost = self._outbox.lost
                self._build()
                self._outbox.send(force=bool(flushes))
                complete = self._outbox.delivered and self._outbox.lost == lost
        finally:
            if mine:
                self._rounds.release()
            for flush in flushes:
                flush.complete = complete
                flush.done.set()

    @guard.guarded
    def _save(self, *, report: bool) -> None:
        if self._settings.spool_dir and self._outbox.connects_within(_SPOOLING_PATIENCE_S):
            self._build()
            self._outbox.save(report=report)

    def _build(self) -> None:
        delivery = self._outbox.connected()
        left = len(self._queue)
        while left > 0:
            with self._outbox.lock:
                items = [self._queue.popleft() for _ in range(min(left, _BUILT_AT_ONCE, len(self._queue)))]
                self._outbox.in_hand += len(items)
            if not items:
                return
            left -= len(items)
            built: list[Ready] = []
            try:
                self._build_into(built, items, delivery)
            finally:  # who flushes may be interrupted, by Ctrl-C for one
                self._outbox.put(built, failed=len(items) - len(built))

    def _build_into(self, built: list[Ready], items: list[Run | Note | ReadableSpan], delivery: Delivery) -> None:
        finished, span_of, said = self._finished, delivery.span_of, self._settings.error_messages
        for item in items:
            try:
                if isinstance(item, Run):
                    if item.captured is not None:
                        self._outbox.weigh(item.captured)
                    finished(item)
                    if item.tree.mirror:
                        mirror.mirror(item, delivery.resource, error_messages=said)
                    built.append(span_of(item, error_messages=said))
                elif isinstance(item, Note):
                    if item.kind is names.START:
                        self._heartbeats.started()
                    built.append(delivery.span_of_note(item))
                else:
                    built.append(item)
            except Exception as error:  # noqa: BLE001 - one odd run must not cost the others; guard counts and logs
                guard.swallowed("build span", error)
