"""What a sender is told: acknowledgements and refusals in, HTTP responses as the OTLP specification wants them out.

The answer has the content type of the request: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.responses import Response

from graphmeter_collector.errors import CollectorError, Forbidden, Permanent, TooLarge, Transient, Unauthenticated

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_INVALID_ARGUMENT: Final = 3
_PERMISSION_DENIED: Final = 7
_RESOURCE_EXHAUSTED: Final = 8
_INTERNAL: Final = 13
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16
_MAX_MESSAGE: Final = 1000
"""Characters of a message; a sender with a thousand bad spans needs to see a few of them."""


class Ack(NamedTuple):
    """What became of a request's spans."""

    accepted: int
    """Stored now, or stored before: the sender is done with them."""
    rejected: int
    """Never to be stored; sending them again changes nothing."""
    message: str = ""
    """Why spans were rejected."""


def acknowledge(ack: Ack, content_type: str) -> Response:
    """200; partial success when spans were rejected, an empty message otherwise."""
    if content_type == JSON:
        said = {"rejectedSpans": str(ack.rejected), "errorMessage": ack.message[:_MAX_MESSAGE]}
        return Response(json.dumps({"partialSuccess": said} if ack.rejected else {}), media_type=JSON)
    return Response(response_to(ack).SerializeToString(), media_type=PROTOBUF)


def response_to(ack: Ack) -> ExportTraceServiceResponse:
    """The acknowledgement as a message."""
    response = ExportTraceServiceResponse()
    if ack.rejected:
        response.partial_success.rejected_spans = ack.rejected
        response.partial_success.error_message = ack.message[:_MAX_MESSAGE]
    return response


def acknowledge_signal(content_type: str) -> Response:
    """200 for logs and metrics: full success is an empty message of any type."""
    return Response(b"{}" if content_type == JSON else b"", media_type=JSON if content_type == JSON else PROTOBUF)


def refuse(error: CollectorError, content_type: str) -> Response:
    """The status of the error with a `google.rpc.Status` body; JSON unless the request was protobuf."""
    headers = {}
    code = code_of(error)
    status = error.http_status if isinstance(error, Permanent | Transient) else 500
    if isinstance(error, Transient):
        headers["Retry-After"] = str(error.retry_after_s)
    text = str(error)[:_MAX_MESSAGE]
    if content_type == PROTOBUF:
        body = Status(code=code, message=text).SerializeToString()
        return Response(body, status, headers, media_type=PROTOBUF)
    return Response(json.dumps({"code": code, "message": text}), status, headers, media_type=JSON)


def code_of(error: CollectorError) -> int:
    """The `google.rpc.Code` of an error."""
    match error:
        case TooLarge():
            return _RESOURCE_EXHAUSTED
        case Unauthenticated():
            return _UNAUTHENTICATED
        case Forbidden():
            return _PERMISSION_DENIED
        case Permanent():
            return _INVALID_ARGUMENT
        case Transient():
            return _UNAVAILABLE
    return _INTERNAL
