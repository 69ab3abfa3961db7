"""Other instrumentations of LangChain in the same process: told, where there are any, which of their runs we measure, too.

They take what they record from the same events, and say the run's metadata on their spans: `metadata` in openinference,
`traceloop.association.properties.*`, `langfuse.observation.metadata.*`. So the top of whatever we measure gets one entry
more, which its children inherit, and a collector that receives both knows theirs for twins. (Their spans may lie outside of
ours, hence without our trace state: some open one before the graph runs.) Metadata of the callback manager alone: it is in
no checkpoint. Without such neighbours nothing is added.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from graphmeter import guard, marks, names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from graphmeter.handler import GraphMeterCallbackHandler

_MODULES: Final = (
    "openinference.instrumentation.langchain",
    "opentelemetry.instrumentation.langchain",
    "opentelemetry.instrumentation.genai.langchain",
    "langfuse.langchain",
    "langsmith._internal.otel._otel_exporter",
)
_MOST_FRAMES: Final = 8
"""Between our callback and LangChain's manager lie two to four."""


found = False
"""Whether one was there when somebody last looked."""
modules_seen = 0
"""How many modules were loaded then; others may be neighbours."""


def present() -> bool:
    """Whether somebody else may record LangChain's runs as spans."""
    global found, modules_seen  # asked for every call; looked up when something was imported since
    if found:
        return True
    count = len(sys.modules)
    if count != modules_seen:
        modules_seen = count
        found = any(name in sys.modules for name in _MODULES)
    return found


@guard.guarded
def tell(metadata: Mapping[str, Any]) -> None:
    """Say in `metadata`, which the calling event shares with the other handlers, and below, that we measure what starts.

    For what has no parent among LangChain's runs: a root, or a call with callbacks of its own.
    """
    entry = {names.METADATA_MARK: marks.measured()}
    if isinstance(metadata, dict):
        metadata.update(entry)
    manager = _manager_above()
    if manager is not None:
        manager.add_metadata(entry)


def _manager_above() -> Any:
    """The callback manager whose event is being handled."""
    from langchain_core.callbacks import BaseCallbackManager

    frame: FrameType | None = sys._getframe(2)
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name.startswith("on_"):
            manager = frame.f_locals.get("self")
            if isinstance(manager, BaseCallbackManager):
                return manager
        frame = frame.f_back
    return None


@guard.guarded
def stand_first(handler: GraphMeterCallbackHandler) -> None:
    """Put `handler` before the others of the manager that LangChain is configuring in the calling frame.

    A neighbour that hears of a call before us has made its span when we add our entry.
    """
    from langchain_core.callbacks import BaseCallbackManager

    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "_configure":
        frame = frame.f_back
    manager = None if frame is None else frame.f_locals.get("callback_manager")
    if not isinstance(manager, BaseCallbackManager) or any(isinstance(one, type(handler)) for one in manager.handlers):
        return
    manager.handlers.insert(0, handler)
    manager.inheritable_handlers.insert(0, handler)
