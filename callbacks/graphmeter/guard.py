"""The boundary between our faults and the application: exceptions go in, nothing comes out, every one is counted.

LangChain also swallows what a handler raises, but it logs each occurrence and counts none. Here a kind of fault (place and
type) is logged once, with its traceback, and counted for ever; `graphmeter.stats()` shows the sum.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_log = logging.getLogger("graphmeter")
_lock = threading.Lock()
_faults: Counter[str] = Counter()

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MOST_KINDS = 256
"""Kinds come from code and exception types, so they are few; the cap keeps a pathological case from growing."""


def swallowed(place: str, error: BaseException) -> None:
    """Count `error` under its kind; log the first of each kind with its traceback."""
    kind = f"{place}: {type(error).__name__}"
    if _first(kind):
        _log.warning("Graphmeter fault in %s; graphs are not affected, more are only counted", kind, exc_info=error)


def noticed(kind: str, detail: str) -> None:
    """Count something unexpected in the data that is no exception; log the first of each kind."""
    if _first(kind):
        _log.warning("Graphmeter: %s: %s; more are only counted", kind, detail)


def _first(kind: str) -> bool:
    with _lock:
        if kind not in _faults and len(_faults) >= _MOST_KINDS:
            kind = "other"
        _faults[kind] += 1
        return _faults[kind] == 1


def guarded(function: Callable[_P, _T]) -> Callable[_P, _T | None]:
    """Make `function` answer None instead of raising. KeyboardInterrupt and SystemExit pass."""
    place = function.__name__

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - this is the one place that may: it counts and logs
            swallowed(place, error)
            return None

    return call


def faults() -> dict[str, int]:
    """Faults swallowed so far in this process, by kind."""
    with _lock:
        return dict(_faults)


def forget() -> None:
    """Start counting anew: a forked child answers for itself only."""
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.Lock()
    _faults.clear()
