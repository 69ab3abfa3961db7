"""Code inside a run: tags reach every span that ends later, and the run can be asked for, from threads and tasks, too."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of, nothing
from callbacks.otlp import Receiver, attributes
from graphmeter import GraphMeterCallbackHandler, RunInfo, client, current_run, guard, names, tag
from graphmeter.inside import _MOST_TAGS
from graphmeter.testing import InMemorySpans


def tagging(**tags: object) -> Any:
    def node(state: State) -> State:
        tag(**tags)
        return {"x": 1}

    return node


def run(spans: InMemorySpans, graph: Any, **config: Any) -> Any:
    return graph.invoke({}, config={"callbacks": [spans.handler()], **config})


def tags_of(spans: InMemorySpans) -> dict[str, dict[str, Any]]:
    """Tags by kind and label of the span."""
    return {
        f"{span.kind} {span.label}": {
            key.removeprefix(names.TAG_PREFIX): value
            for key, value in span.attributes.items()
            if key.startswith(names.TAG_PREFIX)
        }
        for span in spans.all()
    }


@pytest.mark.usefixtures("no_faults")
def test_a_tag_is_on_every_span_that_ends_after_it_and_on_none_before(spans: InMemorySpans) -> None:
    graph = chain_of(("early", nothing), ("decide", tagging(plan="gold")), ("ask", asking(FakeChat())))
    run(spans, graph, metadata={"graphmeter_tag_region": "eu"})
    before, after = {"region": "eu"}, {"region": "eu", "plan": "gold"}
    expected = {
        "start graphmeter.run_start": before,
        "run demo": after,
        "node early": before,
        "node decide": after,
        "node ask": after,
        "model gpt-4o-mini": after,
    }
    assert expected == tags_of(spans)


def test_a_later_value_wins_and_values_become_texts(spans: InMemorySpans) -> None:
    run(spans, chain_of(("a", tagging(n=1, ok=True)), ("b", tagging(n=2.5, order=UUID(int=1)))))
    assert {"n": "1", "ok": "true"} == tags_of(spans)["node a"]
    assert {"n": "2.5", "ok": "true", "order": str(UUID(int=1))} == tags_of(spans)["run demo"]


def test_runs_do_not_share_tags(spans: InMemorySpans) -> None:
    handler = spans.handler(tags={"region": "eu"})
    graph = chain_of(("a", lambda state: tagging(plan="gold")(state) if state.get("x") else {"x": 0}))
    for x in (1, 0):
        graph.invoke({"x": x}, config={"callbacks": [handler]})
    roots = [span.attributes.get("graphmeter.tag.plan") for span in spans.spans("run")]
    assert ["gold", None] == roots


def test_subgraphs_tools_and_lambdas_tag_the_root_run(spans: InMemorySpans) -> None:
    @tool
    def look(query: str) -> str:
        """Look something up."""
        tag(tool="yes")
        return query

    def using(state: State) -> State:
        look.invoke("x")
        RunnableLambda(tagging(inner="yes")).invoke({})
        return {"x": 1}

    run(spans, chain_of(("sub", chain_of(("use", using), name="inner"))))
    assert {"tool": "yes", "inner": "yes"} == tags_of(spans)["run demo"]


@pytest.mark.usefixtures("no_faults")
def test_threads_with_a_context_and_tasks_tag_the_run(spans: InMemorySpans) -> None:
    async def node(state: State) -> State:
        async def task() -> None:
            tag(task="yes")

        await asyncio.gather(asyncio.create_task(task()), asyncio.to_thread(tag, to_thread="yes"))
        thread = threading.Thread(target=contextvars.copy_context().run, args=(lambda: tag(thread="yes"),))
        thread.start()
        thread.join()
        return {"x": 1}

    asyncio.run(chain_of(("n", node)).ainvoke({}, config={"callbacks": [spans.handler()]}))
    assert {"task": "yes", "to_thread": "yes", "thread": "yes"} == tags_of(spans)["run demo"]


def test_a_node_still_finds_its_run_after_calls_and_with_an_emptied_opentelemetry_context(spans: InMemorySpans) -> None:
    found: list[RunInfo | None] = []

    async def node(state: State) -> State:
        await asking_async(FakeChat())(state)
        found.append(current_run())
        token = otel_context.attach(Context())
        found.append(current_run())
        otel_context.detach(token)
        return {"x": 1}

    asyncio.run(chain_of(("n", node)).ainvoke({}, config={"callbacks": [spans.handler()]}))
    root = spans.one("run")
    expected = RunInfo(str(root.attributes[names.RUN_ID]), f"{root.trace_id:032x}", "demo", "n")
    assert [expected, expected] == found
    assert current_run() is None


def test_the_node_is_its_path_through_subgraphs_and_concurrent_runs_are_told_apart(spans: InMemorySpans) -> None:
    found: list[RunInfo | None] = []

    def node(state: State) -> State:
        found.append(current_run())
        return {"x": 1}

    graph = chain_of(("sub", chain_of(("leaf", node), name="inner")))
    handler = spans.handler()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: graph.invoke({}, config={"callbacks": [handler]}), range(8)))
    assert {"sub.leaf"} == {info.node for info in found if info is not None}
    assert {str(span.attributes[names.RUN_ID]) for span in spans.spans("run")} == {
        info.run_id for info in found if info is not None
    }


def test_tags_from_many_threads_are_all_kept(spans: InMemorySpans) -> None:
    def node(state: State) -> State:
        with ThreadPoolExecutor(8) as pool:
            for number in range(_MOST_TAGS):
                pool.submit(contextvars.copy_context().run, lambda n=number: tag(**{f"t{n}": n}))
        return {"x": 1}

    run(spans, chain_of(("n", node)))
    assert {f"t{number}": str(number) for number in range(_MOST_TAGS)} == tags_of(spans)["run demo"]


def test_outside_of_a_run_a_tag_is_counted_and_logged_once(
    spans: InMemorySpans, caplog: pytest.LogCaptureFixture
) -> None:
    def bare(state: State) -> State:
        thread = threading.Thread(target=lambda: tag(lost="yes"))
        thread.start()
        thread.join()
        return {"x": 1}

    with caplog.at_level(logging.WARNING, "graphmeter"):
        tag(a=1)
        run(spans, chain_of(("n", bare)))
        RunnableLambda(tagging(b=1)).invoke({}, config={"callbacks": [spans.handler()]})
    assert {"tag outside of a run": 3} == guard.faults()
    assert 1 == len(caplog.records)
    assert {} == tags_of(spans)["run demo"]
    guard.forget()


def test_number_and_length_of_tags_are_bounded(spans: InMemorySpans) -> None:
    many = {f"t{number}": "x" * 1000 for number in range(_MOST_TAGS + 5)}
    odd = {"": 1, "n" * 65: 1, "line\nbreak": 1, "\ud800": 1, "list": [1]}
    assert {"x": 1} == run(spans, chain_of(("odd", tagging(**odd)), ("many", tagging(**many)), ("t0", tagging(t0=1))))
    kept = tags_of(spans)["run demo"]
    assert _MOST_TAGS == len(kept)
    assert {"1", "x" * 256} == set(kept.values())
    assert {"unusable tag name": 4, "unusable metadata tag list": 1, "too many tags": 1} == guard.faults()
    guard.forget()


def test_a_provider_of_the_users_own_gets_the_tags_and_gives_the_trace_id() -> None:
    found: list[RunInfo | None] = []
    provider = TracerProvider()

    def node(state: State) -> State:
        tag(plan="gold")
        found.append(current_run())
        return {"x": 1}

    with InMemorySpans() as kept:
        provider.add_span_processor(SimpleSpanProcessor(kept))
        handler = GraphMeterCallbackHandler(tracer_provider=provider)
        chain_of(("n", node)).invoke({}, config={"callbacks": [handler]})
        assert {"plan": "gold"} == tags_of(kept)["run demo"]
        assert [f"{kept.one('run').trace_id:032x}"] == [info.trace_id for info in found if info is not None]


def test_tags_arrive_at_the_collector_on_the_root_span() -> None:
    receiver = Receiver()
    try:
        handler = GraphMeterCallbackHandler(endpoint=receiver.url)
        chain_of(("n", tagging(plan="gold"))).invoke({}, config={"callbacks": [handler]})
        # Not all of the process: pipelines of other tests may have lost their receivers.
        assert client.pipeline(endpoint=receiver.url).flush(60)
    finally:
        receiver.close()
    said = {attributes(span)[names.KIND]: attributes(span).get("graphmeter.tag.plan") for span in receiver.spans}
    assert {"start": None, "node": "gold", "run": "gold"} == said
