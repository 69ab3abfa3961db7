"""What happened in the graph, on request: prompts, answers, arguments, documents and states in, span attributes out.

The way of a value: `events` takes a snapshot of it in the application's thread (`plain`, `messages`, `state`), since its
owner may change it at once; `settle` redacts it, cuts it to size (`fit`) and makes it an attribute, in the exporter's
thread, before the span exists for anybody else. This module is what is loaded while nothing is captured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from graphmeter.redact import Function, Redactor, choose

if TYPE_CHECKING:
    from graphmeter.settings import Settings

CONTENT: Final = "content"
"""Prompts, answers, tool arguments and results, retrieval queries and documents."""
MEDIA: Final = "media"
"""The same, with pictures, sounds and files that were sent inline."""
STATE: Final = "state"
"""Of every node: size of the state it was given, size of what it wrote, and the keys."""
STATE_DIFF: Final = "state_diff"
"""The same, and what it wrote."""

KINDS: Final = (CONTENT, MEDIA, STATE, STATE_DIFF)
_IMPLIED: Final = {MEDIA: CONTENT, STATE_DIFF: STATE}


@dataclass(frozen=True, slots=True)
class Capture:
    """What is captured, and how it is made fit to leave."""

    kinds: frozenset[str] = frozenset()
    """Of `KINDS`, implied ones included."""
    redactor: Redactor = field(default_factory=Redactor)
    limit: int = 8192
    """Most bytes of one attribute."""


class Taken:
    """What was captured of one run."""

    __slots__ = ("older", "ready", "snapshots")

    def __init__(self) -> None:
        self.snapshots: dict[str, Any] = {}
        """By attribute; not redacted, and nobody's but `settle`'s."""
        self.older = 0
        """Messages older than those in the snapshot."""
        self.ready: dict[str, Any] = {}
        """Attributes as they may leave."""


def chosen(settings: Settings, capture: str | Iterable[str] | None, redact: Function | None) -> Capture:
    """What a handler captures: as it was told, else as GRAPHMETER_CAPTURE says.

    Raises:
        ValueError: A kind that does not exist.
        TypeError: `redact` cannot be called.
    """
    if redact is not None and not callable(redact):
        raise TypeError(f"redact= takes a function of a text and a graphmeter.redact.Where, not {redact!r}")
    kinds = settings.capture if capture is None else kinds_of(capture)
    return Capture(kinds, Redactor(redact, choose(settings.redact)), settings.capture_bytes)


def kinds_of(said: str | Iterable[str]) -> frozenset[str]:
    """Kinds from `"content,state"` or a collection of names, with what they imply.

    Raises:
        ValueError: A kind that does not exist.
    """
    parts = said.split(",") if isinstance(said, str) else list(said)
    kinds = {part.strip().lower() for part in parts} - {""}
    unknown = sorted(kinds.difference(KINDS))
    if unknown:
        raise ValueError(f"capture: {', '.join(map(repr, unknown))} is none of {', '.join(KINDS)}")
    return frozenset(kinds | {_IMPLIED[kind] for kind in kinds if kind in _IMPLIED})
