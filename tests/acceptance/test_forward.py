"""Forwarding to a backend: what real clients sent arrives there as it was sent, once, and waits while there is nobody."""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from acceptance.processes import Collector, collector, run_program, until
from acceptance.programs import EXAMPLES
from acceptance.recording import Recorder, recorder
from graphmeter import names
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

FORWARDED = names.COLLECTOR_FORWARDED.name
FAILED = names.COLLECTOR_FORWARD_FAILED.name
DROPPED = names.COLLECTOR_FORWARD_DROPPED.name

Whole = tuple[bytes, bytes, bytes]
"""A span with all that it has, its scope and its resource, as bytes."""


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Real input: every span of a workload over the example graphs, one request each."""
    with recorder() as record:
        run_program(
            tmp_path_factory.mktemp("sent"),
            EXAMPLES,
            GRAPHMETER_ENDPOINT=record.url,
            OTEL_SERVICE_NAME="shop",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,host.name=till-7",
            RUNS="16",
        )
        bodies = record.single_span_requests()
    assert {names.SCOPE} == {scope(body) for body in bodies}
    assert len(bodies) > 100
    return bodies


def scope(body: bytes) -> str:
    """Name of the instrumentation scope of a request of one span."""
    return ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].scope.name


def whole(requests: Iterable[ExportTraceServiceRequest]) -> Counter[Whole]:
    """How often each span is in the requests, notes left out: nobody but a collector has a use for them."""
    found: Counter[Whole] = Counter()
    for request in requests:
        for resource in request.resource_spans:
            for scoped in resource.scope_spans:
                for span in scoped.spans:
                    if kind(span) not in names.NOTES:
                        found[
                            span.SerializeToString(deterministic=True),
                            scoped.scope.SerializeToString(deterministic=True),
                            resource.resource.SerializeToString(deterministic=True),
                        ] += 1
    return found


def kind(span: Span) -> str:
    """What our client says the span stands for; empty on other spans."""
    return next((each.value.string_value for each in span.attributes if each.key == names.KIND), "")


def expected_of(bodies: Iterable[bytes]) -> Counter[Whole]:
    expected = whole(map(ExportTraceServiceRequest.FromString, bodies))
    assert {1} == set(expected.values())
    return expected


def received_by(record: Recorder) -> Counter[Whole]:
    with record.lock:
        return whole(list(record.requests))


def deliver(to: Collector, bodies: list[bytes]) -> None:
    with ThreadPoolExecutor(4) as senders:
        for status, answer in senders.map(to.post, bodies):
            assert (200, b"") == (status, answer)


def test_every_span_arrives_once_and_as_it_was_sent(sent: list[bytes], database_url: str, tmp_path: Path) -> None:
    expected = expected_of(sent)
    with recorder() as backend, collector(tmp_path, "--forward", backend.url, database_url=database_url) as running:
        deliver(running, sent)
        deliver(running, sent[::2])  # what is stored already is not forwarded again

        until("every span at the backend", lambda: received_by(backend).total() >= expected.total())
        until("the count", lambda: running.metric(FORWARDED) == expected.total())
    # The collector has ended: nothing can come after.
    assert expected == received_by(backend)
    assert not any(kind(span) in names.NOTES for span in backend.spans())
    assert (0, 0) == (running_total(running.log, "forward_failed"), running_total(running.log, "forward_refused"))


def running_total(log: Path, event: str) -> int:
    """How often a collector logged an event."""
    return log.read_text().count(f'"{event}"')


def test_what_a_backend_shows_agrees_with_the_collectors_own_trace_view(tmp_path: Path) -> None:
    with recorder() as backend, collector(tmp_path, "--forward", backend.url) as running:
        run_program(tmp_path, EXAMPLES, GRAPHMETER_ENDPOINT=running.url, OTEL_SERVICE_NAME="shop", RUNS="12")
        shown = {
            span["span_id"]: (span["trace_id"], span["parent_id"], span["name"], span["kind"], span["start_ns"])
            for run in running.get("/api/runs?limit=1000")
            for span in running.get(f"/api/runs/{run['trace_id']}/trace")
        }
        until("every span at the backend", lambda: len(of_runs(backend)) >= len(shown))
    assert shown == {
        span.span_id.hex(): (
            span.trace_id.hex(),
            span.parent_span_id.hex(),
            span.name,
            kind(span),
            span.start_time_unix_nano,
        )
        for span in of_runs(backend)
    }


def of_runs(record: Recorder) -> list[Span]:
    """Spans that our client made; the collector also sends a trace of each question that its API was asked."""
    return [span for span in record.spans() if kind(span)]


def test_spans_wait_for_a_backend_that_is_down_and_survive_a_killed_collector(
    sent: list[bytes], database_url: str, tmp_path: Path
) -> None:
    expected, port = expected_of(sent), free_port()
    forward = ("--forward", f"http://127.0.0.1:{port}")
    third = len(sent) // 3
    with collector(tmp_path, *forward, database_url=database_url) as running:
        deliver(running, sent[:third])
        until("an attempt to forward", lambda: running.metric(FAILED) > 0)
        assert (0, 0) == (running.metric(FORWARDED), running.metric(DROPPED))
        running.stop(signal.SIGKILL)

    with collector(tmp_path, *forward, database_url=database_url) as running:
        assert expected_of(sent[:third]).total() == running.metric(names.COLLECTOR_OUTBOX.name)
        deliver(running, sent[third : 2 * third])
        with recorder(port) as backend:
            deliver(running, sent[2 * third :])
            until("every span at the backend", lambda: received_by(backend).total() >= expected.total())
            until("the count", lambda: running.metric(FORWARDED) == expected.total())
            running.stop()
    with collector(tmp_path, *forward, database_url=database_url) as running:
        assert 0 == running.metric(names.COLLECTOR_OUTBOX.name)
    assert expected == received_by(backend)


def test_a_collector_killed_while_it_forwards_loses_nothing(
    sent: list[bytes], postgres_url: str, tmp_path: Path
) -> None:
    """On Postgres: the lock of the dead collector's session is in the way of the next one for a moment."""
    expected = expected_of(sent)
    with recorder() as backend:
        with collector(tmp_path, "--forward", backend.url, database_url=postgres_url) as running:
            deliver(running, sent)
            running.stop(signal.SIGKILL)
        with collector(tmp_path, "--forward", backend.url, database_url=postgres_url):
            until("every span at the backend", lambda: received_by(backend).keys() >= expected.keys())
    # Delivered, and killed before it could write that down: those come twice, as OTLP allows. Nothing else does.
    assert expected.keys() == received_by(backend).keys()
