"""How runs turned out: said inside of them, after their end, and by their id in a process that never ran one."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from callbacks.fakes import FakeChat, State, asking, chain_of, nothing
from callbacks.otlp import Receiver, attributes
from callbacks.test_process import python
from graphmeter import GraphMeterCallbackHandler, current_run, guard, names, outcome, recent, tag
from graphmeter.records import span_id_of, trace_id_of
from graphmeter.testing import InMemorySpans, RecordedSpan


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def saying(*args: Any, **kwargs: Any) -> Any:
    def node(state: State) -> State:
        outcome(*args, **kwargs)
        return {"x": 1}

    return node


def notes(spans: InMemorySpans, kind: str = names.OUTCOME) -> list[RecordedSpan]:
    return [span for span in spans.all() if span.kind == kind]


def said(span: RecordedSpan) -> dict[str, Any]:
    wanted = (names.OUTCOME_KIND, names.OUTCOME_GOOD, names.OUTCOME_VALUE)
    return {key.rpartition(".")[2]: value for key, value in span.attributes.items() if key in wanted}


@pytest.mark.usefixtures("no_faults")
def test_an_outcome_said_in_a_node_is_about_the_run_and_carries_its_attribution(spans: InMemorySpans) -> None:
    inner = chain_of(("decide", saying("escalated", good=False, value=2)), name="inner")
    handler = spans.handler(team="cx", tags={"plan": "gold"})
    chain_of(("sub", inner)).invoke({}, config={"callbacks": [handler]})
    root = spans.one("run")
    [note] = notes(spans)
    assert {"kind": "escalated", "good": False, "value": 2.0} == said(note)
    assert (root.trace_id, root.span_id) == (note.trace_id, note.parent_id)
    assert root.start_ns <= note.start_ns == note.end_ns <= root.end_ns
    shared = (names.RUN_ID, names.GRAPH, names.TEAM, names.TAG_PREFIX + "plan")
    assert [root.attributes[key] for key in shared] == [note.attributes[key] for key in shared]
    assert "graphmeter.outcome" == note.name


@pytest.mark.usefixtures("no_faults")
def test_tasks_threads_with_a_context_and_tools_say_outcomes(spans: InMemorySpans) -> None:
    async def node(state: State) -> State:
        async def task() -> None:
            outcome("task")

        await asyncio.gather(asyncio.create_task(task()), asyncio.to_thread(outcome, "to_thread"))
        thread = threading.Thread(target=contextvars.copy_context().run, args=(lambda: outcome("thread"),))
        thread.start()
        thread.join()
        return {"x": 1}

    asyncio.run(chain_of(("n", node)).ainvoke({}, config={"callbacks": [spans.handler()]}))
    assert ["task", "thread", "to_thread"] == sorted(said(note)["kind"] for note in notes(spans))


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("form", [str, UUID], ids=["text", "UUID"])
def test_after_its_end_a_run_is_found_by_its_id_in_the_trace_that_it_was_in(spans: InMemorySpans, form: Any) -> None:
    tracer = TracerProvider().get_tracer("application")
    run_id = uuid4()
    with tracer.start_as_current_span("request"):
        chain_of(("n", nothing)).invoke({}, config={"callbacks": [spans.handler(team="cx")], "run_id": run_id})
    outcome("resolved", good=True, run_id=form(str(run_id)))
    tag(form(str(run_id)), channel="mail")
    measured: Any = Decimal("4.5")
    outcome("csat", value=measured, run_id=run_id)
    root = spans.one("run")
    resolved, csat = notes(spans)
    [tagged] = notes(spans, names.TAGS)
    for note in (resolved, csat, tagged):
        assert (root.trace_id, root.span_id) == (note.trace_id, note.parent_id)
        assert ("cx", "demo") == (note.attributes[names.TEAM], note.attributes[names.GRAPH])
    assert {"kind": "csat", "value": 4.5} == said(csat)
    channel = names.TAG_PREFIX + "channel"
    assert [None, "mail", "mail"] == [note.attributes.get(channel) for note in (resolved, tagged, csat)]
    assert channel not in root.attributes


@pytest.mark.usefixtures("no_faults")
def test_the_id_of_an_open_run_or_of_a_run_inside_it_means_that_run(spans: InMemorySpans) -> None:
    def node(state: State) -> State:
        info = current_run()
        assert info is not None
        thread = threading.Thread(
            target=lambda: (outcome("seen", run_id=info.run_id), tag(info.run_id, late="no")),  # type: ignore[func-returns-value]
        )
        thread.start()
        thread.join()
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config={"callbacks": [spans.handler()]})
    assert spans.one("run").span_id == notes(spans)[0].parent_id
    assert [] == notes(spans, names.TAGS)
    assert "no" == spans.one("run").attributes[names.TAG_PREFIX + "late"]


def test_the_same_outcome_said_twice_is_two(spans: InMemorySpans) -> None:
    chain_of(("a", saying("retry")), ("b", saying("retry"))).invoke({}, config={"callbacks": [spans.handler()]})
    assert 2 == len({note.span_id for note in notes(spans)})


def test_a_run_of_a_provider_of_the_users_own_gets_its_outcomes_there() -> None:
    provider = TracerProvider()
    with InMemorySpans() as kept:
        provider.add_span_processor(SimpleSpanProcessor(kept))
        handler = GraphMeterCallbackHandler(tracer_provider=provider)
        run_id = uuid4()
        chain_of(("n", saying("inside"))).invoke({}, config={"callbacks": [handler], "run_id": run_id})
        outcome("after", run_id=run_id)
        assert {kept.one("run").trace_id} == {note.trace_id for note in notes(kept)}
        assert 2 == len(notes(kept))


def test_a_process_without_a_handler_says_outcomes_of_others_runs(receiver: Receiver) -> None:
    run_id = uuid4()
    done = python(
        f"""
        import graphmeter
        graphmeter.outcome("resolved", good=True, run_id="{run_id}")
        graphmeter.tag("{run_id}", channel="mail")
        assert graphmeter.flush(60)
        assert (2, 0) == (stats().exported, stats().faults)
        """,
        GRAPHMETER_ENDPOINT=receiver.url,
        GRAPHMETER_TEAM="cx",
    )
    assert 0 == done.returncode, done.stderr
    assert [names.OUTCOME, names.TAGS] == receiver.kinds()
    for span in receiver.spans:
        assert trace_id_of(run_id.int) == int.from_bytes(span.trace_id, "big")
        assert span_id_of(run_id.int) == int.from_bytes(span.parent_span_id, "big")
        found = attributes(span)
        assert (str(run_id), "cx", None) == (found[names.RUN_ID], found[names.TEAM], found.get(names.GRAPH))


@pytest.mark.parametrize(
    ("arguments", "fault", "kept"),
    [
        (("",), "unusable outcome kind", None),
        (("x" * 65,), "unusable outcome kind", None),
        (("two\nlines",), "unusable outcome kind", None),
        ((7,), "unusable outcome kind", None),
        (("k", 1), "unusable outcome good", {"kind": "k"}),
        (("k", True, float("nan")), "unusable outcome value", {"kind": "k", "good": True}),
        (("k", None, float("-inf")), "unusable outcome value", {"kind": "k"}),
        (("k", None, True), "unusable outcome value", {"kind": "k"}),
        (("k", None, "4"), "unusable outcome value", {"kind": "k"}),
        (("k", None, 10**400), "unusable outcome value", {"kind": "k"}),
        (("k", None, None, "no-uuid"), "unusable run id", None),
        (("k", None, None, 12), "unusable run id", None),
    ],
)
def test_what_cannot_be_used_is_counted_and_said_and_costs_nothing_else(
    spans: InMemorySpans,
    caplog: pytest.LogCaptureFixture,
    arguments: tuple[Any, ...],
    fault: str,
    kept: dict[str, Any] | None,
) -> None:
    kind, good, value, run_id = (*arguments, None, None, None)[:4]
    with caplog.at_level(logging.WARNING, "graphmeter"):
        graph = chain_of(("n", saying(kind, good=good, value=value, run_id=run_id)))
        assert {"x": 1} == graph.invoke({}, config={"callbacks": [spans.handler()]})
    assert {fault: 1} == guard.faults()
    assert 1 == len(caplog.records)
    assert ([] if kept is None else [kept]) == [said(note) for note in notes(spans)]
    guard.forget()


def test_outside_of_a_run_an_outcome_without_a_run_id_is_counted_and_says_what_to_do(
    spans: InMemorySpans, caplog: pytest.LogCaptureFixture
) -> None:
    chain_of(("n", nothing)).invoke({}, config={"callbacks": [spans.handler()]})
    with caplog.at_level(logging.WARNING, "graphmeter"):
        outcome("resolved", good=True)
    assert {"outcome outside of a run": 1} == guard.faults()
    assert "pass its run id" in caplog.text
    guard.forget()


def test_an_object_that_cannot_even_be_shown_harms_nothing(spans: InMemorySpans) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    graph = chain_of(("n", saying("k", value=Odd())))
    assert {"x": 1} == graph.invoke({}, config={"callbacks": [spans.handler()]})
    assert {"_outcome: RuntimeError": 1} == guard.faults()
    guard.forget()


def test_what_is_remembered_of_ended_runs_is_bounded_and_keeps_no_exporter_alive() -> None:
    with InMemorySpans() as kept:
        handler = kept.handler()
        graph = chain_of(("n", nothing))
        ids = [uuid4().int for _ in range(recent._MOST + 3)]
        for number in ids[:3]:
            graph.invoke({}, config={"callbacks": [handler], "run_id": UUID(int=number)})
        sample = recent.find(ids[2])
        assert sample is not None
        for number in ids[3:]:
            recent.put(number, sample)
        assert [None, None, None] == [recent.find(number) for number in ids[:3]]
        assert recent._MOST == len(recent._ENDED)
    assert {} == {key: ended for key, ended in recent._ENDED.items() if ended is sample}


def test_the_span_that_the_application_has_around_a_call_stays_current(spans: InMemorySpans) -> None:
    before = trace.get_current_span()
    chain_of(("ask", asking(FakeChat())), ("n", saying("k"))).invoke({}, config={"callbacks": [spans.handler()]})
    assert before is trace.get_current_span()
