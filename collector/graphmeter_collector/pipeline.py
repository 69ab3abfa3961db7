"""The way of every span, in order: decode → price → store (commit) → acknowledge → count.

Requests come in concurrently, transactions go out one at a time. There is no batching timer: whatever arrived while one
transaction ran is the next group, so a lone request waits for nobody and a flood shares commits. Only senders that were
answered together and come again at once are waited for, a fraction of the time that their commit took. A sender is
answered after the commit that holds its spans, never before; while the database is away, after the sync of a file that
holds them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from graphmeter import names
from graphmeter_collector import otlp, rehearsal
from graphmeter_collector.decode.request import Decoded, Window, decode_request
from graphmeter_collector.errors import CollectorError, Stopping, StoreFailed, StoreUnavailable, TooManyRequests
from graphmeter_collector.receive.answers import Ack
from graphmeter_collector.records import ANONYMOUS, Caller, Rejection, SpanRecord, WriteResult
from graphmeter_collector.spool.frames import Spooled
from graphmeter_collector.spool.spool import Spool
from graphmeter_collector.store import Store
from graphmeter_collector.store.batch import Delivery
from graphmeter_collector.telemetry import Metrics

_log = structlog.stdlib.get_logger(__name__)

MAX_GROUP_SPANS: Final = 16_384
"""Spans per transaction, but for a single request that has more."""
LARGE_REQUEST_SPANS: Final = 4_096
"""Requests of more spans are decoded beside the event loop: up to here it takes some 100 ms."""
MOST_GAP_S: Final = 0.02
"""Between requests that come again after a commit: whoever takes longer misses the next one."""
_GAP: Final = 1 / 8
"""Of what the commit took. A transaction writes each rollup once, however many spans it has: half as many transactions
under the same load save more than the waiting costs."""
ACK_TIMEOUT_S: Final = 60.0
"""A commit that hangs longer than any sender waits is answered with 503; that it may succeed later is harmless."""
SPOOL_AFTER_S: Final = 5.0
"""With a spool, a commit that takes longer counts as a database that is away: official exporters give up after ten."""
REHEARSE_WITHIN_S: Final = 5.0
"""Longer than that a start does not wait for a transaction that nobody needs."""
_SHOWN_REJECTIONS: Final = 5


class Prices(Protocol):
    """What `price` does for the pipeline."""

    def price(self, record: SpanRecord) -> None:
        """Set the cost of a model call."""
        ...


@dataclass(slots=True, eq=False)
class _Waiting:
    """One request between decode and commit."""

    delivery: Delivery
    size: int
    """Bytes of the spans' bodies."""
    came_s: float
    """When, by the performance counter."""
    done: asyncio.Future[list[Rejection]]
    """Set after the commit: the spans that the database refused."""


class Pipeline:
    """Takes requests while `run` runs; `drain` lets what was accepted finish."""

    def __init__(
        self,
        store: Store,
        book: Prices,
        metrics: Metrics,
        *,
        observers: Sequence[Callable[[WriteResult], None]] = (),
        destinations: Sequence[str] = (),
        retention_days: int = 30,
        max_queue_spans: int = 50_000,
        max_queue_bytes: int = 128 * 1024 * 1024,
        spool: Spool | None = None,
    ) -> None:
        """`observers` see what each commit stored; `destinations` are the names of the outbox's readers.

        Without a `spool`, senders are sent away while the database is.
        """
        self._store = store
        self._spool = spool
        self._book = book
        self._metrics = metrics
        self._observers = tuple(observers)
        self.destinations = tuple(destinations)
        """Names under which spans wait in the outbox. May change while running."""
        self.retention_days = retention_days
        """Spans that started earlier, and a day, are refused. May change while running."""
        self._max_queue_spans = max_queue_spans
        self._max_queue_bytes = max_queue_bytes
        self._queue: deque[_Waiting] = deque()
        self._queued_spans = 0
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._expected = 0
        """Requests that go together, if they come soon: those that the last commit answered, and the few that missed it."""
        self._answered_s = self._took_s = 0.0
        """When that was, and how long the commit took."""
        self._stopping = False
        self._away = False
        self._large = asyncio.Lock()

    @property
    def queued_spans(self) -> int:
        """Spans waiting for a commit."""
        return self._queued_spans

    @property
    def accepting(self) -> bool:
        return not self._stopping

    @property
    def away(self) -> bool:
        """Whether requests go to the spool without asking the database."""
        return self._away

    def went_away(self, why: str) -> None:
        """From now on requests go to the spool, until `came_back`."""
        if not self._away:
            self._away = True
            _log.warning("database_away", error=why, what="requests are acknowledged from disk until it is back")

    def came_back(self) -> None:
        """The database takes transactions again."""
        if self._away:
            self._away = False
            _log.info("database_back")

    async def accept(self, given: otlp.AnyRequest, caller: Caller = ANONYMOUS) -> Ack:
        """Take one request of a caller all the way; returns after the commit, or after the sync of the spool.

        Raises:
            Transient: nothing is promised about its spans; the sender should send them again.
            google.protobuf.message.DecodeError: an attribute is not what OTLP has, and nothing was done.
        """
        received_ns, came_s = time.time_ns(), time.perf_counter()
        request = otlp.of(given)
        decoded, delivery = await self._read(request, caller, received_ns)
        refused_by_store = []
        if decoded.records:
            refused_by_store = await self._keep(request, caller, received_ns, delivery, came_s)
        self._count_request(decoded, refused_by_store)
        return _acknowledgement(decoded, refused_by_store)

    async def _keep(
        self, request: otlp.Request, caller: Caller, received_ns: int, delivery: Delivery, came_s: float
    ) -> list[Rejection]:
        """In the database or, while that is away, on disk; returns what the database refused."""
        if self._spool is None:
            return await self._commit(delivery, came_s)
        why = ""
        if self._away:
            self._refuse_when_stopping()
        else:
            try:
                return await self._commit(delivery, came_s)
            except StoreFailed:
                raise
            except StoreUnavailable as error:
                why = str(error)
        try:
            await self._spool.append(Spooled(request.body, caller, received_ns, len(delivery.given)))
        finally:
            # Only now: a database that answers while nothing lies on disk counts as back.
            if why:
                self.went_away(why)
        self._metrics.inc(names.COLLECTOR_SPOOLED, by=len(delivery.given))
        return []

    async def rehearse(self) -> None:
        """Write a request and take it back, so that whoever sends first finds everything in place. Never raises."""
        try:
            decoded, _ = await self._read(otlp.of(rehearsal.request()), ANONYMOUS, time.time_ns())
            async with asyncio.timeout(REHEARSE_WITHIN_S):
                await self._store.rehearse(decoded.records)
        except Exception as error:  # noqa: BLE001 - logged; what is wrong with it is told to who sends first
            _log.warning("rehearsal_failed", error=str(error))

    async def store_again(self, requests: Sequence[Spooled]) -> None:
        """The way of spooled requests, as of their receipt, in one transaction beside those of live ones.

        Raises:
            StoreUnavailable: nothing is known about them; they may be given again, and should be.
        """
        deliveries = []
        for request in requests:
            # What was rejected then is rejected again, and was counted and told to its sender then.
            deliveries.append((await self._read(otlp.read(request.body), request.caller, request.received_ns))[1])
            await asyncio.sleep(0)
        spans = sum(len(delivery.given) for delivery in deliveries)
        if not spans:
            return
        try:
            result = await self._store.write(deliveries, destinations=self.destinations)
        except CollectorError:
            raise
        except Exception as error:
            _log.exception("replay_failed", spans=spans)
            raise StoreFailed(f"storing failed: {type(error).__name__}") from error
        self._count_commit(result)
        self._metrics.inc(names.COLLECTOR_REPLAYED, by=spans)
        for _, rejection in result.rejected:
            self._metrics.inc(names.COLLECTOR_REJECTED, rejection.reason)
            _log.error("spooled_span_rejected", reason=rejection.reason, why=rejection.message)

    async def _read(self, request: otlp.Request, caller: Caller, received_ns: int) -> tuple[Decoded, Delivery]:
        """Decode, price and sort out. A large request takes seconds: others, and `/health`, must be answered."""
        spans = request.size
        if spans <= LARGE_REQUEST_SPANS:
            return self._decode(request, caller, received_ns)
        # One at a time: decoded spans take many times the room of their bytes.
        async with self._large:
            self._admit(spans, 0)
            return await asyncio.to_thread(self._decode, request, caller, received_ns)

    def _decode(self, request: otlp.Request, caller: Caller, received_ns: int) -> tuple[Decoded, Delivery]:
        decoded = decode_request(request, Window.around(received_ns, self.retention_days), caller)
        for record in decoded.records:
            self._book.price(record)
        return decoded, Delivery(decoded.records)

    async def _commit(self, delivery: Delivery, came_s: float) -> list[Rejection]:
        """Queue for the next transaction and wait until it is durable."""
        size = sum([len(record.body) for record in delivery.given])
        self._admit(len(delivery.given), size)
        waiting = _Waiting(delivery, size, came_s, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._queued_spans += len(delivery.given)
        self._queued_bytes += size
        self._idle.clear()
        self._arrived.set()
        limit_s = ACK_TIMEOUT_S if self._spool is None else SPOOL_AFTER_S
        try:
            async with asyncio.timeout(limit_s):
                return await waiting.done
        except TimeoutError:
            raise StoreUnavailable(f"the database did not commit within {limit_s:g} s: send again later") from None

    def _admit(self, spans: int, size: int) -> None:
        self._refuse_when_stopping()
        if (
            self._queue
            and not self._away
            and (
                self._queued_spans + spans > self._max_queue_spans or self._queued_bytes + size > self._max_queue_bytes
            )
        ):
            raise TooManyRequests(f"{self._queued_spans} spans are waiting to be stored: send again later")

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise Stopping("the collector is shutting down: send again, to it once it is back or to another one")

    async def run(self) -> None:
        """Write group after group until cancelled. No failure of a transaction ends it."""
        try:
            while True:
                await self._arrived.wait()
                while self._queue:
                    await self._gather()
                    await self._write(self._take_group())
                self._arrived.clear()
                self._idle.set()
        finally:
            _fail(list(self._queue), Stopping("the collector stopped before the commit: send again"))

    async def _gather(self) -> None:
        """Wait for those who were answered just now and come again, as long as each comes soon after the one before.

        By when they came, not by now: decoding a dozen requests takes longer than any gap, and the last one's end may still
        be on its way.
        """
        gap_s = min(self._took_s * _GAP, MOST_GAP_S)
        if self._queue[0].came_s - self._answered_s > gap_s:
            return
        while (waiting := len(self._queue)) < self._expected and self._queued_spans < MAX_GROUP_SPANS:
            if self._stopping or self._away:
                return
            self._arrived.clear()
            try:
                async with asyncio.timeout(gap_s):
                    await self._arrived.wait()
            except TimeoutError:
                if len(self._queue) == waiting:  # else one came when the time was up, while the loop was busy
                    return

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        spans = 0
        while self._queue and (not group or spans + len(self._queue[0].delivery.given) <= MAX_GROUP_SPANS):
            waiting = self._queue.popleft()
            spans += len(waiting.delivery.given)
            group.append(waiting)
        return group

    async def _write(self, group: list[_Waiting]) -> None:
        """One transaction: commit, then acknowledge, then count."""
        spans = sum(len(waiting.delivery.given) for waiting in group)
        began = time.perf_counter()
        try:
            if self._away:
                raise StoreUnavailable("the database is away")  # what queued up behind the commit that found it out
            deliveries = [waiting.delivery for waiting in group]
            result = await self._store.write(deliveries, destinations=self.destinations)
        except CollectorError as error:
            if not self._away:
                _log.warning("commit_failed", spans=spans, error=str(error))
            _fail(group, error)
        except asyncio.CancelledError:
            _fail(group, Stopping("the collector stopped before the commit: send again"))
            raise
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            # A fault of ours must not end the writer: whoever sends next would wait for nobody.
            _log.exception("commit_failed", spans=spans)
            _fail(group, StoreFailed(f"storing failed: {type(error).__name__}"))
        else:
            self._took_s = time.perf_counter() - began
            self._metrics.observe(names.COLLECTOR_COMMIT, value=self._took_s)
            _acknowledge(group, result)
            self._count_commit(result)
            # The few that missed this commit wait already, and go together with the others from now on.
            missed = len(self._queue)
            self._expected, self._answered_s = len(group) + missed if missed < len(group) else 0, time.perf_counter()
        finally:
            self._queued_spans -= spans
            self._queued_bytes -= sum(waiting.size for waiting in group)

    def _count_commit(self, result: WriteResult) -> None:
        self._metrics.inc(names.COLLECTOR_STORED, by=len(result.new) + result.merged)
        if result.duplicates:
            self._metrics.inc(names.COLLECTOR_DUPLICATE, by=result.duplicates)
        for observe in self._observers:
            try:
                observe(result)
            except Exception:  # noqa: BLE001 - logged with its traceback
                # The database has it; a metric that misses it must not take the pipeline down.
                self._metrics.inc(names.COLLECTOR_JOB_FAILURES, "count")
                _log.exception("count_failed", spans=len(result.new))

    def _count_request(self, decoded: Decoded, refused_by_store: list[Rejection]) -> None:
        self._metrics.inc(names.COLLECTOR_RECEIVED, by=len(decoded.records) + len(decoded.rejections))
        for rejection in (*decoded.rejections, *refused_by_store):
            self._metrics.inc(names.COLLECTOR_REJECTED, rejection.reason)
        for reason, times in decoded.repairs.items():
            self._metrics.inc(names.COLLECTOR_REPAIRED, reason, by=times)

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for those accepted; False if some were left when the time was up."""
        self._stopping = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("drain_timed_out", spans=self._queued_spans, seconds=timeout_s)
            return False
        return True


def _acknowledge(group: list[_Waiting], result: WriteResult) -> None:
    refused = {id(record): rejection for record, rejection in result.rejected}
    for waiting in group:
        if not waiting.done.done():  # the sender may have hung up
            given = waiting.delivery.given
            own = [refused[id(record)] for record in given if id(record) in refused] if refused else []
            waiting.done.set_result(own)


def _fail(group: list[_Waiting], error: CollectorError) -> None:
    for waiting in group:
        if not waiting.done.done():
            waiting.done.set_exception(error)


def _acknowledgement(decoded: Decoded, refused_by_store: list[Rejection]) -> Ack:
    rejections = [*decoded.rejections, *refused_by_store]
    shown = "; ".join(rejection.message for rejection in rejections[:_SHOWN_REJECTIONS])
    if len(rejections) > _SHOWN_REJECTIONS:
        shown += f"; and {len(rejections) - _SHOWN_REJECTIONS} more"
    return Ack(len(decoded.records) - len(refused_by_store), len(rejections), shown)
