"""What is too much on a span is left out of its bytes and counted; the span and its facts stay."""

from __future__ import annotations

import pytest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode.request import Decoded, Window, decode_request
from graphmeter_collector.decode.trim import (
    LONGEST_VALUE,
    MOST_ATTRIBUTES,
    MOST_EVENT_ATTRIBUTES,
    MOST_EVENTS,
    MOST_LINKS,
)
from support import otlp
from support.records import T0_NS, span_id, trace

WINDOW = Window(0, T0_NS * 2)
MANY = {f"attribute.{number:05}": "value" for number in range(10_000)}
FACTS = {names.GRAPH: "support", names.TEAM: "cx", names.NODE_PATH: "answer"}


def decoded(*spans: Span, **how: object) -> tuple[Decoded, Span]:
    found = decode_request(otlp.request(*spans, **how), WINDOW)  # type: ignore[arg-type]
    return found, Span.FromString(found.records[0].body)


@pytest.mark.parametrize("scope", [names.SCOPE, "opentelemetry.instrumentation.openai"])
def test_of_ten_thousand_attributes_those_that_matter_are_kept_and_then_the_first(scope: str) -> None:
    found, kept = decoded(otlp.span(1, {**MANY, **FACTS}), scope=scope)
    keys = [pair.key for pair in kept.attributes]
    assert [*list(MANY)[: MOST_ATTRIBUTES - 3], *FACTS] == keys
    assert 10_003 - MOST_ATTRIBUTES == kept.dropped_attributes_count
    assert {"too_many_attributes": 10_003 - MOST_ATTRIBUTES} == dict(+found.repairs)
    assert ("support", "cx", "answer") == (found.records[0].graph, found.records[0].team, found.records[0].node)


@pytest.mark.parametrize("character", ["a", "語"])
def test_a_giant_value_is_cut_and_one_that_cannot_be_is_left_out(character: str) -> None:
    given = {"text": character * (LONGEST_VALUE + 1), "list": ["x" * 1000] * 300, "bytes": b"x" * 300_000, "small": 1}
    found, kept = decoded(otlp.span(1, given, name="n" * 300_000, message="m" * 300_000, status="error"))
    values = {pair.key: pair.value for pair in kept.attributes}
    assert ["text", "bytes", "small"] == list(values)
    assert LONGEST_VALUE - 4 <= len(values["text"].string_value.encode()) <= LONGEST_VALUE
    assert (character, "…") == (values["text"].string_value[-2], values["text"].string_value[-1])
    assert [LONGEST_VALUE] * 3 == [
        len(values["bytes"].bytes_value),
        *(len(text.encode()) for text in (kept.name, kept.status.message)),
    ]
    assert (1, 5) == (kept.dropped_attributes_count, found.repairs["long_value"])


def test_of_many_events_the_last_are_kept_and_of_many_links_the_first() -> None:
    events = [Span.Event(name=f"event {number}" + "." * 20) for number in range(MOST_EVENTS + 5)]
    events[-1].attributes.extend(otlp.pairs(dict.fromkeys(map(str, range(200)), 1)))
    links = [Span.Link(trace_id=trace(2), span_id=span_id(number + 1)) for number in range(MOST_LINKS + 7)]
    found, kept = decoded(otlp.span(1, events=events, links=links))
    assert (events[5].name, events[-1].name) == (kept.events[0].name, kept.events[-1].name)
    assert (MOST_EVENTS, 5, MOST_LINKS, 7, 200 - MOST_EVENT_ATTRIBUTES) == (
        len(kept.events),
        kept.dropped_events_count,
        len(kept.links),
        kept.dropped_links_count,
        kept.events[-1].dropped_attributes_count,
    )
    assert {"too_many_events": 5, "too_many_links": 7, "too_many_attributes": 72} == dict(+found.repairs)


def test_a_resource_has_bounds_as_well() -> None:
    found, _ = decoded(otlp.span(1), resource={**MANY, names.SERVICE_NAME: "shop"})
    [record] = found.records
    assert ("shop", MOST_ATTRIBUTES) == (
        record.service,
        len(Resource.FromString(record.envelope.resource).attributes),
    )
    assert 10_001 - MOST_ATTRIBUTES == found.repairs["too_many_attributes"]


def test_a_large_span_within_bounds_is_kept_byte_by_byte() -> None:
    span = otlp.span(1, {names.OPERATION: names.OP_CHAT, "gen_ai.input.messages": "x" * (LONGEST_VALUE - 10)})
    found, _ = decoded(span)
    assert (span.SerializeToString(), {}) == (found.records[0].body, dict(+found.repairs))
