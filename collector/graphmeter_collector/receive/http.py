"""OTLP/HTTP: `POST /v1/traces` in, one message to the pipeline, its acknowledgement out. `/v1/logs` and `/v1/metrics` pass.

Thin on purpose: raw bytes, no models, no dependency injection on the ingest path. Every refusal has a status by the OTLP
specification, a sentence that says what was wrong and what to do, and a counter.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import APIRouter, Request, Response
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.requests import ClientDisconnect

from graphmeter import names
from graphmeter_collector import otlp
from graphmeter_collector.errors import BadRequest, CollectorError, NotHere, TooLarge, TooSlow, Unsupported
from graphmeter_collector.receive.answers import JSON, PROTOBUF, Ack, acknowledge, acknowledge_signal, fault_of, refuse
from graphmeter_collector.receive.body import Limits, Room, Share, read_decompressed, read_raw
from graphmeter_collector.receive.json_body import message_from_json
from graphmeter_collector.receive.passing import Passing
from graphmeter_collector.receive.repair import with_valid_text
from graphmeter_collector.records import ANONYMOUS, Caller
from graphmeter_collector.telemetry import Metrics

Accept = Callable[[otlp.Request, Caller], Awaitable[Ack]]
"""The pipeline: returns when the spans of that caller are committed.

Raises:
    Transient: they are not, and may be sent again.
    google.protobuf.message.DecodeError: an attribute is not what OTLP has; nothing was done.
"""

PATHS: Final = ("/v1/traces", "/v1/logs", "/v1/metrics")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PROTOCOLS: Final = {PROTOBUF: names.HTTP_PROTOBUF, JSON: names.HTTP_JSON}
_MENDED: Final = "all spans were taken, but text that was not UTF-8 was replaced: encode names and values as UTF-8"


def ingest_router(
    accept: Accept, limits: Limits, metrics: Metrics, passing: Passing, room: Room | None = None
) -> APIRouter:
    """Routes for OTLP/HTTP. `room` bounds the bodies of all requests together."""
    bodies = room or Room(sys.maxsize)
    router = APIRouter(tags=["ingest"])

    async def answered(request: Request, work: Callable[[str, Share], Awaitable[Response]]) -> Response:
        """What `work` answers, given the content type and a share of the room; or a refusal, whatever goes wrong."""
        content_type = ""
        try:
            content_type = _content_type(request)
            with bodies.share() as share:
                return await work(content_type, share)
        except CollectorError as error:
            return _refused(error, content_type)
        except ClientDisconnect:
            return _refused(BadRequest("the sender hung up", reason="disconnected"), content_type)
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and told in OTLP's words
            return _refused(fault_of(error), content_type)

    @router.post("/v1/traces", summary="OTLP traces, protobuf or JSON, gzip or not", response_class=Response)
    async def traces(request: Request) -> Response:
        async def take(content_type: str, share: Share) -> Response:
            repairs: Counter[str] = Counter()
            given = _parse(await read_decompressed(request, limits, share), content_type, repairs)
            check_spans(given, limits)
            ack = told(await accepted(accept, given, caller_of(request), repairs), repairs, metrics)
            metrics.inc(names.COLLECTOR_REQUESTS, _PROTOCOLS[content_type])
            return acknowledge(ack, content_type)

        return await answered(request, take)

    async def signal(request: Request, name: str) -> Response:
        async def take(content_type: str, share: Share) -> Response:
            await passing.send(name, await read_raw(request, limits, share), request.headers)
            metrics.inc(names.COLLECTOR_PASSED, name)
            return acknowledge_signal(content_type)

        return await answered(request, take)

    @router.post("/v1/logs", summary="OTLP logs: passed on to the forward destinations", response_class=Response)
    async def logs(request: Request) -> Response:
        return await signal(request, "logs")

    @router.post("/v1/metrics", summary="OTLP metrics: passed on to the forward destinations", response_class=Response)
    async def otlp_metrics(request: Request) -> Response:
        return await signal(request, "metrics")

    @router.api_route("/v1{rest:path}", methods=list(_METHODS), include_in_schema=False, response_class=Response)
    async def nothing(request: Request) -> Response:
        path = request.url.path
        known = path in PATHS
        where = f"{path[:80]} takes POST" if known else f"nothing is taken at {path[:80]!r}"
        error = NotHere(f"{where}: OTLP is sent with POST to {', '.join(PATHS)}", 405 if known else 404)
        try:
            answer = _refused(error, _content_type(request))
        except Unsupported:
            answer = _refused(error, JSON)
        if known:
            answer.headers["allow"] = "POST"
        return answer

    def _refused(error: CollectorError, content_type: str) -> Response:
        metrics.inc(names.COLLECTOR_REQUESTS_REFUSED, error.reason)
        answer = refuse(error, content_type)
        if isinstance(error, TooSlow):
            # Or the connection would stay open for the rest of the trickle.
            answer.headers["connection"] = "close"
        return answer

    return router


def told(ack: Ack, repairs: Counter[str], metrics: Metrics) -> Ack:
    """Count what was repaired on the way in. Who sent it is warned, unless there is something worse to say."""
    if not repairs:
        return ack
    for reason, times in repairs.items():
        metrics.inc(names.COLLECTOR_REPAIRED, reason, by=times)
    return ack if ack.message else ack._replace(message=_MENDED)


def caller_of(request: Request) -> Caller:
    """Whom the door let in; without a door, nobody in particular."""
    caller = getattr(request.state, "caller", ANONYMOUS)
    assert isinstance(caller, Caller)
    return caller


def _content_type(request: Request) -> str:
    """`JSON` or `PROTOBUF`; parameters other than a charset are ignored."""
    given = request.headers.get("content-type", "")
    media_type, _, parameters = given.partition(";")
    media_type = media_type.strip().lower()
    if media_type not in (JSON, PROTOBUF):
        what = f"content type {given[:80]!r} is not known" if given else "the content type is missing"
        raise Unsupported(f"{what}: send {PROTOBUF} or {JSON}")
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().lower().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise Unsupported(f"charset {value[:40]!r} is not known: OTLP is UTF-8")
    return media_type


def _parse(body: bytes, content_type: str, repairs: Counter[str]) -> otlp.Request:
    if content_type == JSON:
        return otlp.of(message_from_json(body, ExportTraceServiceRequest(), repairs))
    return from_protobuf(body, repairs)


def from_protobuf(body: bytes, repairs: Counter[str]) -> otlp.Request:
    """The request in `body`; text that is no UTF-8 is mended, and counted in `repairs`.

    Raises:
        BadRequest: it is none.
    """
    try:
        return otlp.read(body)
    except DecodeError:
        return _mended(body, repairs)


async def accepted(accept: Accept, request: otlp.Request, caller: Caller, repairs: Counter[str]) -> Ack:
    """What `accept` says of the request; if an attribute is no UTF-8, of the request when all its text is mended.

    Raises:
        BadRequest: an attribute is none.
    """
    try:
        return await accept(request, caller)
    except DecodeError:
        return await accept(_mended(request.body, repairs), caller)


def _mended(body: bytes, repairs: Counter[str]) -> otlp.Request:
    try:
        message, repaired = with_valid_text(body)
    except DecodeError as error:
        raise BadRequest(
            "the body is not an OTLP ExportTraceServiceRequest in protobuf: check that the sender exports traces over "
            "http/protobuf, and that nothing on the way changed the body",
            reason="bad_protobuf",
        ) from error
    repairs["bad_utf8"] += repaired
    return otlp.of(message)


def check_spans(request: otlp.Request, limits: Limits) -> None:
    """Raises TooLarge if `request` holds more spans than it may."""
    spans = request.size
    if spans > limits.spans:
        error = TooLarge(f"the request holds {spans} spans, more than {limits.spans}: send smaller batches")
        error.reason = "too_many_spans"
        raise error
