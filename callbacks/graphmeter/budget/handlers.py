"""How guards hear of model calls: callback handlers in, one question to each guard out, before the call is made.

They have to raise, which a handler that only measures never does, and run inline. One object serves synchronous and
asynchronous graphs: LangChain looks a handler's method up where it is about to call it, and finds the asynchronous variant
if that place is a coroutine. Only that variant waits for a request, and lets the event loop go on.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook

from graphmeter import guard as boundary
from graphmeter import names
from graphmeter.budget.calls import Call
from graphmeter.budget.modes import WAIT
from graphmeter.handler import GraphMeterCallbackHandler
from graphmeter.records import Run
from graphmeter.runs import RUNS

if TYPE_CHECKING:
    from graphmeter.budget.guarding import BudgetGuard


class Either:
    """A method of two variants: whoever looks it up inside of a coroutine gets the asynchronous one."""

    def __init__(self, plain: Callable[..., None], waiting: Callable[..., Any]) -> None:
        self._plain = plain
        self._waiting = waiting

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        inside = sys._getframe(1).f_code.co_flags & inspect.CO_COROUTINE
        return MethodType(self._waiting if inside else self._plain, instance)


class Asks:
    """Asks `guards` before a model call."""

    guards: tuple[BudgetGuard, ...] = ()

    def _surely(self, run: Run | None) -> bool:
        """Whether all guards let the call pass that `run` measures, and need to keep nothing of it."""
        if run is None:
            return False
        try:
            for each in self.guards:
                if not each.surely(run):
                    return False
        except Exception as error:  # noqa: BLE001 - the guard's own fault: counted, and then asked at length
            boundary.swallowed("budget guard", error)
            return False
        return True

    def _ask(
        self,
        serialized: Mapping[str, Any] | None,
        messages: Any,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
    ) -> None:
        passed: list[tuple[BudgetGuard, Call]] = []
        for each in self.guards:
            call = each.meet(serialized, messages, run_id, parent_run_id, metadata, params)
            if call is None:
                continue
            verdict, unknown = each.ask(call)
            if verdict is WAIT:
                verdict, unknown = each.wait(call)
            if verdict is not None or unknown:
                each.decide(call, verdict, unknown, passed)
            each.passes(call, passed)

    async def _ask_waiting(
        self,
        serialized: Mapping[str, Any] | None,
        messages: Any,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
    ) -> None:
        passed: list[tuple[BudgetGuard, Call]] = []
        for each in self.guards:
            call = each.meet(serialized, messages, run_id, parent_run_id, metadata, params)
            if call is None:
                continue
            verdict, unknown = each.ask(call)
            if verdict is WAIT:
                try:
                    verdict, unknown = await asyncio.to_thread(each.wait, call)
                except BaseException:  # cancelled meanwhile: the call is not made
                    each.drop(call)
                    raise
            if verdict is not None or unknown:
                each.decide(call, verdict, unknown, passed)
            each.passes(call, passed)


class Guarding(Asks, BaseCallbackHandler):
    """Nothing but guards, beside a handler that measures."""

    run_inline = True
    raise_error = True
    # All else goes by unheard, at the price of one look at an attribute.
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def _before(
        self,
        serialized: dict[str, Any] | None,
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not self._surely(RUNS.get(run_id.int)):
            self._ask(serialized, messages, run_id, parent_run_id, metadata, invocation_params)

    async def _before_waiting(
        self,
        serialized: dict[str, Any] | None,
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not self._surely(RUNS.get(run_id.int)):
            await self._ask_waiting(serialized, messages, run_id, parent_run_id, metadata, invocation_params)

    on_chat_model_start: Any = Either(_before, _before_waiting)
    on_llm_start: Any = Either(_before, _before_waiting)


def _measured_first(operation: str) -> Either:
    def plain(
        self: GuardedHandler,
        serialized: dict[str, Any] | None,
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        run = self._asked(operation, serialized, messages, run_id, parent_run_id, metadata, kwargs)
        if not self._surely(run or RUNS.get(run_id.int)):
            self._ask(serialized, messages, run_id, parent_run_id, metadata, kwargs.get("invocation_params"))

    async def waiting(
        self: GuardedHandler,
        serialized: dict[str, Any] | None,
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        run = self._asked(operation, serialized, messages, run_id, parent_run_id, metadata, kwargs)
        if not self._surely(run or RUNS.get(run_id.int)):
            params = kwargs.get("invocation_params")
            await self._ask_waiting(serialized, messages, run_id, parent_run_id, metadata, params)

    return Either(plain, waiting)


class GuardedHandler(Asks, GraphMeterCallbackHandler):
    """Measures as another handler does, and asks a guard: one callback for both.

    A handler more costs a model call up to 10 µs, nearly all of them LangChain's; see `make bench-guard`.

    Args:
        measuring: Whose runs these are: its exporter, its attribution, what it captures.
        guard: What is asked.
    """

    # What measuring raises is caught where it is raised, here as there.
    raise_error = True

    def __init__(self, measuring: GraphMeterCallbackHandler, guard: BudgetGuard) -> None:
        BaseCallbackHandler.__init__(self)
        self._made_of = measuring, guard
        self._ground = measuring.ground
        self.guards = (guard,)

    def __reduce__(self) -> tuple[Any, ...]:
        return GuardedHandler, self._made_of

    on_chat_model_start: Any = _measured_first(names.OP_CHAT)
    on_llm_start: Any = _measured_first(names.OP_TEXT)


class _Together(Guarding):
    """Several guards, for a call that heard of none of them."""

    def __init__(self, guards: tuple[BudgetGuard, ...]) -> None:
        super().__init__()
        self.guards = guards


def guards_here() -> tuple[BudgetGuard, ...]:
    """The guards of the run around, as LangChain knows it."""
    config = var_child_runnable_config.get()
    handlers = getattr((config or {}).get("callbacks"), "handlers", None) or ()
    found = dict.fromkeys(each for handler in handlers if isinstance(handler, Asks) for each in handler.guards)
    return tuple(found)


class _Hook:
    """What LangChain asks whenever it configures a run: calls with callbacks of their own are guarded all the same."""

    def __init__(self) -> None:
        self._registered = False

    def register(self) -> None:
        if not self._registered:
            self._registered = True
            # Given the class, LangChain adds none where there is one already.
            register_configure_hook(
                cast("ContextVar[Any]", self), inheritable=True, handle_class=cast("type[BaseCallbackHandler]", Asks)
            )

    def get(self) -> BaseCallbackHandler | None:
        """The guards for what is being configured here."""
        config = var_child_runnable_config.get()
        if config is None:
            return None
        handlers: Sequence[object] = getattr(config.get("callbacks"), "handlers", ())
        if len(handlers) == 1:  # as in nearly every run, and it is asked twice for each
            return cast("BaseCallbackHandler", handlers[0]) if isinstance(handlers[0], Asks) else None
        found: BaseCallbackHandler | None = None
        for handler in handlers:
            if isinstance(handler, Asks):
                if found is not None:
                    return _Together(guards_here())
                found = cast("BaseCallbackHandler", handler)
        return found


HOOK: Final = _Hook()
