"""Cases 30 and 31: several answers to one prompt are one call; several prompts are several, and their sum is exact."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import Generation, LLMResult

from callbacks.fakes import FakeChat, State, chain_of
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TREE = "run demo ok\n  node ask ok\n    "
SUM = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}


class FakeText(BaseLLM):
    """A plain text model that answers all prompts of a request at once, as completion APIs do."""

    usage: dict[str, int] | None = None
    error: type[Exception] | None = None

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-3.5-turbo-instruct", "ls_model_type": "llm"}

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        if self.error is not None:
            raise self.error
        answers = [[Generation(text="hello")] for _ in prompts]
        return LLMResult(generations=answers, llm_output={"token_usage": self.usage or {}, "model_name": "m"})

    async def _agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        await asyncio.sleep(0)
        return self._generate(prompts)


def batching(way: Way, model: Any, prompts: int = 2) -> Any:
    """A graph whose only node asks `model` several prompts at once."""
    asked = ["hi"] * prompts

    def node(state: State) -> State:
        model.batch(asked)
        return {"x": 1}

    async def node_async(state: State) -> State:
        await model.abatch(asked)
        return {"x": 1}

    return chain_of(("ask", node_async if way.asynchronous else node))


async def test_several_choices_are_one_call_with_one_usage(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 30: every choice carries the usage of the whole call."""
    await way.invoke(chain_of(("ask", way.asking(FakeChat(choices=2)))), {}, bound)
    assert f"{TREE}{MINI}" == whole(spans)
    assert ("stop", "stop") == tuple(spans.one("model").attributes[names.FINISH_REASONS])


async def test_a_batch_of_a_chat_model_is_one_call_per_prompt(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 31."""
    await way.invoke(batching(way, FakeChat(), 3), {}, bound)
    assert f"{TREE}{MINI}\n    {MINI}\n    {MINI}" == whole(spans)


async def test_generate_of_a_chat_model_is_one_call_per_prompt(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 31."""
    prompts: list[list[BaseMessage]] = [[HumanMessage("a")], [HumanMessage("b")]]

    def node(state: State) -> State:
        FakeChat().generate(prompts)
        return {"x": 1}

    async def node_async(state: State) -> State:
        await FakeChat().agenerate(prompts)
        return {"x": 1}

    await way.invoke(chain_of(("ask", node_async if way.asynchronous else node)), {}, bound)
    assert f"{TREE}{MINI}\n    {MINI}" == whole(spans)
    assert names.REQUEST_PROMPTS not in spans.spans("model")[0].attributes


async def test_the_first_prompt_of_a_text_request_carries_the_usage_of_all(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 31: the provider reports one sum; whose tokens they are, nobody knows."""
    await way.invoke(batching(way, FakeText(usage=SUM), 3), {}, bound)
    first = "model gpt-3.5-turbo-instruct ok 30→12 $0.000069"
    other = "model gpt-3.5-turbo-instruct ok 0→0 $0"
    assert f"{TREE}{first}\n    {other}\n    {other}" == whole(spans)
    calls = spans.spans("model")
    assert (30, 12) == tuple(sum(call.tokens[part] for call in calls) for part in (0, 1))
    assert [3, 3, 3] == [call.attributes[names.REQUEST_PROMPTS] for call in calls]


async def test_usage_that_a_text_request_lacks_is_missing_once(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 31."""
    await way.invoke(batching(way, FakeText()), {}, bound)
    first = "model gpt-3.5-turbo-instruct ok usage missing"
    assert f"{TREE}{first}\n    model gpt-3.5-turbo-instruct ok 0→0 $0" == whole(spans)


async def test_each_request_has_a_first_prompt_of_its_own(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 31, twice in one node, the second with a single prompt."""
    model = FakeText(usage=SUM)

    def node(state: State) -> State:
        model.generate(["a", "b"])
        model.generate(["c", "d"])
        model.invoke("e")
        return {"x": 1}

    async def node_async(state: State) -> State:
        await asyncio.gather(model.agenerate(["a", "b"]), model.agenerate(["c", "d"]))
        await model.ainvoke("e")
        return {"x": 1}

    await way.invoke(chain_of(("ask", node_async if way.asynchronous else node)), {}, bound)
    assert [(0, 0), (0, 0), (30, 12), (30, 12), (30, 12)] == sorted(call.tokens for call in spans.spans("model"))
    assert [] == [call for call in spans.spans("model") if names.USAGE_MISSING in call.attributes]


async def test_a_text_request_that_fails_fails_for_all_its_prompts(way: Way, spans: InMemorySpans, bound: Any) -> None:
    """Case 31."""
    with pytest.raises(ConnectionError):
        await way.invoke(batching(way, FakeText(error=ConnectionError)), {}, bound)
    call = "model gpt-3.5-turbo-instruct error"
    assert f"run demo error\n  node ask error\n    {call}\n    {call}" == whole(spans)
