"""Log lines that say which run they belong to: a filter for the standard library's logging, a processor for structlog.

    handler.addFilter(graphmeter.logging.GraphmeterFilter())
    structlog.configure(processors=[graphmeter.logging.add_run, …])

Both read the context of the code that logs, so they belong where it logs: not behind a queue, in another thread.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from graphmeter import guard
from graphmeter.inside import RunInfo, current_run

_NOWHERE = RunInfo("", "", "", "")
_FIELDS = ("trace_id", "run_id", "graph", "node")

_here = guard.guarded(current_run)


class GraphmeterFilter(logging.Filter):
    """Adds `trace_id`, `run_id`, `graph` and `node` to every record, as texts that are empty outside of runs.

    Drops nothing. What a record has already (from `extra=`, or from the same filter elsewhere) stays. Attach it to
    handlers: a logger's filters do not see what its children log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        info = _here() or _NOWHERE
        for name in _FIELDS:
            if not hasattr(record, name):
                setattr(record, name, getattr(info, name))
        return True


def add_run(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: adds `trace_id`, `run_id`, `graph` and, in nodes, `node`; outside of runs nothing.

    What the event has already stays.
    """
    info = _here()
    if info is not None:
        for name in _FIELDS:
            if value := getattr(info, name):
                event.setdefault(name, value)
    return event
