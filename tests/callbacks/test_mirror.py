"""`mirror=True` shows our spans to the application's backend, `GraphMeterSpanProcessor` shows its spans to our collector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from callbacks.application import Application
from callbacks.fakes import FakeChat, State, asking, chain_of, nothing
from callbacks.otlp import Receiver
from graphmeter import GraphMeterCallbackHandler, GraphMeterSpanProcessor, client, following, guard, names, processor
from graphmeter.testing import InMemorySpans
from graphmeter_collector.decode.request import Window, decode_request


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Application:
    return Application(monkeypatch)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(following, "active", False)
    monkeypatch.setattr(processor, "_processors", WeakSet())
    running = Receiver()
    yield running
    client.pipeline(endpoint=running.url).shutdown(5.0)
    running.close()


def asked(app: Application, handler: GraphMeterCallbackHandler) -> None:
    with app.tracer.start_as_current_span("POST /chat"):
        chain_of(("ask", asking(FakeChat()))).invoke({}, config={"callbacks": [handler]})


def forwardable(spans: list[ReadableSpan]) -> dict[str, bool]:
    message = ExportTraceServiceRequest.FromString(encode_spans(spans).SerializeToString())
    return {record.name: record.forwardable for record in decode_request(message, Window(0, 2**63)).records}


NAMES = ["POST /chat", "chat gpt-4o-mini", "invoke_node ask", "invoke_workflow demo"]


@pytest.mark.usefixtures("no_faults")
def test_mirrored_spans_reach_the_application_and_are_not_forwarded(spans: InMemorySpans, app: Application) -> None:
    asked(app, spans.handler(mirror=True))
    assert "run demo ok\n  node ask ok\n    model gpt-4o-mini ok 10→5" == spans.tree()
    theirs = app.spans()
    assert NAMES == sorted(theirs)
    assert {span.name: span.span_id for span in spans.spans()} == {
        name: theirs[name].context.span_id for name in NAMES[1:]
    }
    assert theirs["POST /chat"].context.span_id == spans.one("run").parent_id
    assert dict.fromkeys(NAMES[1:], False) | {"graphmeter.run_start": False} == forwardable(spans._spans)


@pytest.mark.usefixtures("no_faults")
def test_the_switch_is_off_and_can_be_turned_on_from_outside(
    spans: InMemorySpans, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(app, spans.handler())
    assert 3 == len(spans.spans())
    assert ["POST /chat"] == list(app.spans())
    assert {True} == {forwardable([span])[span.name] for span in spans._spans if span.name in NAMES}
    monkeypatch.setenv("GRAPHMETER_MIRROR", "1")
    monkeypatch.setattr(client, "_settings", None)
    asked(app, spans.handler())
    spans.all()
    assert NAMES == sorted(app.spans())


@pytest.mark.usefixtures("no_faults")
def test_what_the_application_does_not_sample_is_not_mirrored(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Application(monkeypatch, ALWAYS_OFF)
    asked(app, spans.handler(mirror=True))
    assert 3 == len(spans.spans())
    assert {} == app.spans()
    assert {True} == {forwardable([span])[span.name] for span in spans._spans if span.name in NAMES}


def test_a_processor_that_breaks_costs_its_copy_alone(spans: InMemorySpans, app: Application) -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise ZeroDivisionError

    app.provider.add_span_processor(Broken())
    chain_of(("n", nothing)).invoke({}, config={"callbacks": [spans.handler(mirror=True)]})
    assert "run demo ok\n  node n ok" == spans.tree()
    assert {"hand_over: ZeroDivisionError": 2} == guard.faults()
    guard.forget()


def test_without_a_provider_there_is_nowhere_to_mirror_to(spans: InMemorySpans) -> None:
    chain_of(("n", nothing)).invoke({}, config={"callbacks": [spans.handler(mirror=True)]})
    assert "run demo ok\n  node n ok" == spans.tree()
    assert {"nowhere to mirror spans to": 2} == guard.faults()
    guard.forget()


def served(app: Application, receiver: Receiver, **options: Any) -> GraphMeterCallbackHandler:
    app.provider.add_span_processor(GraphMeterSpanProcessor(endpoint=receiver.url, **options))
    return GraphMeterCallbackHandler(endpoint=receiver.url)


def received(receiver: Receiver) -> list[str]:
    """Names of the spans that arrived, without those of nodes and runs."""
    assert client.pipeline(endpoint=receiver.url).flush(60)
    return sorted(span.name for span in receiver.spans if not span.name.startswith(("invoke_", "graphmeter.")))


@pytest.mark.usefixtures("no_faults")
def test_spans_of_traces_that_hold_a_run_are_sent_too(app: Application, receiver: Receiver) -> None:
    handler = served(app, receiver)

    def node(state: State) -> State:
        with app.tracer.start_as_current_span("query"):
            return {"x": 1}

    graph = chain_of(("n", node))
    with app.tracer.start_as_current_span("GET /health"), app.tracer.start_as_current_span("ping"):
        pass
    with app.tracer.start_as_current_span("POST /chat"):
        with app.tracer.start_as_current_span("login"):
            pass
        graph.invoke({}, config={"callbacks": [handler]})
        with app.tracer.start_as_current_span("render"):
            pass
    graph.invoke({}, config={"callbacks": [handler]})
    assert ["POST /chat", "login", "query", "query", "render"] == received(receiver)
    assert 11 == len(receiver.spans)
    assert {"application", names.SCOPE} == receiver.scopes
    # The application's own exporter has what it always had.
    assert 7 == len(app.finished())


@pytest.mark.usefixtures("no_faults")
def test_mirrored_spans_do_not_come_back(app: Application, receiver: Receiver) -> None:
    served(app, receiver)
    asked(app, GraphMeterCallbackHandler(endpoint=receiver.url, mirror=True))
    assert ["POST /chat", "chat gpt-4o-mini"] == received(receiver)
    assert 5 == len(receiver.spans)


@pytest.mark.usefixtures("no_faults")
def test_a_span_that_another_service_began_ends_the_waiting_too(app: Application, receiver: Receiver) -> None:
    served(app, receiver)
    remote = set_span_in_context(NonRecordingSpan(SpanContext(7, 8, True, TraceFlags(1))))
    with app.tracer.start_as_current_span("GET /", remote), app.tracer.start_as_current_span("inner"):
        pass
    (one,) = processor._processors
    assert (0, {}) == (one._count, dict(one._waiting))
    assert [] == received(receiver)


@pytest.mark.usefixtures("no_faults")
def test_waiting_is_bounded(app: Application, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_MOST_WAITING", 3)
    handler = served(app, receiver)
    first, second = app.tracer.start_span("first"), app.tracer.start_span("second")
    for root in (first, second):
        for number in range(2):
            app.tracer.start_span(f"piece {number}", set_span_in_context(root)).end()
    for root in (first, second):
        with trace.use_span(root, end_on_exit=True):
            chain_of(("n", nothing)).invoke({}, config={"callbacks": [handler]})
    # The pieces of the first were given up for those of the second.
    assert ["first", "piece 0", "piece 1", "second"] == received(receiver)


@pytest.mark.usefixtures("no_faults")
def test_what_the_application_exports_itself_need_not_be_forwarded(app: Application, receiver: Receiver) -> None:
    asked(app, served(app, receiver, forward=False))
    received(receiver)
    (span,) = [span for span in receiver.spans if span.name == "POST /chat"]
    assert [(names.MIRRORED, True)] == [(pair.key, pair.value.bool_value) for pair in span.attributes]
    assert {} == dict(app.spans()["POST /chat"].attributes or {})
