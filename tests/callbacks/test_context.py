"""The application's own spans: they nest under our runs, keep their own sampling, and nothing of ours stays behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from callbacks.application import Application
from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of, nothing
from graphmeter import context
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Application:
    return Application(monkeypatch)


def config(spans: InMemorySpans) -> Any:
    return {"callbacks": [spans.handler()]}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def test_nothing_is_current_after_a_sync_run(spans: InMemorySpans) -> None:
    before = otel_context.get_current()
    chain_of(("n", nothing)).invoke({}, config=config(spans))
    assert before is otel_context.get_current()


def test_the_current_context_is_reached_as_opentelemetry_reaches_it() -> None:
    class Elsewhere(ContextVarsRuntimeContext):
        """Keeps the context in a way of its own."""

    get_current, attach = context.ways(otel_context._RUNTIME_CONTEXT)
    before, inside = otel_context.get_current(), Context({"a": 1})
    attach(inside)
    assert (inside, inside) == (otel_context.get_current(), get_current())
    attach(before)
    assert before is otel_context.get_current()
    assert otel_context.get_current is not get_current
    assert (otel_context.get_current, otel_context.attach) == context.ways(Elsewhere())


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_always_off_application_is_measured_in_full_and_stays_off(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    app = Application(monkeypatch, ALWAYS_OFF)
    flags: list[bool] = []

    def inside() -> None:
        with app.tracer.start_as_current_span("http") as span:
            flags.append(span.get_span_context().trace_flags.sampled)

    with app.tracer.start_as_current_span("POST /chat") as outer:
        if asynchronous:
            await chain_of(("n", asking_async(FakeChat(seen=inside)))).ainvoke({}, config=config(spans))
        else:
            chain_of(("n", asking(FakeChat(seen=inside)))).invoke({}, config=config(spans))
    chain_of(("n", asking(FakeChat(seen=inside)))).invoke({}, config=config(spans))
    tree = "run demo ok\n  node n ok\n    model gpt-4o-mini ok 10→5"
    assert f"{tree}\n{tree}" == spans.tree()
    assert {} == app.spans()
    assert [False, False] == flags
    first = spans.spans("run")[0]
    assert (outer.get_span_context().trace_id, outer.get_span_context().span_id) == (first.trace_id, first.parent_id)


def test_an_application_that_samples_a_part_still_samples_that_part(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Application(monkeypatch, ParentBased(TraceIdRatioBased(0.25)))

    def node(state: State) -> State:
        with app.tracer.start_as_current_span("work"):
            pass
        return {"x": 1}

    graph = chain_of(("n", node))
    handler = spans.handler()
    for _ in range(200):
        graph.invoke({}, config={"callbacks": [handler]})
    kept = len(app.exporter.get_finished_spans())
    assert 200 == len(spans.spans("run"))
    # 50 expected, standard deviation 6; as a plain UUID the trace id would give exactly 0.
    assert 15 < kept < 100


def test_what_the_application_sets_on_the_current_span_reaches_its_own(spans: InMemorySpans, app: Application) -> None:
    def node(state: State) -> State:
        span = trace.get_current_span()
        span.set_attribute("customer", "acme")
        span.add_event("looked")
        span.set_status(trace.StatusCode.ERROR, "theirs")
        assert span.is_recording()
        return {"x": 1}

    with app.tracer.start_as_current_span("POST /chat"):
        chain_of(("n", node)).invoke({}, config=config(spans))
    outer = app.spans()["POST /chat"]
    assert {"customer": "acme"} == dict(outer.attributes or {})
    assert ["looked"] == [event.name for event in outer.events]
    assert not outer.status.is_ok
    assert "customer" not in spans.one("node").attributes


def test_baggage_set_after_a_run_survives_the_next_one(spans: InMemorySpans) -> None:
    seen: list[object] = []

    def node(state: State) -> State:
        seen.append(baggage.get_baggage("key"))
        return {"x": 1}

    graph = chain_of(("n", node))

    async def main() -> None:
        await graph.ainvoke({}, config=config(spans))
        token = otel_context.attach(baggage.set_baggage("key", "value"))
        await graph.ainvoke({}, config=config(spans))
        otel_context.detach(token)

    asyncio.run(main())
    assert [None, "value"] == seen


def test_the_resource_of_the_application_is_ours(spans: InMemorySpans, app: Application) -> None:
    chain_of(("n", nothing)).invoke({}, config=config(spans))
    assert "shop" == spans.one("run").resource["service.name"]


def test_a_broken_sampler_does_no_harm(spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphmeter import guard

    app = Application(monkeypatch)

    class Broken:
        def should_sample(self, *args: Any) -> Any:
            raise ZeroDivisionError

    monkeypatch.setattr(app.provider, "sampler", Broken())
    assert {"x": 1} == chain_of(("n", nothing)).invoke({}, config=config(spans))
    assert "run demo ok\n  node n ok" == spans.tree()
    assert {"sampling_of_application: ZeroDivisionError": 1} == guard.faults()
    guard.forget()
