"""Faults of ours never reach a graph; they are counted, and each kind is logged once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from callbacks.fakes import FakeChat, asking, chain_of
from graphmeter import guard, models, runs, stats
from graphmeter.testing import InMemorySpans


def test_a_fault_is_counted_every_time_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    @guard.guarded
    def broken() -> int:
        raise ZeroDivisionError("no")

    with caplog.at_level(logging.WARNING, "graphmeter"):
        assert [None, None] == [broken(), broken()]
    assert {"broken: ZeroDivisionError": 2} == guard.faults()
    assert 1 == len(caplog.records)
    assert caplog.records[0].exc_info


def test_kinds_are_bounded() -> None:
    for number in range(1000):
        guard.noticed(f"kind {number}", "x")
    assert len(guard.faults()) <= 257
    assert 1000 == sum(guard.faults().values())


@pytest.mark.parametrize("place", ["asked", "answered"])
def test_a_fault_in_a_callback_leaves_the_graph_and_the_bookkeeping_intact(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*args: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(models, place, broken)
    graph = chain_of(("ask", asking(FakeChat())))
    assert {"x": 1} == graph.invoke({}, config={"callbacks": [spans.handler()]})
    assert "run demo ok" == spans.tree().splitlines()[0]
    assert 0 == runs.open_runs()
    assert 1 == stats().faults


def test_a_broken_model_answer_is_a_fault_not_an_exception(spans: InMemorySpans) -> None:
    handler = spans.handler()
    from uuid import uuid4

    run_id = uuid4()
    handler.on_chat_model_start({}, [[]], run_id=run_id, metadata={"ls_model_name": "m"})
    handler.on_llm_end(object(), run_id=run_id)  # type: ignore[arg-type]
    assert 0 == runs.open_runs()
    assert "model m ok" == spans.tree()
    assert {"on_llm_end: AttributeError": 1} == guard.faults()


def test_events_of_unknown_runs_are_ignored(spans: InMemorySpans) -> None:
    from uuid import uuid4

    handler = spans.handler()
    handler.on_chain_end({}, run_id=uuid4())
    handler.on_chain_error(ValueError(), run_id=uuid4())
    handler.on_llm_new_token("x", run_id=uuid4())
    handler.on_llm_error(ValueError(), run_id=uuid4())
    handler.on_tool_end("x", run_id=uuid4())
    assert "" == spans.tree()
    assert {} == guard.faults()
