"""Case 52 in small: nothing of ours holds on to runs that have ended. In large: benchmarks/bench_memory.py."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

from callbacks.fakes import FakeChat, FakeStreamingChat, State, chain_of, nothing, reached
from callbacks.ways import Way
from graphmeter import GraphMeterCallbackHandler, client, prompts, runs
from graphmeter.records import Run
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TIMES = 12
_Seen = TypeVar("_Seen")


def left_over() -> dict[str, int]:
    """What is still held of runs, by where."""
    gc.collect()
    return {
        "open": len(runs.RUNS),
        "strays": len(runs._STRAYS),
        "requests": len(prompts._OPEN),
        "alive": alive(),
    }


def alive() -> int:
    """How many runs there are in memory."""
    return sum(type(thing) is Run for thing in gc.get_objects())


NOTHING = {"open": 0, "strays": 0, "requests": 0, "alive": 0}


async def in_the_end(look: Callable[[], _Seen], wanted: _Seen) -> _Seen:
    """What `look` sees once it is `wanted`, or after some seconds.

    A thread of LangGraph's that has told its result, or whose stream was left, has its context for a moment more, and nobody
    waits for it.
    """
    for _ in range(100):
        if (seen := look()) == wanted:
            break
        await asyncio.sleep(0.05)
    return seen


def failing_twice() -> Any:
    """A graph whose node is tried three times."""
    left = [0]

    def node(state: State) -> State:
        left[0] += 1
        if left[0] % 3:
            raise ValueError("not yet")
        return {"x": 1}

    builder = StateGraph(State)
    policy = RetryPolicy(initial_interval=0.0001, jitter=False, retry_on=ValueError)
    builder.add_node("n", node, retry_policy=policy)
    builder.add_edge(START, "n")
    return builder.compile(name="retried")


async def apart(work: Coroutine[Any, Any, Any]) -> None:
    """Do `work` in a task of its own: a caller's context remembers its last run, and only that, until the next one."""
    await asyncio.create_task(work)
    await asyncio.sleep(0)  # until then the event loop holds what woke us


async def every_ending(way: Way, config: Any) -> None:
    """Runs that succeed, fail, are tried again, are left, and (async) are cancelled."""
    await apart(_every_ending(way, config))


async def _every_ending(way: Way, config: Any) -> None:
    good = chain_of(("ask", way.asking(FakeChat())), ("inner", chain_of(("n", nothing), name="inner")))
    bad = chain_of(("ask", way.asking(FakeChat(failures=[ConnectionError("no")] * TIMES))))
    retried = failing_twice()
    for _ in range(TIMES):
        await way.invoke(good, {}, config)
        with pytest.raises(ConnectionError):
            await way.invoke(bad, {}, config)
        await way.invoke(retried, {}, config)
        if way.asynchronous:
            stream: Any = good.astream({}, config)
            await anext(stream)
            await stream.aclose()
        else:
            stream = good.stream({}, config)
            next(stream)
            stream.close()
    if way.asynchronous:
        for model in (FakeChat(delay_s=60), FakeStreamingChat(delay_s=60)):
            graph = chain_of(("ask", way.asking(model)))
            tasks = [asyncio.create_task(graph.ainvoke({}, config)) for _ in range(TIMES)]
            await reached(model, TIMES)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_nothing_is_kept_of_runs_that_have_ended(way: Way, spans: InMemorySpans, bound: Any) -> None:
    await every_ending(way, bound)
    ended = Counter(span.status for span in spans.spans("run"))
    assert (2 * TIMES, TIMES) == (ended["ok"], ended["error"])
    assert (3 if way.asynchronous else 1) * TIMES == ended["cancelled"]
    assert 0 == sum(span.status == "" for span in spans.spans())
    assert NOTHING == await in_the_end(left_over, NOTHING)


async def test_what_has_ended_is_freed_without_a_search_for_cycles(way: Way, bound: Any) -> None:
    graph = chain_of(("ask", way.asking(FakeChat())), ("inner", chain_of(("n", nothing), name="inner")))
    await apart(way.invoke(graph, {}, bound))  # what is only done once
    client.flush(60)
    gc.collect()
    gc.disable()
    try:
        await apart(way.invoke(graph, {}, bound))
        client.flush(60)
        assert 0 == await in_the_end(alive, 0)
    finally:
        gc.enable()


async def test_nothing_but_the_queue_is_kept_while_the_collector_is_away(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHMETER_QUEUE_SPANS", "40")
    handler = GraphMeterCallbackHandler(endpoint="http://127.0.0.1:9/away")
    sink = client.pipeline(endpoint="http://127.0.0.1:9/away")
    await every_ending(way, {"callbacks": [handler]})
    assert not sink.flush(60)
    counts = sink.counts()
    assert counts.queued <= 2 * 40
    assert counts.dropped > 0
    assert NOTHING == await in_the_end(left_over, NOTHING)


async def test_what_is_looked_at_does_fill_while_a_graph_runs(way: Way, bound: Any) -> None:
    seen: list[dict[str, int]] = []
    model = FakeChat(seen=lambda: seen.append(left_over()))
    await apart(way.invoke(chain_of(("ask", way.asking(model))), {}, bound))
    assert [{**NOTHING, "open": 3, "alive": 3}] == seen
    # The exporter's thread has the finished runs for a moment.
    client.flush(60)
    assert NOTHING == await in_the_end(left_over, NOTHING)
