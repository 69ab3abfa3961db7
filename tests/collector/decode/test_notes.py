"""What a client says besides spans: read into typed facts, repaired where it can be, refused with a reason where not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from graphmeter import names
from graphmeter_collector.decode.notes import MOST_TOPOLOGY_BYTES
from graphmeter_collector.decode.request import Decoded, Window, decode_request
from graphmeter_collector.records import Outcome, Report, SpanRecord, Topology
from support import otlp
from support.records import SECOND, T0_NS

SHAPE = {"nodes": ["__start__", "plan", "__end__"], "edges": [["__start__", "plan", False], ["plan", "__end__", True]]}
OUTCOME = {names.OUTCOME_KIND: "resolved", names.OUTCOME_GOOD: True, names.OUTCOME_VALUE: 4.5}
REPORT = {
    names.CLIENT_ID: "A" * 32,
    names.CLIENT_SEQUENCE: 3,
    names.CLIENT_EXPORTED: 100,
    names.CLIENT_DROPPED: 2,
    names.CLIENT_FAILED: 1,
    names.CLIENT_QUEUED: 7,
    names.CLIENT_FAULTS: 4,
    names.CLIENT_OPEN_RUNS: 5,
}


def decoded(kind: str, attributes: Mapping[str, object]) -> Decoded:
    span = otlp.own(1, kind, attributes, s=0, name=names.NOTE_NAMES[kind])
    return decode_request(otlp.request(span), Window(0, T0_NS + 3_600 * SECOND))


def read(kind: str, attributes: Mapping[str, object]) -> SpanRecord:
    [record] = decoded(kind, attributes).records
    assert kind == record.kind
    return record


@pytest.mark.parametrize("kind", names.NOTES)
def test_a_note_is_never_forwarded(kind: str) -> None:
    said = {**OUTCOME, **REPORT, names.TOPOLOGY_JSON: json.dumps(SHAPE)}
    assert not read(kind, said).forwardable


def test_a_start_promises_heartbeats() -> None:
    assert 2_500_000_000 == read(names.START, {names.HEARTBEAT_S: 2.5}).heartbeat_ns
    assert 0 == read(names.START, {}).heartbeat_ns


def test_an_outcome_with_all_it_may_say_and_with_the_least() -> None:
    assert Outcome("resolved", True, 4.5) == read(names.OUTCOME, OUTCOME).said
    assert Outcome("resolved", None, None) == read(names.OUTCOME, {names.OUTCOME_KIND: "resolved"}).said
    assert (
        Outcome("csat", False, 4.0)
        == read(names.OUTCOME, {names.OUTCOME_KIND: "csat", names.OUTCOME_GOOD: False, names.OUTCOME_VALUE: 4}).said
    )


@pytest.mark.parametrize(
    ("attribute", "value", "repair"),
    [
        (names.OUTCOME_VALUE, math.nan, "not_finite"),
        (names.OUTCOME_VALUE, math.inf, "not_finite"),
        (names.OUTCOME_VALUE, "4.5", "wrong_type"),
        (names.OUTCOME_VALUE, True, "wrong_type"),
        (names.OUTCOME_GOOD, 1, "wrong_type"),
        (names.OUTCOME_GOOD, "maybe", "wrong_type"),
        (names.OUTCOME_GOOD, [True], "wrong_type"),
    ],
)
def test_what_is_unusable_beside_the_kind_of_an_outcome_is_left_out(attribute: str, value: object, repair: str) -> None:
    found = decoded(names.OUTCOME, {names.OUTCOME_KIND: "resolved", attribute: value})

    assert [Outcome("resolved", None, None)] == [record.said for record in found.records]
    assert {repair: 1} == found.repairs


def test_an_outcome_of_a_process_that_does_not_know_the_graph_names_none() -> None:
    span = otlp.own(1, names.OUTCOME, {**OUTCOME, names.GRAPH: ""}, s=0)
    [record] = decode_request(otlp.request(span), Window(0, T0_NS * 2)).records

    assert ("shop", "") == (record.service, record.graph)


def test_tags_of_a_note_are_its_tags() -> None:
    assert {"plan": "gold"} == read(names.TAGS, {names.TAG_PREFIX + "plan": "gold"}).tags


def test_equal_topologies_are_equal_whatever_their_spelling() -> None:
    spaced = read(names.TOPOLOGY, {names.TOPOLOGY_JSON: json.dumps(SHAPE, indent=4)}).said
    other_order = read(
        names.TOPOLOGY, {names.TOPOLOGY_JSON: json.dumps({**dict(reversed(SHAPE.items())), "v": 2})}
    ).said

    assert isinstance(spaced, Topology)
    assert (16, SHAPE) == (len(spaced.hash), json.loads(spaced.json))
    assert spaced == other_order


def test_a_report_with_all_its_counts() -> None:
    assert Report("a" * 32, 3, 100, 2, 1, 7, 4, 5) == read(names.REPORT, REPORT).said


def test_counts_of_a_report_that_make_no_sense_are_repaired() -> None:
    found = decoded(names.REPORT, {**REPORT, names.CLIENT_DROPPED: -3, names.CLIENT_FAILED: "many"})

    [record] = found.records
    assert Report("a" * 32, 3, 100, 0, 0, 7, 4, 5) == record.said
    assert {"clamped": 1, "wrong_type": 1} == found.repairs


def without(said: Mapping[str, object], *keys: str) -> dict[str, object]:
    return {key: value for key, value in said.items() if key not in keys}


def topology(text: object) -> dict[str, object]:
    return {names.TOPOLOGY_JSON: text}


REFUSED: list[Any] = [
    (names.OUTCOME, without(OUTCOME, names.OUTCOME_KIND), "no_outcome_kind", names.OUTCOME_KIND),
    (names.OUTCOME, {**OUTCOME, names.OUTCOME_KIND: " "}, "no_outcome_kind", names.OUTCOME_KIND),
    (names.OUTCOME, {**OUTCOME, names.RUN_ID: ""}, "no_run", names.RUN_ID),
    (names.HEARTBEAT, {names.RUN_ID: ""}, "no_run", names.RUN_ID),
    (names.TAGS, {names.RUN_ID: ""}, "no_run", names.RUN_ID),
    (names.TOPOLOGY, {}, "bad_topology", names.TOPOLOGY_JSON),
    (names.TOPOLOGY, topology(7), "bad_topology", names.TOPOLOGY_JSON),
    (names.TOPOLOGY, topology('{"nodes": ["a"'), "bad_topology", "JSON"),
    (names.TOPOLOGY, topology("[" * 60_000), "bad_topology", "JSON"),
    (names.TOPOLOGY, topology("[]"), "bad_topology", "edges"),
    (names.TOPOLOGY, topology('{"nodes": [1], "edges": []}'), "bad_topology", "edges"),
    (names.TOPOLOGY, topology('{"nodes": [], "edges": [["a", "b"]]}'), "bad_topology", "edges"),
    (names.TOPOLOGY, topology('{"nodes": [], "edges": [["a", "b", 1]]}'), "bad_topology", "edges"),
    (
        names.TOPOLOGY,
        topology(json.dumps({"nodes": ["x" * MOST_TOPOLOGY_BYTES], "edges": []})),
        "topology_too_large",
        str(MOST_TOPOLOGY_BYTES),
    ),
    (names.REPORT, without(REPORT, names.CLIENT_ID), "bad_client_id", "32 hex digits"),
    (names.REPORT, {**REPORT, names.CLIENT_ID: "g" * 32}, "bad_client_id", "32 hex digits"),
    (names.REPORT, without(REPORT, names.CLIENT_SEQUENCE), "bad_sequence", "count from 1"),
    (names.REPORT, {**REPORT, names.CLIENT_SEQUENCE: -1}, "bad_sequence", "count from 1"),
]


@pytest.mark.parametrize(("kind", "said", "reason", "hint"), REFUSED)
def test_a_note_without_its_subject_is_refused_and_its_neighbours_are_not(
    kind: str, said: Mapping[str, object], reason: str, hint: str
) -> None:
    bad, good = otlp.own(1, kind, said, s=0), otlp.own(2, names.NODE, {names.NODE_PATH: "a"})
    found = decode_request(otlp.request(bad, good), Window(0, T0_NS * 2))

    assert [names.NODE] == [record.kind for record in found.records]
    [rejection] = found.rejections
    assert reason == rejection.reason
    assert hint in rejection.message


def test_only_a_call_that_failed_was_refused_for_its_rate_limits() -> None:
    for status, expected in ((names.ERROR, True), (names.OK, False)):
        call = otlp.own(1, names.MODEL, {names.STATUS: status, names.RATE_LIMITED: True})
        [record] = decode_request(otlp.request(call), Window(0, T0_NS * 2)).records
        assert expected == record.rate_limited


def test_what_a_run_paused_at_and_resumes_is_read_from_roots_alone() -> None:
    said = {
        names.LANGGRAPH_CHECKPOINT_ID: "c2",
        names.RESUMED_FROM: "c1",
        names.RESUMED_RUN: "r1",
        names.STATE_BYTES: 5_000,
        names.NODE_PATH: "a",
    }
    root, node = (
        decode_request(otlp.request(otlp.own(1, kind, said)), Window(0, T0_NS * 2)).records[0]
        for kind in (names.RUN, names.NODE)
    )

    assert ("c2", "c1", "r1", None) == (
        root.checkpoint_id,
        root.resumed_from,
        root.resumed_run_id,
        root.state_bytes,
    )
    assert ("", "", "", 5_000) == (node.checkpoint_id, node.resumed_from, node.resumed_run_id, node.state_bytes)
