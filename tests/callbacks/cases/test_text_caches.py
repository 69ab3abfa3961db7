"""Case 27 for models that answer in plain text: LangChain's cache answers without a word to any callback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache

from callbacks.cases.test_prompts_and_choices import FakeText
from callbacks.fakes import State, chain_of
from callbacks.trees import whole
from callbacks.ways import Way
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = [pytest.mark.usefixtures("no_faults"), pytest.mark.usefixtures("llm_cache")]

CALL = "model gpt-3.5-turbo-instruct ok 30→12 $0.000069"
USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}


@pytest.fixture
def llm_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


def asking(way: Way, *prompts: str) -> Any:
    model = FakeText(usage=USAGE)

    def node(state: State) -> State:
        model.batch(list(prompts))
        return {"x": 1}

    async def node_async(state: State) -> State:
        await model.abatch(list(prompts))
        return {"x": 1}

    return chain_of(("ask", node_async if way.asynchronous else node))


async def test_a_cached_text_answer_is_not_seen_and_not_billed(way: Way, spans: InMemorySpans, bound: Any) -> None:
    graph = asking(way, "hi")
    for _ in range(2):
        await way.invoke(graph, {}, bound)
    assert f"run demo ok\n  node ask ok\n    {CALL}\nrun demo ok\n  node ask ok" == whole(spans)


async def test_a_request_shows_the_prompts_that_were_not_cached(way: Way, spans: InMemorySpans, bound: Any) -> None:
    await way.invoke(asking(way, "a"), {}, bound)
    spans.clear()
    await way.invoke(asking(way, "a", "b", "c"), {}, bound)
    other = "model gpt-3.5-turbo-instruct ok 0→0 $0"
    assert f"run demo ok\n  node ask ok\n    {CALL}\n    {other}" == whole(spans)
    assert [2, 2] == [call.attributes[names.REQUEST_PROMPTS] for call in spans.spans("model")]
