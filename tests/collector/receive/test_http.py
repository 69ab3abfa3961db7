"""`/v1/traces` over HTTP: what is taken, what is refused with which status, and how the answer is written."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from google.rpc.error_details_pb2 import BadRequest  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from structlog.testing import capture_logs

from collector.receive.fronts import LIMITS, Front
from graphmeter import names
from graphmeter_collector.errors import Stopping, StoreUnavailable, TooManyRequests
from graphmeter_collector.receive.answers import Ack
from support import otlp

REQUEST = otlp.request(otlp.own(1, names.NODE, {"text": "ä"}), otlp.own(2, names.RUN))
BODY = REQUEST.SerializeToString()
FULL = (200, b"")


def refused(routes: Front, reason: str) -> float:
    return routes.metrics.value(names.COLLECTOR_REQUESTS_REFUSED, reason)


def sentence(answer: httpx.Response) -> str:
    """The message of a google.rpc.Status in the answer's content type."""
    if answer.headers["content-type"] == otlp.PROTOBUF:
        return str(Status.FromString(answer.content).message)
    assert otlp.JSON == answer.headers["content-type"]
    return str(answer.json()["message"])


async def in_pieces(body: bytes, size: int = 1_000) -> AsyncIterator[bytes]:
    """A body without a declared length."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_protobuf_and_json_reach_the_pipeline_as_the_same_message(routes: Front) -> None:
    await routes.post(BODY)
    await routes.post(otlp.as_json(REQUEST), otlp.JSON)
    assert [REQUEST, REQUEST] == routes.accepted


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-protobuf",
        "Application/X-Protobuf",
        "application/x-protobuf; proto=opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest",
        "application/x-protobuf;charset=utf-8",
        ' application/x-protobuf ; charset="UTF-8"',
    ],
)
async def test_content_types_are_read_whatever_their_case_and_parameters(routes: Front, content_type: str) -> None:
    answer = await routes.post(BODY, content_type)
    assert FULL == (answer.status_code, answer.content)


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        ("", "the content type is missing"),
        ("text/plain", "'text/plain' is not known"),
        ("application/grpc", "send application/x-protobuf or application/json"),
        ("application/json; charset=utf-16", "charset 'utf-16' is not known"),
    ],
)
async def test_an_unknown_content_type_is_refused_in_json(routes: Front, content_type: str, said: str) -> None:
    answer = await routes.post(BODY, content_type)
    assert (415, otlp.JSON, 1) == (
        answer.status_code,
        answer.headers["content-type"].removesuffix("; charset=utf-8"),
        refused(routes, "unsupported_media_type"),
    )
    assert said in answer.json()["message"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", BODY),
        ("", BODY),
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("gzip", gzip.compress(BODY[:40]) + gzip.compress(BODY[40:])),
    ],
    ids=["identity", "empty", "gzip", "GZip", "x-gzip", "deflate", "two members"],
)
@pytest.mark.parametrize("whole", [True, False], ids=["declared", "streamed"])
async def test_every_encoding_gives_the_same_message(routes: Front, encoding: str, body: bytes, whole: bool) -> None:
    answer = await routes.post(body if whole else in_pieces(body, 7), content_encoding=encoding)
    assert (FULL, [REQUEST]) == ((answer.status_code, answer.content), routes.accepted)


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason", "said"),
    [
        (gzip.compress(BODY)[:-12], {"content_encoding": "gzip"}, 400, "bad_compression", "ends early"),
        (zlib.compress(BODY)[:10], {"content_encoding": "deflate"}, 400, "bad_compression", "ends early"),
        (b"not gzip", {"content_encoding": "gzip"}, 400, "bad_compression", "is damaged"),
        (gzip.compress(BODY) + b"rubbish", {"content_encoding": "gzip"}, 400, "bad_compression", "is damaged"),
        (BODY, {"content_encoding": "br"}, 415, "unsupported_media_type", "'br' is not known: send gzip"),
        (BODY, {"content_encoding": "gzip, gzip"}, 415, "unsupported_media_type", "is not known"),
        (b"\xff" * 50, {}, 400, "bad_protobuf", "not an OTLP ExportTraceServiceRequest"),
        (BODY[:-5], {}, 400, "bad_protobuf", "not an OTLP ExportTraceServiceRequest"),
        (b"<html>hello</html>", {}, 400, "bad_protobuf", "http/protobuf"),
    ],
    ids=["gzip cut", "deflate cut", "no gzip", "tail", "br", "twice", "noise", "protobuf cut", "html"],
)
async def test_a_damaged_body_is_refused_in_protobuf_and_nothing_of_it_taken(
    routes: Front, body: bytes, headers: dict[str, str], status: int, reason: str, said: str
) -> None:
    answer = await routes.post(body, **headers)
    assert (status, otlp.PROTOBUF, 1, []) == (
        answer.status_code,
        answer.headers["content-type"],
        refused(routes, reason),
        routes.accepted,
    )
    assert said in sentence(answer)


async def test_bad_json_is_refused_with_the_path_of_the_fault(routes: Front) -> None:
    document = otlp.as_dict(REQUEST)
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["traceId"] = "?"
    answer = await routes.post(json.dumps(document).encode(), otlp.JSON)
    assert (400, 3, 1) == (answer.status_code, answer.json()["code"], refused(routes, "bad_json"))
    assert "resourceSpans[0].scopeSpans[0].spans[1].traceId: expected hex digits, got '?'" == sentence(answer)


async def test_text_that_is_not_utf8_costs_one_string_not_the_batch(routes: Front) -> None:
    broken = BODY.replace("ä".encode(), b"\xe4\xe4")
    answer = await routes.post(broken)
    [received] = routes.accepted
    said = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (200, 0, 1) == (
        answer.status_code,
        said.rejected_spans,
        routes.metrics.value(names.COLLECTOR_REPAIRED, "bad_utf8"),
    )
    assert "text that was not UTF-8 was replaced" in said.error_message
    assert "\ufffd\ufffd" in str(received.resource_spans[0].scope_spans[0].spans[0].attributes[-1].value.string_value)


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read(routes: Front) -> None:
    read = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b""

    answer = await routes.post(endless(), content_length=str(100 * 1024 * 1024))
    assert (413, False, 1) == (answer.status_code, read, refused(routes, "too_large"))
    assert "the body is larger than 20000 bytes: send smaller batches" == sentence(answer)


async def test_a_streamed_body_over_the_limit_is_refused_as_soon_as_it_passes_it(routes: Front) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1_000_000:
            sent += 1_000
            yield b"\x00" * 1_000

    answer = await routes.post(endless())
    assert 413 == answer.status_code
    assert LIMITS.body_bytes < sent < LIMITS.body_bytes + 5_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_stops_inflating_at_the_limit(routes: Front, encoding: str) -> None:
    bomb = bytes(12_000_000)
    compressed = gzip.compress(bomb) if encoding == "gzip" else zlib.compress(bomb)
    assert len(compressed) < LIMITS.body_bytes
    answer = await routes.post(compressed, content_encoding=encoding)
    assert (413, 1) == (answer.status_code, refused(routes, "too_large"))
    assert "the decompressed body is larger than 50000 bytes: send smaller batches" == sentence(answer)


@pytest.mark.parametrize("size", [LIMITS.decompressed_bytes, LIMITS.decompressed_bytes + 1])
async def test_the_limit_itself_is_allowed(routes: Front, size: int) -> None:
    empty = len(otlp.request(otlp.span(1, name="x" * 40_000)).SerializeToString()) - 40_000
    body = otlp.request(otlp.span(1, name="x" * (size - empty))).SerializeToString()
    assert size == len(body)
    answer = await routes.post(gzip.compress(body), content_encoding="gzip")
    assert (200 if size == LIMITS.decompressed_bytes else 413) == answer.status_code


async def test_too_many_spans_are_refused_whole(routes: Front) -> None:
    body = otlp.request(*(otlp.span(number) for number in range(1, 22))).SerializeToString()
    answer = await routes.post(body)
    assert (413, 1, []) == (answer.status_code, refused(routes, "too_many_spans"), routes.accepted)
    assert "the request holds 21 spans, more than 20: send smaller batches" == sentence(answer)


async def test_full_success_is_an_empty_message_of_the_requests_type(routes: Front) -> None:
    protobuf, as_json = await routes.post(BODY), await routes.post(otlp.as_json(REQUEST), otlp.JSON)
    assert (200, b"", otlp.PROTOBUF) == (protobuf.status_code, protobuf.content, protobuf.headers["content-type"])
    assert (200, b"{}", otlp.JSON) == (as_json.status_code, as_json.content, as_json.headers["content-type"])


async def test_partial_success_says_how_many_and_why(routes: Front) -> None:
    routes.answer = Ack(1, 3, "span 'x' has no start time; " * 100)
    protobuf = ExportTraceServiceResponse.FromString((await routes.post(BODY)).content)
    as_json = (await routes.post(otlp.as_json(REQUEST), otlp.JSON)).json()["partialSuccess"]
    assert (3, "3") == (protobuf.partial_success.rejected_spans, as_json["rejectedSpans"])
    assert protobuf.partial_success.error_message == as_json["errorMessage"]
    assert ("span 'x'", 1_000) == (as_json["errorMessage"][:8], len(as_json["errorMessage"]))


@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON])
async def test_a_warning_rejects_nothing(routes: Front, content_type: str) -> None:
    routes.answer = Ack(2, 0, "look at this")
    answer = await routes.post(BODY if content_type == otlp.PROTOBUF else otlp.as_json(REQUEST), content_type)
    said = ExportTraceServiceResponse()
    if content_type == otlp.PROTOBUF:
        said.ParseFromString(answer.content)
    else:
        json_format.Parse(answer.content, said)
    assert (200, 0, "look at this") == (
        answer.status_code,
        said.partial_success.rejected_spans,
        said.partial_success.error_message,
    )


@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON])
async def test_bad_data_is_described_in_the_details(routes: Front, content_type: str) -> None:
    document = otlp.as_dict(REQUEST)
    document["resourceSpans"][0]["scopeSpans"] = 7
    answer = await routes.post(
        b"\xff" if content_type == otlp.PROTOBUF else json.dumps(document).encode(), content_type
    )
    status = Status()
    if content_type == otlp.PROTOBUF:
        status.ParseFromString(answer.content)
    else:
        json_format.Parse(answer.content, status)  # so it is what proto3 JSON makes of a Status
    bad = BadRequest()
    assert status.details[0].Unpack(bad)
    [violation] = bad.field_violations
    assert (400, 3, status.message) == (answer.status_code, status.code, violation.description)
    assert ("" if content_type == otlp.PROTOBUF else "resourceSpans[0].scopeSpans") == violation.field


@pytest.mark.parametrize(
    ("problem", "status", "reason"),
    [
        (ZeroDivisionError("x"), 500, "fault"),
        (OSError(24, "no files"), 503, "exhausted"),
        (MemoryError(), 503, "exhausted"),
    ],
    ids=["a fault of ours", "no files", "no memory"],
)
@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON])
async def test_what_nobody_foresaw_is_answered_by_whether_a_retry_may_help(
    routes: Front, problem: Exception, status: int, reason: str, content_type: str
) -> None:
    routes.answer = problem
    with capture_logs() as logged:
        answer = await routes.post(BODY if content_type == otlp.PROTOBUF else otlp.as_json(REQUEST), content_type)
    assert (status, status == 503, content_type, 1, ["request_failed"]) == (
        answer.status_code,
        "retry-after" in answer.headers,
        answer.headers["content-type"],
        refused(routes, reason),
        [line["event"] for line in logged],
    )
    assert "collector" in sentence(answer)


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("the database is away"), TooManyRequests("the queue is full"), Stopping("shutting down")],
    ids=lambda error: error.reason,
)
@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON])
async def test_what_may_work_later_is_answered_with_when_to_come_back(
    routes: Front, error: Any, content_type: str
) -> None:
    routes.answer = error
    answer = await routes.post(BODY if content_type == otlp.PROTOBUF else otlp.as_json(REQUEST), content_type)
    assert (503, "1", content_type, str(error), 1) == (
        answer.status_code,
        answer.headers["retry-after"],
        answer.headers["content-type"],
        sentence(answer),
        refused(routes, error.reason),
    )


async def test_an_empty_request_is_taken(routes: Front) -> None:
    answers = [await routes.post(b""), await routes.post(b"{}", otlp.JSON)]
    assert ([200, 200], [ExportTraceServiceRequest()] * 2) == (
        [answer.status_code for answer in answers],
        routes.accepted,
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v1/traces", 405, "/v1/traces takes POST"),
        ("PUT", "/v1/logs", 405, "/v1/logs takes POST"),
        ("POST", "/v1/trace", 404, "nothing is taken at '/v1/trace'"),
        ("POST", "/v1/traces/v1/traces", 404, "OTLP is sent with POST to /v1/traces, /v1/logs, /v1/metrics"),
        ("POST", "/v1development/profiles", 404, "nothing is taken at '/v1development/profiles'"),
    ],
)
@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON, ""])
async def test_another_method_or_path_is_refused_in_the_words_of_otlp(
    routes: Front, method: str, path: str, status: int, said: str, content_type: str
) -> None:
    answer = await routes.http.request(method, path, headers={"content-type": content_type} if content_type else {})
    assert (status, content_type or otlp.JSON) == (answer.status_code, answer.headers["content-type"])
    assert said in sentence(answer)
    assert ("POST" if status == 405 else None) == answer.headers.get("allow")


async def test_fields_of_a_later_otlp_are_no_obstacle(routes: Front) -> None:
    unknown = b"\xfa\x3f\x03new"  # field 1023, three bytes
    document = {**otlp.as_dict(REQUEST), "inventedLater": {"traceId": 5}}
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["colour"] = ["red"]
    answers = [await routes.post(BODY + unknown), await routes.post(json.dumps(document).encode(), otlp.JSON)]
    assert [200, 200] == [answer.status_code for answer in answers]
    first, second = routes.accepted
    first.DiscardUnknownFields()
    assert (REQUEST, REQUEST) == (first, second)


async def test_envelopes_that_hold_no_span_are_taken(routes: Front) -> None:
    empty = ExportTraceServiceRequest()
    empty.resource_spans.add().scope_spans.add()
    answer = await routes.post(empty.SerializeToString())
    assert FULL == (answer.status_code, answer.content)


async def test_acknowledged_requests_are_counted_by_protocol(routes: Front) -> None:
    for body, content_type in (
        (BODY, otlp.PROTOBUF),
        (b"{}", otlp.JSON),
        (b"", otlp.PROTOBUF),
        (b"\xff", otlp.PROTOBUF),
    ):
        await routes.post(body, content_type)
    counted = {each: routes.metrics.value(names.COLLECTOR_REQUESTS, each) for each in ("http/protobuf", "http/json")}
    assert {"http/protobuf": 2, "http/json": 1} == counted


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
async def test_a_sender_that_hangs_up_while_sending_is_counted_and_nothing_taken(routes: Front, path: str) -> None:
    incoming: list[dict[str, Any]] = [
        {"type": "http.request", "body": BODY[:20], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return incoming.pop(0) if incoming else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Any) -> None:
        """The connection is gone."""

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/x-protobuf")],
    }
    await routes.app(scope, receive, send)
    assert ([], 1) == (routes.accepted, refused(routes, "disconnected"))
