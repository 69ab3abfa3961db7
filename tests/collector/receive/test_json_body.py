"""OTLP/JSON and protobuf give the same message, however a sender writes ids, numbers and enums."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.receive.json_body import message_from_json
from support import otlp
from support.records import T0_NS, span_id, trace

EVERYTHING = {
    "text": "ä 語 🦜",
    "number": 2**62,
    "negative": -1,
    "double": 0.1,
    "flag": False,
    "bytes": b"\x00\xff\xfe",
    "list": [1, "two", 3.0, None],
    "map": {"deep": {"deeper": True}},
    "empty": None,
}


def parse(body: bytes, repairs: Counter[str] | None = None) -> ExportTraceServiceRequest:
    return message_from_json(body, ExportTraceServiceRequest(), Counter() if repairs is None else repairs)


def everything() -> ExportTraceServiceRequest:
    span = otlp.span(1, EVERYTHING, parent=span_id(9), status="error", message="it broke", exception="ValueError")
    span.kind = Span.SPAN_KIND_CLIENT
    span.flags = 257
    span.trace_state = "a=b"
    span.links.add(trace_id=trace(2), span_id=span_id(5), attributes=otlp.pairs({"why": "retry"}))
    return otlp.request(span, resource_schema="https://a", scope_schema="https://b")


@pytest.mark.parametrize("enum_names", [False, True], ids=["enums as numbers", "enums by name"])
def test_json_as_sdks_write_it_is_the_protobuf_message(enum_names: bool) -> None:
    assert everything() == parse(otlp.as_json(everything(), enum_names=enum_names))


def span_of(document: dict[str, Any]) -> Span:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [document]}]}]}).encode()
    return parse(body).resource_spans[0].scope_spans[0].spans[0]


@pytest.mark.parametrize(
    ("document", "field", "expected"),
    [
        ({"traceId": trace(1).hex()}, "trace_id", trace(1)),
        ({"traceId": trace(1).hex().upper()}, "trace_id", trace(1)),
        ({"trace_id": trace(1).hex()}, "trace_id", trace(1)),
        ({"parentSpanId": ""}, "parent_span_id", b""),
        ({"startTimeUnixNano": str(T0_NS)}, "start_time_unix_nano", T0_NS),
        ({"startTimeUnixNano": T0_NS}, "start_time_unix_nano", T0_NS),
        ({"start_time_unix_nano": T0_NS}, "start_time_unix_nano", T0_NS),
        ({"startTimeUnixNano": str(2**64 - 1)}, "start_time_unix_nano", 2**64 - 1),
        ({"startTimeUnixNano": 1.5e18}, "start_time_unix_nano", 1_500_000_000_000_000_000),
        ({"kind": 3}, "kind", 3),
        ({"kind": "3"}, "kind", 3),
        ({"kind": "SPAN_KIND_CLIENT"}, "kind", 3),
        ({"status": {"code": "STATUS_CODE_ERROR"}}, "status", Status(code=Status.STATUS_CODE_ERROR)),
        ({"name": None}, "name", ""),
        ({"notInTheSchema": {"x": [1]}, "name": "n"}, "name", "n"),
        (
            {"attributes": [{"key": "n", "value": {"intValue": "-9223372036854775808"}}]},
            "attributes",
            otlp.pairs({"n": -(2**63)}),
        ),
        ({"attributes": [{"key": "n", "value": {"doubleValue": 1}}]}, "attributes", otlp.pairs({"n": 1.0})),
        (
            {"attributes": [{"key": "n", "value": {"doubleValue": "Infinity"}}]},
            "attributes",
            otlp.pairs({"n": float("inf")}),
        ),
        ({"attributes": [{"key": "n", "value": {"bytesValue": "_-8"}}]}, "attributes", otlp.pairs({"n": b"\xff\xef"})),
        ({"attributes": [{"key": "n", "value": {}}]}, "attributes", otlp.pairs({"n": None})),
    ],
    ids=lambda given: json.dumps(given)[:60] if isinstance(given, dict) else "",
)
def test_other_spellings_mean_the_same(document: dict[str, Any], field: str, expected: object) -> None:
    assert expected == getattr(span_of(document), field)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"traceId": "xyz"}, "resourceSpans[0].scopeSpans[0].spans[0].traceId: expected hex digits, got 'xyz'"),
        ({"traceId": 5}, "traceId: expected a string, got 5"),
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano: expected an integer, got 'soon'"),
        ({"startTimeUnixNano": -1}, "startTimeUnixNano: -1 is not between 0 and 18446744073709551615"),
        ({"startTimeUnixNano": 2**64}, "is not between 0 and"),
        ({"startTimeUnixNano": 1.5}, "expected an integer, got 1.5"),
        ({"startTimeUnixNano": True}, "expected an integer, got true"),
        ({"name": 7}, "name: expected a string, got 7"),
        ({"kind": "SPAN_KIND_DREAM"}, "'SPAN_KIND_DREAM' is none of SPAN_KIND_UNSPECIFIED"),
        ({"attributes": {}}, "attributes: expected an array, got an object"),
        ({"attributes": [[]]}, "attributes[0]: expected an object, got an array"),
        ({"attributes": [{"value": {"intValue": "x" * 500}}]}, "attributes[0].value.intValue: expected an integer"),
        ({"attributes": [{"value": {"boolValue": "yes"}}]}, "expected true or false, got 'yes'"),
        ({"attributes": [{"value": {"doubleValue": "much"}}]}, "expected a number, got 'much'"),
        ({"attributes": [{"value": {"bytesValue": "%"}}]}, "expected base64, got '%'"),
    ],
    ids=lambda given: json.dumps(given)[:60] if isinstance(given, dict) else "",
)
def test_a_value_of_the_wrong_type_is_refused_with_its_path(document: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        span_of(document)
    assert said in str(refusal.value)
    assert ("bad_json", True) == (refusal.value.reason, len(str(refusal.value)) < 1_000)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\x0a\x03abc", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"resourceSpans": [{"x": ' + b"1" * 5_000 + b"}]}", "the body is not JSON"),
        (b"[]", "the body: expected an object, got an array"),
        (b"null", "the body: expected an object, got null"),
        (b'"text"', "the body: expected an object, got 'text'"),
    ],
    ids=lambda given: repr(given)[:30],
)
def test_what_is_no_otlp_json_is_refused_with_a_sentence(body: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match="the body") as refusal:
        parse(body)
    assert said in str(refusal.value)


def test_values_nested_without_end_are_refused_where_protobuf_would_refuse_them() -> None:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(200):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(BadRequest, match="nested more than 80 levels deep") as refusal:
        span_of({"attributes": [{"key": "deep", "value": value}]})
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("text", "expected", "repaired"),
    [(r'"\ud83e\udd9c"', "🦜", 0), (r'"a\ud83eb"', "a\ufffdb", 1), (r'"\udd9c\udd9c"', "\ufffd\ufffd", 1)],
    ids=["a pair", "a high half", "two low halves"],
)
def test_half_characters_are_replaced_and_counted(text: str, expected: str, repaired: int) -> None:
    repairs: Counter[str] = Counter()
    body = f'{{"resourceSpans": [{{"schemaUrl": {text}}}]}}'
    assert (expected, repaired) == (
        parse(body.encode(), repairs).resource_spans[0].schema_url,
        repairs["bad_utf8"],
    )


def test_a_body_that_is_not_utf8_is_read_and_counted() -> None:
    repairs: Counter[str] = Counter()
    message = parse(b'{"resourceSpans": [{"schemaUrl": "caf\xe9"}]}', repairs)
    assert ("caf\ufffd", 1) == (message.resource_spans[0].schema_url, repairs["bad_utf8"])


def test_an_empty_object_is_an_empty_request() -> None:
    assert ExportTraceServiceRequest() == parse(b"{}")


def test_names_of_the_wire_contract_survive_both_encodings() -> None:
    request = otlp.request(*otlp.run(1, start_ns=T0_NS), resource={names.SERVICE_NAME: "shop"})
    assert request == parse(otlp.as_json(request))
