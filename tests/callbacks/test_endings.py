"""What an error says, and what becomes of calls that are cancelled or outlive their graph. Each open run ends once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callbacks.fakes import FakeChat, State, asking_async, chain_of, reached
from graphmeter import names, runs
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


def config(spans: InMemorySpans, **more: Any) -> Any:
    return {"callbacks": [spans.handler()], **more}


def failing(times: int, model: Any = None) -> Any:
    left = [times]

    def node(state: State) -> State:
        if model is not None:
            model.invoke("hi")
        if left[0] > 0:
            left[0] -= 1
            raise ValueError("secret prompt inside")
        return {"x": 1}

    return node


def test_an_error_names_its_type_and_place_but_keeps_its_text(spans: InMemorySpans) -> None:
    with pytest.raises(ValueError):
        chain_of(("n", failing(1))).invoke({}, config=config(spans))
    node = spans.one("node")
    assert node.otel_error
    assert "ValueError" == node.attributes[names.ERROR_TYPE]
    assert node.exception is not None
    assert "ValueError" == node.exception["exception.type"]
    assert "in node" in node.exception["exception.stacktrace"]
    assert "secret prompt inside" not in node.exception.values()


async def test_nothing_grows_when_calls_are_cancelled(spans: InMemorySpans) -> None:
    """Case 19."""
    model = FakeChat(delay_s=60)
    graph = chain_of(("ask", asking_async(model)))
    bound = config(spans)
    for times in range(1, 5):
        calls = [asyncio.create_task(graph.ainvoke({}, config=bound)) for _ in range(25)]
        await reached(model, times * 25)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    assert 0 == runs.open_runs()
    assert {} == runs._STRAYS
    assert {"cancelled": 300} == {
        status: sum(span.status == status for span in spans.spans()) for status in ("cancelled",)
    }


async def test_cancelled_calls_outside_of_graphs_are_given_up_in_time(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once() -> None:
        # LangChain reports no end of a call that is cancelled while it waits for the whole answer.
        model = FakeChat(delay_s=60)
        call = asyncio.create_task(model.ainvoke("hi", config=config(spans)))
        await reached(model)
        call.cancel()
        await asyncio.wait([call])

    monkeypatch.setattr(runs, "_MOST_STRAYS", 3)
    for _ in range(5):
        await once()
    assert 3 == runs.open_runs()
    assert ["cancelled"] * 2 == [span.status for span in spans.spans("model")]
    for stray in runs._STRAYS.values():
        stray.started_ns -= 2 * runs._STRAY_PATIENCE_NS
    await FakeChat().ainvoke("hi", config=config(spans))
    assert 0 == runs.open_runs()
    assert ["cancelled"] * 5 + ["ok"] == sorted(span.status for span in spans.spans("model"))
