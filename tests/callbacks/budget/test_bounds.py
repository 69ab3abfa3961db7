"""What a call takes at most: a text has no more tokens than bytes, an answer no more than what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from graphmeter import names
from graphmeter.budget.bills import Bill
from graphmeter.budget.bounds import ASSUMED_OUTPUT, ASSUMED_PART, PER_MESSAGE, Bound, bound
from graphmeter.budget.calls import Call

pytestmark = pytest.mark.usefixtures("counted")


class Book:
    """Input costs 10 nano-USD a token, output 100, what is kept for an hour 20."""

    known = True

    def cost(self, bill: Bill) -> tuple[int, bool] | None:
        plain, *_, output = bill.usage[0], *bill.usage[1:4], bill.usage[6]
        return (plain * 10 + bill.usage[3] * 20 + output * 100, self.known)


class Nowhere:
    """Prices that have yet to be asked for."""

    def cost(self, bill: Bill) -> tuple[int, bool] | None:
        return None


def call(*messages: Any, **params: Any) -> Call:
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-4o"}
    return Call(uuid4(), None, None, [list(messages)], metadata, params or None)


def prompt(*messages: Any, **params: Any) -> int:
    return bound(call(*messages, max_tokens=1, **params), Nowhere()).tokens - 1 - PER_MESSAGE * len(messages)


def test_a_text_has_at_most_as_many_tokens_as_bytes() -> None:
    assert (2, 6) == (prompt(HumanMessage("hi")), prompt(HumanMessage("日本")))
    assert 6 == prompt(SystemMessage("abc"), HumanMessage("def"))
    assert 5 == prompt(HumanMessage([{"type": "text", "text": "hello"}]))
    assert 3 == prompt(HumanMessage("\ud800"))
    assert 4 == bound(Call(uuid4(), None, None, ["text"], None, {"max_tokens": 1}), Nowhere()).tokens - 1 - PER_MESSAGE


@pytest.mark.parametrize(
    ("message", "least"),
    [
        (AIMessage("", tool_calls=[{"name": "search", "args": {"q": "x" * 100}, "id": "1"}]), 100),
        (ToolMessage("y" * 50, tool_call_id="1"), 50),
        (ToolMessage([{"type": "text", "text": "y" * 50}], tool_call_id="1"), 50),
        (HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]), ASSUMED_PART),
        (HumanMessage([{"type": "file", "file": {"file_id": "f"}}, {"type": "text", "text": "abc"}]), ASSUMED_PART + 3),
        (AIMessage([{"type": "tool_use", "id": "1", "name": "search", "input": {"q": "x" * 70}}]), 70),
        (HumanMessage([{"type": "tool_result", "content": [{"type": "text", "text": "z" * 30}]}]), 30),
    ],
)
def test_what_else_a_message_holds_is_counted(message: Any, least: int) -> None:
    assert least <= prompt(message) <= least + 200


def test_tools_and_schemas_are_sent_with_the_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "search", "description": "d" * 500}}]
    assert 500 <= prompt(HumanMessage("hi"), tools=tools) - prompt(HumanMessage("hi")) <= 600


@pytest.mark.parametrize(
    ("params", "output"),
    [
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 60, "max_tokens": None}, 60),
        ({"max_tokens": 50, "n": 3}, 150),
        ({"generation_config": {"max_output_tokens": 70, "candidate_count": 2}}, 140),
        ({"options": {"num_predict": 80}}, 80),
        ({"num_predict": -1}, ASSUMED_OUTPUT),
        ({"max_tokens": True}, ASSUMED_OUTPUT),
        ({}, ASSUMED_OUTPUT),
    ],
)
def test_an_answer_has_at_most_what_is_asked_for(params: Mapping[str, Any], output: int) -> None:
    assert PER_MESSAGE + 2 + output == bound(call(HumanMessage("hi"), **params), Nowhere()).tokens


def test_money_is_that_of_the_collectors_prices() -> None:
    inside = PER_MESSAGE + 2
    assert Bound(inside * 10 + 50 * 100, inside + 50) == bound(call(HumanMessage("hi"), max_tokens=50), Book())
    assert Bound(None, inside + 50) == bound(call(HumanMessage("hi"), max_tokens=50), Nowhere())
    unknown = Book()
    unknown.known = False
    assert Bound(0, inside + 50, known=False) == bound(call(HumanMessage("hi"), max_tokens=50), unknown)


def test_what_a_provider_keeps_costs_more() -> None:
    kept = HumanMessage([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}])
    assert (PER_MESSAGE + 2) * 20 + 100 == bound(call(kept, max_tokens=1), Book()).nano


def test_what_the_application_says_of_a_call_stands() -> None:
    one = call(HumanMessage("hi" * 1_000), max_tokens=50)
    assert Bound(7, 9) == bound(one, Nowhere(), 7, 9)
    assert Bound(7, PER_MESSAGE + 2_000 + 50) == bound(one, Nowhere(), 7)
    assert Bound(950 * 10 + 50 * 100, 1_000) == bound(one, Book(), 0, 1_000)
    # Nobody says what they are, so all are what costs most.
    assert Bound(1_000 * 100, 1_000) == bound(call(HumanMessage("hi")), Book(), 0, 1_000)


def test_the_facts_that_decide_a_price_are_told() -> None:
    seen: list[Mapping[str, Any]] = []

    class Watching(Book):
        def cost(self, bill: Bill) -> tuple[int, bool] | None:
            seen.append(bill.facts)
            return super().cost(bill)

    bound(call(HumanMessage("hi"), max_tokens=1), Watching())
    assert [("openai", "gpt-4o", "")] == [
        (each[names.PROVIDER], each[names.REQUEST_MODEL], each[names.SERVER_ADDRESS]) for each in seen
    ]
