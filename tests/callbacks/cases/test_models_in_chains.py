"""Cases 28, 29 and 34: what LangChain wraps around a model makes no span, and hides none of its calls."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from callbacks.fakes import FakeChat, State, chain_of
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

FAILED = "model gpt-4o-mini error"


def failing(times: int = 1) -> FakeChat:
    return FakeChat(failures=[ConnectionError("no")] * times)


async def test_retries_of_a_model_are_calls_of_one_attempt(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 28: `with_retry` tries the model again, not the node."""
    model = failing().with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    await way.invoke(chain_of(("ask", way.asking(model))), {}, bound)
    assert f"run demo ok\n  node ask ok\n    {FAILED}\n    {MINI}" == whole(spans)


async def test_retries_that_are_used_up_fail_the_node(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 28."""
    model = failing(2).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    with pytest.raises(ConnectionError):
        await way.invoke(chain_of(("ask", way.asking(model))), {}, bound)
    assert f"run demo error\n  node ask error\n    {FAILED}\n    {FAILED}" == whole(spans)


async def test_a_chain_that_is_retried_shows_each_call_of_its_model(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 28."""
    chain = (ChatPromptTemplate.from_template("say {x}") | failing() | StrOutputParser()).with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    )

    def node(state: State) -> State:
        chain.invoke({"x": "hi"})
        return {"x": 1}

    async def node_async(state: State) -> State:
        await chain.ainvoke({"x": "hi"})
        return {"x": 1}

    await way.invoke(chain_of(("ask", node_async if way.asynchronous else node)), {}, bound)
    assert f"run demo ok\n  node ask ok\n    {FAILED}\n    {MINI}" == whole(spans)


async def test_a_fallback_is_billed_as_the_model_that_answered(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 29."""
    model = failing().with_fallbacks([FakeChat(model="gpt-4o")])
    await way.invoke(chain_of(("ask", way.asking(model))), {}, bound)
    assert f"run demo ok\n  node ask ok\n    {FAILED}\n    model gpt-4o ok 10→5 $0.000075" == whole(spans)


async def test_fallbacks_that_all_fail_are_errors_of_the_node(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 29, around case 28."""
    first = failing(2).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    model = first.with_fallbacks([FakeChat(model="gpt-4o", failures=[TimeoutError("no")])])
    with pytest.raises(ConnectionError):
        await way.invoke(chain_of(("ask", way.asking(model))), {}, bound)
    expected = f"run demo error\n  node ask error\n    {FAILED}\n    {FAILED}\n    model gpt-4o error"
    assert expected == whole(spans)


async def test_a_fallback_as_the_node_itself_stands_below_it(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 29: a runnable may be a node without a function around it."""
    prompt: Any = ChatPromptTemplate.from_template("say hi")
    chain = prompt | failing().with_fallbacks([FakeChat(model="gpt-4o")]) | (lambda message: {"x": 1})
    await way.invoke(chain_of(("ask", chain)), {}, bound)
    assert f"run demo ok\n  node ask ok\n    {FAILED}\n    model gpt-4o ok 10→5 $0.000075" == whole(spans)


async def test_structured_output_is_billed_once(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 34: a sequence of model and parser, which repeats the answer and its usage."""

    class Answer(BaseModel):
        text: str

    calls = [{"name": "Answer", "args": {"text": "hello"}, "id": "c1", "type": "tool_call"}]
    model: Any = FakeChat(tool_calls=calls).with_structured_output(Answer, include_raw=True)
    answers: list[Any] = []

    def node(state: State) -> State:
        answers.append(model.invoke("hi")["parsed"])
        return {"x": 1}

    async def node_async(state: State) -> State:
        answers.append((await model.ainvoke("hi"))["parsed"])
        return {"x": 1}

    await way.invoke(chain_of(("ask", node_async if way.asynchronous else node)), {}, bound)
    assert [Answer(text="hello")] == answers
    assert f"run demo ok\n  node ask ok\n    {MINI}" == whole(spans)


async def test_an_answer_that_cannot_be_parsed_is_paid_and_fails_the_node(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 34: the model did its part; what came of it is no error of the call."""

    class Answer(BaseModel):
        number: int

    calls = [{"name": "Answer", "args": {"number": "many"}, "id": "c1", "type": "tool_call"}]
    model: Any = FakeChat(tool_calls=calls).with_structured_output(Answer)
    with pytest.raises(ValueError, match="number"):
        await way.invoke(chain_of(("ask", way.asking(model))), {}, bound)
    assert f"run demo error\n  node ask error\n    {MINI}" == whole(spans)
