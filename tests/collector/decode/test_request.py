"""One request in: which spans are refused and why, what is repaired, and what is kept byte by byte."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode.attributes import LABEL_BYTES, TEXT_BYTES
from graphmeter_collector.decode.request import DAY_NS, Window, decode_request
from graphmeter_collector.records import Caller, Envelope
from support import otlp
from support.records import T0_NS, span_id

WINDOW = Window.around(T0_NS, 30)


@pytest.mark.parametrize(
    ("fields", "reason", "said"),
    [
        ({"trace_id": b""}, "no_ids", "needs a trace id of 16 bytes"),
        ({"trace_id": b"x" * 15}, "no_ids", "needs a trace id of 16 bytes"),
        ({"trace_id": b"x" * 17}, "no_ids", "needs a trace id of 16 bytes"),
        ({"trace_id": bytes(16)}, "no_ids", "not all zero"),
        ({"span_id": b""}, "no_ids", "needs a span id of 8 bytes"),
        ({"span_id": b"x" * 9}, "no_ids", "needs a span id of 8 bytes"),
        ({"span_id": bytes(8)}, "no_ids", "not all zero"),
        ({"start_time_unix_nano": 0}, "no_start", "set start_time_unix_nano"),
        ({"end_time_unix_nano": T0_NS - 5}, "ends_before_start", "ends 5 ns before it starts"),
        ({"end_time_unix_nano": 0}, "ends_before_start", "check the sender's clock"),
        ({"start_time_unix_nano": WINDOW.oldest_ns - 1}, "too_old", "before the retention"),
        ({"start_time_unix_nano": 1}, "too_old", "before the retention"),
        ({"end_time_unix_nano": WINDOW.newest_ns + 1}, "in_the_future", "more than a day from now"),
        ({"end_time_unix_nano": 2**64 - 1}, "in_the_future", "more than a day from now"),
        (
            {"start_time_unix_nano": 2**64 - 2, "end_time_unix_nano": 2**64 - 1},
            "in_the_future",
            "more than a day from now",
        ),
    ],
)
def test_a_span_that_cannot_be_stored_is_refused_with_reason_and_name(
    fields: dict[str, Any], reason: str, said: str
) -> None:
    good, bad = otlp.span(1), otlp.span(2, **{"name": "the bad one", **fields})
    decoded = decode_request(otlp.request(good, bad), WINDOW)
    [rejection] = decoded.rejections
    assert ([span_id(1)], reason) == ([each.span_id for each in decoded.records], rejection.reason)
    assert said in rejection.message
    assert "the bad one" in rejection.message


@pytest.mark.parametrize(
    "fields",
    [
        {"start_time_unix_nano": WINDOW.oldest_ns},
        {"end_time_unix_nano": WINDOW.newest_ns},
        {"end_time_unix_nano": T0_NS},
    ],
    ids=["oldest", "newest", "no duration"],
)
def test_both_ends_of_the_window_are_inside(fields: dict[str, Any]) -> None:
    decoded = decode_request(otlp.request(otlp.span(1, **fields)), WINDOW)
    assert (1, []) == (len(decoded.records), decoded.rejections)


def test_the_window_reaches_a_day_beyond_retention_and_a_day_ahead() -> None:
    assert (T0_NS - 8 * DAY_NS, T0_NS + DAY_NS) == Window.around(T0_NS, 7)


@pytest.mark.parametrize(
    ("parent", "expected", "repairs"),
    [
        (b"", b"", {}),
        (bytes(8), b"", {}),
        (span_id(7), span_id(7), {}),
        (b"short", b"", {"bad_parent": 1}),
        (b"x" * 16, b"", {"bad_parent": 1}),
        (span_id(1), b"", {"bad_parent": 1}),
    ],
    ids=["none", "zero", "real", "short", "long", "itself"],
)
def test_a_parent_is_eight_bytes_of_another_span_or_none(
    parent: bytes, expected: bytes, repairs: dict[str, int]
) -> None:
    decoded = decode_request(otlp.request(otlp.span(1, parent=parent)), WINDOW)
    assert (expected, repairs) == (decoded.records[0].parent_id, dict(decoded.repairs))


def test_nul_bytes_become_visible_characters_and_are_counted() -> None:
    span = otlp.own(1, names.NODE, {names.TEAM: "c\x00x", "graphmeter.tag.a\x00b": "\x00"}, name="n\x00")
    decoded = decode_request(otlp.request(span), WINDOW)
    [record] = decoded.records
    assert ("c\ufffdx", {"a\ufffdb": "\ufffd"}, "n\ufffd", {"nul": 4}) == (
        record.team,
        record.tags,
        record.name,
        dict(decoded.repairs),
    )


@pytest.mark.parametrize("character", ["a", "é", "語", "🦜"])
def test_a_giant_value_is_cut_between_characters_and_counted(character: str) -> None:
    attributes = {names.TEAM: character * 100_000, names.ERROR_TYPE: "E"}
    span = otlp.own(1, names.NODE, attributes, status="error", message=character * 100_000)
    decoded = decode_request(otlp.request(span), WINDOW)
    [record] = decoded.records
    for text, most in ((record.team, LABEL_BYTES), (record.status_message, TEXT_BYTES)):
        assert text == character * (len(text) - 1) + "…"
        assert most - 4 <= len(text.encode()) <= most
    assert 2 == decoded.repairs["cut"]


def test_a_value_that_just_fits_stays_as_it_is() -> None:
    team = "é" * (LABEL_BYTES // 2)
    decoded = decode_request(otlp.request(otlp.own(1, names.NODE, {names.TEAM: team})), WINDOW)
    assert (team, {}) == (decoded.records[0].team, dict(decoded.repairs))


@pytest.mark.parametrize(
    ("given", "expected", "repairs"),
    [
        (7, "7", {}),
        (True, "true", {}),
        (1.5, "1.5", {}),
        (None, "", {}),
        ([1, 2], "", {"wrong_type": 1}),
        ({"a": 1}, "", {"wrong_type": 1}),
        (b"bytes", "", {"wrong_type": 1}),
    ],
    ids=repr,
)
def test_a_name_of_another_type_is_text_or_nothing(given: object, expected: str, repairs: dict[str, int]) -> None:
    decoded = decode_request(otlp.request(otlp.own(1, names.NODE, {names.TENANT: given})), WINDOW)
    assert (expected, repairs) == (decoded.records[0].tenant, dict(decoded.repairs))


@pytest.mark.parametrize(
    ("attribute", "given", "field", "expected", "reason"),
    [
        (names.LANGGRAPH_STEP, 2**62, "step", 2**31 - 1, "clamped"),
        (names.LANGGRAPH_STEP, -1, "step", 0, "clamped"),
        (names.ATTEMPT, 2**63 - 1, "attempt", 2**31 - 1, "clamped"),
        (names.ATTEMPT_FINAL, "FALSE", "attempt_final", False, ""),
        (names.ATTEMPT_FINAL, "perhaps", "attempt_final", True, "wrong_type"),
        (names.ATTEMPT_SPAN, "not hexadecimal!", "attempt_span", b"", "wrong_type"),
        (names.ATTEMPT_SPAN, "ab", "attempt_span", b"", "wrong_type"),
        (names.OUTER_ATTEMPTS, "00000000000000ab ab", "outer_attempts", b"", "wrong_type"),
        (names.OUTER_ATTEMPTS, "not hexadecimal!", "outer_attempts", b"", "wrong_type"),
        (names.OUTER_ATTEMPTS, 7, "outer_attempts", b"", "wrong_type"),
        (
            names.OUTER_ATTEMPTS,
            " ".join(["00000000000000ab"] * 33),
            "outer_attempts",
            bytes.fromhex("00000000000000ab") * 32,
            "cut",
        ),
        (names.TIME_TO_FIRST_CHUNK, float("nan"), "ttft_ns", 0, "clamped"),
        (names.TIME_TO_FIRST_CHUNK, -1, "ttft_ns", 0, "clamped"),
        (names.TIME_TO_FIRST_CHUNK, 1e300, "ttft_ns", 0, "clamped"),
        (names.TIME_TO_FIRST_CHUNK, "soon", "ttft_ns", 0, "wrong_type"),
    ],
)
def test_a_number_no_column_could_hold_is_mended_and_counted(
    attribute: str, given: object, field: str, expected: object, reason: str
) -> None:
    decoded = decode_request(otlp.request(otlp.own(1, names.MODEL, {attribute: given, names.USAGE_INPUT: 1})), WINDOW)
    assert (expected, {reason: 1} if reason else {}) == (
        getattr(decoded.records[0], field),
        dict(decoded.repairs),
    )


def test_values_are_repaired_once_per_resource_not_once_per_span() -> None:
    request = otlp.request(otlp.span(1), otlp.span(2), resource={names.SERVICE_NAME: "s\x00"})
    assert {"nul": 1} == dict(decode_request(request, WINDOW).repairs)


def test_the_same_resource_and_scope_have_the_same_envelope_in_every_request() -> None:
    [first, second] = decode_request(otlp.request(otlp.span(1), otlp.span(2)), WINDOW).records
    [later] = decode_request(otlp.request(otlp.span(3)), WINDOW).records
    assert first.envelope is second.envelope
    assert first.envelope == later.envelope
    assert 16 == len(first.envelope.id)


@pytest.mark.parametrize(
    "other",
    [
        {"resource": {names.SERVICE_NAME: "other"}},
        {"scope": "other"},
        {"resource_schema": "https://opentelemetry.io/schemas/1.40.0"},
        {"scope_schema": "https://opentelemetry.io/schemas/1.40.0"},
    ],
    ids=lambda other: "".join(other),
)
def test_whatever_differs_around_a_span_gives_another_envelope(other: dict[str, Any]) -> None:
    assert _envelope({}).id != _envelope(other).id


def test_the_two_schema_urls_are_not_taken_for_one_another() -> None:
    assert _envelope({"resource_schema": "u"}).id != _envelope({"scope_schema": "u"}).id


def _envelope(how: dict[str, Any]) -> Envelope:
    request = otlp.request(otlp.span(1), **how)
    return decode_request(request, WINDOW).records[0].envelope


def test_the_stored_body_is_the_span_with_fields_that_this_version_does_not_know() -> None:
    unknown = b"\xd2\x7d\x07novelty"  # field 2010, of bytes
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    span = resource_spans.scope_spans.add().spans.add()
    span.ParseFromString(otlp.span(1).SerializeToString() + unknown)
    sent = ExportTraceServiceRequest.FromString(request.SerializeToString())

    [record] = decode_request(sent, WINDOW).records

    assert unknown in record.body
    assert "span 1" == Span.FromString(record.body).name


def test_events_links_and_attributes_of_no_interest_stay_in_the_body() -> None:
    span = otlp.span(1, {"app.secret": "x" * 5_000, "list": [1, "two", None]}, exception="ValueError")
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    [record] = decode_request(otlp.request(span), WINDOW).records
    assert span == Span.FromString(record.body)


def test_several_resources_and_scopes_keep_their_own_spans() -> None:
    request = otlp.request(otlp.own(1, names.NODE), resource={names.SERVICE_NAME: "a"})
    request.MergeFrom(otlp.request(otlp.span(2), resource={names.SERVICE_NAME: "b"}, scope="else"))
    assert [("a", names.NODE), ("b", names.SPAN)] == [
        (record.service, record.kind) for record in decode_request(request, WINDOW).records
    ]


def test_an_empty_request_is_nothing_to_do() -> None:
    decoded = decode_request(ExportTraceServiceRequest(), WINDOW)
    assert ([], [], {}) == (decoded.records, decoded.rejections, dict(decoded.repairs))


@pytest.mark.parametrize("scope", [names.SCOPE, "opentelemetry.instrumentation.openai"])
@pytest.mark.parametrize("claimed", [{names.TEAM: "finance"}, {}])
def test_a_callers_team_takes_the_place_of_the_claimed_one(scope: str, claimed: dict[str, str]) -> None:
    request = otlp.request(otlp.span(1, {names.KIND: names.NODE, **claimed}), scope=scope)
    [bound] = decode_request(request, WINDOW, Caller("k1", "cx")).records
    [unbound] = decode_request(request, WINDOW, Caller("k2")).records
    assert [("cx", True), (claimed.get(names.TEAM, ""), False)] == [
        (record.team, record.team_bound) for record in (bound, unbound)
    ]
