"""What goes on after its node, or its graph, has ended: still billed if it answers, closed if it never will."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.tools import tool

from callbacks.fakes import FakeChat, State, chain_of, nothing, reached
from callbacks.trees import MINI, whole
from graphmeter import names, runs
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


class Gate:
    """Lets a model answer only when told."""

    def __init__(self) -> None:
        self.asked, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def wait(self) -> None:
        self.asked.set()
        assert self.go.wait(60)

    def start(self, work: Any) -> None:
        """Do `work` in a thread of its own, with the context of the caller."""

        def run() -> None:
            work()
            self.done.set()

        threading.Thread(target=copy_context().run, args=(run,)).start()
        assert self.asked.wait(60)

    def finish(self) -> None:
        self.go.set()
        assert self.done.wait(60)


def test_a_call_that_outlives_its_graph_is_billed_to_its_node(spans: InMemorySpans, bound: Any) -> None:
    gate = Gate()

    def node(state: State) -> State:
        gate.start(lambda: FakeChat(seen=gate.wait).invoke("hi"))
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config=bound)
    assert "run demo ok\n  node n ok" == whole(spans)
    gate.finish()
    assert f"run demo ok\n  node n ok\n    {MINI}" == whole(spans)
    assert "n" == spans.one("model").attributes[names.NODE_PATH]


def test_a_tool_that_outlives_its_node_is_closed_with_its_graph(spans: InMemorySpans, bound: Any) -> None:
    """It costs nothing, so nothing waits for it; the call inside of it is waited for."""
    gate = Gate()

    @tool
    def slow(query: str) -> str:
        """Look up."""
        FakeChat(seen=gate.wait).invoke(query)
        return "found"

    def node(state: State) -> State:
        gate.start(lambda: slow.invoke({"query": "q"}))
        return {"x": 1}

    chain_of(("n", node), ("next", nothing)).invoke({}, config=bound)
    assert "run demo ok\n  node n ok\n    tool slow cancelled\n  node next ok" == whole(spans)
    gate.finish()
    expected = f"run demo ok\n  node n ok\n    tool slow cancelled\n      {MINI}\n  node next ok"
    assert expected == whole(spans)
    assert {} == runs.RUNS


async def test_a_task_left_behind_and_cancelled_later_leaves_nothing_open(spans: InMemorySpans, bound: Any) -> None:
    left: list[asyncio.Task[Any]] = []
    asked = asyncio.Event()

    @tool
    async def slow(query: str) -> str:
        """Look up."""
        asked.set()
        await asyncio.sleep(60)
        return "found"

    async def node(state: State) -> State:
        left.append(asyncio.create_task(slow.ainvoke({"query": "q"})))
        await asked.wait()
        return {"x": 1}

    await chain_of(("n", node)).ainvoke({}, config=bound)
    assert "run demo ok\n  node n ok\n    tool slow cancelled" == whole(spans)
    assert {} == runs.RUNS
    left[0].cancel()
    await asyncio.wait(left)
    assert "run demo ok\n  node n ok\n    tool slow cancelled" == whole(spans)


async def test_a_call_left_behind_and_cancelled_is_given_up_in_time(
    spans: InMemorySpans, bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangChain tells nobody that a call was cancelled which waits for its whole answer."""
    left: list[asyncio.Task[Any]] = []

    async def node(state: State) -> State:
        model = FakeChat(delay_s=60)
        left.append(asyncio.create_task(model.ainvoke("hi")))
        await reached(model)
        return {"x": 1}

    graph = chain_of(("n", node))
    await graph.ainvoke({}, config=bound)
    left[0].cancel()
    await asyncio.wait(left)
    assert 1 == runs.open_runs()
    monkeypatch.setattr(runs, "_MOST_STRAYS", 1)
    await FakeChat().ainvoke("hi", config=bound)
    assert 0 == runs.open_runs()
    expected = f"run demo ok\n  node n ok\n    model gpt-4o-mini cancelled\n{MINI}"
    assert expected == whole(spans)


def test_a_graph_that_outlives_the_graph_around_it_is_closed_with_it(spans: InMemorySpans, bound: Any) -> None:
    gate = Gate()

    def step(state: State) -> State:
        gate.wait()
        return {"x": 1}

    inner = chain_of(("step", step), ("more", nothing), name="inner")

    def node(state: State) -> State:
        gate.start(lambda: inner.invoke({}))
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config=bound)
    expected = "run demo ok\n  node n ok\n    subgraph inner cancelled\n      node step cancelled"
    assert expected == whole(spans)
    gate.finish()
    assert {} == runs.RUNS


class Told:
    """A handler that is told what LangChain would tell it: threads that never report an end cannot be had."""

    def __init__(self, spans: InMemorySpans) -> None:
        self.handler = spans.handler()

    def begin(self, name: str, parent: UUID | None, **metadata: str) -> UUID:
        run_id = uuid4()
        self.handler.on_chain_start(None, {}, run_id=run_id, parent_run_id=parent, name=name, metadata=metadata)
        return run_id

    def fail(self, *run_ids: UUID) -> None:
        for run_id in run_ids:
            self.handler.on_chain_error(ValueError("no"), run_id=run_id)


def test_an_attempt_that_never_reports_its_end_is_closed_with_the_graph(spans: InMemorySpans) -> None:
    told = Told(spans)
    root = told.begin("demo", None, ls_integration="langgraph")
    for _ in range(2):
        last = told.begin("n", root, langgraph_node="n", langgraph_checkpoint_ns="n:1")
    told.handler.on_chain_end({}, run_id=last)
    told.handler.on_chain_end({}, run_id=root)

    assert {} == runs.RUNS
    ends = [(span.attributes[names.ATTEMPT], span.status) for span in spans.all() if span.kind == names.NODE]
    assert [(1, "cancelled"), (2, "ok")] == sorted(ends)


def test_nodes_that_two_attempts_around_them_left_behind_are_closed_with_the_graph(spans: InMemorySpans) -> None:
    """They have the same namespace: LangGraph makes it of the tasks, which an attempt repeats."""
    told = Told(spans)
    root = told.begin("demo", None, ls_integration="langgraph")
    for _ in range(2):
        node = told.begin("outer", root, langgraph_node="outer", langgraph_checkpoint_ns="outer:1")
        inner = told.begin("inner", node, langgraph_checkpoint_ns="outer:1")
        told.begin("step", inner, langgraph_node="step", langgraph_checkpoint_ns="outer:1|step:2")
        told.fail(inner, node)
    told.fail(root)

    assert {} == runs.RUNS
    steps = [span for span in spans.all() if span.attributes.get(names.NODE_NAME) == "step"]
    assert ["cancelled", "cancelled"] == [span.status for span in steps]
