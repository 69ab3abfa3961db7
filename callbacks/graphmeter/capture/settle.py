"""Snapshots in, attributes that may leave the process out. The first thing done with a finished run.

Runs in the exporter's thread, before the run is printed, mirrored, spooled or made into a span. What cannot be redacted is
not there at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from graphmeter import names
from graphmeter.capture import Capture, Taken, fit
from graphmeter.records import Run
from graphmeter.redact import Where, failed

_MESSAGE_MARGIN: Final = 256
_LONGEST_MESSAGE: Final = 4_096
"""Where `langgraph.failure_of` cuts."""
_MOST_KEYS: Final = 64
_LONGEST_KEY: Final = 128

_DEFAULT: Final = Capture()


def settle(run: Run) -> None:
    """Redact everything that `run` has in words, and make attributes of what was captured. Never raises."""
    capture = run.tree.capture or _DEFAULT
    if run.failure is not None and run.failure.message:
        message = capture.redactor.message(run.failure.message, _where(run, "exception.message"))
        if len(run.failure.message) >= _LONGEST_MESSAGE:
            # It was cut, perhaps in the middle of something secret.
            message = message[:-_MESSAGE_MARGIN]
        run.failure = run.failure._replace(message=message)
    taken = run.captured
    if taken is None or not taken.snapshots:
        return
    snapshots, taken.snapshots = taken.snapshots, {}
    for attribute, snapshot in snapshots.items():
        make = _MAKERS.get(attribute, _json)
        try:
            taken.ready[attribute] = make(snapshot, taken, capture, _where(run, attribute))
        except Exception as error:  # noqa: BLE001 - the user's redactor may raise anything; it is counted and logged
            failed(attribute, error)


def _where(run: Run, attribute: str) -> Where:
    return Where(attribute, run.tree.graph, run.node, run.name)


def _json(snapshot: Any, taken: Taken, capture: Capture, where: Where) -> str:
    return fit.as_json(snapshot, capture.redactor, where, capture.limit)


def _conversation(snapshot: Any, taken: Taken, capture: Capture, where: Where) -> str:
    return fit.conversation(snapshot, taken.older, capture.redactor, where, capture.limit)


def _text(snapshot: Any, taken: Taken, capture: Capture, where: Where) -> str:
    return fit.text(snapshot, capture.redactor, where, capture.limit)


def _keys(snapshot: Any, taken: Taken, capture: Capture, where: Where) -> list[str]:
    return [capture.redactor.name(key[:_LONGEST_KEY]) for key in sorted(snapshot[:_MOST_KEYS])]


_MAKERS: Final[dict[str, Callable[[Any, Taken, Capture, Where], str | list[str]]]] = {
    names.INPUT_MESSAGES: _conversation,
    names.RETRIEVAL_QUERY: _text,
    names.STATE_KEYS: _keys,
}
