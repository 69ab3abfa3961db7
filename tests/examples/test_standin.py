"""The stand-in behaves as a provider's integration does, in every way of calling it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import LLMResult

from graphmeter import names
from graphmeter_examples.luck import Luck
from graphmeter_examples.model import (
    MODELS,
    NO_TROUBLE,
    InternalServerError,
    RateLimitError,
    StandInChatModel,
    Trouble,
)
from graphmeter_examples.tally import ModelCall, Tally, by

QUESTION = [HumanMessage("What is a node?")]


def stand_in(
    name: str = "gpt-4o-mini",
    *,
    seed: int = 7,
    tally: Tally | None = None,
    trouble: Trouble = NO_TROUBLE,
    time_scale: float = 0.0,
) -> StandInChatModel:
    return StandInChatModel(
        spec=MODELS[name],
        graph="g",
        node="n",
        luck=Luck(seed),
        tally=tally or Tally(),
        trouble=trouble,
        time_scale=time_scale,
    )


def look_up(article: str) -> str:
    """Look an article up."""
    return article


class Recorder(BaseCallbackHandler):
    """What LangChain tells a callback handler."""

    raise_error = True

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.chunks = 0
        self.usages: list[Any] = []

    def on_chat_model_start(self, *args: Any, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.metadata = metadata or {}

    def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        self.chunks += 1

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        message = response.generations[0][0].message  # type: ignore[union-attr]
        assert isinstance(message, AIMessage)
        self.usages.append(message.usage_metadata)


def test_the_same_question_gets_the_same_answer_and_bill() -> None:
    first, again = stand_in().invoke(QUESTION), stand_in().invoke(QUESTION)
    assert (first.content, first.usage_metadata) == (again.content, again.usage_metadata)


def test_another_seed_gives_another_bill() -> None:
    assert stand_in(seed=1).invoke(QUESTION).usage_metadata != stand_in(seed=2).invoke(QUESTION).usage_metadata


def test_every_response_has_an_id_of_its_own() -> None:
    model = stand_in()
    assert model.invoke(QUESTION).response_metadata["id"] != model.invoke(QUESTION).response_metadata["id"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o", {"model_provider": "openai", "model_name": "gpt-4o-2024-08-06", "finish_reason": "stop"}),
        (
            "claude-sonnet-4-5",
            {
                "model_provider": "anthropic",
                "model": "claude-sonnet-4-5-20250929",
                "model_name": "claude-sonnet-4-5-20250929",
                "stop_reason": "end_turn",
            },
        ),
        (
            "gemini-2.5-flash",
            {"model_provider": "google_genai", "model_name": "gemini-2.5-flash", "finish_reason": "STOP"},
        ),
    ],
    ids=["openai", "anthropic", "google"],
)
def test_response_metadata_is_the_integrations_whether_streamed_or_not(name: str, expected: dict[str, str]) -> None:
    model = stand_in(name)
    streamed = None
    for chunk in model.stream(QUESTION):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    for message in (model.invoke(QUESTION), streamed):
        assert expected == {k: v for k, v in message.response_metadata.items() if k != "id"}


async def test_every_way_of_calling_gives_the_same_message_and_tallies_once() -> None:
    tally = Tally()
    model = stand_in("o4-mini", tally=tally)
    plain = model.invoke(QUESTION)
    awaited = await model.ainvoke(QUESTION)
    chunks = list(model.stream(QUESTION))
    async_chunks = [chunk async for chunk in model.astream(QUESTION)]
    for pieces in (chunks, async_chunks):
        assert plain.content == "".join(str(piece.content) for piece in pieces)
        assert [plain.usage_metadata] == [piece.usage_metadata for piece in pieces if piece.usage_metadata]
        assert pieces[-1].usage_metadata is not None
        assert len(pieces) > 2
    assert (plain.content, plain.usage_metadata) == (awaited.content, awaited.usage_metadata)
    assert tally.model_calls == {ModelCall("g", "", "n", "o4-mini-2025-04-16", names.OK): 4}
    assert plain.usage_metadata is not None
    assert 4 * plain.usage_metadata["total_tokens"] == tally.tokens.total()


def test_a_handler_learns_provider_and_model_and_sees_usage_once_when_streaming() -> None:
    recorder = Recorder()
    chunks = list(stand_in("claude-haiku-4-5").stream(QUESTION, config={"callbacks": [recorder]}))
    assert recorder.metadata["ls_provider"] == "anthropic"
    assert recorder.metadata["ls_model_name"] == "claude-haiku-4-5"
    assert recorder.chunks == len(chunks)
    assert recorder.usages == [chunks[-1].usage_metadata]


@pytest.mark.parametrize("stream", [False, True], ids=["invoke", "stream"])
def test_bound_tools_are_called_and_then_the_question_is_answered(stream: bool) -> None:
    model = stand_in().bind_tools([look_up])

    def ask(messages: list[Any]) -> AIMessage:
        if not stream:
            return model.invoke(messages)
        total = None
        for chunk in model.stream(messages):
            total = chunk if total is None else total + chunk  # type: ignore[assignment]  # typed as a prompt
        assert total is not None
        return total

    messages: list[Any] = [HumanMessage("Is article S-4711 in stock?")]
    called = 0
    while (reply := ask(messages)).tool_calls:
        called += len(reply.tool_calls)
        assert {call["name"] for call in reply.tool_calls} == {"look_up"}
        assert [call["args"] for call in reply.tool_calls] == [{"article": "S-4711"}] * len(reply.tool_calls)
        messages.append(reply)
    assert called >= 1
    assert reply.content


def test_a_rate_limit_passes_and_a_broken_server_does_not() -> None:
    limited = stand_in(trouble=Trouble(rate_limited=1.0, broken=0.0))
    with pytest.raises(RateLimitError, match="429"):
        limited.invoke(QUESTION)
    assert limited.invoke(QUESTION).content
    broken = stand_in(trouble=Trouble(rate_limited=0.0, broken=1.0))
    for _ in range(3):
        with pytest.raises(InternalServerError, match="500"):
            broken.invoke(QUESTION)


@pytest.mark.parametrize(
    "ask", [lambda m: m.invoke(QUESTION), lambda m: list(m.stream(QUESTION))], ids=["invoke", "stream"]
)
def test_a_failed_call_is_tallied_under_the_name_asked_for_and_costs_nothing(
    ask: Callable[[StandInChatModel], object],
) -> None:
    tally = Tally()
    with pytest.raises(InternalServerError):
        ask(stand_in(tally=tally, trouble=Trouble(0.0, 1.0)))
    assert tally.model_calls == {ModelCall("g", "", "n", "gpt-4o-mini", names.ERROR): 1}
    assert (tally.tokens.total(), tally.cost_nano.total()) == (0, 0)


def test_a_stream_left_early_is_a_cancelled_call() -> None:
    tally = Tally()
    stream = stand_in(tally=tally)._stream(list(QUESTION))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert by(tally.model_calls, "status") == {(names.CANCELLED,): 1}


def test_waiting_follows_the_time_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    stand_in("gpt-4o", time_scale=0.05).invoke(QUESTION)
    # Median 0.5 s to the first token and 8 ms for each of at least 20 more, at a twentieth; luck may halve it.
    assert 0.008 < sum(slept) < 1.0
