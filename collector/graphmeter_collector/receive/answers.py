"""What a sender is told: acknowledgements and refusals in, HTTP responses as the OTLP specification wants them out.

The answer has the content type of the request: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response.
docs/otlp.md goes through the specification sentence by sentence.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2 as details  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.responses import Response

from graphmeter_collector.errors import (
    BadRequest,
    CollectorError,
    Exhausted,
    Fault,
    Forbidden,
    NotHere,
    Permanent,
    TooLarge,
    Transient,
    Unauthenticated,
)

_log = structlog.stdlib.get_logger(__name__)

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_INVALID_ARGUMENT: Final = 3
_PERMISSION_DENIED: Final = 7
_RESOURCE_EXHAUSTED: Final = 8
_UNIMPLEMENTED: Final = 12
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
    """Why spans were rejected; with none rejected, a warning."""


def acknowledge(ack: Ack, content_type: str) -> Response:
    """200; partial success when there is something to tell, an empty message otherwise."""
    if content_type == JSON:
        said = {"rejectedSpans": str(ack.rejected), "errorMessage": ack.message[:_MAX_MESSAGE]}
        return Response(json.dumps({"partialSuccess": said} if _tells(ack) else {}), media_type=JSON)
    return Response(response_to(ack).SerializeToString(), media_type=PROTOBUF)


def response_to(ack: Ack) -> ExportTraceServiceResponse:
    """The acknowledgement as a message."""
    response = ExportTraceServiceResponse()
    if _tells(ack):
        response.partial_success.rejected_spans = ack.rejected
        response.partial_success.error_message = ack.message[:_MAX_MESSAGE]
    return response


def _tells(ack: Ack) -> bool:
    return bool(ack.rejected or ack.message)


def acknowledge_signal(content_type: str) -> Response:
    """200 for logs and metrics: full success is an empty message of any type."""
    return Response(b"{}" if content_type == JSON else b"", media_type=JSON if content_type == JSON else PROTOBUF)


def refuse(error: CollectorError, content_type: str) -> Response:
    """The status of the error with a `google.rpc.Status` body; JSON unless the request was protobuf."""
    headers = {}
    http_status = error.http_status if isinstance(error, Permanent | Transient) else 500
    if isinstance(error, Transient):
        headers["Retry-After"] = str(error.retry_after_s)
    if content_type == PROTOBUF:
        body = status_of(error, violations_of(error)).SerializeToString()
        return Response(body, http_status, headers, media_type=PROTOBUF)
    return Response(json.dumps(_status_as_json(error)), http_status, headers, media_type=JSON)


def status_of(error: CollectorError, *about: Any) -> Status:
    """What OTLP puts into the body or the trailers of a refusal; `about` are its details, None left out."""
    status = Status(code=code_of(error), message=str(error)[:_MAX_MESSAGE])
    for each in about:
        if each is not None:
            packed = AnyMessage()
            packed.Pack(each)
            status.details.append(packed)
    return status


def violations_of(error: CollectorError) -> Any:
    """A `google.rpc.BadRequest` for what is bad data; None for everything else."""
    if not isinstance(error, BadRequest):
        return None
    violation = details.BadRequest.FieldViolation(field=error.field, description=str(error)[:_MAX_MESSAGE])
    return details.BadRequest(field_violations=[violation])


def _status_as_json(error: CollectorError) -> dict[str, Any]:
    text = str(error)[:_MAX_MESSAGE]
    said: dict[str, Any] = {"code": code_of(error), "message": text}
    if isinstance(error, BadRequest):
        violation = {"field": error.field, "description": text}
        said["details"] = [
            {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]},
        ]
    return said


def code_of(error: CollectorError) -> int:
    """The `google.rpc.Code` of an error."""
    match error:
        case TooLarge():
            return _RESOURCE_EXHAUSTED
        case Unauthenticated():
            return _UNAUTHENTICATED
        case Forbidden():
            return _PERMISSION_DENIED
        case NotHere():
            return _UNIMPLEMENTED
        case Fault():
            return _INTERNAL
        case Permanent():
            return _INVALID_ARGUMENT
        case Transient():
            return _UNAVAILABLE
    return _INTERNAL


def fault_of(problem: Exception) -> CollectorError:
    """What an exception that nobody foresaw means for its sender. Call it where it is caught: it logs the traceback."""
    _log.exception("request_failed")
    if isinstance(problem, MemoryError | OSError):
        return Exhausted("the collector has run out of memory or files: send again later")
    # Whatever comes from bytes comes again from the same bytes: to ask for them again is to be asked for ever.
    return Fault(f"a fault of the collector ({type(problem).__name__}): its log has the traceback")
