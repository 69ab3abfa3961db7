"""Our OTLP encoder against OpenTelemetry's: for anything that a run or note may hold, the same bytes."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from callbacks.otlp import attributes
from graphmeter import client, guard, names, spans, wire
from graphmeter.capture import Taken
from graphmeter.records import Failure, Note, Run, Tree
from graphmeter.testing import InMemorySpans

SINK = client.pipeline(exporter=InMemorySpans())
SHOP = Resource({"service.name": "shop", "process.pid": 7, "process.command_args": ["python", "-m", "shöp"]})

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=8),
    st.text(min_size=100, max_size=300),
    st.booleans(),
    INT64,
    st.sampled_from([0, 1, 127, 128, -1, (1 << 63) - 1, -(1 << 63), 0.0, -0.0, 1.0, math.nan, math.inf, -math.inf]),
    st.floats(),
    st.binary(max_size=300),
    st.none(),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.one_of(st.text(max_size=12), st.sampled_from([names.KIND, names.RUN_ID, "tenant", "k" * 200]))
SAID = st.dictionaries(KEYS, VALUES, max_size=8)
TIMES = st.integers(1, (1 << 64) - 1)
SPAN_IDS = st.integers(1, (1 << 64) - 1)
TRACE_IDS = st.integers(1, (1 << 128) - 1)
STATES = st.dictionaries(
    st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.from_regex(r"[a-z0-9:]{1,9}", fullmatch=True)
).map(lambda entries: TraceState(list(entries.items())))
FAILURES = st.builds(
    Failure, st.text(max_size=9), st.text(max_size=9), st.sampled_from([None, traceback.extract_stack(limit=3)])
)
UNMARKED = TraceState(), TraceState()
CONTEXTS = st.builds(SpanContext, TRACE_IDS, SPAN_IDS, st.booleans(), st.just(TraceFlags(1)), STATES)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    return Tree(
        draw(st.none() | st.uuids()),
        draw(st.text(max_size=5)),
        draw(SAID),
        SINK,
        draw(TRACE_IDS),
        None,
        TraceFlags(1),
        draw(STATES),
        UNMARKED,
    )


@st.composite
def runs(draw: st.DrawFn, tree: Tree) -> Run:
    kind = draw(st.sampled_from([names.RUN, names.SUBGRAPH, names.NODE, names.MODEL, names.TOOL, names.RETRIEVER]))
    above = Run(names.NODE, "above", draw(st.uuids()).int, None, tree, "")
    run = Run(
        kind, draw(st.text(max_size=200)), draw(st.uuids()).int, draw(st.sampled_from([None, above])), tree, "a:1"
    )
    run.node = draw(st.text(max_size=9))
    run.task = draw(st.sampled_from([None, above]))
    run.step, run.attempt, run.final = draw(st.integers(0, 1000)), draw(st.integers(1, 9)), draw(st.booleans())
    run.started_ns, run.ended_ns = draw(TIMES), draw(TIMES)
    run.first_ns = draw(st.sampled_from([0, run.started_ns]))
    run.facts = draw(st.one_of(st.none(), SAID))
    run.links = draw(st.one_of(st.none(), st.lists(CONTEXTS, max_size=3)))
    run.under = draw(st.one_of(st.none(), st.just(above), CONTEXTS))
    run.status = draw(st.sampled_from([names.OK, names.ERROR, names.INTERRUPTED]))
    run.failure = draw(st.one_of(st.none(), FAILURES))
    if draw(st.booleans()):
        run.captured = Taken()
        run.captured.ready = draw(SAID)
    return run


NOTES = st.builds(
    Note,
    st.sampled_from(sorted(names.NOTE_NAMES)),
    TRACE_IDS,
    st.binary(max_size=9),
    TIMES,
    st.one_of(st.none(), st.uuids()),
    st.one_of(st.none(), st.text(max_size=9)),
    SAID,
    SAID,
    st.one_of(st.none(), STATES),
    st.one_of(st.none(), trees()),
)
RESOURCES = st.builds(
    Resource,
    st.dictionaries(st.text(min_size=1, max_size=9), st.one_of(st.text(max_size=9), st.booleans(), INT64, st.floats())),
    st.sampled_from(["", "https://opentelemetry.io/schemas/1.37.0"]),
)


def theirs(*built: ReadableSpan) -> bytes:
    """What OpenTelemetry's encoder makes of the spans."""
    return bytes(encode_spans(built).SerializeToString())


def encoded(span: bytes) -> Any:
    """A span of ours, parsed."""
    return ExportTraceServiceRequest.FromString(wire.request([span], SHOP)).resource_spans[0].scope_spans[0].spans[0]


@given(st.data())
def test_runs_have_the_bytes_that_opentelemetry_gives_them(data: st.DataObject) -> None:
    tree = data.draw(trees())
    ended = data.draw(st.lists(runs(tree), min_size=1, max_size=4))
    resource, messages = data.draw(RESOURCES), data.draw(st.booleans())
    service = spans.service_of(resource)
    ours = wire.request([wire.encode(run, service, error_messages=messages) for run in ended], resource)

    assert theirs(*[spans.build(run, resource, service, error_messages=messages) for run in ended]) == ours


@given(st.lists(NOTES, min_size=1, max_size=3))
def test_notes_have_the_bytes_that_opentelemetry_gives_them(notes: list[Note]) -> None:
    ours = wire.request([wire.encode_note(note, "shop") for note in notes], SHOP)

    assert theirs(*[spans.build_note(note, SHOP, "shop") for note in notes]) == ours


def note_saying(facts: Mapping[str, Any]) -> Note:
    return Note(names.START, 1, b"", 1, UUID(int=1), None, {}, facts)


class Colour(StrEnum):
    RED = "rot"


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    "value", [Colour.RED, Level.HIGH, ["a", "b"], [Colour.RED], ["a" * 200], [1, True, 1.0], range(3)]
)
def test_values_that_are_more_than_they_seem_are_encoded_as_what_they_are(value: Any) -> None:
    note = note_saying({"fact": value})

    assert theirs(spans.build_note(note, SHOP, "shop")) == wire.request([wire.encode_note(note, "shop")], SHOP)


def test_equal_values_of_other_types_do_not_take_each_others_bytes() -> None:
    for value in (1, True, 1.0, "1", 0, False, 0.0, -0.0, "0", 0):
        note = note_saying({"same": value})
        assert theirs(spans.build_note(note, SHOP, "shop")) == wire.request([wire.encode_note(note, "shop")], SHOP)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1 << 63, "ValueError"),
        (-(1 << 63) - 1, "ValueError"),
        (["fine", 1 << 70], "ValueError"),
        (object(), "TypeError"),
        ({"set"}, "TypeError"),
        ([["a", object()]], "TypeError"),
        (["\ud800"], "UnicodeEncodeError"),
    ],
    ids=["too large", "too small", "too large within", "an object", "a set", "an object within", "half a character"],
)
def test_an_attribute_that_cannot_be_encoded_costs_only_itself_and_is_counted(value: Any, kind: str) -> None:
    said = attributes(encoded(wire.encode_note(note_saying({"before": 1, "odd": value, "after": 2}), "shop")))

    assert (1, None, 2) == (said["before"], said.get("odd"), said["after"])
    assert {f"encode attribute: {kind}": 1} == guard.faults()


def test_what_a_run_says_replaces_what_its_tree_says() -> None:
    tree = Tree(None, "demo", {"tenant": "all", "plan": "free"}, SINK, 1, None, TraceFlags(1), TraceState(), UNMARKED)
    run = Run(names.TOOL, "search", 5, None, tree, "")
    run.facts = {"tenant": "acme"}
    said = encoded(wire.encode(run, "shop")).attributes

    assert ["acme"] == [item.value.string_value for item in said if item.key == "tenant"]


def test_a_run_that_ends_after_its_tree_was_tagged_says_the_tag() -> None:
    tree = Tree(None, "demo", {"tenant": "acme"}, SINK, 1, None, TraceFlags(1), TraceState(), UNMARKED)
    before, after = (Run(names.TOOL, "search", number, None, tree, "") for number in (5, 6))
    after.shared = {"tenant": "acme", "plan": "pro"}
    plans = [attributes(encoded(wire.encode(run, "shop"))).get("plan") for run in (before, after, before)]

    assert [None, "pro", None] == plans
