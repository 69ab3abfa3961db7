"""The tally's arithmetic."""

from __future__ import annotations

import asyncio
import threading

import pytest
from langgraph.errors import GraphInterrupt

from graphmeter import names
from graphmeter_examples.tally import Tally, by, outcome, spending_as


def test_sums_over_any_field() -> None:
    tally = Tally()
    with spending_as("cx"):
        tally.model_call("g", "a", "m", names.OK, {"input": 100, "output": 10, "cache_read": 0}, 7)
        tally.model_call("g", "b", "m", names.ERROR, {}, 0)
    tally.model_call("g", "a", "m", names.OK, {"input": 1}, 3)
    assert by(tally.model_calls, "node") == {("a",): 2, ("b",): 1}
    assert by(tally.tokens, "team", "type") == {("cx", "input"): 100, ("cx", "output"): 10, ("", "input"): 1}
    assert by(tally.cost_nano, "team") == {("cx",): 7, ("",): 3}


def test_executions_are_final_attempts() -> None:
    tally = Tally()
    tally.attempt("g", "n", names.ERROR, final=False)
    tally.attempt("g", "n", names.OK)
    assert by(tally.attempts, "status") == {(names.ERROR,): 1, (names.OK,): 1}
    assert by(tally.executions, "status") == {(names.OK,): 1}


def test_equal_when_everything_counted_is_equal() -> None:
    one, other = Tally(), Tally()
    one.run("g", "cx", names.OK)
    assert one != other
    other.run("g", "cx", names.OK)
    assert one == other


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GraphInterrupt(()), names.INTERRUPTED),
        (asyncio.CancelledError(), names.CANCELLED),
        (GeneratorExit(), names.CANCELLED),
        (ValueError("x"), names.ERROR),
    ],
    ids=["interrupt", "cancel", "close", "error"],
)
def test_how_something_ended_is_told_by_its_exception(error: BaseException, status: str) -> None:
    seen: list[tuple[str, BaseException | None]] = []
    with pytest.raises(type(error)), outcome(lambda s, e: seen.append((s, e))):
        raise error
    assert seen == [(status, error)]


def test_threads_lose_nothing() -> None:
    tally = Tally()

    def count() -> None:
        for _ in range(500):
            tally.run("g", "", names.OK)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.runs.total() == 4000
