"""What a destination gets, when, and what becomes of the spans when it does not take them."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.forward.backend import Backend, Received, backend, eventually
from collector.store.dump import opened
from graphmeter import names
from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.forward import forwarder as forwarder_module
from graphmeter_collector.forward.forwarder import Claim, Forwarder
from graphmeter_collector.records import Envelope, SpanRecord
from graphmeter_collector.store import Store, outbox_sqlite
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.parts import Part
from graphmeter_collector.telemetry import Metrics
from support import postgres
from support.records import record, span_id, trace

UNKNOWN = b"\xfa\x3e\x06future"
"""Field 1007 of a later version of the protocol, length-delimited."""


def envelope(service: str = "shop", scope: str = "graphmeter", *, schema: str = "") -> Envelope:
    resource = Resource()
    resource.attributes.add(key="service.name").value.string_value = service
    resource_bytes = resource.SerializeToString() + UNKNOWN
    scope_bytes = InstrumentationScope(name=scope).SerializeToString()
    identity = f"{service}/{scope}/{schema}".encode().ljust(16)[:16]
    return Envelope(identity, resource_bytes, scope_bytes, schema, schema and f"{schema}/scope")


SHOP = envelope()


def span(number: int, *, of: int = 1, envelope: Envelope = SHOP, size: int = 0) -> SpanRecord:
    """A record whose body is a span named `span {number}`."""
    body = Span(name=f"span {number}", trace_id=trace(of), span_id=span_id(number), trace_state="x" * size)
    return record(number, of=of, envelope=envelope, body=body.SerializeToString() + UNKNOWN)


def spans(*numbers: int) -> list[SpanRecord]:
    return [span(number) for number in numbers]


def called(*numbers: int) -> list[str]:
    return [f"span {number}" for number in numbers]


class Watched:
    """A store's outbox, and what a forwarder does with it at the moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.open = 0
        """Claims that are asked for, held, or being given back."""
        self.held = 0
        """Claims that ever held spans."""

    @asynccontextmanager
    async def outbox_claim(self, destination: str, limit: int, max_bytes: int) -> AsyncIterator[Claim]:
        self.open += 1
        try:
            async with self._store.outbox_claim(destination, limit, max_bytes) as claim:
                self.held += bool(claim.items)
                yield claim
        finally:
            self.open -= 1


class Sending:
    """A store, a backend and the forwarder between them."""

    def __init__(self, store: Store, to: Backend) -> None:
        self.store = store
        self.to = to
        self.metrics = Metrics()
        self.outbox = Watched(store)
        self.forwarder = Forwarder(self.outbox, to, self.metrics)

    async def commit(self, records: Sequence[SpanRecord], *, notify: bool = True) -> None:
        await self.store.write(records, destinations=[self.to.name])
        if notify:
            self.forwarder.notify()

    async def depth(self) -> int:
        return (await self.store.outbox_depth()).get(self.to.name, 0)

    async def emptied(self) -> None:
        """Return when nothing waits any more, and all of it is counted."""

        async def empty() -> bool:
            # Counted in the step in which the claim is done with.
            return await self.depth() == 0 and self.outbox.open == 0

        await eventually(empty)

    @property
    def counted(self) -> tuple[float, float, float]:
        """Spans forwarded, requests failed, spans dropped."""
        families = (names.COLLECTOR_FORWARDED, names.COLLECTOR_FORWARD_FAILED, names.COLLECTOR_FORWARD_DROPPED)
        labels = ((), (), (names.FORWARD_REFUSED,))
        forwarded, failed, dropped = (
            self.metrics.value(family, self.to.name, *more) for family, more in zip(families, labels, strict=True)
        )
        return forwarded, failed, dropped

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.forwarder.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task


@pytest.fixture(scope="module")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "graphmeter.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(_migrated: Path, tmp_path: Path) -> str:
    """A copy of one migrated file: quicker than migrating one for every test."""
    file = shutil.copy(_migrated, tmp_path / "graphmeter.db")
    return f"sqlite:///{file}"


@pytest.fixture
async def sending(sqlite_url: str) -> AsyncIterator[Sending]:
    async with opened(sqlite_url) as store, backend(headers={"x-api-key": "s3cret"}) as to:
        yield Sending(store, to)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff starts at 20 ms; nothing is read without being told for longer than a test waits."""
    monkeypatch.setattr(forwarder_module, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(forwarder_module, "POLL_S", 3600.0)


async def test_a_request_is_gzipped_protobuf_for_v1_traces_with_the_destinations_headers(sending: Sending) -> None:
    await sending.commit(spans(1))
    async with sending.running():
        await sending.emptied()

    [request] = sending.to.received
    assert ("POST", "/v1/traces") == (request.method, request.path)
    expected = {"content-type": "application/x-protobuf", "content-encoding": "gzip", "x-api-key": "s3cret"}
    assert expected == {name: request.headers[name] for name in expected}
    assert (1, 0, 0) == sending.counted


async def test_an_endpoint_with_a_path_keeps_it(sqlite_url: str) -> None:
    class Behind(Backend):
        @property
        def endpoint(self) -> str:
            return f"{super().endpoint}/otlp/"

    to = Behind()
    await to.start()
    async with opened(sqlite_url) as store:
        sending = Sending(store, to)
        await sending.commit(spans(1))
        async with sending.running():
            await sending.emptied()
    await to.stop()

    assert ["/otlp/v1/traces"] == [request.path for request in to.received]


async def test_what_was_committed_first_is_sent_first(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder_module, "BATCH_SPANS", 2)
    monkeypatch.setattr(forwarder_module, "IN_FLIGHT", 1)
    for numbers in ((8, 9), (5,), (1, 2), (7,)):
        await sending.commit(spans(*numbers))
    async with sending.running():
        await sending.emptied()

    assert [called(8, 9), called(5), called(1, 2), called(7)] == [request.spans for request in sending.to.received]


async def test_spans_leave_as_they_came_under_their_own_resource_and_scope(sending: Sending) -> None:
    other_scope, other_service = envelope(scope="http"), envelope("billing", schema="https://schema.example/1")
    records = [
        span(1),
        span(2, envelope=other_service),
        span(3, envelope=other_scope, size=300),
        span(4, envelope=other_service),
        span(5),
    ]
    await sending.commit(records)
    async with sending.running():
        await sending.emptied()

    [request] = sending.to.received
    assert [True] * 5 == [each.body in request.raw for each in records]
    found = {
        (resource.resource.attributes[0].value.string_value, scope.scope.name): [span.name for span in scope.spans]
        for resource in request.message.resource_spans
        for scope in resource.scope_spans
    }
    expected = {
        ("shop", "graphmeter"): called(1, 5),
        ("shop", "http"): called(3),
        ("billing", "graphmeter"): called(2, 4),
    }
    assert expected == found
    shop, billing = request.message.resource_spans
    assert (SHOP.resource, other_service.resource) == (
        shop.resource.SerializeToString(),
        billing.resource.SerializeToString(),
    )
    schema = "https://schema.example/1"
    assert (schema, f"{schema}/scope") == (billing.schema_url, billing.scope_spans[0].schema_url)
    assert ("", "") == (shop.schema_url, shop.scope_spans[0].schema_url)


async def test_bytes_that_no_parser_would_write_are_sent_as_they_are(sending: Sending) -> None:
    name, identity = b"\x2a\x05order", b"\x12\x08" + span_id(1)
    backwards = record(1, envelope=SHOP, body=UNKNOWN + name + identity)
    broken = record(2, envelope=SHOP, body=b"\xff")
    sending.to.otherwise = lambda request: web.Response(status=400 if b"\x12\x01\xff" in request.raw else 200)
    await sending.commit([backwards, broken])
    async with sending.running():
        await sending.emptied()

    assert backwards.body in sending.to.received[-2].raw
    assert (1, 0, 1) == sending.counted


async def test_rows_are_deleted_only_after_the_answer(sending: Sending) -> None:
    answer = asyncio.Event()

    async def slowly(_: Received) -> web.Response:
        await answer.wait()
        return web.Response()

    sending.to.answers = [slowly]
    await sending.commit(spans(1, 2, 3))
    async with sending.running():
        await eventually(lambda: len(sending.to.received) == 1)
        assert (3, (0, 0, 0)) == (await sending.depth(), sending.counted)
        answer.set()
        await sending.emptied()
    assert (3, 0, 0) == sending.counted


async def test_a_busy_destination_is_left_alone_for_as_long_as_it_says(sending: Sending) -> None:
    sending.to.answers = [web.Response(status=503, headers={"Retry-After": "1"})]
    await sending.commit(spans(1, 2))
    async with sending.running():
        await eventually(lambda: sending.counted == (0, 1, 0))
        assert (2, 1.0) == (await sending.depth(), sending.forwarder._backoff_s)
        await sending.emptied()

    first, second = sending.to.received
    assert 1.0 <= second.at - first.at
    assert [called(1, 2)] * 2 == [first.spans, second.spans]
    assert (2, 1, 0) == sending.counted


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-3", 0.0),
        ("²", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
    ],
)
def test_retry_after_in_seconds(header: str, expected: float) -> None:
    assert expected == forwarder_module._seconds(header)


@pytest.mark.parametrize(("hours", "expected"), [(1, 3600.0), (-1, 0.0)])
def test_retry_after_as_a_date_is_the_time_until_then(hours: int, expected: float) -> None:
    header = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)

    assert pytest.approx(expected, abs=60) == forwarder_module._seconds(header)


async def test_the_wait_doubles_up_to_a_limit_and_starts_anew_after_a_delivery(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "LONGEST_BACKOFF_S", 0.16)
    monkeypatch.setattr(forwarder_module, "LONGEST_ASKED_S", 0.16)
    answers = [web.Response(status=503) for _ in range(5)]
    answers += [web.Response(), web.Response(status=503, headers={"Retry-After": "3600"}), web.Response()]
    waited_for: list[float] = []

    def remembering(answer: web.Response) -> Callable[[Received], Awaitable[web.Response]]:
        async def give(_: Received) -> web.Response:
            waited_for.append(sending.forwarder._backoff_s)
            return answer

        return give

    sending.to.answers = [remembering(answer) for answer in answers]
    await sending.commit(spans(1))
    async with sending.running():
        await sending.emptied()
        await sending.commit(spans(2))
        await sending.emptied()

    times = [request.at for request in sending.to.received]
    waits = [after - before for before, after in pairwise(times)]
    assert [0.0, 0.02, 0.04, 0.08, 0.16, 0.16, 0.0, 0.16] == waited_for
    assert [] == [waited for waited, expected in zip(waits, waited_for[1:], strict=True) if waited < expected]
    assert (2, 6, 0) == sending.counted


async def test_a_destination_that_is_not_there_yet_gets_everything_when_it_is(sending: Sending) -> None:
    await sending.to.stop()
    await sending.commit(spans(1, 2))
    async with sending.running():
        await eventually(lambda: sending.counted[1] >= 2)
        await sending.commit(spans(3))
        assert 3 == await sending.depth()
        await sending.to.start()
        await sending.emptied()

    assert called(1, 2, 3) == sending.to.accepted
    forwarded, _, dropped = sending.counted
    assert (3, 0) == (forwarded, dropped)


async def test_a_destination_that_hangs_up_or_never_answers_costs_nothing_but_time(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.to.timeout_s = 0.2
    never = asyncio.Event()

    async def silence(_: Received) -> web.Response:
        await never.wait()
        return web.Response()

    sending.to.answers = [silence]
    await sending.commit(spans(1))
    async with sending.running():
        await sending.emptied()
    never.set()

    forwarded, failed, dropped = sending.counted
    assert (1, 0) == (forwarded, dropped)
    assert failed >= 1  # a busy machine may not answer the next one in time, either


async def test_a_refused_request_is_halved_until_the_culprit_alone_is_dropped(sending: Sending) -> None:
    sending.to.otherwise = lambda request: web.Response(status=400 if "span 6" in request.spans else 200)
    await sending.commit(spans(*range(1, 11)))
    async with sending.running():
        await sending.emptied()

    assert called(1, 2, 3, 4, 5, 7, 8, 9, 10) == sending.to.accepted
    assert ["span 6"] in [request.spans for request in sending.to.received]
    assert (9, 0, 1) == sending.counted


async def test_a_request_that_is_too_large_goes_in_parts_and_nothing_is_dropped(sending: Sending) -> None:
    sending.to.otherwise = lambda request: web.Response(status=413 if len(request.spans) > 3 else 200)
    await sending.commit(spans(*range(1, 11)))
    async with sending.running():
        await sending.emptied()

    assert called(*range(1, 11)) == sending.to.accepted
    assert (10, 0, 0) == sending.counted


async def test_a_destination_that_goes_away_between_halves_keeps_what_is_left(sending: Sending) -> None:
    sending.to.answers = [web.Response(status=413), web.Response(), web.Response(status=503)]
    await sending.commit(spans(1, 2, 3, 4))
    async with sending.running():
        await sending.emptied()

    expected = [called(1, 2, 3, 4), called(1, 2), called(3, 4), called(3, 4)]
    assert expected == [request.spans for request in sending.to.received]
    assert (4, 1, 0) == sending.counted


def partial(rejected: int) -> web.Response:
    success = ExportTracePartialSuccess(rejected_spans=rejected, error_message="too old")
    return web.Response(body=ExportTraceServiceResponse(partial_success=success).SerializeToString())


@pytest.mark.parametrize(("rejected", "expected"), [(2, (3, 0, 2)), (0, (5, 0, 0)), (99, (0, 0, 5)), (-4, (5, 0, 0))])
async def test_what_a_destination_rejects_in_part_is_dropped_and_counted(
    sending: Sending, rejected: int, expected: tuple[int, int, int]
) -> None:
    sending.to.answers = [partial(rejected)]
    await sending.commit(spans(1, 2, 3, 4, 5))
    async with sending.running():
        await sending.emptied()
    assert expected == sending.counted


async def test_an_answer_in_json_or_without_a_body_is_a_delivery(sending: Sending) -> None:
    sending.to.answers = [web.json_response({"partialSuccess": {}}), web.Response(status=202)]
    await sending.commit(spans(1))
    async with sending.running():
        await sending.emptied()
        await sending.commit(spans(2))
        await sending.emptied()
    assert (2, 0, 0) == sending.counted


WRONG = {
    "no key": web.Response(status=401),
    "wrong key": web.Response(status=403),
    "wrong path": web.Response(status=404, text="<h1>nothing here</h1>"),
    "wrong port": web.Response(status=200, text="<html>a user interface</html>", content_type="text/html"),
    "moved": web.Response(status=301, headers={"Location": "/login"}),
    "login": web.Response(status=302, headers={"Location": "/login"}),
    "elsewhere": web.Response(status=307, headers={"Location": "/v2/traces"}),
    "wrong method": web.Response(status=405),
    "wrong format": web.Response(status=415),
    "broken": web.Response(status=500),
    "not made": web.Response(status=501),
    "busy": web.Response(status=429),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_answer_that_does_not_blame_the_spans_loses_none(sending: Sending, wrong: str) -> None:
    given = WRONG[wrong]
    sending.to.answers = [web.Response(status=given.status, headers=given.headers, body=given.body) for _ in range(3)]
    await sending.commit(spans(1, 2))
    async with sending.running():
        await sending.emptied()

    assert [("POST", "/v1/traces")] * 4 == [(request.method, request.path) for request in sending.to.received]
    assert (2, 3, 0) == sending.counted


async def test_a_commit_rings_and_is_sent_at_once(sending: Sending) -> None:
    async with sending.running():
        await asyncio.sleep(0.05)
        for number in (1, 2, 3):
            await sending.commit(spans(number))
            await sending.emptied()
    assert [called(1), called(2), called(3)] == [request.spans for request in sending.to.received]


async def test_what_another_collector_committed_is_found_without_a_bell(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "POLL_S", 0.05)
    async with sending.running():
        await asyncio.sleep(0.02)
        await sending.commit(spans(1), notify=False)
        await sending.emptied()
    assert called(1) == sending.to.accepted


async def test_a_backlog_goes_out_batch_by_batch_and_a_few_requests_at_a_time(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "BATCH_SPANS", 10)
    all_busy = asyncio.Event()

    async def wait_for_the_others(_: Received) -> web.Response:
        if sending.to.busy == forwarder_module.IN_FLIGHT:
            all_busy.set()
        await all_busy.wait()
        return web.Response()

    sending.to.answers = [wait_for_the_others] * forwarder_module.IN_FLIGHT
    await sending.commit([span(number, of=number) for number in range(1, 96)])
    async with sending.running():
        await sending.emptied()

    assert [10] * 9 + [5] == sorted((len(request.spans) for request in sending.to.received), reverse=True)
    assert sorted(called(*range(1, 96))) == sorted(sending.to.accepted)
    assert forwarder_module.IN_FLIGHT == sending.to.most_busy


async def test_a_backlog_meets_a_backend_that_is_away_with_one_request_at_a_time(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "BATCH_SPANS", 10)
    away = 3
    first = forwarder_module.IN_FLIGHT
    all_busy = asyncio.Event()

    async def hold(_: Received) -> web.Response:
        if sending.to.busy == first:
            all_busy.set()
        await all_busy.wait()
        return web.Response(status=503)

    # The first, and whoever began to help beside it; then the first alone.
    sending.to.answers = [hold] * (first + away)
    await sending.commit([span(number, of=number) for number in range(1, 96)])
    async with sending.running():
        await all_busy.wait()
        sending.to.most_busy = 0
        await eventually(lambda: sending.counted[1] >= first + away - 1)
        assert sending.to.most_busy <= 1
        # Four failures at the same time were one reason to wait longer, not four.
        assert sending.forwarder._backoff_s <= 0.02 * 2 ** (away + 1)
        await sending.emptied()

    assert sorted(called(*range(1, 96))) == sorted(sending.to.accepted)
    assert (95, first + away, 0) == sending.counted


async def test_a_part_of_a_trace_that_was_half_delivered_is_not_sent_again(sending: Sending) -> None:
    sending.to.answers = [
        web.Response(status=413),
        web.Response(),
        web.Response(status=413),
        web.Response(status=400),
        web.Response(status=503),
    ]
    await sending.commit(spans(1, 2, 3, 4))
    async with sending.running():
        await sending.emptied()

    expected = [called(1, 2, 3, 4), called(1, 2), called(3, 4), called(3), called(4), called(4)]
    assert expected == [request.spans for request in sending.to.received]
    assert (3, 1, 1) == sending.counted


async def test_spans_whose_bytes_are_not_kept_any_more_hold_up_nobody(sending: Sending, sqlite_url: str) -> None:
    await sending.commit([*spans(1, 2), span(3, of=2)])
    database = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    with database:
        database.execute("DELETE FROM span_body WHERE span_id IN (?, ?)", (span_id(1), span_id(3)))
    database.close()
    async with sending.running():
        await sending.emptied()

    assert called(2) == sending.to.accepted
    assert (1, 0, 0) == sending.counted
    expired = sending.metrics.value(names.COLLECTOR_FORWARD_DROPPED, sending.to.name, names.FORWARD_EXPIRED)
    assert 2 == expired


async def test_a_restarted_forwarder_resumes_where_the_last_one_was(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "BATCH_SPANS", 4)
    monkeypatch.setattr(forwarder_module, "IN_FLIGHT", 1)
    never = asyncio.Event()

    async def silence(_: Received) -> web.Response:
        await never.wait()
        return web.Response()

    async with backend() as to:
        async with opened(sqlite_url) as store:
            sending = Sending(store, to)
            to.answers = [web.Response(), silence]
            await sending.commit([span(number, of=number) for number in range(1, 11)])
            async with sending.running():
                await eventually(lambda: len(to.received) == 2)
            assert 6 == await sending.depth()
        async with opened(sqlite_url) as store:
            sending = Sending(store, to)
            async with sending.running():
                await sending.emptied()
        never.set()

    # The second batch was under way when the first forwarder ended: it is sent again.
    first, second, again, last = (request.spans for request in to.received)
    assert ([4, 4, 2], second) == ([len(first), len(second), len(last)], again)
    assert sorted(called(*range(1, 11))) == sorted([*first, *second, *last])


async def test_a_new_forwarder_shows_its_counters_at_zero(sending: Sending) -> None:
    page = sending.metrics.render("")[0].decode()
    for family in (names.COLLECTOR_FORWARDED, names.COLLECTOR_FORWARD_FAILED):
        assert f'{family.name}{{destination="backend"}} 0.0' in page
    for reason in (names.FORWARD_REFUSED, names.FORWARD_EXPIRED):
        shown = f'{names.COLLECTOR_FORWARD_DROPPED.name}{{destination="backend",reason="{reason}"}} 0.0'
        assert shown in page


class Outage:
    """The outbox of an SQLite file, gone and back: what a database that is away looks like to its reader."""

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///"))

    def begin(self) -> None:
        self._run("ALTER TABLE outbox RENAME TO outbox_away")

    def end(self) -> None:
        self._run("ALTER TABLE outbox_away RENAME TO outbox")

    def _run(self, statement: str) -> None:
        database = sqlite3.connect(self._file, timeout=60)
        try:
            database.execute(statement)
        finally:
            database.close()


async def test_a_database_that_is_away_is_waited_for(sending: Sending, sqlite_url: str) -> None:
    await sending.commit(spans(1, 2))
    outage = Outage(sqlite_url)
    outage.begin()
    async with sending.running():
        await eventually(lambda: sending.forwarder._backoff_s >= 0.04)
        assert [] == sending.to.received
        outage.end()
        await sending.emptied()
    assert (2, 0, 0) == sending.counted


async def test_a_database_that_goes_away_before_the_delete_gets_the_spans_sent_again_and_counted_once(
    sending: Sending, sqlite_url: str
) -> None:
    outage = Outage(sqlite_url)

    async def cut(_: Received) -> web.Response:
        outage.begin()
        return partial(1)

    sending.to.answers = [cut, partial(1)]
    await sending.commit(spans(1, 2))
    async with sending.running():
        await eventually(lambda: sending.forwarder._backoff_s > 0)
        outage.end()
        await sending.emptied()

    assert [called(1, 2)] * 2 == [request.spans for request in sending.to.received]
    assert (1, 0, 1) == sending.counted


async def test_two_collectors_on_one_database_share_the_work_and_send_every_span_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "POLL_S", 0.05)
    monkeypatch.setattr(forwarder_module, "BATCH_SPANS", 10)

    async def wait_for_the_other(_: Received) -> web.Response:
        await eventually(lambda: first.outbox.held > 0 and second.outbox.held > 0)
        return web.Response()

    async with opened(postgres_url) as one, opened(postgres_url) as two, backend() as to:
        to.answers = [wait_for_the_other] * (2 * forwarder_module.IN_FLIGHT)
        first, second = Sending(one, to), Sending(two, to)
        await first.commit([span(number, of=number) for number in range(1, 101)])
        async with first.running(), second.running():
            await first.emptied()
            await second.emptied()
        assert sorted(called(*range(1, 101))) == sorted(to.accepted)
        senders = first.counted[0], second.counted[0]
        assert 100 == sum(senders)
        assert min(senders) >= 10


async def test_what_a_collector_claimed_when_it_died_is_sent_by_another(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "POLL_S", 0.05)
    async with opened(postgres_url) as one, opened(postgres_url) as two, backend() as to:
        first, second = Sending(one, to), Sending(two, to)
        await first.commit(spans(1, 2, 3))

        async def claim_and_die() -> None:
            async with one.outbox_claim(to.name, 100, 1 << 20) as claim, second.running():
                assert 3 == len(claim.items)
                await asyncio.sleep(0.1)
                assert [] == to.received
                # As the server sees a process end: its session is gone.
                ended = "pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
                await asyncio.to_thread(postgres.execute, postgres_url, f"SELECT {ended}")
                await second.emptied()

        with pytest.raises(StoreUnavailable):
            await claim_and_die()
        assert sorted(called(1, 2, 3)) == sorted(to.accepted)


async def test_a_batch_is_bounded_by_bytes_but_for_a_single_span(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "BATCH_BYTES", 2_500)
    monkeypatch.setattr(forwarder_module, "IN_FLIGHT", 1)
    for number, size in enumerate((0, 1_000, 1_000, 1_000, 9_000, 0), start=1):
        await sending.commit([span(number, of=number, size=size)])
    async with sending.running():
        await sending.emptied()
    assert [called(1, 2, 3), called(4), called(5), called(6)] == [request.spans for request in sending.to.received]


async def test_a_destination_that_wants_no_compression_gets_none(sqlite_url: str) -> None:
    async with opened(sqlite_url) as store, backend() as to:
        to.gzip = False
        sending = Sending(store, to)
        await sending.commit(spans(1))
        async with sending.running():
            await sending.emptied()
    assert ([called(1)], [False]) == (
        [request.spans for request in to.received],
        ["content-encoding" in request.headers for request in to.received],
    )


async def test_what_is_done_with_while_another_claim_is_read_is_not_given_twice(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other claim's reader sees the file as it was before the delete."""
    async with opened(sqlite_url) as store:
        await store.write([span(number, of=number) for number in range(1, 5)], destinations=["backend"])
        reading, deleted = threading.Event(), threading.Event()

        def slowly(row: Iterable[Any]) -> Part:
            reading.set()
            deleted.wait(60)
            return Part._make(row)

        async def second() -> list[bytes]:
            async with store.outbox_claim("backend", 2, 1 << 20) as claim:
                return [item.trace_id for item in claim.items]

        async with store.outbox_claim("backend", 2, 1 << 20) as claim:
            first = [item.trace_id for item in claim.items]
            monkeypatch.setattr(outbox_sqlite, "Part", SimpleNamespace(_make=slowly))
            other = asyncio.create_task(second())
            await asyncio.to_thread(reading.wait, 60)
            await claim.delete(claim.items)
        deleted.set()
        assert sorted(map(trace, range(1, 5))) == sorted([*first, *await other])
