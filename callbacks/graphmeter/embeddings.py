"""Embeddings as model calls. LangChain fires no callbacks for them, so they are measured where they are called.

    embeddings = meter_embeddings(OpenAIEmbeddings(model="text-embedding-3-small"))

`instrument()` does it for every embeddings class of the process, inside vector stores and retrievers, too. One call of
`embed_documents` is one span, however many requests it makes; it belongs to the run that is open around it. What an
object of another integration reports is read by `graphmeter.taps`; vectors and texts are never looked at.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from langchain_core.embeddings import Embeddings

from graphmeter import context, failures, forks, guard, langgraph, models, names, roots, runs, taps
from graphmeter.records import Run
from graphmeter.runs import RUNS
from graphmeter.servers import server_among
from graphmeter.taps import Reading

if TYPE_CHECKING:
    from graphmeter.handler import GraphMeterCallbackHandler

_METHODS: Final = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")
_MARK: Final = "_graphmeter_measures"
_Finder = Callable[[], "GraphMeterCallbackHandler | None"]


class _Call:
    """One measured call."""

    __slots__ = ("readings", "run", "subject")

    def __init__(self, subject: Any, run: Run) -> None:
        self.subject = subject
        self.run = run
        self.readings: list[Reading] = []
        """Appended to by several threads at once, where an integration uses them."""


_call: ContextVar[_Call | None] = ContextVar("graphmeter-embeddings", default=None)


def meter_embeddings(embeddings: Embeddings, *, handler: GraphMeterCallbackHandler | None = None) -> Embeddings:
    """`embeddings`, measured: each call is a span `embeddings {model}` of the run around it, with tokens and cost.

    The result answers exactly as `embeddings` does, to attributes of its own, too; it is no instance of its class. Outside
    of any run, calls are recorded like model calls outside of graphs.

    Args:
        embeddings: Any LangChain embeddings.
        handler: Where calls outside of any run go; default: the one that `meter()` attaches.

    Raises:
        TypeError: `embeddings` are no LangChain embeddings.
    """
    if isinstance(embeddings, MeteredEmbeddings):
        return embeddings
    if not isinstance(embeddings, Embeddings):
        raise TypeError(
            f"meter_embeddings() takes LangChain embeddings, not {type(embeddings).__name__}; "
            "derive it from langchain_core.embeddings.Embeddings"
        )
    return MeteredEmbeddings(embeddings, handler)


class MeteredEmbeddings(Embeddings):
    """Embeddings around other embeddings; see `meter_embeddings`."""

    def __init__(self, inner: Embeddings, handler: GraphMeterCallbackHandler | None) -> None:
        self._inner = inner
        self._handler = handler

    def _find(self) -> GraphMeterCallbackHandler:
        if self._handler is not None:
            return self._handler
        instrumented = _find_handler() if _find_handler is not None else None
        if instrumented is not None:
            return instrumented
        from graphmeter.attach import default_handler

        return default_handler()

    def embed_documents(self, texts: list[str], *args: Any, **kwargs: Any) -> list[list[float]]:
        vectors: list[list[float]] = _measured(
            self._inner, self._find, self._inner.embed_documents, (texts, *args), kwargs
        )
        return vectors

    def embed_query(self, text: str, *args: Any, **kwargs: Any) -> list[float]:
        vector: list[float] = _measured(self._inner, self._find, self._inner.embed_query, (text, *args), kwargs)
        return vector

    async def aembed_documents(self, texts: list[str], *args: Any, **kwargs: Any) -> list[list[float]]:
        vectors: list[list[float]] = await _measured_async(
            self._inner, self._find, self._inner.aembed_documents, (texts, *args), kwargs
        )
        return vectors

    async def aembed_query(self, text: str, *args: Any, **kwargs: Any) -> list[float]:
        vector: list[float] = await _measured_async(
            self._inner, self._find, self._inner.aembed_query, (text, *args), kwargs
        )
        return vector

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_inner" not in self.__dict__:  # being copied or unpickled
            raise AttributeError(name)
        return getattr(self._inner, name)


# --- every class of the process -----------------------------------------------------------------------------------------

_lock = threading.Lock()
_wrapped: list[tuple[type[Embeddings], str, Any]] = []
_find_handler: _Finder | None = None


def instrument(find: _Finder) -> None:
    """Measure every embeddings class there is and will be. Idempotent.

    `find` names the handler for calls outside of any run; None: they are not measured.
    """
    global _find_handler
    with _lock:
        known = _find_handler is not None
        _find_handler = find
        if known:
            return
        # A class made later announces itself here; its methods are not wrapped twice if it inherits them.
        Embeddings.__init_subclass__ = classmethod(_announced)  # type: ignore[assignment,method-assign]
        waiting: list[type[Any]] = [Embeddings]
        while waiting:
            kind = waiting.pop()
            waiting.extend(kind.__subclasses__())
            _wrap(kind)


def uninstrument() -> None:
    """Undo `instrument()`."""
    global _find_handler
    with _lock:
        if _find_handler is None:
            return
        _find_handler = None
        del Embeddings.__init_subclass__
        for kind, name, original in _wrapped:
            # Somebody may have wrapped our wrapper since; it then passes through.
            if getattr(vars(kind).get(name), _MARK, False):
                setattr(kind, name, original)
        _wrapped.clear()
    taps.remove()


def _announced(cls: type[Embeddings], /, **kwargs: Any) -> None:
    super(Embeddings, cls).__init_subclass__(**kwargs)
    if _find_handler is not None:
        _wrap(cls)


@guard.guarded
def _wrap(kind: type[Embeddings]) -> None:
    if kind is MeteredEmbeddings:
        return
    for name in _METHODS:
        original = vars(kind).get(name)
        # The defaults of the base class call the other methods, in a thread.
        if not inspect.isfunction(original) or hasattr(original, _MARK) or kind is Embeddings:
            continue
        if getattr(original, "__isabstractmethod__", False):
            continue
        wrapper = _wrapper_async(original) if inspect.iscoroutinefunction(original) else _wrapper(original)
        setattr(wrapper, _MARK, True)
        setattr(kind, name, wrapper)
        _wrapped.append((kind, name, original))


def _wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def embed(self: Any, *args: Any, **kwargs: Any) -> Any:
        find = _find_handler
        if find is None:
            return original(self, *args, **kwargs)
        return _measured(self, find, original, (self, *args), kwargs)

    return embed


def _wrapper_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def embed(self: Any, *args: Any, **kwargs: Any) -> Any:
        find = _find_handler
        if find is None:
            return await original(self, *args, **kwargs)
        return await _measured_async(self, find, original, (self, *args), kwargs)

    return embed


# --- one call -----------------------------------------------------------------------------------------------------------


def _measured(subject: Any, find: _Finder, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    call = None if _asks_nothing(args, kwargs) else _begin(subject, find)
    if call is None:
        return function(*args, **kwargs)
    token = _call.set(call)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        _end(call, error)
        raise
    finally:
        _call.reset(token)
    _end(call, None)
    return result


async def _measured_async(
    subject: Any, find: _Finder, function: Callable[..., Awaitable[Any]], args: Any, kwargs: Any
) -> Any:
    call = None if _asks_nothing(args, kwargs) else _begin(subject, find)
    if call is None:
        return await function(*args, **kwargs)
    token = _call.set(call)
    try:
        result = await function(*args, **kwargs)
    except BaseException as error:
        _end(call, error)
        raise
    finally:
        _call.reset(token)
    _end(call, None)
    return result


def _asks_nothing(args: Any, kwargs: Any) -> bool:
    """No texts at all: no integration asks its provider then."""
    return any(type(value) is list and not value for value in (*args, kwargs.get("texts")))


@guard.guarded
def _begin(subject: Any, find: _Finder) -> _Call | None:
    around = _call.get()
    if around is not None and around.subject is subject:  # `embed_query` by way of `embed_documents`
        return None
    tap = taps.tap_of(subject)
    if not tap.clients and any(isinstance(value, Embeddings) for value in getattr(subject, "__dict__", {}).values()):
        return None  # a cache or the like: the embeddings that it asks are measured, if it asks them
    parent = _around()
    run_id = uuid4()
    if parent is not None:
        tree, ns = parent.tree, parent.ns
    else:
        handler = find()
        if handler is None:
            return None
        tree, ns = roots.plant(handler.ground, run_id, None, {}), ""
    model = taps.model_of(subject)
    run = Run(names.MODEL, model, run_id.int, parent, tree, ns)
    run.facts = {names.OPERATION: names.OP_EMBEDDINGS, names.PROVIDER: taps.provider_of(subject, tap)}
    if model:
        run.facts[names.REQUEST_MODEL] = model
    server = server_among(getattr(subject, "__dict__", {}))
    if server is not None:
        models.locate(run.facts, server)
    taps.install(subject, tap, _told)
    runs.begin(run)
    return _Call(subject, run)


def _around() -> Run | None:
    """The innermost open run here."""
    run = context.run_here()
    while run is not None and run.number not in RUNS:
        run = run.parent
    return run if run is not None else roots.parent_of(None)


def _told(reading: Reading) -> None:
    call = _call.get()
    if call is not None:
        call.readings.append(reading)


@guard.guarded
def _end(call: _Call, error: BaseException | None) -> None:
    facts = call.run.facts
    try:
        if facts is not None:
            counted = [reading.tokens for reading in call.readings if reading.tokens is not None]
            if counted:
                facts[names.USAGE_INPUT] = sum(counted)
            told = [reading.cost_usd for reading in call.readings if reading.cost_usd is not None]
            if told and len(told) == len(call.readings):
                facts[names.REPORTED_COST_USD] = sum(told)
            # A call that failed outright owes no usage.
            if error is not None:
                facts.update(failures.facts_of(error))
            elif len(counted) < max(len(call.readings), 1):
                facts[names.USAGE_MISSING] = True
            model = next((reading.model for reading in call.readings if reading.model), "")
            if model:
                facts[names.RESPONSE_MODEL] = model
    finally:
        runs.finish(call.run.number, *langgraph.outcome(error))


def _after_fork() -> None:
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.Lock()


forks.in_child(_after_fork)
