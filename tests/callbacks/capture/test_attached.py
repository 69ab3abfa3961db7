"""Capture through `meter()`, `instrument()`, nested graphs, workers and providers; a fault in it costs nothing else."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

from callbacks.fakes import FakeChat, asking, chain_of
from graphmeter import attach, client, guard, instrument, meter, names, uninstrument
from graphmeter.capture import Taken
from graphmeter.handler import GraphMeterCallbackHandler
from graphmeter.redact import Where
from graphmeter.testing import InMemorySpans


@pytest.fixture
def sent(spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch) -> InMemorySpans:
    """What the default pipeline sends."""
    monkeypatch.setattr(attach, "_shared", None)
    monkeypatch.setattr(client, "pipeline", lambda **options: original(exporter=spans))
    return spans


original = client.pipeline


def masked(text: str, where: Where) -> str | None:
    return f"{where.graph}/{where.node}/{where.name}: {text}" if text == "hi" else None


HI = '[{"role":"user","parts":[{"type":"text","content":"demo/ask/gpt-4o-mini: hi"}]}]'


def test_meter_captures_a_graph(sent: InMemorySpans) -> None:
    graph = meter(chain_of(("ask", asking(FakeChat()))), capture="content", redact=masked)
    graph.invoke({})
    call = sent.one("model")
    assert HI == call.attributes[names.INPUT_MESSAGES]
    assert (
        '[{"role":"assistant","parts":[{"type":"text","content":"[redacted]"}]}]'
        == call.attributes[names.OUTPUT_MESSAGES]
    )


def test_instrument_captures_every_graph(sent: InMemorySpans) -> None:
    instrument(capture=["content"], redact=masked)
    try:
        chain_of(("ask", asking(FakeChat()))).invoke({})
    finally:
        uninstrument()
    assert HI == sent.one("model").attributes[names.INPUT_MESSAGES]


def test_a_handler_of_ones_own_is_told_by_itself(sent: InMemorySpans) -> None:
    graph = chain_of(("ask", asking(FakeChat())))
    handler = GraphMeterCallbackHandler()
    for attempt in (
        lambda: meter(graph, handler=handler, capture="content"),
        lambda: instrument(handler, redact=masked),
    ):
        with pytest.raises(ValueError, match="capture= and redact= belong to the handler"):
            attempt()
    with pytest.raises(ValueError, match="has a handler already"):
        meter(meter(graph), capture="content")


def test_the_outermost_graph_decides_for_those_inside(sent: InMemorySpans) -> None:
    inner = meter(chain_of(("ask", asking(FakeChat()))), capture="content")
    outer = meter(chain_of(("inner", inner), name="outer"))
    outer.invoke({})
    assert names.INPUT_MESSAGES not in sent.one("model").attributes


def test_a_call_that_hears_of_no_handler_is_captured_all_the_same(spans: InMemorySpans) -> None:
    def node(state: Any) -> Any:
        FakeChat().invoke("hi", config={"callbacks": []})
        return {"x": 1}

    captures, plain = spans.handler(capture="content"), spans.handler()
    chain_of(("ask", node)).invoke({}, config={"callbacks": [captures]})
    assert names.INPUT_MESSAGES in spans.one("model").attributes
    assert plain is not captures


def test_a_handler_keeps_what_it_captures_and_redacts_on_its_way_to_a_worker() -> None:
    made = pickle.loads(pickle.dumps(GraphMeterCallbackHandler(capture="content", redact=masked)))
    assert made._made_with["redact"] is masked
    assert frozenset({"content"}) == made._ground.capture.kinds


def test_a_provider_of_the_users_gets_the_same_redacted(spans: InMemorySpans) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    handler = GraphMeterCallbackHandler(tracer_provider=provider, capture="content", redact=masked)
    chain_of(("ask", asking(FakeChat()))).invoke({}, config={"callbacks": [handler]})
    assert HI == spans.one("model").attributes[names.INPUT_MESSAGES]


def test_what_cannot_be_captured_is_missing_and_counted_and_the_span_is_there(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Taken, "__init__", breaks)
    graph = chain_of(("ask", asking(FakeChat())))
    assert {"x": 1} == graph.invoke({}, config={"callbacks": [spans.handler(capture="content,state")]})
    assert "run demo ok\n  node ask ok\n    model gpt-4o-mini ok 10→5" == spans.tree()
    assert {"node_given", "node_wrote", "chat_asked", "model_answered"} == {
        kind.partition(":")[0] for kind in guard.faults()
    }


def test_a_failing_redactor_costs_the_value_and_nothing_else(
    spans: InMemorySpans, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(text: str, where: Where) -> str:
        if where.attribute == names.INPUT_MESSAGES:
            raise LookupError(text)
        return 7 if where.attribute == names.STATE_DIFF else text  # type: ignore[return-value]

    model = FakeChat()

    def node(state: Any) -> Any:
        model.invoke("hi")
        return {"x": "text"}

    handler = spans.handler(capture="content,state_diff", redact=broken)
    for _ in range(3):
        chain_of(("ask", node)).invoke({}, config={"callbacks": [handler]})
    for call in spans.spans("model"):
        assert names.INPUT_MESSAGES not in call.attributes
        assert names.OUTPUT_MESSAGES in call.attributes
    for one in spans.spans("node"):
        assert names.STATE_DIFF not in one.attributes
        assert ["x"] == one.attributes[names.STATE_KEYS]
    assert {
        f"redact {names.INPUT_MESSAGES}: LookupError": 3,
        f"redact {names.STATE_DIFF}: Unusable": 3,
    } == guard.faults()
    assert 2 == len([record for record in caplog.records if "not sent, redacting it failed" in record.message])


def test_content_is_sent_in_smaller_requests_and_left_out_while_too_much_waits(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHMETER_CAPTURE_BYTES", "262144")
    monkeypatch.setattr(client, "_settings", None)
    sizes: list[int] = []
    waits = threading.Event()
    export = spans.export

    def counted(batch: Sequence[ReadableSpan]) -> SpanExportResult:
        waits.wait(60)
        sizes.append(len(batch))
        return export(batch)

    monkeypatch.setattr(spans, "export", counted)
    graph = chain_of(("ask", asking(FakeChat())))
    config: Any = {"callbacks": [spans.handler(capture="content,state")]}
    for _ in range(30):
        graph.invoke({}, config=config)
    waits.set()
    assert 30 == len(calls := spans.spans("model"))
    assert 5 == max(sizes)
    assert 0 < sum(names.INPUT_MESSAGES in call.attributes for call in calls) < 30
    assert all(names.STATE_BYTES in node.attributes for node in spans.spans("node"))
    assert {"captured content left out"} == set(guard.faults())
