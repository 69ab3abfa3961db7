"""Which traces hold a run: kept for `GraphMeterSpanProcessor`, and only where there is one."""

from __future__ import annotations

from typing import Final

_MOST: Final = 4096

active = False
"""Whether anybody asks."""
_traces: dict[int, None] = {}
"""Trace ids, oldest first. Single operations, hence no lock."""


def begun(trace_id: int) -> None:
    """A run has started in a trace."""
    _traces.pop(trace_id, None)  # so that it stands last
    _traces[trace_id] = None
    while len(_traces) > _MOST:
        try:
            _traces.pop(next(iter(_traces)), None)
        except (StopIteration, RuntimeError):  # another thread is at it
            return


def holds_run(trace_id: int) -> bool:
    """Whether a run has started in this trace."""
    return trace_id in _traces
