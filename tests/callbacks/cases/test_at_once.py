"""Case 51: one handler under many threads, or many tasks: every span is there once, and nothing stays open."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from callbacks.fakes import FakeChat, asking, asking_async, chain_of
from graphmeter import names, runs, stats
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults", "roomy")


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    # Runs come quicker here than one thread can build their spans.
    monkeypatch.setenv("GRAPHMETER_QUEUE_SPANS", "100000")


def check(spans: InMemorySpans, times: int) -> None:
    """`times` complete trees, no span shared, none left open."""
    found = spans.all()
    assert {"start": times, "run": times, "node": times, "model": times} == Counter(span.kind for span in found)
    assert {"": times, "ok": 3 * times} == Counter(span.status if span.kind != names.START else "" for span in found)
    assert len(found) == len({(span.trace_id, span.span_id) for span in found})
    by_id = {(span.trace_id, span.span_id): span for span in found}
    above = Counter(
        (span.kind, by_id[span.trace_id, span.parent_id].kind if span.parent_id is not None else "") for span in found
    )
    assert {("run", ""): times, ("start", "run"): times, ("node", "run"): times, ("model", "node"): times} == above
    calls = [span for span in found if span.kind == names.MODEL]
    assert (10 * times, 5 * times) == tuple(sum(call.tokens[part] for call in calls) for part in (0, 1))
    for call in calls:
        assert f"{call.parent_id:016x}" == call.attributes[names.ATTEMPT_SPAN]
    assert {} == runs.RUNS
    assert {} == runs._STRAYS
    assert 0 == stats().open_runs


def test_a_handler_serves_32_threads_with_50_runs_each(spans: InMemorySpans, bound: Any) -> None:
    graph = chain_of(("ask", asking(FakeChat())))

    def work() -> None:
        for _ in range(50):
            graph.invoke({}, config=bound)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(spans, 1600)


async def test_a_handler_serves_32_tasks_with_20_runs_each(spans: InMemorySpans, bound: Any) -> None:
    graph = chain_of(("ask", asking_async(FakeChat())))

    async def work() -> None:
        for _ in range(20):
            await graph.ainvoke({}, config=bound)

    await asyncio.gather(*(work() for _ in range(32)))
    check(spans, 640)


def test_a_handler_serves_event_loops_in_several_threads(spans: InMemorySpans, bound: Any) -> None:
    graph = chain_of(("ask", asking_async(FakeChat())))

    async def work() -> None:
        await asyncio.gather(*(graph.ainvoke({}, config=bound) for _ in range(20)))

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(spans, 160)
