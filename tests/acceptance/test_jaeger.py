"""Traces read well where people read them: forwarded to Jaeger 2 and read back through its API.

Where no Jaeger is found (JAEGER_BIN, PATH) the same is read from the OTLP that an independent receiver got; names of tests
say which of both it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.processes import collector, run_program, until
from acceptance.programs import EXAMPLES
from acceptance.tracing import CHILD_OF, FOLLOWS_FROM, Backend, Shown, backend, jaeger_binary
from graphmeter import names

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "shop"
NAMES = {
    names.RUN: (names.OP_WORKFLOW, names.WORKFLOW_NAME),
    names.SUBGRAPH: (names.OP_WORKFLOW, names.WORKFLOW_NAME),
    names.NODE: (names.OP_NODE, names.NODE_NAME),
    names.TOOL: (names.OP_TOOL, names.TOOL_NAME),
    names.RETRIEVER: (names.OP_RETRIEVAL, names.DATA_SOURCE_ID),
}
"""Kind → how its spans' names begin, and the tag that has the rest."""


@pytest.fixture(scope="module", params=[jaeger_binary()], ids=lambda binary: "Jaeger" if binary else "no Jaeger: OTLP")
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Has all spans of a workload over the example graphs."""
    folder = tmp_path_factory.mktemp("jaeger")
    with backend(request.param, folder) as found, collector(folder, "--forward", found.url) as running:
        run_program(folder, EXAMPLES, GRAPHMETER_ENDPOINT=running.url, OTEL_SERVICE_NAME=SERVICE, RUNS="24")
        sent = sum(run["spans"] for run in running.get("/api/runs?limit=1000"))
        until("every span", lambda: len(found.spans(SERVICE)) >= sent)
        yield found


@pytest.fixture(scope="module")
def spans(traces: Backend) -> list[Shown]:
    return traces.spans(SERVICE)


def test_an_application_is_a_service(traces: Backend, spans: list[Shown]) -> None:
    assert SERVICE in traces.services()
    assert {SERVICE} == {span.service for span in spans}


def test_spans_are_named_after_what_they_did(spans: list[Shown]) -> None:
    for span in spans:
        kind = span.tags[names.KIND]
        if kind == names.MODEL:
            assert span.name.split()[0] == span.tags[names.OPERATION]
            assert span.name.removeprefix(f"{span.tags[names.OPERATION]} ") == span.tags[names.REQUEST_MODEL]
        else:
            operation, tag = NAMES[kind]
            assert f"{operation} {span.tags[tag]}" == span.name
    assert {names.RUN, names.NODE, names.MODEL, names.TOOL} <= {span.tags[names.KIND] for span in spans}


def test_model_calls_are_calls_to_their_providers_and_nothing_else_leaves_the_process(spans: list[Shown]) -> None:
    called = {(span.tags["span.kind"], names.PEER_SERVICE in span.tags) for span in spans if _is(span, names.MODEL)}
    others = {(span.tags["span.kind"], names.PEER_SERVICE in span.tags) for span in spans if not _is(span, names.MODEL)}
    assert {("client", True)} == called
    assert {("internal", False)} == others
    assert {"openai"} <= {span.tags[names.PEER_SERVICE] for span in spans if _is(span, names.MODEL)}


def _is(span: Shown, kind: str) -> bool:
    return bool(span.tags[names.KIND] == kind)


def test_failures_are_red_and_say_why(spans: list[Shown]) -> None:
    failed = [span for span in spans if span.tags[names.STATUS] == names.ERROR]
    assert failed
    for span in failed:
        assert (True, "ERROR") == (span.tags["error"], span.tags["otel.status_code"])
        [exception] = [event for event in span.events if event["event"] == "exception"]
        assert span.tags[names.ERROR_TYPE] == exception["exception.type"]
    assert [] == [span.name for span in spans if "error" in span.tags and span not in failed]


def test_every_span_hangs_on_one_of_its_trace(spans: list[Shown]) -> None:
    there = {(span.trace_id, span.span_id) for span in spans}
    parents = [reference[1:] for span in spans for reference in span.references if reference[0] == CHILD_OF]
    assert set(parents) <= there
    assert len(spans) - len(parents) == len({span.trace_id for span in spans})


def test_a_resumed_run_leads_to_the_one_that_was_interrupted(spans: list[Shown]) -> None:
    runs = {span.tags[names.RUN_ID]: span for span in spans if _is(span, names.RUN)}
    resumed = [run for run in runs.values() if names.RESUMED_RUN in run.tags]
    assert resumed
    for run in resumed:
        before = runs[run.tags[names.RESUMED_RUN]]
        assert before.tags[names.STATUS] == names.INTERRUPTED
        assert (FOLLOWS_FROM, before.trace_id, before.span_id) in run.references


@pytest.mark.parametrize("tag", [names.NODE_PATH, names.COST_USD, names.STATUS, names.TEAM, names.GRAPH])
def test_traces_are_found_by_what_ran_in_them_and_what_it_cost(tag: str, traces: Backend, spans: list[Shown]) -> None:
    wanted = next(span for span in reversed(spans) if span.tags.get(tag))
    value = str(wanted.tags[tag])
    expected = {span.trace_id for span in spans if str(span.tags.get(tag)) == value}
    assert expected == {span.trace_id for span in traces.spans(SERVICE, **{tag: value})}
