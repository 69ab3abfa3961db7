"""Attributes read by their bytes say what protobuf's messages and the tables' readers say, whatever a sender writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from graphmeter import names
from graphmeter_collector import otlp
from graphmeter_collector.decode import likeness, own, wire
from graphmeter_collector.decode.attributes import Repairs, pick, pick_tags

KNOWN = wire.Attributes(own.OWN, names.TAG_PREFIX, likeness.DIFFERING)
"""Shared by all examples, as it is by all requests: what one has left behind must not change another."""

KEYS = st.one_of(
    st.sampled_from(sorted(own.OWN)),
    st.sampled_from(["a", "b", "c"]).map(lambda name: names.TAG_PREFIX + name),
    st.sampled_from([names.TAG_PREFIX, "", "http.route", "k" * 300]),
    st.text(max_size=8),
)
TEXTS = st.one_of(
    st.sampled_from(["", "ok", "true", "17", "4b0a1f00c0ffee42", "\x00", "x" * 300, "ü" * 200]), st.text(max_size=12)
)
VALUES = st.one_of(
    st.just(AnyValue()),
    TEXTS.map(lambda text: AnyValue(string_value=text)),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: AnyValue(int_value=number)),
    st.integers(0, 300).map(lambda number: AnyValue(int_value=number)),
    st.floats().map(lambda number: AnyValue(double_value=number)),
    st.booleans().map(lambda flag: AnyValue(bool_value=flag)),
    st.binary(max_size=4).map(lambda data: AnyValue(bytes_value=data)),
)
UNKNOWN = st.sampled_from([b"", b"\xf8\x01\x07", b"\x22\x02hi"])
"""Fields that OTLP does not have, or not yet."""
PAIRS = st.builds(
    lambda key, value, more: KeyValue.FromString(KeyValue(key=key, value=value).SerializeToString() + more),
    KEYS,
    VALUES,
    UNKNOWN,
)
SPANS = st.builds(
    lambda pairs, more, trace, name, times, status: Span.FromString(
        Span(
            trace_id=trace,
            span_id=b"12345678",
            name=name,
            start_time_unix_nano=times[0],
            end_time_unix_nano=times[1],
            attributes=pairs,
            status=status,
        ).SerializeToString()
        + more
    ),
    st.lists(PAIRS, max_size=6),
    UNKNOWN,
    st.binary(max_size=16),
    TEXTS,
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    st.sampled_from([None, {"code": 2, "message": "boom"}, {"code": 1}]),
)


def slowly(pairs: list[KeyValue]) -> tuple[dict[str, object], dict[str, str], Repairs]:
    repairs: Repairs = Counter()
    found = pick(pairs, own.OWN, repairs)
    return found, pick_tags(pairs, names.TAG_PREFIX, repairs), repairs


def by_bytes(pairs: list[KeyValue]) -> tuple[dict[str, object], dict[str, str], Repairs]:
    repairs: Repairs = Counter()
    found, tags = KNOWN.read([pair.SerializeToString() for pair in pairs], repairs)
    return {key: value for key, value in found.items() if key}, tags or {}, repairs


@given(st.lists(PAIRS, max_size=12))
def test_attributes_say_the_same_by_their_bytes_as_by_their_messages(pairs: list[KeyValue]) -> None:
    expected = slowly(pairs)
    assert expected == by_bytes(pairs)
    assert expected == by_bytes(pairs), "and again, now that they are known"


@pytest.mark.parametrize("key", sorted(own.OWN))
def test_a_text_under_any_name_says_the_same_by_its_bytes(key: str) -> None:
    for text in ("4b0a1f00c0ffee42", "", "17", "ü", "\x00", "x" * 300):
        pairs = [KeyValue(key=key, value=AnyValue(string_value=text))]
        assert slowly(pairs) == by_bytes(pairs), text


def test_tags_beyond_the_most_are_counted_and_left_out() -> None:
    pairs = [KeyValue(key=f"{names.TAG_PREFIX}{n}", value=AnyValue(string_value="x")) for n in range(70)]
    for some in (pairs[:64], pairs[:65], pairs, [*pairs[:64], KeyValue(key=f"{names.TAG_PREFIX}y")]):
        assert slowly(some) == by_bytes(some)


def test_a_value_that_has_to_be_changed_is_counted_each_time() -> None:
    pairs = [KeyValue(key=names.TEAM, value=AnyValue(string_value="a\x00b"))]
    assert [{"nul": 1}, {"nul": 1}] == [dict(by_bytes(pairs)[2]) for _ in range(2)]


def test_what_never_repeats_does_not_fill_memory() -> None:
    known = wire.Attributes(own.OWN, names.TAG_PREFIX)
    for number in range(wire.MOST_KNOWN + 10):
        pair = KeyValue(key=names.RESPONSE_ID, value=AnyValue(string_value=str(number)))
        assert known.read([pair.SerializeToString()], Counter())[0] == {names.RESPONSE_ID: str(number)}
    assert wire.MOST_KNOWN >= len(known)
    long = KeyValue(key=names.INPUT_MESSAGES, value=AnyValue(string_value="x" * 2000)).SerializeToString()
    before = len(known)
    known.read([long], Counter())
    assert before == len(known)


@given(st.lists(SPANS, max_size=4))
def test_spans_keep_their_bytes_and_fields(spans: list[Span]) -> None:
    message = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
    [scope] = otlp.of(message).scopes
    for span, raw, body in zip(spans, scope.spans, scope.bodies, strict=True):
        assert span.SerializeToString() == body
        for field in ("trace_id", "span_id", "parent_span_id", "name", "start_time_unix_nano", "end_time_unix_nano"):
            assert getattr(span, field) == getattr(raw, field)
        assert (span.status.code, span.status.message) == (raw.status.code, raw.status.message)
        assert [pair.SerializeToString() for pair in span.attributes] == list(raw.attributes)


def test_fields_in_any_order_and_more_than_once_are_read_as_protobuf_reads_them() -> None:
    graph, node = names.GRAPH.encode(), names.NODE_PATH.encode()
    value = AnyValue(string_value="late").SerializeToString()
    early = AnyValue(string_value="early").SerializeToString()
    value_first = _field(0x12, early) + _field(0x12, value) + _field(0x0A, node) + _field(0x0A, graph)
    key_twice = _field(0x0A, b"http.route") + _field(0x12, value) + _field(0x0A, names.TEAM.encode())
    span = _field(0x4A, value_first) + _field(0x2A, b"old") + _field(0x7A, b"\x18\x02") + _field(0x7A, b"\x12\x01!")
    span += _field(0x4A, key_twice) + _field(0x2A, b"new")
    [scope] = otlp.read(_field(0x0A, _field(0x12, _field(0x12, span)))).scopes
    [raw] = scope.spans
    assert {names.GRAPH: "late", names.TEAM: "late"} == KNOWN.read(raw.attributes, Counter())[0]
    assert ("new", 2, "!") == (raw.name, raw.status.code, raw.status.message)
    assert [span] == list(scope.bodies), "kept as they were sent"


@pytest.mark.parametrize(
    "key", [names.GRAPH, names.RUN_ID, names.USAGE_INPUT, "http.route", names.INPUT_MESSAGES, names.TAG_PREFIX + "t"]
)
@pytest.mark.parametrize("size", [3, 300])
def test_text_that_is_no_utf_8_is_found_wherever_it_stands(key: str, size: int) -> None:
    good = KeyValue(key=key, value=AnyValue(string_value="x" * size)).SerializeToString()
    broken_value = good.replace(b"x" * size, b"\xff" + b"x" * (size - 1))
    broken_key = good.replace(key.encode(), key[:-1].encode() + b"\xff")
    for broken in (broken_value, broken_key):
        with pytest.raises(DecodeError):
            KNOWN.read([good, broken], Counter())


def test_values_may_be_nested_as_deep_as_in_a_request_that_is_parsed_as_a_whole() -> None:
    taken = {_taken(levels) for levels in range(40, 60)}
    assert {(True, True), (False, False)} == taken


def _taken(levels: int) -> tuple[bool, bool]:
    """Whether a value nested so deeply can be read as part of a whole request, and by itself."""
    value = AnyValue(string_value="x").SerializeToString()
    for _ in range(levels):
        value = _field(0x2A, _field(0x0A, value))
    pair = whole = _field(0x0A, b"deep") + _field(0x12, value)
    for tag in (0x4A, 0x12, 0x12, 0x0A):
        whole = _field(tag, whole)
    return _can(lambda: ExportTraceServiceRequest.FromString(whole)), _can(lambda: KNOWN.read([pair], Counter()))


def _can(parse: Callable[[], object]) -> bool:
    try:
        parse()
    except DecodeError:
        return False
    return True


def _field(tag: int, data: bytes) -> bytes:
    size = len(data)
    return bytes((tag, size) if size < 0x80 else (tag, size & 0x7F | 0x80, size >> 7)) + data
