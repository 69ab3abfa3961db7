"""What LangChain asks for a handler whenever it configures a run: the one of `instrument()`, else that of the run around.

A call inside of a measured graph may hear of no handler: `model.generate()` takes its callbacks as an argument only, and
`config={"callbacks": []}` is a known way to keep a model's tokens out of a stream. Its money is spent all the same.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import ref

from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook

from graphmeter import guard, neighbours, roots
from graphmeter.runs import RUNS

_config_here: Final = var_child_runnable_config.get
_modules: Final = sys.modules

if TYPE_CHECKING:
    from graphmeter.handler import GraphMeterCallbackHandler
    from graphmeter.records import Sink


class Hook:
    """Looks like a ContextVar, but is one value for the process: a real one is invisible in threads that did not copy a
    context, and cannot be taken back there.
    """

    def __init__(self) -> None:
        self.everywhere: GraphMeterCallbackHandler | None = None
        """Set by `instrument()`."""
        # As a WeakValueDictionary, whose `get` is Python code: it is asked a dozen times in every run.
        self._handlers: dict[Sink, ref[GraphMeterCallbackHandler]] = {}
        self._registered = False

    def register(self, handler: GraphMeterCallbackHandler, sink: Sink) -> None:
        """Let runs that go to `sink` be followed by `handler`."""
        from graphmeter.handler import GraphMeterCallbackHandler  # which imports this module

        self._handlers[sink] = ref(handler, lambda gone: self._forget(sink, gone))
        if not self._registered:
            self._registered = True
            # Given the class, LangChain adds no second handler of it to a run.
            register_configure_hook(
                cast("ContextVar[Any]", self), inheritable=True, handle_class=GraphMeterCallbackHandler
            )

    def get(self) -> GraphMeterCallbackHandler | None:
        """The handler for what is being configured here.

        LangChain asks twice for everything that it runs, in the middle of graphs, where each function more that is called
        is one that no cache of the processor holds: so `roots.around` is repeated here.
        """
        handler = self.everywhere
        if handler is None:
            config = _config_here()
            if config is None:
                return None
            try:
                run = RUNS.get(getattr(getattr(config.get("callbacks"), "parent_run_id", None), "int", roots.NONE))
                if run is None or (found := self._handlers.get(run.tree.sink)) is None:
                    return None
                handler = found()
            except Exception as error:  # noqa: BLE001 - as guard.guarded, which would be a call more for every run
                guard.swallowed("hook", error)
        if (
            handler is not None
            and (neighbours.found or len(_modules) != neighbours.modules_seen)
            and neighbours.present()
        ):
            neighbours.stand_first(handler)
        return handler

    def _forget(self, sink: Sink, gone: ref[GraphMeterCallbackHandler]) -> None:
        if self._handlers.get(sink) is gone:
            del self._handlers[sink]


HOOK: Final = Hook()
