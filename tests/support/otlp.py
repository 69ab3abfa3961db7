"""OTLP requests for tests, as clients put them on the wire: protobuf messages, and the JSON that SDKs write of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from graphmeter import names
from support.records import SECOND, T0_NS, span_id, trace

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
SERVICE = {names.SERVICE_NAME: "shop", names.DEPLOYMENT_ENVIRONMENT: "test"}

_STATUS = {"": Status.STATUS_CODE_UNSET, "ok": Status.STATUS_CODE_OK, "error": Status.STATUS_CODE_ERROR}
_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def value(given: object) -> AnyValue:
    """A Python value as OTLP carries it; None is the empty value."""
    match given:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=given)
        case int():
            return AnyValue(int_value=given)
        case float():
            return AnyValue(double_value=given)
        case str():
            return AnyValue(string_value=given)
        case bytes():
            return AnyValue(bytes_value=given)
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(given)))
        case Sequence():
            return AnyValue(array_value=ArrayValue(values=map(value, given)))
    raise TypeError(f"OTLP has no {type(given).__name__}")


def pairs(attributes: Mapping[str, object]) -> list[KeyValue]:
    """Attributes in the order given."""
    return [KeyValue(key=key, value=value(given)) for key, given in attributes.items()]


def span(
    number: int = 1,
    attributes: Mapping[str, object] | None = None,
    *,
    of: int = 1,
    start_ns: int = T0_NS,
    s: float = 1.0,
    parent: bytes = b"",
    status: str = "",
    message: str = "",
    exception: str = "",
    **fields: Any,
) -> Span:
    """Span `number` of trace `of`, lasting `s` seconds; `fields` are those of the protobuf message."""
    events = [Span.Event(name="exception", attributes=pairs({"exception.type": exception}))] if exception else []
    return Span(
        **{
            "trace_id": trace(of),
            "span_id": span_id(number),
            "parent_span_id": parent,
            "name": f"span {number}",
            "start_time_unix_nano": start_ns,
            "end_time_unix_nano": start_ns + round(s * SECOND),
            "attributes": pairs(attributes or {}),
            "status": Status(code=_STATUS[status], message=message) if status or message else None,
            "events": events,
            **fields,
        }
    )


def own(number: int, kind: str, attributes: Mapping[str, object] | None = None, *, of: int = 1, **how: Any) -> Span:
    """A span as our client sends it: attributed by itself."""
    common = {
        names.KIND: kind,
        names.RUN_ID: f"00000000-0000-0000-0000-{of:012d}",
        names.GRAPH: "support",
        names.TEAM: "cx",
        names.STATUS: names.OK,
    }
    return span(number, {**common, **(attributes or {})}, of=of, **how)


def run(of: int = 1, *, start_ns: int, graph: str = "support", team: str = "cx", status: str = names.OK) -> list[Span]:
    """Start record, one node with one model call, and the root of a run of two seconds."""
    common = {names.GRAPH: graph, names.TEAM: team}
    failed = {"status": "error", "message": "it broke"} if status == names.ERROR else {}
    node = {names.NODE_PATH: "answer", names.LANGGRAPH_STEP: 1}
    call = {
        names.OPERATION: names.OP_CHAT,
        names.PROVIDER: "openai",
        names.RESPONSE_MODEL: "gpt-4o",
        names.RESPONSE_ID: f"answer-{of}",
        names.USAGE_INPUT: 1_000,
        names.USAGE_OUTPUT: 100,
        names.ATTEMPT_SPAN: span_id(2).hex(),
    }
    root = {names.STATUS: status, **({names.ERROR_TYPE: "TimeoutError"} if failed else {})}
    return [
        started(of, start_ns=start_ns, graph=graph, team=team),
        own(2, names.NODE, {**common, **node}, of=of, start_ns=start_ns, s=1.5, parent=span_id(1)),
        own(3, names.MODEL, {**common, **node, **call}, of=of, start_ns=start_ns, s=1.0, parent=span_id(2)),
        own(1, names.RUN, {**common, **root}, of=of, start_ns=start_ns, s=2.0, **failed),
    ]


def started(of: int = 1, *, start_ns: int, graph: str = "support", team: str = "cx") -> Span:
    """The start record of a run."""
    attributes = {names.GRAPH: graph, names.TEAM: team}
    return own(9, names.START, attributes, of=of, start_ns=start_ns, s=0, parent=span_id(1), name=names.OP_START)


def request(
    *spans: Span,
    resource: Mapping[str, object] = SERVICE,
    scope: str = names.SCOPE,
    resource_schema: str = "",
    scope_schema: str = "",
) -> ExportTraceServiceRequest:
    """One request of one resource and one scope."""
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=pairs(resource)),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=scope, version="1"), spans=spans, schema_url=scope_schema
                    )
                ],
                schema_url=resource_schema,
            )
        ]
    )


def as_dict(message: ExportTraceServiceRequest, *, enum_names: bool = False) -> dict[str, Any]:
    """OTLP/JSON: hex ids, 64-bit integers as text, enums as numbers (or, as some senders do, by name)."""
    document: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=not enum_names)
    for resource_spans in document.get("resourceSpans", ()):
        for scope_spans in resource_spans.get("scopeSpans", ()):
            for each in scope_spans.get("spans", ()):
                for holder in (each, *each.get("links", ())):
                    for field in _ID_FIELDS:
                        if field in holder:
                            holder[field] = base64.b64decode(holder[field]).hex()
    return document


def as_json(message: ExportTraceServiceRequest, *, enum_names: bool = False) -> bytes:
    """The body of an OTLP/JSON request."""
    return json.dumps(as_dict(message, enum_names=enum_names)).encode()
