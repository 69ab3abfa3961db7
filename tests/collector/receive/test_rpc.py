"""OTLP/gRPC over a real channel: what is taken, what is refused with which code, and what may be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from structlog.testing import capture_logs

from collector.waiting import until
from graphmeter import names
from graphmeter_collector.errors import Stopping, StoreUnavailable, TooManyRequests, Unauthenticated
from graphmeter_collector.otlp import Request
from graphmeter_collector.receive import rpc
from graphmeter_collector.receive.answers import Ack
from graphmeter_collector.receive.body import Limits, Room
from graphmeter_collector.receive.passing import Passing
from graphmeter_collector.receive.rpc import make_server
from graphmeter_collector.records import ANONYMOUS, Caller
from graphmeter_collector.telemetry import Metrics
from support import otlp

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LIMITS = Limits(body_bytes=100_000, decompressed_bytes=100_000, spans=3, seconds=60.0)
REQUEST = otlp.request(otlp.own(1, names.NODE, {"text": "ä"}), otlp.own(2, names.RUN))


class Front:
    """A gRPC server, and what it was given."""

    def __init__(self) -> None:
        self.accepted: list[ExportTraceServiceRequest] = []
        self.callers: list[Caller] = []
        self.metrics = Metrics()
        self.fault: Exception | None = None
        self.ack = Ack(1, 0)
        self.waits: asyncio.Event | None = None
        self.room = Room(1_000_000)
        self.address = ""

    async def accept(self, request: Request, caller: Caller) -> Ack:
        if self.fault is not None:
            raise self.fault
        self.accepted.append(ExportTraceServiceRequest.FromString(request.body))
        self.callers.append(caller)
        if self.waits is not None:
            await self.waits.wait()
        return self.ack

    def admit(self, authorization: str) -> Caller:
        if authorization == "Bearer wrong":
            raise Unauthenticated("this API key is not known here")
        return Caller("k1", "cx") if authorization else ANONYMOUS

    def refused(self, reason: str) -> float:
        return self.metrics.value(names.COLLECTOR_REQUESTS_REFUSED, reason)

    async def post(
        self,
        body: bytes,
        method: str = TRACES,
        compression: grpc.Compression = grpc.Compression.NoCompression,
        **metadata: str,
    ) -> bytes:
        async with grpc.aio.insecure_channel(self.address) as channel:
            answer = await channel.unary_unary(method)(body, metadata=tuple(metadata.items()), compression=compression)
            assert isinstance(answer, bytes)
            return answer

    async def problem(self, body: bytes, **metadata: str) -> tuple[grpc.StatusCode, str, Status]:
        """Code, sentence and details of a refusal."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.post(body, **metadata)
        details = dict(caught.value.trailing_metadata()).get("grpc-status-details-bin", b"")
        return caught.value.code(), str(caught.value.details()), Status.FromString(details)


@asynccontextmanager
async def listening(limits: Limits) -> AsyncIterator[Front]:
    one = Front()
    server = make_server(one.accept, one.admit, limits, one.metrics, Passing(), one.room)
    one.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield one
    await server.stop(None)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with listening(LIMITS) as one:
        yield one


@pytest.mark.parametrize(
    "compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]
)
async def test_a_request_reaches_the_pipeline_however_it_is_compressed(
    front: Front, compression: grpc.Compression
) -> None:
    assert b"" == await front.post(REQUEST.SerializeToString(), compression=compression)
    assert [REQUEST] == front.accepted


async def test_an_empty_request_is_a_success(front: Front) -> None:
    assert b"" == await front.post(b"")


async def test_rejected_spans_are_a_partial_success(front: Front) -> None:
    front.ack = Ack(1, 2, "span 'x' is too old")
    answer = ExportTraceServiceResponse.FromString(await front.post(REQUEST.SerializeToString()))
    assert (2, "span 'x' is too old") == (
        answer.partial_success.rejected_spans,
        answer.partial_success.error_message,
    )


@pytest.mark.parametrize("fault", [StoreUnavailable("the database is away"), TooManyRequests("later"), Stopping("bye")])
async def test_what_may_be_sent_again_says_when(front: Front, fault: StoreUnavailable) -> None:
    front.fault = fault
    code, sentence, status = await front.problem(REQUEST.SerializeToString())
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert (grpc.StatusCode.UNAVAILABLE, str(fault), fault.retry_after_s) == (code, sentence, retry.retry_delay.seconds)
    assert 1 == front.refused(fault.reason)


async def test_what_is_no_request_is_refused_for_good(front: Front) -> None:
    code, sentence, status = await front.problem(b"\xff\xff\xff")
    assert grpc.StatusCode.INVALID_ARGUMENT is code
    assert "is not an OTLP ExportTraceServiceRequest" in sentence
    bad = BadRequest()
    assert status.details[0].Unpack(bad)
    assert (3, sentence, 1) == (status.code, bad.field_violations[0].description, len(status.details))
    assert 1 == front.refused("bad_protobuf")


@pytest.mark.parametrize(
    ("problem", "code", "reason"),
    [
        (ZeroDivisionError("x"), grpc.StatusCode.INTERNAL, "fault"),
        (OSError(24, "no files"), grpc.StatusCode.UNAVAILABLE, "exhausted"),
        (MemoryError(), grpc.StatusCode.UNAVAILABLE, "exhausted"),
    ],
    ids=["a fault of ours", "no files", "no memory"],
)
async def test_what_nobody_foresaw_is_answered_by_whether_a_retry_may_help(
    front: Front, problem: Exception, code: grpc.StatusCode, reason: str
) -> None:
    front.fault = problem
    with capture_logs() as logged:
        said, sentence, status = await front.problem(REQUEST.SerializeToString())
    assert (code, code is grpc.StatusCode.UNAVAILABLE, 1) == (said, bool(status.details), front.refused(reason))
    assert ("collector" in sentence, ["request_failed"]) == (True, [line["event"] for line in logged])


async def test_many_calls_on_one_connection_are_answered_each_by_itself(front: Front) -> None:
    requests = [otlp.request(otlp.own(number, names.NODE)) for number in range(1, 301)]
    async with grpc.aio.insecure_channel(front.address) as channel:
        export = channel.unary_unary(TRACES)
        calls = [export(each.SerializeToString()) for each in requests]
        assert {b""} == set(await asyncio.gather(*calls))
    assert sorted(each.SerializeToString() for each in requests) == sorted(
        each.SerializeToString() for each in front.accepted
    )
    assert (300, 0) == (front.metrics.value(names.COLLECTOR_REQUESTS, names.GRPC), front.room.taken)


async def test_more_calls_than_may_be_under_way_are_to_come_again(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "MOST_CALLS", 1)
    front.waits = asyncio.Event()
    first = asyncio.create_task(front.post(REQUEST.SerializeToString()))
    await until(lambda: front.accepted)
    code, _, status = await front.problem(REQUEST.SerializeToString())
    assert (grpc.StatusCode.UNAVAILABLE, 1, 1) == (code, len(status.details), front.refused("queue_full"))
    front.waits.set()
    assert b"" == await first
    assert b"" == await front.post(REQUEST.SerializeToString())


async def test_nothing_is_read_while_others_fill_the_room(front: Front) -> None:
    with front.room.share() as others:
        others.grow_to(front.room.most_bytes)
        code, _, status = await front.problem(bytes(LIMITS.decompressed_bytes + 1))
        assert (grpc.StatusCode.UNAVAILABLE, 1, 1) == (code, len(status.details), front.refused("no_room"))
    assert b"" == await front.post(REQUEST.SerializeToString())


async def test_messages_are_read_in_turns(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "TURN_WITHIN_S", 0.05)
    async with grpc.aio.insecure_channel(front.address) as channel:
        slow = [channel.stream_unary(TRACES)() for _ in range(4)]  # as many as this room lets be read at once
        await until(lambda: front.room.taken == 4)
        code, _, status = await front.problem(REQUEST.SerializeToString())
        assert (grpc.StatusCode.UNAVAILABLE, 1, 1) == (code, len(status.details), front.refused("no_room"))
        for call in slow:
            await call.write(REQUEST.SerializeToString())
            await call.done_writing()
        assert [b""] * 4 == [await call for call in slow]
    assert b"" == await front.post(REQUEST.SerializeToString())


async def test_text_that_is_no_utf_8_is_mended_and_the_sender_warned(front: Front) -> None:
    answer = await front.post(REQUEST.SerializeToString().replace("ä".encode(), b"\xff\xfe"))
    said = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (0, True) == (said.rejected_spans, "not UTF-8" in said.error_message)
    assert 1 == front.metrics.value(names.COLLECTOR_REPAIRED, "bad_utf8")


async def test_too_many_spans_are_refused(front: Front) -> None:
    body = otlp.request(*(otlp.own(number, names.NODE) for number in range(1, 5))).SerializeToString()
    code, sentence, _ = await front.problem(body)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
    assert "the request holds 4 spans, more than 3" in sentence
    assert 1 == front.refused("too_many_spans")


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_what_is_too_large_is_refused_before_it_is_taken(front: Front, compression: grpc.Compression) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await front.post(bytes(200_000), compression=compression)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    assert ([], 1) == (front.accepted, front.refused("unreadable_message"))


async def test_a_message_that_does_not_come_is_not_waited_for() -> None:
    async with listening(LIMITS._replace(seconds=0.2)) as front:
        async with grpc.aio.insecure_channel(front.address) as channel:
            call = channel.stream_unary(TRACES)()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
        assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
        assert "the message did not arrive within 0.2 s" in str(caught.value.details())
        assert 1 == front.refused("slow_body")


async def test_a_call_without_a_message_is_refused(front: Front) -> None:
    async with grpc.aio.insecure_channel(front.address) as channel:
        call = channel.stream_unary(TRACES)()
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()


async def test_a_key_says_who_calls(front: Front) -> None:
    await front.post(REQUEST.SerializeToString(), authorization="Bearer gm_1")
    await front.post(REQUEST.SerializeToString())
    assert [Caller("k1", "cx"), ANONYMOUS] == front.callers


async def test_nothing_is_read_of_who_may_not_come_in(front: Front) -> None:
    code, _, _ = await front.problem(bytes(LIMITS.decompressed_bytes + 1), authorization="Bearer wrong")
    assert grpc.StatusCode.UNAUTHENTICATED is code
    assert 0 == front.refused("unreadable_message")


async def test_a_wrong_key_is_refused_and_not_counted_twice(front: Front) -> None:
    code, sentence, _ = await front.problem(REQUEST.SerializeToString(), authorization="Bearer wrong")
    assert (grpc.StatusCode.UNAUTHENTICATED, "this API key is not known here") == (code, sentence)
    assert 0 == front.refused("unknown_key")  # the door counts


@pytest.mark.parametrize(("signal", "service"), [("logs", "Logs"), ("metrics", "Metrics")])
async def test_logs_and_metrics_are_acknowledged_and_counted(front: Front, signal: str, service: str) -> None:
    assert b"" == await front.post(b"", f"/opentelemetry.proto.collector.{signal}.v1.{service}Service/Export")
    assert 1 == front.metrics.value(names.COLLECTOR_PASSED, signal)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_the_official_exporter_delivers(front: Front, compression: grpc.Compression) -> None:
    def work() -> None:
        provider = TracerProvider()
        exporter = OTLPSpanExporter(
            endpoint=f"http://{front.address}",
            compression=compression,
            headers={"authorization": "Bearer gm_1"},
        )
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.get_tracer("shop").start_span("checkout").end()
        provider.shutdown()

    await asyncio.to_thread(work)
    [request] = front.accepted
    assert "checkout" == request.resource_spans[0].scope_spans[0].spans[0].name
    assert [Caller("k1", "cx")] == front.callers
