"""What `capture="content"` puts on the spans of real graphs, whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import ToolException, tool

from callbacks.fakes import FakeChat, FakeStreamingChat, asking, chain_of
from graphmeter import names
from graphmeter.testing import InMemorySpans, RecordedSpan

pytestmark = pytest.mark.usefixtures("no_faults")

CALL = {"name": "add", "args": {"a": 1, "b": 2}, "id": "c1", "type": "tool_call"}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def said(span: RecordedSpan, attribute: str) -> Any:
    return json.loads(span.attributes[attribute])


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_shows_its_conversation_call_by_call(spans: InMemorySpans, asynchronous: bool) -> None:
    agent = create_agent(FakeChat(tool_calls=[CALL]), [add], system_prompt="be good")
    config: Any = {"callbacks": [spans.handler(capture="content")]}
    question: Any = {"messages": [("user", "one and two?")]}
    if asynchronous:
        await agent.ainvoke(question, config=config)
    else:
        agent.invoke(question, config=config)
    system = {"role": "system", "parts": [text("be good")]}
    user = {"role": "user", "parts": [text("one and two?")]}
    asks = {
        "role": "assistant",
        "parts": [{"type": "tool_call", "name": "add", "id": "c1", "arguments": {"a": 1, "b": 2}}],
    }
    result = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "3"}], "name": "add"}
    first, second = spans.spans("model")
    assert [system, user] == said(first, names.INPUT_MESSAGES)
    assert [asks] == said(first, names.OUTPUT_MESSAGES)
    assert [system, user, asks, result] == said(second, names.INPUT_MESSAGES)
    assert [{"role": "assistant", "parts": [text("hello")]}] == said(second, names.OUTPUT_MESSAGES)
    call = spans.one("tool")
    assert '{"a":1,"b":2}' == call.attributes[names.TOOL_ARGUMENTS]
    assert '{"result":"3"}' == call.attributes[names.TOOL_RESULT]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_streamed_answer_is_shown_whole(spans: InMemorySpans, asynchronous: bool) -> None:
    config: Any = {"callbacks": [spans.handler(capture="content")]}
    if asynchronous:
        assert 4 <= len([chunk async for chunk in FakeStreamingChat().astream("hi", config)])
    else:
        assert 4 <= len(list(FakeStreamingChat().stream("hi", config)))
    call = spans.one("model")
    assert [{"role": "user", "parts": [text("hi")]}] == said(call, names.INPUT_MESSAGES)
    assert [{"role": "assistant", "parts": [text("hello")]}] == said(call, names.OUTPUT_MESSAGES)


def test_a_broken_stream_shows_what_had_arrived(spans: InMemorySpans) -> None:
    with pytest.raises(ConnectionError):
        list(FakeStreamingChat(break_after=2).stream("hi", {"callbacks": [spans.handler(capture="content")]}))
    call = spans.one("model")
    assert "error" == call.status
    assert [{"role": "assistant", "parts": [text("hel")]}] == said(call, names.OUTPUT_MESSAGES)


def test_choices_are_messages_of_their_own(spans: InMemorySpans) -> None:
    FakeChat(choices=2).invoke("hi", {"callbacks": [spans.handler(capture="content")]})
    choice = {"role": "assistant", "parts": [text("hello")]}
    assert [choice, choice] == said(spans.one("model"), names.OUTPUT_MESSAGES)


def test_instructions_stand_apart_where_the_provider_takes_them_apart(spans: InMemorySpans) -> None:
    conversation = [SystemMessage("be good"), HumanMessage("hi")]
    for provider in ("anthropic", "openai"):
        FakeChat(provider=provider).invoke(conversation, {"callbacks": [spans.handler(capture="content")]})
    anthropic, openai = spans.spans("model")
    user = {"role": "user", "parts": [text("hi")]}
    assert [text("be good")] == said(anthropic, names.SYSTEM_INSTRUCTIONS)
    assert [user] == said(anthropic, names.INPUT_MESSAGES)
    assert names.SYSTEM_INSTRUCTIONS not in openai.attributes
    assert [{"role": "system", "parts": [text("be good")]}, user] == said(openai, names.INPUT_MESSAGES)


def test_a_text_completion_has_one_message_each_way(spans: InMemorySpans) -> None:
    FakeListLLM(responses=["fine"]).invoke("how are you?", {"callbacks": [spans.handler(capture="content")]})
    call = spans.one("model")
    assert [{"role": "user", "parts": [text("how are you?")]}] == said(call, names.INPUT_MESSAGES)
    assert [{"role": "assistant", "parts": [text("fine")]}] == said(call, names.OUTPUT_MESSAGES)


def test_what_a_tool_says_of_its_failure_is_an_error(spans: InMemorySpans) -> None:
    @tool
    def look_up(name: str) -> str:
        """Look up."""
        raise ToolException(f"no {name}")

    look_up.handle_tool_error = True
    config: Any = {"callbacks": [spans.handler(capture="content")]}
    look_up.invoke({"name": "look_up", "args": {"name": "Bob"}, "id": "c1", "type": "tool_call"}, config)
    call = spans.one("tool")
    assert "error" == call.status
    assert '{"error":"no Bob"}' == call.attributes[names.TOOL_RESULT]


def test_a_tool_that_raises_has_arguments_and_no_result(spans: InMemorySpans) -> None:
    @tool
    def look_up(name: str) -> str:
        """Look up."""
        raise ValueError(f"no {name}")

    with pytest.raises(ValueError, match="no Bob"):
        look_up.invoke({"name": "Bob"}, {"callbacks": [spans.handler(capture="content")]})
    call = spans.one("tool")
    assert '{"name":"Bob"}' == call.attributes[names.TOOL_ARGUMENTS]
    assert names.TOOL_RESULT not in call.attributes


def test_json_that_a_tool_returns_is_an_object(spans: InMemorySpans) -> None:
    @tool
    def weather(place: str) -> str:
        """Weather."""
        return '{"place": "Paris", "degrees": 14}'

    weather.invoke("Paris", {"callbacks": [spans.handler(capture="content")]})
    call = spans.one("tool")
    assert '{"input":"Paris"}' == call.attributes[names.TOOL_ARGUMENTS]
    assert '{"place":"Paris","degrees":14}' == call.attributes[names.TOOL_RESULT]


class TwoDocuments(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [
            Document("Paris is a city", id="d1", metadata={"score": 0.9, "source": "atlas"}),
            Document("Rome is another"),
        ]


def test_a_retrieval_has_its_query_and_documents(spans: InMemorySpans) -> None:
    TwoDocuments().invoke("cities", {"callbacks": [spans.handler(capture="content")]})
    call = spans.one("retriever")
    assert "cities" == call.attributes[names.RETRIEVAL_QUERY]
    assert [
        {"id": "d1", "score": 0.9, "content": "Paris is a city", "metadata": {"score": 0.9, "source": "atlas"}},
        {"content": "Rome is another"},
    ] == said(call, names.RETRIEVAL_DOCUMENTS)


def test_messages_are_shown_as_they_were_when_they_were_sent(spans: InMemorySpans) -> None:
    message = HumanMessage([{"type": "text", "text": "before"}])

    def changed() -> None:
        message.content[0]["text"] = "after"  # type: ignore[index]
        message.content.append("more")  # type: ignore[union-attr]

    FakeChat(seen=changed).invoke([message], {"callbacks": [spans.handler(capture="content")]})
    assert [{"role": "user", "parts": [text("before")]}] == said(spans.one("model"), names.INPUT_MESSAGES)


def test_the_environment_switches_it_on_and_an_argument_off_again(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphmeter import client

    monkeypatch.setenv("GRAPHMETER_CAPTURE", "content")
    monkeypatch.setattr(client, "_settings", None)
    graph = chain_of(("ask", asking(FakeChat())))
    graph.invoke({}, config={"callbacks": [spans.handler()]})
    graph.invoke({}, config={"callbacks": [spans.handler(capture="")]})
    on, off = spans.spans("model")
    assert names.INPUT_MESSAGES in on.attributes
    assert names.INPUT_MESSAGES not in off.attributes


def test_a_kind_that_does_not_exist_is_refused_by_name(spans: InMemorySpans) -> None:
    with pytest.raises(ValueError, match="'prompts' is none of content, media, state, state_diff"):
        spans.handler(capture="content,prompts")
    with pytest.raises(TypeError, match="redact= takes a function"):
        spans.handler(capture="content", redact="email")


def test_a_tool_call_that_cannot_be_parsed_is_shown_as_it_came(spans: InMemorySpans) -> None:
    broken = AIMessage(
        "",
        invalid_tool_calls=[{"name": "add", "args": '{"a": ', "id": "c1", "error": None, "type": "invalid_tool_call"}],
    )
    FakeChat().invoke([broken], {"callbacks": [spans.handler(capture="content")]})
    part = {"type": "tool_call", "name": "add", "id": "c1", "arguments": '{"a": '}
    assert [{"role": "assistant", "parts": [part]}] == said(spans.one("model"), names.INPUT_MESSAGES)
