"""The pipeline on a real database: acknowledged after the commit, shared commits, full queues, faults, drain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from collector.waiting import end, until
from graphmeter import names
from graphmeter_collector import pipeline as module
from graphmeter_collector.errors import Stopping, StoreUnavailable, TooManyRequests
from graphmeter_collector.pipeline import Pipeline
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.receive.answers import Ack
from graphmeter_collector.records import Cost, SpanRecord, WriteResult
from graphmeter_collector.reports import RunFilter
from graphmeter_collector.store.batch import Given, delivered
from graphmeter_collector.store.postgres import PostgresStore
from graphmeter_collector.store.sqlite import SqliteStore
from graphmeter_collector.telemetry import Metrics
from support import otlp, postgres
from support.records import SECOND

POISON = "poison"


class GatedStore(SqliteStore):
    """A real store whose transactions begin when the gate opens, and whose groups can be looked at."""

    def __init__(self, url: str) -> None:
        super().__init__(make_url(url))
        self.gate = asyncio.Event()
        self.gate.set()
        self.groups: list[list[str]] = []
        self.entered = asyncio.Event()
        self.fault: BaseException | None = None

    async def write(self, given: Given, *, destinations: Sequence[str] = ()) -> WriteResult:
        self.groups.append([record.name for delivery in delivered(given) for record in delivery.given])
        self.entered.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().write(given, destinations=destinations)


class Book(PriceBook):
    """The real prices, but for calls named `POISON`: their cost fits into no column, so the database refuses them."""

    def price(self, record: SpanRecord) -> None:
        super().price(record)
        if record.name == POISON:
            record.cost = Cost(2**70, (2**70,) + (0,) * 9, "priced")


@dataclass
class Running:
    """A pipeline that runs."""

    pipeline: Pipeline
    store: GatedStore
    metrics: Metrics
    writing: asyncio.Task[None]

    def send(self, *spans: Any) -> asyncio.Task[Ack]:
        return asyncio.create_task(self.pipeline.accept(otlp.request(*spans)))

    async def stored(self) -> list[str]:
        """Trace ids of the runs in the database, newest first."""
        return [run.trace_id for run in await self.store.reader.runs(RunFilter())]


@asynccontextmanager
async def running(url: str, **how: Any) -> AsyncIterator[Running]:
    store, metrics = GatedStore(url), Metrics()
    await store.open()
    pipeline = Pipeline(store, Book(), metrics, **how)
    writing = asyncio.create_task(pipeline.run())
    try:
        yield Running(pipeline, store, metrics, writing)
    finally:
        store.gate.set()
        await end(writing)
        await store.close()


def node(number: int, **how: Any) -> Any:
    return otlp.own(number, names.NODE, of=number, start_ns=time.time_ns() - SECOND, name=f"n{number}", **how)


def poison(number: int) -> Any:
    model = {names.PROVIDER: "openai", names.RESPONSE_MODEL: "gpt-4o", names.USAGE_INPUT: 1}
    return otlp.own(number, names.MODEL, model, of=number, start_ns=time.time_ns() - SECOND, name=POISON)


async def test_a_request_is_priced_stored_acknowledged_and_counted(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        ack = await it.send(*otlp.run(1, start_ns=time.time_ns() - 5 * SECOND))
        [run] = await it.store.reader.runs(RunFilter())
        assert Ack(4, 0) == ack
        # gpt-4o: 1,000 tokens in at 2.5 USD and 100 out at 10 USD per million.
        assert ("ok", 3_500_000) == (run.status, run.cost_nano)
        assert (4, 4, 0, 1) == tuple(
            it.metrics.value(metric)
            for metric in (
                names.COLLECTOR_RECEIVED,
                names.COLLECTOR_STORED,
                names.COLLECTOR_DUPLICATE,
                names.COLLECTOR_COMMIT,
            )
        )


async def behind_a_commit(it: Running, first: Any, *others: Any) -> list[asyncio.Task[Ack]]:
    """A span that is being stored behind the closed gate, and others that came meanwhile."""
    it.store.gate.clear()
    sending = [it.send(first)]
    await it.store.entered.wait()
    sending += [it.send(other) for other in others]
    await until(lambda: it.pipeline.queued_spans == 1 + len(others))
    return sending


async def test_nothing_is_acknowledged_before_its_commit(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        sending = it.send(node(1))
        await it.store.entered.wait()
        await asyncio.sleep(0.05)
        assert (False, []) == (sending.done(), await it.stored())
        it.store.gate.set()
        assert Ack(1, 0) == await sending
        assert 1 == len(await it.stored())


async def test_what_arrives_during_a_commit_shares_the_next_one(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        sending = await behind_a_commit(it, *map(node, (1, 2, 3, 4)))
        it.store.gate.set()
        assert [Ack(1, 0)] * 4 == await asyncio.gather(*sending)
        assert [["n1"], ["n2", "n3", "n4"]] == it.store.groups
        assert (4, 0) == (it.metrics.value(names.COLLECTOR_STORED), it.pipeline.queued_spans)


async def test_a_lone_request_waits_for_nobody(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        for number in (1, 2):
            async with asyncio.timeout(60):
                await it.send(node(number))
        assert [["n1"], ["n2"]] == it.store.groups


async def test_senders_that_were_answered_together_and_come_again_share_the_next_commit(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_GAP_S", 30.0)
    monkeypatch.setattr(module, "_GAP", 1e6)
    async with running(sqlite_url) as it:

        async def sender(first: int) -> None:
            for number in (first, first + 10):
                assert Ack(1, 0) == await it.send(node(number))

        it.store.gate.clear()
        sending = [asyncio.create_task(sender(1))]
        await it.store.entered.wait()
        sending += [asyncio.create_task(sender(number)) for number in (2, 3, 4)]
        await until(lambda: it.pipeline.queued_spans == 4)
        it.store.gate.set()
        await asyncio.gather(*sending)
        sizes = [len(group) for group in it.store.groups]
        assert [1, 3, 4] == sizes, "the first sender comes again while the others are stored, and is stored with them"


async def test_one_that_missed_a_commit_goes_with_the_others_from_then_on(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_GAP_S", 30.0)
    monkeypatch.setattr(module, "_GAP", 1e6)
    async with running(sqlite_url) as it:
        together = await behind_a_commit(it, *map(node, (1, 2, 3, 4)))
        it.store.gate.set()
        it.store.gate.clear()  # for the next transaction: the first one is on its way
        await until(lambda: len(it.store.groups) == 2)
        late = it.send(node(5))
        await until(lambda: it.pipeline.queued_spans == 4)
        it.store.gate.set()
        await asyncio.gather(*together)
        again = [it.send(node(12)), it.send(node(13))]
        await until(lambda: it.pipeline.queued_spans == 3)
        again.append(it.send(node(14)))
        await asyncio.gather(late, *again)
        assert ["n5", "n12", "n13", "n14"] == it.store.groups[-1]


async def test_who_comes_again_is_waited_for_however_long_decoding_the_others_takes(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_GAP_S", 30.0)
    monkeypatch.setattr(module, "_GAP", 1e6)
    async with running(sqlite_url) as it:
        clock, decode, decoding_s = time.perf_counter, it.pipeline._decode, 0.0

        def slow(*args: Any) -> Any:
            nonlocal decoding_s
            decoding_s += 100
            return decode(*args)

        monkeypatch.setattr(it.pipeline, "_decode", slow)
        monkeypatch.setattr(
            module, "time", SimpleNamespace(time_ns=time.time_ns, perf_counter=lambda: clock() + decoding_s)
        )
        sending = await behind_a_commit(it, *map(node, (1, 2, 3)))
        it.store.gate.set()
        await asyncio.gather(*sending)
        again = it.send(node(12))
        await until(lambda: it.pipeline.queued_spans == 1)
        await asyncio.gather(again, it.send(node(13)))
        assert ["n12", "n13"] == it.store.groups[-1]


async def test_nobody_waits_for_senders_that_do_not_come_again(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        sending = await behind_a_commit(it, *map(node, (1, 2, 3)))
        it.store.gate.set()
        await asyncio.gather(*sending)
        assert Ack(1, 0) == await it.send(node(4))
        assert ["n4"] == it.store.groups[-1]


async def test_a_group_ends_where_it_would_grow_too_large_but_a_large_request_goes_whole(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP_SPANS", 3)
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        sending = [it.send(node(1))]
        await it.store.entered.wait()
        sending += [it.send(node(2), node(3)), it.send(node(4)), it.send(*map(node, range(5, 10))), it.send(node(10))]
        await until(lambda: it.pipeline.queued_spans == 10)
        it.store.gate.set()
        await asyncio.gather(*sending)
        assert [1, 3, 5, 1] == [len(group) for group in it.store.groups]


async def test_a_span_refused_at_decoding_is_told_and_the_others_are_stored(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        ack = await it.send(node(1), otlp.span(2, start_ns=1, name="ancient"))
        assert (1, 1, 1, 2) == (
            ack.accepted,
            ack.rejected,
            it.metrics.value(names.COLLECTOR_REJECTED, "too_old"),
            it.metrics.value(names.COLLECTOR_RECEIVED),
        )
        assert "'ancient'" in ack.message


async def test_a_request_of_bad_spans_alone_is_answered_without_a_transaction(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        ack = await it.send(*(otlp.span(number, start_ns=1) for number in range(1, 9)))
        assert (0, 8, []) == (ack.accepted, ack.rejected, it.store.groups)
        assert ack.message.endswith("; and 3 more")


async def test_a_span_refused_by_the_database_is_told_to_its_own_sender_alone(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        sending = [it.send(node(1))]
        await it.store.entered.wait()
        sending += [it.send(node(2), poison(3)), it.send(node(4))]
        await until(lambda: it.pipeline.queued_spans == 4)
        it.store.gate.set()
        first, poisoned, neighbour = await asyncio.gather(*sending)
        assert [["n1"], ["n2", POISON, "n4"]] == it.store.groups
        assert (Ack(1, 0), Ack(1, 0)) == (first, neighbour)
        assert (1, 1, 3) == (poisoned.accepted, poisoned.rejected, len(await it.stored()))
        assert (0).to_bytes(7, "big").hex() + "03" in poisoned.message
        assert 1 == it.metrics.value(names.COLLECTOR_REJECTED, "refused_by_database")


async def test_repairs_are_counted(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.send(node(1, parent=b"odd"))
        assert 1 == it.metrics.value(names.COLLECTOR_REPAIRED, "bad_parent")


async def test_a_second_delivery_is_acknowledged_and_counted_as_duplicate(sqlite_url: str) -> None:
    spans = otlp.run(1, start_ns=time.time_ns() - 5 * SECOND)
    async with running(sqlite_url) as it:
        assert [Ack(4, 0), Ack(4, 0)] == [await it.send(*spans), await it.send(*spans)]
        assert (4, 4) == (it.metrics.value(names.COLLECTOR_STORED), it.metrics.value(names.COLLECTOR_DUPLICATE))


@pytest.mark.parametrize("limit", [{"max_queue_spans": 2}, {"max_queue_bytes": 1_500}], ids=["spans", "bytes"])
async def test_a_full_queue_sends_senders_away_until_it_is_written(sqlite_url: str, limit: dict[str, int]) -> None:
    def large(number: int) -> Any:
        return node(number, trace_state="x" * 500)

    async with running(sqlite_url, **limit) as it:
        it.store.gate.clear()
        sending = [it.send(large(1))]
        await it.store.entered.wait()
        sending.append(it.send(large(2)))
        await until(lambda: it.pipeline.queued_spans == 2)
        with pytest.raises(TooManyRequests, match="2 spans are waiting to be stored: send again later"):
            await it.send(large(3))
        it.store.gate.set()
        await asyncio.gather(*sending)
        assert Ack(1, 0) == await it.send(large(3))


async def test_a_request_larger_than_the_queue_is_taken_by_an_empty_one(sqlite_url: str) -> None:
    async with running(sqlite_url, max_queue_spans=2, max_queue_bytes=10) as it:
        assert Ack(5, 0) == await it.send(*map(node, range(1, 6)))


async def test_large_requests_are_read_one_at_a_time_while_others_are_answered(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, reading, most = threading.Event(), set[int](), 0

    def price(self: Book, record: SpanRecord) -> None:
        nonlocal most
        if record.kind == names.NODE and record.name in ("n1", "n2"):
            reading.add(threading.get_ident())
            most = max(most, len(reading))
            assert go_on.wait(60), "nobody else was answered meanwhile"
            reading.discard(threading.get_ident())

    monkeypatch.setattr(module, "LARGE_REQUEST_SPANS", 2)
    monkeypatch.setattr(Book, "price", price)
    async with running(sqlite_url) as it:
        large = [it.send(node(at), node(at + 10), node(at + 20)) for at in (1, 2)]
        await until(lambda: bool(reading))
        assert Ack(1, 0) == await it.send(node(3))
        go_on.set()
        assert [Ack(3, 0), Ack(3, 0)] == await asyncio.gather(*large)
        assert (1, 7) == (most, len(await it.stored()))


async def test_a_large_request_that_the_queue_has_no_room_for_is_not_read(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGE_REQUEST_SPANS", 2)
    async with running(sqlite_url, max_queue_spans=3) as it:
        it.store.gate.clear()
        sending = [it.send(node(1))]
        await it.store.entered.wait()
        sending.append(it.send(node(2)))
        await until(lambda: it.pipeline.queued_spans == 2)
        unreadable = otlp.own(3, names.NODE, of=3, start_ns=0)
        with pytest.raises(TooManyRequests):
            await it.send(unreadable, unreadable, unreadable)
        it.store.gate.set()
        await asyncio.gather(*sending)


async def test_a_store_that_is_away_is_told_to_the_whole_group_and_only_to_it(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        it.store.fault = StoreUnavailable("the database is away")
        sending = [it.send(node(1))]
        await it.store.entered.wait()
        it.store.gate.set()
        answers = await asyncio.gather(*sending, it.send(node(2)), return_exceptions=True)
        assert ["the database is away"] * 2 == [str(answer) for answer in answers]
        it.store.fault = None
        assert Ack(1, 0) == await it.send(node(1))
        assert (1, 0) == (it.metrics.value(names.COLLECTOR_STORED), it.pipeline.queued_spans)


async def test_a_fault_of_ours_is_answered_as_passing_logged_and_does_not_end_the_writer(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.store.fault = ZeroDivisionError("secret detail")
        with capture_logs() as logged, pytest.raises(StoreUnavailable, match="storing failed: ZeroDivisionError"):
            await it.send(node(1))
        assert ["commit_failed"] == [line["event"] for line in logged]
        it.store.fault = None
        assert Ack(1, 0) == await it.send(node(1))


async def test_a_postgres_that_goes_away_is_told_and_used_again_when_it_is_back(
    postgres_server: postgres.Server, postgres_url: str
) -> None:
    database = make_url(postgres_url).database
    store = PostgresStore(make_url(postgres_url))
    await store.open()
    pipeline = Pipeline(store, PriceBook(), Metrics())
    writing = asyncio.create_task(pipeline.run())
    request = otlp.request(node(1))
    assert Ack(1, 0) == await pipeline.accept(otlp.request(node(2)))

    postgres_server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
    postgres_server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await pipeline.accept(request)
    postgres_server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')

    assert Ack(1, 0) == await pipeline.accept(request)
    assert 2 == len(await store.reader.runs(RunFilter()))
    await end(writing)
    await store.close()


async def test_an_observer_that_fails_is_counted_and_fails_neither_request_nor_other_observers(sqlite_url: str) -> None:
    seen: list[int] = []

    def broken(result: WriteResult) -> None:
        raise RuntimeError("counting failed")

    observers = (broken, lambda result: seen.append(len(result.new)))
    async with running(sqlite_url, observers=observers) as it:
        with capture_logs() as logged:
            assert Ack(1, 0) == await it.send(node(1))
            await until(lambda: seen)
        assert ([1], ["count_failed"]) == (seen, [line["event"] for line in logged])
        assert 1 == it.metrics.value(names.COLLECTOR_JOB_FAILURES, "count")


async def test_a_sender_that_hangs_up_loses_nothing_and_harms_nobody(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        impatient = it.send(node(1))
        await it.store.entered.wait()
        also_impatient, patient = it.send(node(2)), it.send(node(3))
        await until(lambda: it.pipeline.queued_spans == 3)
        impatient.cancel()
        also_impatient.cancel()
        await asyncio.sleep(0)
        it.store.gate.set()
        assert Ack(1, 0) == await patient
        assert 3 == len(await it.stored())


async def test_a_commit_that_hangs_is_answered_and_may_succeed_later(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACK_TIMEOUT_S", 0.05)
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        with pytest.raises(StoreUnavailable, match=r"did not commit within 0\.05 s: send again later"):
            await it.send(node(1))
        it.store.gate.set()
        await until(lambda: it.pipeline.queued_spans == 0)
        assert 1 == len(await it.stored())


async def test_draining_finishes_what_was_accepted_and_refuses_the_rest(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        accepted = [it.send(node(1))]
        await it.store.entered.wait()
        accepted.append(it.send(node(2)))
        await until(lambda: it.pipeline.queued_spans == 2)
        draining = asyncio.create_task(it.pipeline.drain(60))
        await asyncio.sleep(0)
        assert not it.pipeline.accepting
        with pytest.raises(Stopping, match="shutting down"):
            await it.send(node(3))
        it.store.gate.set()
        assert (True, [Ack(1, 0), Ack(1, 0)]) == (await draining, await asyncio.gather(*accepted))


async def test_a_drain_that_takes_too_long_gives_up_and_the_senders_are_told(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.store.gate.clear()
        in_commit = it.send(node(1))
        await it.store.entered.wait()
        queued = it.send(node(2))
        await until(lambda: it.pipeline.queued_spans == 2)
        with capture_logs() as logged:
            assert not await it.pipeline.drain(0.05)
        assert [("drain_timed_out", 2)] == [(line["event"], line["spans"]) for line in logged]
        await end(it.writing)
        for sender in (in_commit, queued):
            with pytest.raises(Stopping, match="stopped before the commit: send again"):
                await sender


async def test_draining_an_idle_pipeline_is_immediate(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.send(node(1))
        assert await it.pipeline.drain(60)


async def test_committed_spans_wait_for_their_destinations_and_start_records_do_not(sqlite_url: str) -> None:
    async with running(sqlite_url, destinations=["jaeger", "tempo"]) as it:
        await it.send(*otlp.run(1, start_ns=time.time_ns() - 5 * SECOND))
        assert {"jaeger": 3, "tempo": 3} == await it.store.outbox_depth()


async def test_an_empty_request_is_acknowledged(sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        assert Ack(0, 0) == await it.pipeline.accept(ExportTraceServiceRequest())


async def test_spans_older_than_the_retention_in_force_are_refused(sqlite_url: str) -> None:
    two_days_old = otlp.own(1, names.NODE, start_ns=time.time_ns() - 2 * 86_400 * SECOND)
    async with running(sqlite_url, retention_days=7) as it:
        assert 0 == (await it.send(two_days_old)).rejected
        it.pipeline.retention_days = 0
        assert 1 == (await it.send(two_days_old)).rejected
