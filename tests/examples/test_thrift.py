"""The thrifty desk: large answers, then small ones, then none but where a human allows one; and nobody sees an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from graphmeter import BudgetGuard
from graphmeter.testing import budgets, measure
from graphmeter_examples import thrift
from graphmeter_examples.model import NO_TROUBLE
from graphmeter_examples.models import StandIns
from graphmeter_examples.thrift import BUDGET, FALLBACK, Answer, Graph

LARGE, SMALL = "gpt-4o", "gpt-4o-mini"
CALL_USD = "0.01"


@pytest.fixture
def measured() -> Iterator[None]:
    with measure():
        yield


def desk(**how: Any) -> Graph:
    return thrift.guarded(thrift.build(StandIns(trouble=NO_TROUBLE)), **how)


def by(answers: list[Answer]) -> list[str]:
    return [answer.by for answer in answers]


@pytest.mark.usefixtures("measured")
def test_models_get_smaller_as_money_runs_out_and_then_the_handbook_answers() -> None:
    with budgets(call_usd=CALL_USD, **{BUDGET: {"limit_usd": "0.1"}}):
        graph = desk()
        answers = [thrift.ask(graph, f"Question {number}") for number in range(12)]
    # 9 calls until less than a fifth is left; one more until nothing is.
    assert [LARGE] * 9 + [SMALL] + [""] * 2 == by(answers)
    assert {FALLBACK} == {answer.text for answer in answers[10:]}


@pytest.mark.usefixtures("measured")
def test_a_human_decides_about_what_is_urgent_once_nothing_is_left() -> None:
    asked: list[Mapping[str, Any]] = []

    def human(question: Mapping[str, Any]) -> bool:
        asked.append(question)
        return len(asked) == 1

    with budgets(call_usd=CALL_USD, **{BUDGET: {"limit_usd": "0.1", "spent_usd": "0.1"}}):
        graph = desk()
        answers = [thrift.ask(graph, "Now, please!", urgent=True, human=human) for _ in range(2)]
        assert FALLBACK == thrift.ask(graph, "When you have time.", human=human).text
    # Allowed, but not at any price.
    assert [(SMALL, True), ("", False)] == [(answer.by, answer.allowed) for answer in answers]
    assert ["budget 'thrift': 0.10 of 0.10 USD are spent", "budget 'thrift': 0.11 of 0.10 USD are spent"] == [
        question["message"] for question in asked
    ]


@pytest.mark.usefixtures("measured")
def test_nobody_is_asked_while_there_is_money() -> None:
    with budgets(call_usd=CALL_USD, **{BUDGET: {"limit_usd": 1}}):
        assert [LARGE] * 5 == by(list(thrift.day(desk(), 5, human=_nobody)))


@pytest.mark.usefixtures("measured")
def test_while_the_collector_is_away_the_guard_does_as_it_was_told() -> None:
    with budgets(call_usd=CALL_USD, **{BUDGET: {"limit_usd": 1}}) as known:
        open_, closed = desk(), desk(guard=BudgetGuard(BUDGET, fail="closed"))
        known.fail()
        assert [LARGE, ""] == by([thrift.ask(open_, "Hello?"), thrift.ask(closed, "Hello?")])


def _nobody(question: Mapping[str, Any]) -> bool:
    raise AssertionError(question)


def test_it_shows_a_day_without_keys_and_without_a_collector(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphmeter_examples.thrift"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=tmp_path,
    )
    shown = done.stdout
    assert (1, True, True) == (shown.count("  1  gpt-4o "), "handbook" in shown, "a human is asked" in shown)
