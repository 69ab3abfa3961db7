"""Spans of our own client: every name of the wire contract lands in its field."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode.request import Decoded, Window, decode_request
from graphmeter_collector.records import SpanRecord, TokenUsage
from support import otlp
from support.records import SECOND, T0_NS, span_id, trace

WINDOW = Window.around(T0_NS, 30)
RUN_ID = "00000000-0000-0000-0000-000000000001"


def decode(*spans: Span, **how: Any) -> Decoded:
    return decode_request(otlp.request(*spans, **how), WINDOW)


def record(span: Span, **how: Any) -> SpanRecord:
    decoded = decode(span, **how)
    assert [] == decoded.rejections
    [only] = decoded.records
    return only


@pytest.mark.parametrize(
    ("attribute", "given", "field", "expected"),
    [
        (names.RUN_ID, "run-7", "run_id", "run-7"),
        (names.GRAPH, "triage", "graph", "triage"),
        (names.NODE_PATH, "research.search", "node", "research.search"),
        (names.TEAM, "growth", "team", "growth"),
        (names.TENANT, "acme", "tenant", "acme"),
        (names.ENVIRONMENT, "staging", "environment", "staging"),
        (names.RELEASE, "2.0", "release", "2.0"),
        (names.USER, "u-1", "user_id", "u-1"),
        (names.SESSION, "s-1", "session_id", "s-1"),
        (names.CONVERSATION_ID, "thread-1", "thread_id", "thread-1"),
        (names.LANGGRAPH_STEP, 4, "step", 4),
        (names.ATTEMPT, 3, "attempt", 3),
        (names.ATTEMPT_FINAL, False, "attempt_final", False),
        (names.ATTEMPT_SPAN, "00000000000000ab", "attempt_span", bytes.fromhex("00000000000000ab")),
        (
            names.OUTER_ATTEMPTS,
            "00000000000000ab 00000000000000cd",
            "outer_attempts",
            b"\0\0\0\0\0\0\0\xab\0\0\0\0\0\0\0\xcd",
        ),
        (names.OPERATION, "chat", "operation", "chat"),
        (names.PROVIDER, "anthropic", "provider", "anthropic"),
        (names.REQUEST_MODEL, "claude", "request_model", "claude"),
        (names.RESPONSE_MODEL, "claude-4", "model", "claude-4"),
        (names.RESPONSE_ID, "msg-1", "response_id", "msg-1"),
        (names.TIME_TO_FIRST_CHUNK, 0.25, "ttft_ns", 250_000_000),
        (names.USAGE_MISSING, True, "usage_missing", True),
        (names.USAGE_INPUT, 7, "usage", TokenUsage(input=7)),
    ],
)
def test_an_attribute_lands_in_its_field(attribute: str, given: object, field: str, expected: object) -> None:
    assert expected == getattr(record(otlp.own(1, names.MODEL, {attribute: given})), field)


@pytest.mark.parametrize("kind", [names.RUN, names.SUBGRAPH, names.NODE, names.MODEL, names.TOOL, names.RETRIEVER])
def test_every_kind_is_kept(kind: str) -> None:
    assert kind == record(otlp.own(1, kind)).kind


@pytest.mark.parametrize("claimed", ["dream", "span", ""])
def test_a_kind_that_a_newer_client_made_up_is_a_plain_span(claimed: str) -> None:
    assert names.SPAN == record(otlp.own(1, claimed)).kind


@pytest.mark.parametrize("status", names.SPAN_STATUSES)
def test_every_status_of_a_span_is_kept(status: str) -> None:
    assert status == record(otlp.own(1, names.NODE, {names.STATUS: status})).status


def test_identity_and_time_are_those_of_the_span() -> None:
    found = record(otlp.own(3, names.NODE, of=2, parent=span_id(1), s=2.5, name="invoke_node plan"))
    assert (trace(2), span_id(3), span_id(1), "invoke_node plan", T0_NS, T0_NS + 2_500_000_000) == (
        found.trace_id,
        found.span_id,
        found.parent_id,
        found.name,
        found.start_ns,
        found.end_ns,
    )


def test_tags_lose_their_prefix() -> None:
    tags = {"graphmeter.tag.intent": "billing", "graphmeter.tag.vip": True, "graphmeter.tag.": "nameless", "x": "y"}
    assert {"intent": "billing", "vip": "true"} == record(otlp.own(1, names.RUN, tags)).tags


def test_beyond_64_tags_the_rest_is_dropped_and_counted() -> None:
    decoded = decode(otlp.own(1, names.RUN, {f"{names.TAG_PREFIX}{number}": "x" for number in range(70)}))
    assert (64, 1) == (len(decoded.records[0].tags), decoded.repairs["too_many_tags"])


def test_a_start_record_is_running_and_never_forwarded() -> None:
    found = record(otlp.started(start_ns=T0_NS))
    assert (names.START, names.RUNNING, False) == (found.kind, found.status, found.forwardable)


def test_a_failed_span_has_type_and_message() -> None:
    attributes = {names.STATUS: names.ERROR, names.ERROR_TYPE: "TimeoutError"}
    found = record(otlp.own(1, names.NODE, attributes, status="error", message="gave up"))
    assert (names.ERROR, "TimeoutError", "gave up") == (found.status, found.error_type, found.status_message)


def test_an_error_without_type_takes_that_of_its_exception() -> None:
    found = record(otlp.own(1, names.NODE, {names.STATUS: names.ERROR}, status="error", exception="shop.OutOfStock"))
    assert "shop.OutOfStock" == found.error_type


def test_an_interrupt_is_no_error_although_an_exception_was_raised() -> None:
    found = record(otlp.own(1, names.NODE, {names.STATUS: names.INTERRUPTED}, exception="GraphInterrupt"))
    assert (names.INTERRUPTED, "") == (found.status, found.error_type)


@pytest.mark.parametrize(
    ("attribute", "resource_attribute", "field"),
    [
        (names.TEAM, names.RESOURCE_TEAM, "team"),
        (names.TENANT, names.TENANT, "tenant"),
        (names.ENVIRONMENT, names.DEPLOYMENT_ENVIRONMENT, "environment"),
        (names.ENVIRONMENT, names.DEPLOYMENT_ENVIRONMENT_OLD, "environment"),
        (names.RELEASE, names.SERVICE_VERSION, "release"),
    ],
)
def test_the_span_wins_over_its_resource_and_an_empty_value_says_nothing(
    attribute: str, resource_attribute: str, field: str
) -> None:
    resource = {resource_attribute: "of the resource"}
    silent = otlp.span(1, {names.KIND: names.NODE})
    empty = otlp.span(2, {names.KIND: names.NODE, attribute: ""})
    speaking = otlp.span(3, {names.KIND: names.NODE, attribute: "of the span"})
    found = decode(silent, empty, speaking, resource=resource).records
    assert ["of the resource", "of the resource", "of the span"] == [getattr(each, field) for each in found]


def test_the_new_name_of_the_environment_wins_over_the_old_one() -> None:
    both = {names.DEPLOYMENT_ENVIRONMENT_OLD: "old", names.DEPLOYMENT_ENVIRONMENT: "new"}
    assert "new" == record(otlp.own(1, names.NODE), resource=both).environment


def test_an_unnamed_graph_takes_the_name_of_its_service() -> None:
    found = record(otlp.span(1, {names.KIND: names.RUN}), resource={names.SERVICE_NAME: "shop"})
    assert ("shop", "shop") == (found.service, found.graph)


def test_of_an_attribute_given_twice_the_last_counts() -> None:
    span = otlp.own(1, names.NODE)
    span.attributes.extend(otlp.pairs({names.TEAM: "second"}))
    assert "second" == record(span).team


def test_an_attempt_below_one_is_the_first() -> None:
    assert 1 == record(otlp.own(1, names.NODE, {names.ATTEMPT: 0})).attempt


def test_a_call_longer_to_its_first_chunk_than_to_its_end_is_clamped() -> None:
    decoded = decode(otlp.own(1, names.MODEL, {names.TIME_TO_FIRST_CHUNK: 5.0}, s=2.0))
    assert (2 * SECOND, 1) == (decoded.records[0].ttft_ns, decoded.repairs["clamped"])


def test_a_model_that_names_no_answering_model_is_the_one_asked_for() -> None:
    found = record(otlp.own(1, names.MODEL, {names.REQUEST_MODEL: "gpt-4o"}))
    assert ("gpt-4o", "gpt-4o") == (found.model, found.request_model)


@pytest.mark.parametrize(
    ("attributes", "name", "expected"),
    [
        ({names.TOOL_NAME: "search"}, "execute_tool x", "search"),
        ({names.DATA_SOURCE_ID: "wiki"}, "retrieval x", "wiki"),
        ({}, "execute_tool look_up", "look_up"),
        ({}, "nothing", ""),
    ],
)
def test_tools_and_retrievers_have_a_name(attributes: dict[str, object], name: str, expected: str) -> None:
    assert expected == record(otlp.own(1, names.TOOL, attributes, name=name)).tool


def test_only_model_calls_have_usage() -> None:
    assert TokenUsage() == record(otlp.own(1, names.NODE, {names.USAGE_INPUT: 5})).usage


def test_a_call_without_any_count_misses_its_usage_unless_it_failed() -> None:
    calls = [
        otlp.own(1, names.MODEL),
        otlp.own(2, names.MODEL, {names.USAGE_INPUT: 0}),
        otlp.own(3, names.MODEL, {names.STATUS: names.ERROR}, status="error"),
        otlp.own(4, names.MODEL, {names.CACHE_HIT: True}),
        otlp.own(5, names.MODEL, {names.STATUS: names.CANCELLED}),
    ]
    assert [True, False, False, False, True] == [each.usage_missing for each in decode(*calls).records]


def test_a_cached_answer_carries_what_it_saved_and_nothing_else() -> None:
    attributes = {
        names.CACHE_HIT: True,
        names.USAGE_INPUT: 999,
        f"{names.SAVED_PREFIX}{names.USAGE_INPUT}": 100,
        f"{names.SAVED_PREFIX}{names.USAGE_CACHE_READ}": 40,
        f"{names.SAVED_PREFIX}{names.USAGE_OUTPUT}": 10,
    }
    found = record(otlp.own(1, names.MODEL, attributes))
    assert (True, False, TokenUsage(input=60, cache_read=40, output=10)) == (
        found.cache_hit,
        found.usage_missing,
        found.usage,
    )


def test_saved_tokens_of_a_call_that_was_not_cached_are_not_consumed() -> None:
    found = record(otlp.own(1, names.MODEL, {f"{names.SAVED_PREFIX}{names.USAGE_INPUT}": 100, names.USAGE_INPUT: 3}))
    assert TokenUsage(input=3) == found.usage


def test_a_foreign_sender_cannot_pass_as_our_client() -> None:
    found = record(otlp.own(1, names.RUN), scope="somebody.else")
    assert (names.SPAN, "", "support") == (found.kind, found.run_id, found.graph)
