"""The application's own spans: they nest under our runs, keep their own sampling, and nothing of ours stays behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from callbacks.application import Application
from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of, current_span_id, nothing
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Application:
    return Application(monkeypatch)


def config(spans: InMemorySpans) -> Any:
    return {"callbacks": [spans.handler()]}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_spans_of_the_application_nest_where_they_are_opened(
    spans: InMemorySpans, app: Application, asynchronous: bool
) -> None:
    def inside_call() -> None:
        with app.tracer.start_as_current_span("http"):
            pass

    def node(state: State) -> State:
        with app.tracer.start_as_current_span("before"):
            pass
        FakeChat(seen=inside_call).invoke("hi")
        with app.tracer.start_as_current_span("after"):
            pass
        return {"x": 1}

    async def node_async(state: State) -> State:
        with app.tracer.start_as_current_span("before"):
            await asyncio.sleep(0)
        await FakeChat(seen=inside_call).ainvoke("hi")
        with app.tracer.start_as_current_span("after"):
            await asyncio.sleep(0)
        return {"x": 1}

    if asynchronous:
        await chain_of(("n", node_async)).ainvoke({}, config=config(spans))
    else:
        chain_of(("n", node)).invoke({}, config=config(spans))
    theirs = app.spans()
    node_id, call_id = spans.one("node").span_id, spans.one("model").span_id
    assert (node_id, call_id, node_id) == tuple(parent_of(theirs[name]) for name in ("before", "http", "after"))
    assert {spans.one("run").trace_id} == {span.context.trace_id for span in theirs.values()}
    # Their exporter sees theirs alone, ours sees ours alone.
    assert {"before", "http", "after"} == set(theirs)
    assert {"run", "node", "model"} == {span.kind for span in spans.spans()}


def test_a_call_inside_a_span_of_the_application_nests_under_it(spans: InMemorySpans, app: Application) -> None:
    def node(state: State) -> State:
        with app.tracer.start_as_current_span("work"):
            FakeChat().invoke("hi")
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config=config(spans))
    work = app.spans()["work"]
    assert work.context.span_id == spans.one("model").parent_id
    assert spans.one("node").span_id == parent_of(work)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_run_inside_a_span_of_the_application_joins_its_trace(
    spans: InMemorySpans, app: Application, asynchronous: bool
) -> None:
    with app.tracer.start_as_current_span("POST /chat"):
        if asynchronous:
            await chain_of(("n", asking_async(FakeChat()))).ainvoke({}, config=config(spans))
        else:
            chain_of(("n", asking(FakeChat()))).invoke({}, config=config(spans))
    outer = app.spans()["POST /chat"]
    run = spans.one("run")
    assert (outer.context.trace_id, outer.context.span_id) == (run.trace_id, run.parent_id)
    assert {run.trace_id} == {span.trace_id for span in spans.all()}


async def test_runs_one_after_another_in_one_task_do_not_chain(spans: InMemorySpans, app: Application) -> None:
    graph = chain_of(("n", asking_async(FakeChat())))
    await graph.ainvoke({}, config=config(spans))
    with app.tracer.start_as_current_span("between"):
        pass
    await graph.ainvoke({}, config=config(spans))
    first, second = spans.spans("run")
    between = app.spans()["between"]
    assert (None, None, None) == (first.parent_id, second.parent_id, parent_of(between))
    assert 3 == len({first.trace_id, second.trace_id, between.context.trace_id})


def test_nothing_is_current_after_a_sync_run(spans: InMemorySpans) -> None:
    before = otel_context.get_current()
    chain_of(("n", nothing)).invoke({}, config=config(spans))
    assert before is otel_context.get_current()


async def test_concurrent_runs_stay_apart(spans: InMemorySpans) -> None:
    seen: list[int] = []

    async def node(state: State) -> State:
        await asyncio.sleep(0.01)
        seen.append(current_span_id())
        return {"x": 1}

    graph = chain_of(("n", node))
    await asyncio.gather(*(graph.ainvoke({}, config=config(spans)) for _ in range(5)))
    assert sorted(seen) == sorted(span.span_id for span in spans.spans("node"))
    assert 5 == len({span.trace_id for span in spans.spans("run")})


def test_a_batch_does_not_nest_its_runs_nor_the_next(spans: InMemorySpans) -> None:
    graph = chain_of(("n", nothing))
    (RunnableLambda(lambda x: x) | graph).batch([{}, {}], config=config(spans))
    graph.batch([{}, {}], config=config(spans))
    graph.invoke({}, config=config(spans))
    assert [None] * 5 == [span.parent_id for span in spans.spans("run")]
    assert 5 == len({span.trace_id for span in spans.spans("run")})


async def test_a_stream_driven_from_several_tasks_stays_one_tree(spans: InMemorySpans, app: Application) -> None:
    stream = chain_of(("a", nothing), ("b", nothing)).astream({}, config=config(spans))

    async def step(number: int) -> Any:
        with app.tracer.start_as_current_span(f"task {number}"):
            return await anext(stream, None)

    number = 0
    while await asyncio.create_task(step(number)) is not None:
        number += 1
    run = spans.one("run")
    assert {run.span_id} == {span.parent_id for span in spans.spans("node")}
    assert "run demo ok\n  node a ok\n  node b ok" == spans.tree()


def test_callbacks_given_inside_a_node_do_not_cut_the_tree(spans: InMemorySpans) -> None:
    handler = spans.handler()

    def node(state: State) -> State:
        FakeChat().invoke("hi", config={"callbacks": [handler]})
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config={"callbacks": [handler]})
    assert "run demo ok\n  node n ok\n    model gpt-4o-mini ok 10→5" == spans.tree()


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
