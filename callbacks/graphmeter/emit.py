"""Our own pipeline: finished runs in from any thread, OTLP requests out of one daemon thread, bounded in between.

It knows no sampler and no processor of the application. The application's side is one length check and one append; spans
are built, priced, printed and sent in the thread. While the collector is away spans wait up to the bound, then new ones are
dropped and counted: the graph never waits.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # the SDK's own processors import it, too
from opentelemetry.trace import SpanContext

from graphmeter import guard, names
from graphmeter.records import Note, Run, span_id_of, start_of
from graphmeter.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

_log = logging.getLogger("graphmeter")

BATCH_SPANS: Final = 512
_FIRST_BACKOFF_S: Final = 1.0
_LONGEST_BACKOFF_S: Final = 30.0


class Unreachable(Exception):
    """The other side did not answer, or asked to come back later: the spans are worth another try."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """The other side will never take these spans."""


class Delivery(Protocol):
    """Hands spans to somebody else."""

    resource: Resource
    where: str

    def send(self, spans: Sequence[ReadableSpan]) -> int:
        """Deliver `spans`; the number refused for good among them. Raises Unreachable or Refused."""

    def close(self) -> None:
        """Nothing more will be sent."""


@dataclass(slots=True)
class _Flush:
    done: threading.Event = field(default_factory=threading.Event)
    complete: bool = False


class Counts(NamedTuple):
    """What became of the spans given to a pipeline."""

    exported: int
    dropped: int
    failed: int
    queued: int


class Pipeline:
    """A sink that sends.

    Args:
        settings: Bounds and intervals.
        connect: Called once per process, in the thread.
        finished: Sees every finished run there, before it becomes a span. Must not raise.
        started: Called when the thread starts, once per process. Must not raise.
    """

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
        self._reset()

    def _reset(self) -> None:
        self._queue: deque[Run | Note | _Flush] = deque()
        self._built: deque[ReadableSpan] = deque()
        self._flushes: list[_Flush] = []
        self._delivery: Delivery | None = None
        self._lock = threading.RLock()
        self._connecting = threading.Lock()  # apart: connecting may take a while, counting must not
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._asleep = True
        self._stopping = False
        self._closed = False
        self._exported = self._dropped = self._failed = 0
        self._backoff_s = 0.0
        self._next_try = 0.0
        self._warned = False

    # --- the application's side -----------------------------------------------------------------------------------

    def open(self, run: Run, kind: str) -> SpanContext:
        """Identity of `run`, the same whichever handler and process sees it; a root is announced at once."""
        tree = run.tree
        if kind is names.RUN:
            self._put(start_of(run))
        return SpanContext(tree.trace_id, span_id_of(run.run_id), False, tree.flags, tree.state)

    def close(self, run: Run) -> None:
        """Queue the finished `run`."""
        self._put(run)
        if run.tree.debug:
            self._hurry.set()

    def note(self, note: Note) -> None:
        """Queue `note`."""
        self._put(note)

    def _put(self, item: Run | Note) -> None:
        waiting = len(self._queue)
        if waiting >= self._capacity or self._stopping:
            with self._lock:
                self._dropped += 1
            return
        self._queue.append(item)
        if self._asleep:
            self._wake()
        elif waiting == self._half:
            self._hurry.set()

    def _wake(self) -> None:
        if self._thread is None:
            with self._lock:
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
        request = _Flush()
        self._queue.append(request)
        self._wake()
        if self._thread is None:
            self._round(force=True)
        self._hurry.set()
        return request.done.wait(timeout_s) and request.complete

    def shutdown(self, timeout_s: float) -> bool:
        """Deliver what is queued, then stop for good; what cannot be delivered in `timeout_s` counts as failed."""
        complete = self.flush(timeout_s) if self._queue or self._built else True
        self._stopping = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._hurry.set()
            self._work.set()
            thread.join(0.2)
        with self._lock:
            self._closed = True
            left = sum(not isinstance(item, _Flush) for item in self._queue) + len(self._built)
            self._failed += left
            self._queue.clear()
            self._built.clear()
        return complete

    def counts(self) -> Counts:
        with self._lock:
            return Counts(self._exported, self._dropped, self._failed, len(self._queue) + len(self._built))

    def after_fork(self) -> None:
        """In a forked child: the queue, the thread and the connection are the parent's."""
        self._reset()

    # --- the thread's side ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        # Own requests must not be traced by the application's HTTP instrumentation.
        otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            # At once: what a resource is made from may be gone when a short script comes to its end.
            self._connected()
        except Exception as error:  # noqa: BLE001 - tried again with the first spans; guard counts and logs
            guard.swallowed("connect", error)
        while not self._stopping:
            self._asleep = True
            if not self._queue:
                self._work.wait(max(self._next_try - time.monotonic(), 0.05) if self._built else None)
            self._asleep = False
            self._work.clear()
            self._hurry.wait(self._settings.flush_interval_s)
            self._hurry.clear()
            try:
                self._round(force=False)
            except Exception as error:  # noqa: BLE001 - the thread must live; guard counts and logs
                guard.swallowed("export", error)
        if self._delivery is not None:
            try:
                self._delivery.close()
            except Exception as error:  # noqa: BLE001 - somebody's exporter; guard counts and logs
                guard.swallowed("close exporter", error)

    def _round(self, *, force: bool) -> None:
        """Build everything queued, then send everything built, unless it is too early to try again."""
        # Own requests must not be traced by the application's HTTP instrumentation.
        token = otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            delivery = self._connected()
            self._build(delivery)
            flushes, self._flushes = self._flushes, []
            if force or flushes or time.monotonic() >= self._next_try:
                self._send(delivery)
            for flush in flushes:
                flush.complete = not self._built
                flush.done.set()
        finally:
            otel_context.detach(token)

    def _connected(self) -> Delivery:
        with self._connecting:
            if self._delivery is None:
                self._delivery = self._connect()
            return self._delivery

    def _build(self, delivery: Delivery) -> None:
        # Here and not above: the SDK is loaded when a handler is made, not when the package is imported.
        from graphmeter import spans

        for _ in range(len(self._queue)):
            item = self._queue.popleft()
            if isinstance(item, _Flush):
                self._flushes.append(item)
                continue
            try:
                if isinstance(item, Note):
                    span = spans.build_note(item, delivery.resource)
                else:
                    self._finished(item)
                    span = spans.build(item, delivery.resource, error_messages=self._settings.error_messages)
            except Exception as error:  # noqa: BLE001 - one odd run must not cost the others; guard counts and logs
                guard.swallowed("build span", error)
                self._count(failed=1)
                continue
            if len(self._built) >= self._capacity:
                self._count(dropped=1)
            else:
                self._built.append(span)

    def _send(self, delivery: Delivery) -> None:
        while self._built:
            batch = [self._built[index] for index in range(min(len(self._built), BATCH_SPANS))]
            try:
                refused = delivery.send(batch)
            except Unreachable as error:
                self._wait_after(error, delivery)
                return
            except Refused as error:
                guard.noticed("spans refused by the collector", f"{delivery.where}: {error}")
                refused = len(batch)
            except Exception as error:  # noqa: BLE001 - a user's exporter may raise anything; guard counts and logs
                guard.swallowed("exporter", error)
                refused = len(batch)
            with self._lock:
                if self._closed:  # shutdown() gave up waiting and has counted this batch as failed
                    return
                for _ in batch:
                    self._built.popleft()
            self._count(exported=len(batch) - refused, failed=refused)
            self._backoff_s = self._next_try = 0.0

    def _wait_after(self, error: Unreachable, delivery: Delivery) -> None:
        self._backoff_s = min(max(self._backoff_s * 2, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)
        # Jitter: a fleet must not come back in step.
        pause = max(self._backoff_s * random.uniform(0.8, 1.2), error.retry_after_s)  # noqa: S311 - no secret
        self._next_try = time.monotonic() + pause
        if not self._warned:
            self._warned = True
            _log.warning(
                "Graphmeter cannot reach the collector at %s (%s). Graphs run on unchanged; up to %d spans wait for it, "
                "more are dropped and counted. Is `graphmeter serve` running, or should GRAPHMETER_ENDPOINT be set?",
                delivery.where,
                error,
                self._capacity,
            )

    def _count(self, *, exported: int = 0, dropped: int = 0, failed: int = 0) -> None:
        with self._lock:
            self._exported += exported
            self._dropped += dropped
            self._failed += failed
