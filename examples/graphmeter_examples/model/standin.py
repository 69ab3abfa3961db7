"""The stand-in for a chat model: prompts in; messages, usage and latency out as a provider's integration gives them.

It is a LangChain chat model through and through (sync, async, streaming, tools), so everything above it is real. What it
answers, charges, how long it takes and when it fails depends on its seed and on the conversation (see `luck`). Every call
is written to the `Tally`.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field

from graphmeter import names
from graphmeter_examples.luck import Luck
from graphmeter_examples.model.catalogue import ModelSpec, usage_metadata
from graphmeter_examples.model.script import Reply, conversation_key, reply_to
from graphmeter_examples.tally import Tally, outcome

_CHUNKS = 6
"""Into how many pieces a streamed answer is cut, at most."""


class ProviderError(Exception):
    """A provider refused or failed. `status_code` is HTTP's, as on the errors of the openai and anthropic packages."""

    status_code = 0


class RateLimitError(ProviderError):
    status_code = 429


class InternalServerError(ProviderError):
    status_code = 500


@dataclass(frozen=True, slots=True)
class Trouble:
    """How often calls fail, as shares of conversations."""

    rate_limited: float = 0.05
    """Refused with 429 once; the next try with the same conversation succeeds."""
    broken: float = 0.03
    """Answered with 500, however often it is tried."""


NO_TROUBLE = Trouble(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Answer:
    reply: Reply
    first_token_s: float
    """Seconds to sleep before the first token."""
    rest_s: float
    """Seconds to sleep from the first token to the last."""
    error: ProviderError | None


class StandInChatModel(BaseChatModel):
    """One model as one node of one graph uses it: the place is fixed, so that truth needs no context to know it."""

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    spec: ModelSpec
    graph: str
    node: str
    luck: Luck = Field(repr=False)
    tally: Tally = Field(repr=False)
    trouble: Trouble = Trouble()
    time_scale: float = 0.0
    """Seconds slept per second that the real model would take; 0 does not sleep."""

    @property
    def _llm_type(self) -> str:
        return "stand-in-chat"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model_name": self.spec.name}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider=self.spec.provider, ls_model_name=self.spec.name, ls_model_type="chat")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._answer(messages, kwargs)
        with self._call(answer):
            _sleep(answer.first_token_s + answer.rest_s)
        return self._result(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._answer(messages, kwargs)
        with self._call(answer):
            await asyncio.sleep(answer.first_token_s + answer.rest_s)
        return self._result(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs)
        pieces = _pieces(answer.reply)
        with self._call(answer):
            _sleep(answer.first_token_s)
            if answer.error is None:
                for piece in pieces:
                    yield ChatGenerationChunk(message=piece)
                    _sleep(answer.rest_s / len(pieces))
        yield self._last_chunk(answer)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs)
        pieces = _pieces(answer.reply)
        with self._call(answer):
            await asyncio.sleep(answer.first_token_s)
            if answer.error is None:
                for piece in pieces:
                    yield ChatGenerationChunk(message=piece)
                    await asyncio.sleep(answer.rest_s / len(pieces))
        yield self._last_chunk(answer)

    def _answer(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> _Answer:
        key = f"{self.spec.name} {conversation_key(messages)}"
        tools = [tool["function"] for tool in kwargs.get("tools", ())]
        reply = reply_to(messages, tools, self.spec, self.luck, key)
        tokens = reply.usage["output"] + reply.usage.get("reasoning", 0)
        return _Answer(
            reply,
            self.time_scale * self.luck.spread(self.spec.first_token_s, 0.5, key, "first token"),
            self.time_scale * self.luck.spread(self.spec.token_s, 0.25, key, "token") * tokens,
            self._error(key),
        )

    def _error(self, key: str) -> ProviderError | None:
        if self.luck.unit(key, "broken") < self.trouble.broken:
            return InternalServerError(f"{self.spec.name}: 500 The server had an error while processing your request")
        if self.luck.stumbles(self.trouble.rate_limited, key):
            return RateLimitError(f"{self.spec.name}: 429 Rate limit reached for requests per minute")
        return None

    @contextmanager
    def _call(self, answer: _Answer) -> Iterator[None]:
        """Raise what the answer has to raise, and write down how the call ended."""

        def record(status: str, _: BaseException | None) -> None:
            if status == names.OK:
                usage = answer.reply.usage
                cost_nano = self.spec.rates.cost_nano(usage)
                self.tally.model_call(self.graph, self.node, self.spec.answers_as, status, usage, cost_nano)
            else:
                # Nobody answered, so only the name that was asked for is known, and nothing is billed.
                self.tally.model_call(self.graph, self.node, self.spec.name, status, {}, 0)

        with outcome(record):
            yield
            if answer.error is not None:
                raise answer.error

    def _result(self, answer: _Answer) -> ChatResult:
        reply = answer.reply
        message = AIMessage(
            content=reply.text,
            tool_calls=list(reply.tool_calls),
            usage_metadata=usage_metadata(self.spec, reply.usage),
            response_metadata={"model_provider": self.spec.provider},
        )
        # LangChain merges `llm_output` into the message's response_metadata: the integrations rely on it.
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output=self._response_metadata(reply))

    def _last_chunk(self, answer: _Answer) -> ChatGenerationChunk:
        """Usage arrives once, on the last chunk, with the names; chunks are added up, so neither may come twice."""
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=usage_metadata(self.spec, answer.reply.usage),
                response_metadata={
                    "model_provider": self.spec.provider,
                    **self._response_metadata(answer.reply),
                },
                chunk_position="last",
            )
        )

    def _response_metadata(self, reply: Reply) -> dict[str, Any]:
        """What the provider's integration says about a response. Ids are new each time, as a provider's are."""
        unique, name = uuid.uuid4().hex, self.spec.answers_as
        wants_tools = bool(reply.tool_calls)
        if self.spec.provider == "openai":
            reason = "tool_calls" if wants_tools else "stop"
            return {"id": f"chatcmpl-{unique}", "model_name": name, "finish_reason": reason}
        if self.spec.provider == "anthropic":
            reason = "tool_use" if wants_tools else "end_turn"
            return {"id": f"msg_{unique}", "model": name, "model_name": name, "stop_reason": reason}
        return {"model_name": name, "finish_reason": "STOP"}  # Gemini's integration passes no response id on


def _sleep(seconds: float) -> None:
    # time.sleep(0) gives up the processor, which a run without waiting should not pay for.
    if seconds > 0:
        time.sleep(seconds)


def _pieces(reply: Reply) -> list[AIMessageChunk]:
    """The reply as streamed chunks, without usage."""
    if reply.tool_calls:
        return [
            AIMessageChunk(
                content="",
                tool_call_chunks=[tool_call_chunk(name=c["name"], args=json.dumps(c["args"]), id=c["id"], index=i)],
            )
            for i, c in enumerate(reply.tool_calls)
        ]
    words = reply.text.split(" ")
    size = -(-len(words) // _CHUNKS)
    return [
        AIMessageChunk(content=" ".join(words[i : i + size]) + (" " if i + size < len(words) else ""))
        for i in range(0, len(words), size)
    ]
