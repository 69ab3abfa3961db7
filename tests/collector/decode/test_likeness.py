"""Records that are copied from a span before them are those that reading the span by itself would give."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from graphmeter import names
from graphmeter_collector.decode import likeness, own, request
from graphmeter_collector.decode.request import Decoded, Window, decode_request
from graphmeter_collector.decode.wire import TAG, Entry
from graphmeter_collector.records import Caller

NOW_NS = time.time_ns()
WINDOW = Window.around(NOW_NS, 30)
COUNTS = sorted(key for key in likeness.DIFFERING if "usage" in key)
TEXTS = st.sampled_from(["", "a", "b", "cx", "0123456789abcdef", "long" * 80, "n\x00l"])
ATTRIBUTES = st.one_of(
    st.tuples(st.just(names.KIND), st.sampled_from([*names.KINDS, names.START, names.HEARTBEAT, "newer"])),
    st.tuples(st.just(names.STATUS), st.sampled_from([*names.SPAN_STATUSES, "odd"])),
    st.tuples(st.sampled_from(sorted(own.OWN)), TEXTS),
    st.tuples(st.sampled_from([names.TAG_PREFIX + "x", names.TAG_PREFIX + "y", "http.route"]), TEXTS),
    st.tuples(st.sampled_from(COUNTS), st.integers(-1, 3)),
    st.tuples(st.sampled_from([names.USAGE_INPUT, names.USAGE_OUTPUT, names.LANGGRAPH_STEP]), st.integers(0, 2)),
    st.tuples(st.sampled_from([names.CACHE_HIT, names.RATE_LIMITED, names.USAGE_MISSING]), st.booleans()),
    st.tuples(st.just(names.TIME_TO_FIRST_CHUNK), st.sampled_from([0.0, 0.5, 1.5])),
    st.tuples(st.just(names.REPORTED_COST_USD), st.sampled_from([0.0, 0.01, 2.5, -1.0])),
)
SPANS = st.builds(
    lambda name, span_id, ms, given, failed: Span(
        trace_id=b"0123456789abcdef",
        span_id=span_id,
        parent_span_id=span_id[::-1],
        name=name,
        start_time_unix_nano=NOW_NS,
        end_time_unix_nano=NOW_NS + ms * 1_000_000,
        attributes=[KeyValue(key=key, value=_value(value)) for key, value in given],
        status=Status(code=Status.STATUS_CODE_ERROR, message="boom") if failed else None,
    ),
    st.sampled_from(["chat gpt-4o", "execute_tool search", "n" * 300]),
    st.binary(min_size=8, max_size=8).filter(any),
    st.sampled_from([0, 1000]),
    st.lists(ATTRIBUTES, max_size=8),
    st.sampled_from([False, False, False, True]),
)


def _value(value: str | bool | float) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)


def _request(spans: list[Span], **resource: str) -> ExportTraceServiceRequest:
    scope = ScopeSpans(scope=InstrumentationScope(name=names.SCOPE), spans=spans)
    pairs = [KeyValue(key=key.replace("_", "."), value=_value(value)) for key, value in resource.items()]
    whole = ResourceSpans(resource=Resource(attributes=pairs), scope_spans=[scope])
    return ExportTraceServiceRequest(resource_spans=[whole])


def _decoded(given: ExportTraceServiceRequest, team: str = "", *, forgetful: bool = False) -> Decoded:
    with pytest.MonkeyPatch.context() as patch:
        if forgetful:
            patch.setattr(request._MOLDS, "find", lambda _: None)
        return decode_request(given, WINDOW, Caller(team=team))


@given(st.lists(SPANS, max_size=5), st.sampled_from(["", "bound"]), st.sampled_from(["shop", ""]))
def test_records_are_the_same_whether_spans_like_them_were_met_or_not(
    spans: list[Span], team: str, service: str
) -> None:
    message = _request(spans, service_name=service)
    expected = _decoded(message, team, forgetful=True)
    for _ in range(2):
        assert expected == _decoded(message, team)


@given(st.lists(SPANS, min_size=1, max_size=3), st.data())
def test_values_of_one_span_do_not_stay_on_the_next(spans: list[Span], data: st.DataObject) -> None:
    _decoded(_request(spans))
    # The same attributes, some with another value.
    for span in spans:
        for pair in span.attributes:
            if data.draw(st.booleans()):
                pair.value.CopyFrom(_value(data.draw(st.one_of(TEXTS, st.integers(0, 3)))))
    message = _request(spans)
    assert _decoded(message, forgetful=True) == _decoded(message)


def test_spans_that_differ_in_ids_and_numbers_share_a_likeness_and_others_do_not() -> None:
    def call(number: int, **more: str) -> Span:
        said = {names.KIND: names.MODEL, names.RUN_ID: f"run {number}", names.GRAPH: "support", **more}
        pairs = [KeyValue(key=key, value=_value(value)) for key, value in said.items()]
        pairs.append(KeyValue(key=names.USAGE_INPUT, value=_value(100 + number)))
        return Span(
            trace_id=b"t" * 16,
            span_id=bytes([number + 1] * 8),
            name="chat",
            start_time_unix_nano=NOW_NS + number,
            end_time_unix_nano=NOW_NS + 2 * number,
            attributes=pairs,
        )

    one, other, elsewhere = _decoded(_request([call(1), call(2), call(3, **{names.TEAM: "cx"})])).records
    assert one.likeness is not None
    assert one.likeness is other.likeness
    assert one.likeness is not elsewhere.likeness
    assert ("run 1", "run 2") == (one.run_id, other.run_id)
    assert (101, 102) == (one.usage.input, other.usage.input)
    assert ("", "cx") == (other.team, elsewhere.team)
    [of_another] = _decoded(_request([call(1)], service_name="another")).records
    assert of_another.likeness is not one.likeness


def test_kinds_of_spans_that_never_repeat_do_not_fill_memory() -> None:
    molds = likeness.Molds()
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=NOW_NS, end_time_unix_nano=NOW_NS)
    [record] = _decoded(_request([span])).records
    for number in range(likeness.MOST_MOLDS + 10):
        molds.keep((number,), record, ())
    assert len(molds) <= likeness.MOST_MOLDS
    tags: list[Entry] = [(1, TAG, (str(number), "x")) for number in range(100)]
    molds.keep(("tags",), record, tags)
    assert molds.find(("tags",)) is None, "more tags than are kept have to be counted"
