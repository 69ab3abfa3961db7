"""Instrumentations of provider SDKs below our model calls: the same call once more, known by what it inherits."""

from __future__ import annotations

import pytest
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from callbacks.application import Application
from callbacks.fakes import FakeChat, State, chain_of
from graphmeter import GraphMeterCallbackHandler, guard, marks, names
from graphmeter.testing import InMemorySpans
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.records import SpanRecord

SAID: dict[str, str | int] = {
    names.OPERATION: "chat",
    names.REQUEST_MODEL: "gpt-4o-mini",
    names.USAGE_INPUT: 3,
    names.USAGE_OUTPUT: 1,
}


def received(app: Application) -> list[SpanRecord]:
    message = ExportTraceServiceRequest.FromString(encode_spans(app.finished()).SerializeToString())
    return decode_request(message, Window(0, 2**63)).records


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("provided", [False, True], ids=["own pipeline", "tracer_provider"])
def test_a_call_below_ours_is_a_twin_and_a_raw_one_in_a_node_is_not(
    spans: InMemorySpans, app: Application, provided: bool
) -> None:
    sdk = app.provider.get_tracer("opentelemetry.instrumentation.openai_v2")

    def call(name: str) -> None:
        with sdk.start_as_current_span(name, attributes=SAID), app.tracer.start_as_current_span("POST"):
            pass

    def node(state: State) -> State:
        call("before")
        FakeChat(seen=lambda: call("inside")).invoke("hi")
        call("after")
        return {"x": 1}

    handler = GraphMeterCallbackHandler(tracer_provider=TracerProvider()) if provided else spans.handler()
    chain_of(("n", node)).invoke({}, config={"callbacks": [handler]})
    call("outside")
    expected = {"before": names.MODEL, "inside": names.SPAN, "after": names.MODEL, "outside": names.MODEL}
    records = {record.name: record for record in received(app)}
    assert expected == {name: records[name].kind for name in expected}
    assert ["inside"] == [name for name, record in records.items() if record.twin]


@pytest.mark.usefixtures("no_faults")
def test_what_another_service_does_for_our_call_is_its_own(
    spans: InMemorySpans, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers: dict[str, str] = {}
    model = FakeChat(seen=lambda: TraceContextTextMapPropagator().inject(headers))
    chain_of(("n", lambda _: {"x": len(model.invoke("hi").content)})).invoke(
        {}, config={"callbacks": [spans.handler()]}
    )
    assert headers["tracestate"].startswith("graphmeter=m:")

    downstream = Application(monkeypatch, service="gateway")
    sdk = downstream.provider.get_tracer("opentelemetry.instrumentation.openai_v2")
    with sdk.start_as_current_span("chat", context=TraceContextTextMapPropagator().extract(headers), attributes=SAID):
        pass
    (record,) = received(downstream)
    assert (names.MODEL, False, spans.one("run").trace_id) == (
        record.kind,
        record.twin,
        int.from_bytes(record.trace_id),
    )


@pytest.mark.usefixtures("no_faults")
def test_entries_of_others_survive_and_ours_stands_first(spans: InMemorySpans, app: Application) -> None:
    seen: list[str] = []
    given = TraceState([("vendor", "a"), ("graphmeter", "m:00000000"), *((f"k{number}", "v") for number in range(30))])
    outer = SpanContext(1, 2, True, TraceFlags(1), given)

    def look() -> None:
        with app.tracer.start_as_current_span("x") as span:
            seen.append(span.get_span_context().trace_state.to_header())

    def node(state: State) -> State:
        look()
        FakeChat(seen=look).invoke("hi")
        return {"x": 1}

    token = context.attach(set_span_in_context(NonRecordingSpan(outer)))
    try:
        chain_of(("n", node)).invoke({}, config={"callbacks": [spans.handler()]})
    finally:
        context.detach(token)
    in_node, in_call = seen
    assert in_node.startswith("graphmeter=n:")
    assert in_call.startswith("graphmeter=m:")
    assert ["vendor", *(f"k{number}" for number in range(30))] == [
        entry.split("=")[0] for entry in in_node.split(",")[1:]
    ]
    # Ours carry what the application said, and nothing of this.
    assert "run demo ok" == spans.tree().splitlines()[0]
    assert {given.to_header()} == {span.context.trace_state.to_header() for span in spans._spans}


@pytest.mark.usefixtures("no_faults")
def test_the_mark_is_made_once_for_all_runs_without_entries_of_others(app: Application) -> None:
    provider = trace.get_tracer_provider()
    assert marks.inside(TraceState(), provider) is marks.inside(TraceState(), provider)


def test_a_provider_that_breaks_when_asked_costs_the_mark_alone(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Application(monkeypatch)

    class Broken:
        @property
        def attributes(self) -> object:
            raise ZeroDivisionError

    monkeypatch.setattr(app.provider, "_resource", Broken())
    chain_of(("n", lambda _: {"x": 1})).invoke({}, config={"callbacks": [spans.handler()]})
    assert guard.faults().keys() >= {"marks: ZeroDivisionError"}
    guard.forget()
