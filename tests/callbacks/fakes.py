"""The model provider's stand-in, and small graphs around it; everything else in these tests is real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypedDict

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, StateGraph
from opentelemetry import trace
from pydantic import ConfigDict, Field


class State(TypedDict, total=False):
    x: int


class FakeChat(BaseChatModel):
    """Answers at once, 10 tokens in and 5 out, as `gpt-4o-mini` of openai, unless told otherwise."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = "gpt-4o-mini"
    provider: str = "openai"
    usage: dict[str, Any] | None = Field(
        default_factory=lambda: {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    )
    choices: int = 1
    delay_s: float = 0.0
    failures: list[Exception] = Field(default_factory=list)
    """Raised one per call, first to last, before any answer."""
    break_after: int | None = None
    """Chunks after which a stream breaks."""
    tool_calls: list[dict[str, Any]] = Field(default_factory=list)
    """Asked for in the first answer only."""
    seen: Callable[[], None] | None = None
    """Called inside every call."""
    answers: int = 0
    asked: int = 0
    """Calls that have come so far, answered or not."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.model, "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self

    def _result(self) -> ChatResult:
        if self.seen is not None:
            self.seen()
        if self.failures:
            raise self.failures.pop(0)
        calls = self.tool_calls if self.answers == 0 else []
        self.answers += 1
        return ChatResult(
            generations=[
                ChatGeneration(
                    message=AIMessage(
                        content="" if calls else "hello",
                        usage_metadata=self.usage,
                        tool_calls=calls,
                        response_metadata={
                            "model_name": f"{self.model}-2026-01-01",
                            "id": f"resp_{self.answers}",
                            "finish_reason": "stop",
                        },
                    )
                )
                for _ in range(self.choices)
            ]
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.asked += 1
        if self.delay_s:
            time.sleep(self.delay_s)
        return self._result()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.asked += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return self._result()


class FakeStreamingChat(FakeChat):
    """Answers in chunks: an empty one first, as providers do, and usage on the last."""

    def _chunks(self) -> Iterator[ChatGenerationChunk]:
        for number, text in enumerate(["", "hel", "lo", ""]):
            if self.break_after is not None and number >= self.break_after:
                raise ConnectionError("stream broke")
            usage: Any = self.usage if number == 3 else None
            metadata = {"model_name": self.model} if number == 3 else {}
            yield ChatGenerationChunk(
                message=AIMessageChunk(content=text, usage_metadata=usage, response_metadata=metadata)
            )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.asked += 1
        for chunk in self._chunks():
            if run_manager is not None:
                run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            if self.delay_s:
                time.sleep(self.delay_s)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.asked += 1
        for chunk in self._chunks():
            if run_manager is not None:
                await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            yield chunk


async def reached(model: FakeChat, times: int = 1) -> None:
    """Return when the model has been asked so often."""
    async with asyncio.timeout(60):
        while model.asked < times:  # noqa: ASYNC110 - some are asked in threads, which cannot set the loop's events
            await asyncio.sleep(0.001)


def chain_of(*nodes: tuple[str, Any], **compile_options: Any) -> Any:
    """A compiled graph, named `demo`, that runs `nodes` (name and action) one after another."""
    builder = StateGraph(State)
    before = START
    for name, action in nodes:
        builder.add_node(name, action)
        builder.add_edge(before, name)
        before = name
    return builder.compile(**{"name": "demo", **compile_options})


def asking(model: BaseChatModel) -> Callable[[State], State]:
    """A node that asks `model`."""

    def node(state: State) -> State:
        model.invoke("hi")
        return {"x": 1}

    return node


def asking_async(model: BaseChatModel) -> Callable[[State], Any]:
    """An asynchronous node that asks `model`."""

    async def node(state: State) -> State:
        await model.ainvoke("hi")
        return {"x": 1}

    return node


def nothing(state: State) -> State:
    return {"x": 1}


def current_span_id() -> int:
    """Id of the span that the application would find current here; 0 for none."""
    return trace.get_current_span().get_span_context().span_id
