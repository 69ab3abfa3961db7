"""The way out: real OTLP requests, outages, refusals, broken exporters. The graph never notices any of it."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from callbacks.fakes import FakeChat, asking, chain_of, nothing
from callbacks.otlp import Receiver, attributes
from graphmeter import GraphMeterCallbackHandler, client, guard, names, wire
from graphmeter.delivery import Backoff, Unreachable
from graphmeter.destination import Destination
from graphmeter.emit import Pipeline
from graphmeter.records import Run
from graphmeter.report import Counts
from graphmeter.send import HttpDelivery
from graphmeter.settings import Settings
from graphmeter.testing import InMemorySpans, draw, recorded_span
from support.certificates import Authority
from support.ports import free_port


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


BY_HAND: dict[str, Any] = {"flush_interval_s": 3600.0}
"""Settings with which nothing is sent before a flush, however long a graph takes."""


class Sending:
    """A handler with a pipeline of its own, to `url`."""

    def __init__(self, url: str, **settings: Any) -> None:
        chosen = Settings(**{"flush_interval_s": 0.05, **settings})

        def connect() -> HttpDelivery:
            headers = {"authorization": f"Bearer {chosen.api_key}"} if chosen.api_key else {}
            where = Destination(f"{url}/v1/traces", "test", headers)
            return HttpDelivery(where, Resource({"service.name": "shop"}), chosen.timeout_s)

        self.pipeline = Pipeline(chosen, connect, client.finished, lambda: None)
        self.handler = GraphMeterCallbackHandler(exporter=InMemorySpans())
        self.handler._ground = replace(self.handler._ground, sink=self.pipeline)

    def run(self, times: int = 1) -> None:
        graph = chain_of(("ask", asking(FakeChat())))
        for _ in range(times):
            assert {"x": 1} == graph.invoke({}, config={"callbacks": [self.handler]})


@pytest.fixture
def sending() -> Iterator[Callable[..., Sending]]:
    made: list[Sending] = []

    def make(url: str, **settings: Any) -> Sending:
        made.append(Sending(url, **settings))
        return made[-1]

    yield make
    for one in made:
        one.pipeline.shutdown(0.1)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_spans_arrive_as_otlp(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    one = sending(receiver.url, api_key="k1")
    one.run()
    assert one.pipeline.flush(60)
    assert ["model", "node", "run", "start"] == receiver.kinds()
    assert {"/v1/traces"} == set(receiver.paths)
    assert "Bearer k1" == receiver.headers[0]["authorization"]
    assert "application/x-protobuf" == receiver.headers[0]["content-type"]
    assert "shop" == receiver.resources[0]["service.name"]
    assert {"graphmeter"} == receiver.scopes
    call = next(span for span in receiver.spans if attributes(span)[names.KIND] == "model")
    assert (3, 10) == (call.kind, attributes(call)[names.USAGE_INPUT])  # 3: CLIENT
    assert Counts(4, 0, 0, 0) == one.pipeline.counts()


def test_a_proxy_does_not_get_what_is_meant_for_this_machine(
    receiver: Receiver, sending: Callable[..., Sending], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    one = sending(receiver.url)
    one.run()

    assert one.pipeline.flush(60)
    assert ["model", "node", "run", "start"] == receiver.kinds()


def test_the_start_of_a_run_is_known_before_its_end(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    one = sending(receiver.url)
    seen: list[list[str]] = []

    def slow(state: Any) -> Any:
        wait_for(lambda: bool(receiver.spans))
        seen.append(receiver.kinds())
        return {"x": 1}

    chain_of(("slow", slow)).invoke({}, config={"callbacks": [one.handler]})
    assert [["start"]] == seen


def test_an_unreachable_collector_is_said_once_and_harms_nothing(
    sending: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    one = sending(f"http://127.0.0.1:{free_port()}", queue_spans=16)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            one.run()
            assert not one.pipeline.flush(60)
    counts = one.pipeline.counts()
    assert 1 == len([record for record in caplog.records if "cannot reach" in record.getMessage()])
    assert 1 == len(caplog.records)
    assert (0, 0, 16) == (counts.exported, counts.failed, counts.queued)
    assert 40 == sum(counts)
    assert not one.pipeline.shutdown(1)
    assert Counts(0, 24, 16, 0) == one.pipeline.counts()


def test_spans_wait_out_an_outage(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    receiver.answers = [503, 429]
    one = sending(receiver.url, **BY_HAND)
    one.run()
    assert not one.pipeline.flush(60)
    # The second refusal may fall to the pipeline's own attempt.
    assert any(one.pipeline.flush(60) for _ in range(2))
    assert [] == receiver.answers
    assert ["model", "node", "run", "start"] == receiver.kinds()
    assert Counts(4, 0, 0, 0) == one.pipeline.counts()


def test_pauses_leave_the_applications_random_numbers_alone() -> None:
    before = random.getstate()
    pauses = Backoff()
    for _ in range(3):
        pauses.failed(Unreachable("away"))
    assert pauses.wait_s > 0
    assert before == random.getstate()


def test_spans_go_over_tls_to_whom_the_machine_trusts(
    sending: Callable[..., Sending], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    secret = Receiver(authority.server())
    try:
        distrustful = sending(secret.url)
        distrustful.run()
        assert not distrustful.pipeline.flush(60)
        assert [] == secret.spans
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        trusting = sending(secret.url)
        trusting.run()
        assert trusting.pipeline.flush(60)
    finally:
        secret.close()
    assert ["model", "node", "run", "start"] == secret.kinds()


def test_a_redirect_is_a_refusal(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    receiver.answers = [302]
    one = sending(receiver.url, **BY_HAND)
    one.run()
    assert not one.pipeline.flush(60)
    assert (Counts(0, 0, 4, 0), 1) == (one.pipeline.counts(), receiver.requests)


def test_a_refusal_is_final_and_counted(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    receiver.answers = [400]
    one = sending(receiver.url, **BY_HAND)
    one.run()
    assert not one.pipeline.flush(60)
    assert Counts(0, 0, 4, 0) == one.pipeline.counts()
    assert {"spans refused by the collector": 1} == guard.faults()


def test_a_partial_refusal_counts_its_part(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    receiver.reject = 1
    one = sending(receiver.url, **BY_HAND)
    one.run()
    assert not one.pipeline.flush(60)
    assert Counts(3, 0, 1, 0) == one.pipeline.counts()


def test_a_collector_that_hangs_does_not_hold_up_the_graph(sending: Callable[..., Sending]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        one = sending(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=3600.0)
        one.run()
        # Each of these would wait for an hour.
        one.run(5)
        assert not one.pipeline.flush(0.05)
        assert not one.pipeline.shutdown(0.2)


@pytest.mark.parametrize("fault", [RuntimeError("broken"), None], ids=["raises", "fails"])
def test_a_broken_exporter_is_counted(fault: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_settings", Settings(**BY_HAND, topology=False))

    class Broken(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if fault is not None:
                raise fault
            return SpanExportResult.FAILURE

        def shutdown(self) -> None:
            raise RuntimeError("broken, too")

    exporter = Broken()
    handler = GraphMeterCallbackHandler(exporter=exporter)
    assert {"x": 1} == chain_of(("n", nothing)).invoke({}, config={"callbacks": [handler]})
    pipeline = client.pipeline(exporter=exporter)
    assert not pipeline.flush(60)
    assert Counts(0, 0, 3, 0) == pipeline.counts()
    client.discard(exporter)
    assert guard.faults()


def test_one_span_that_cannot_be_encoded_does_not_cost_the_others(
    receiver: Receiver, sending: Callable[..., Sending], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = wire.encode

    def fussy(run: Run, service: str, *, error_messages: bool) -> bytes:
        if run.kind == names.NODE:
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return real(run, service, error_messages=error_messages)

    monkeypatch.setattr(wire, "encode", fussy)
    one = sending(receiver.url, **BY_HAND)
    one.run()
    assert not one.pipeline.flush(60)
    assert ["model", "run", "start"] == receiver.kinds()
    assert Counts(3, 0, 1, 0) == one.pipeline.counts()
    assert {"build span: UnicodeEncodeError": 1} == guard.faults()


def test_spans_of_the_application_go_along_and_an_odd_one_costs_only_itself(
    receiver: Receiver, sending: Callable[..., Sending]
) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "front"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for name in ("GET /", "\ud800", "GET /again"):
        provider.get_tracer("app").start_span(name).end()
    one = sending(receiver.url, **BY_HAND)
    for span in kept.get_finished_spans():
        one.pipeline.take(span)
    one.run()
    assert not one.pipeline.flush(60)
    assert 1 == receiver.requests
    assert [
        "GET /",
        "GET /again",
        "chat gpt-4o-mini",
        "graphmeter.run_start",
        "invoke_node ask",
        "invoke_workflow demo",
    ] == sorted(span.name for span in receiver.spans)
    assert ["shop", "front"] == [resource["service.name"] for resource in receiver.resources]
    assert {"app", "graphmeter"} == receiver.scopes
    assert Counts(6, 0, 1, 0) == one.pipeline.counts()


def test_a_full_queue_drops_and_counts(sending: Callable[..., Sending], receiver: Receiver) -> None:
    gate = threading.Event()
    one = sending(receiver.url, queue_spans=16)
    connect = one.pipeline._connect

    def late() -> Any:
        gate.wait(60)
        return connect()

    one.pipeline._connect = late
    one.run(10)
    gate.set()
    assert one.pipeline.flush(60)
    counts = one.pipeline.counts()
    assert 40 == sum(counts)
    # One bound for finished runs, one for built spans.
    assert 16 <= counts.exported <= 32
    assert 40 - counts.exported == counts.dropped


def test_flush_with_nothing_to_send_is_quick(sending: Callable[..., Sending]) -> None:
    one = sending(f"http://127.0.0.1:{free_port()}")
    assert one.pipeline.flush(60)
    assert one.pipeline.shutdown(1)
    one.run()
    assert Counts(0, 4, 0, 0) == one.pipeline.counts()


def test_http_instrumentation_does_not_see_our_requests(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    seen: list[bool] = []
    one = sending(receiver.url)
    connect = one.pipeline._connect

    def look() -> Any:
        seen.append(is_instrumentation_enabled())
        return connect()

    one.pipeline._connect = look
    one.run()
    assert one.pipeline.flush(60)
    assert [False] == seen


def test_a_tracer_provider_may_take_the_place_of_the_pipeline() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    handler = GraphMeterCallbackHandler(tracer_provider=provider)
    inner = chain_of(("ask", asking(FakeChat())), name="inner")
    chain_of(("sub", inner)).invoke({}, config={"callbacks": [handler]})
    recorded = sorted(map(recorded_span, kept.get_finished_spans()), key=lambda span: span.start_ns)
    start = next(span for span in recorded if span.kind == names.START)
    others = [span for span in recorded if span.kind != names.START]
    assert (
        "run demo ok\n"
        "  node sub ok\n"
        "    subgraph inner ok\n"
        "      node ask ok\n"
        "        model gpt-4o-mini ok 10→5" == draw(others)
    )
    assert start.parent_id == others[0].span_id
    assert 1 == len({span.trace_id for span in recorded})


def test_a_tracer_provider_keeps_its_own_sampler() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    handler = GraphMeterCallbackHandler(tracer_provider=provider)
    assert {"x": 1} == chain_of(("n", nothing)).invoke({}, config={"callbacks": [handler]})
    assert () == kept.get_finished_spans()
