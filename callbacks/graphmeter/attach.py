"""Three ways to attach, one handler: `meter()` for a graph, `instrument()` for the process, or the handler in a config."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config

from graphmeter import embeddings, guard, langgraph, topology
from graphmeter.attribution import Attribution
from graphmeter.handler import GraphMeterCallbackHandler
from graphmeter.hook import HOOK
from graphmeter.redact import Function

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel.protocol import PregelProtocol

    from graphmeter.budget import BudgetGuard

_Graph = TypeVar("_Graph", bound="PregelProtocol[Any, Any, Any, Any]")

_lock = threading.Lock()
_NEED: Final = "graphmeter measures LangGraph: pip install langgraph"

_originals: dict[str, Any] = {}
_shared: GraphMeterCallbackHandler | None = None


def default_handler() -> GraphMeterCallbackHandler:
    """The handler that `meter()` and `instrument()` attach when none is given."""
    global _shared  # made on first use
    with _lock:
        if _shared is None:
            _shared = GraphMeterCallbackHandler()
        return _shared


def meter(
    graph: _Graph,
    *,
    name: str = "",
    team: str = "",
    tenant: str = "",
    environment: str = "",
    release: str = "",
    tags: Mapping[str, Any] | None = None,
    capture: str | Iterable[str] | None = None,
    redact: Function | None = None,
    handler: GraphMeterCallbackHandler | None = None,
    budget: str | Iterable[str] | BudgetGuard | None = None,
    per_run_usd: Decimal | str | float | None = None,
    per_run_tokens: int | None = None,
) -> _Graph:
    """A copy of the compiled `graph` that is measured. It streams, draws and nests in other graphs like the original.

    A RemoteGraph is measured as its caller sees it: see `graphmeter.remote`.

    Args:
        graph: A compiled graph, or a RemoteGraph; it stays as it is.
        name: Name of the graph in every report; default the name it was compiled with, else the service's.
        team: Whose money it is.
        tenant: For whom it is spent.
        environment: `production`, `staging` …; default `deployment.environment.name` of the resource.
        release: Version of the application; default `service.version` of the resource.
        tags: Further attribution, names to short texts or numbers.
        capture: What happened in the graph: `content`, `media`, `state`, `state_diff`; default GRAPHMETER_CAPTURE.
        redact: `redact(text, where)`; see GraphMeterCallbackHandler.
        handler: A handler of your own making; what it captures is said to it.
        budget: Names of budgets of the collector that stop model calls when they are used up; or a guard that says more.
        per_run_usd: The most that one run may spend, in USD.
        per_run_tokens: The same in tokens. See `graphmeter.BudgetGuard`.

    The attribution travels as metadata (keys in `graphmeter.attribution`), so one call can override it:
    `graph.invoke(x, config={"metadata": {"graphmeter_tenant": "acme", "user_id": "u1"}})`.

    Raises:
        TypeError: `graph` is not a compiled graph.
        ValueError: `capture` names something that cannot be captured, or there is a handler already; a cap makes no
            sense; or the collector answers, and does not know a budget.
    """
    compiled: Any = graph
    pregel = _pregel()
    if _is_remote(graph):
        from graphmeter import remote

        if budget is not None or per_run_usd is not None or per_run_tokens is not None:
            raise ValueError(
                "model calls of a RemoteGraph are made elsewhere: give budget= and per_run_…= to meter() there"
            )
        compiled = remote.measured(compiled)
    elif not isinstance(graph, pregel):
        remedy = (
            "compile it first: meter(builder.compile())" if hasattr(graph, "compile") else "it is no LangGraph graph"
        )
        raise TypeError(f"meter() takes a compiled graph, not {type(graph).__name__}; {remedy}")
    own = topology.name_of(compiled)
    said = Attribution(
        name or ("" if own in (None, langgraph.UNNAMED) else own), team, tenant, environment, release, dict(tags or {})
    )
    config: RunnableConfig = {"metadata": dict(said.metadata())}
    if capture is not None or redact is not None:
        if _attached(compiled.config):
            raise ValueError("the graph has a handler already: give capture= and redact= to that one")
        handler = _capturing(handler, capture, redact)
    if handler is None and not _attached(compiled.config):
        handler = default_handler()
    attached: BaseCallbackHandler | None = handler
    if budget is not None or per_run_usd is not None or per_run_tokens is not None:
        attached = _guarded(handler, _guard(budget, per_run_usd, per_run_tokens))
    if attached is not None:
        config["callbacks"] = [attached]
    return cast("_Graph", compiled.with_config(config))


def _guarded(measuring: GraphMeterCallbackHandler | None, guard: BudgetGuard) -> BaseCallbackHandler:
    from graphmeter.budget.handlers import GuardedHandler

    return guard if measuring is None else GuardedHandler(measuring, guard)


def _guard(
    budget: str | Iterable[str] | BudgetGuard | None,
    per_run_usd: Decimal | str | float | None,
    per_run_tokens: int | None,
) -> BudgetGuard:
    from graphmeter.budget import BudgetGuard

    if not isinstance(budget, BudgetGuard):
        return BudgetGuard(budget, per_run_usd=per_run_usd, per_run_tokens=per_run_tokens)
    if per_run_usd is not None or per_run_tokens is not None:
        raise ValueError("per_run_usd= and per_run_tokens= belong to the guard: BudgetGuard(…, per_run_usd=…)")
    return budget


def _capturing(
    handler: GraphMeterCallbackHandler | None, capture: str | Iterable[str] | None, redact: Function | None
) -> GraphMeterCallbackHandler:
    if handler is not None:
        raise ValueError("capture= and redact= belong to the handler: GraphMeterCallbackHandler(capture=…, redact=…)")
    return GraphMeterCallbackHandler(capture=capture, redact=redact)


def instrument(
    handler: GraphMeterCallbackHandler | None = None,
    *,
    capture: str | Iterable[str] | None = None,
    redact: Function | None = None,
) -> None:
    """Measure every graph of the process, compiled before or after, model calls outside of graphs, and embeddings.

    Idempotent.

    Args:
        handler: A handler of your own making; what it captures is said to it.
        capture: What happened in the graphs; see GraphMeterCallbackHandler.
        redact: `redact(text, where)`; see there.

    Raises:
        ImportError: LangGraph is not installed.
        ValueError: `capture` names something that cannot be captured, or `handler` is given, too.
    """
    pregel = _pregel()
    if capture is not None or redact is not None:
        handler = _capturing(handler, capture, redact)
    chosen = handler or default_handler()
    with _lock:
        HOOK.everywhere = chosen
        if not _originals:
            # Handlers from the hook hear nothing of interrupts and resumes; those in a graph's config do.
            _originals.update(stream=pregel.stream, astream=pregel.astream)
            pregel.stream = _wrapped(pregel.stream)
            pregel.astream = _wrapped(pregel.astream)
        embeddings.instrument(lambda: HOOK.everywhere)


def uninstrument() -> None:
    """Undo `instrument()`. Runs that have started are still measured to their end."""
    with _lock:
        HOOK.everywhere = None
        embeddings.uninstrument()
        if _originals:
            pregel = _pregel()
            for name, original in _originals.items():
                # Somebody may have wrapped our wrapper since; it then passes through, as the hook has no handler.
                if getattr(getattr(pregel, name), "__wrapped__", None) is original:
                    setattr(pregel, name, original)
            _originals.clear()


def _wrapped(original: Callable[..., Iterator[Any] | AsyncIterator[Any]]) -> Any:
    @functools.wraps(original)
    def stream(self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        handler = HOOK.everywhere
        if handler is not None:
            config = _with_handler(self, config, handler) or config
        return original(self, input, config, **kwargs)

    return stream


@guard.guarded
def _with_handler(
    graph: Any, config: RunnableConfig | None, handler: GraphMeterCallbackHandler
) -> RunnableConfig | None:
    """`config` with `handler` in its callbacks; None if a handler of ours will hear the run anyway."""
    if _attached(config) or _attached(graph.config) or _attached(var_child_runnable_config.get()):
        return None
    given = (config or {}).get("callbacks")
    callbacks: Any
    if isinstance(given, BaseCallbackManager):
        callbacks = given.copy()
        callbacks.add_handler(handler, inherit=True)
    else:
        # First, so that what others open is inside of ours.
        callbacks = [handler, *(given or ())]
    changed: RunnableConfig = {**(config or {}), "callbacks": callbacks}
    return changed


def _attached(config: RunnableConfig | None) -> bool:
    callbacks = (config or {}).get("callbacks")
    handlers: list[BaseCallbackHandler] = (
        callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else list(callbacks or ())
    )
    return any(isinstance(handler, GraphMeterCallbackHandler) for handler in handlers)


def _pregel() -> Any:
    try:
        from langgraph.pregel import Pregel
    except ImportError as error:
        raise ImportError(_NEED) from error
    return Pregel


def _is_remote(graph: object) -> bool:
    # Whoever has a RemoteGraph has loaded it; it brings an HTTP client along.
    module = sys.modules.get("langgraph.pregel.remote")
    return module is not None and isinstance(graph, module.RemoteGraph)
