"""The seam between what is to be sent and who sends it: a `Delivery`, how it fails, and when to try again."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, Union

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from graphmeter.backlog import Backlog
    from graphmeter.records import Note, Run

Ready = Union["ReadableSpan", bytes]
"""A span as a delivery sends it: bytes where it is ours and goes to a collector. The application's stay as they are."""

_FIRST_BACKOFF_S: Final = 1.0
_LONGEST_BACKOFF_S: Final = 30.0
_dice: Final = random.SystemRandom()
"""Not the application's generator, which it may have seeded; nor one that forked workers would share."""


class Unreachable(Exception):
    """The other side did not answer, or asked to come back later: the spans are worth another try."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """The other side will never take these spans."""


class Delivery(Protocol):
    """Hands spans to somebody else."""

    resource: Resource
    """Of our spans."""
    where: str
    reports: bool
    """Whether the other side is a collector, which wants to know what became of the spans."""
    backlog: Backlog | None
    """Keeps spans while the other side is away; None: they wait in memory."""

    def span_of(self, run: Run, *, error_messages: bool) -> Ready:
        """The span of a finished run."""

    def span_of_note(self, note: Note) -> Ready:
        """The span of a note."""

    def send(self, spans: Sequence[Ready]) -> int:
        """Deliver `spans`; the number refused for good among them. Raises Unreachable or Refused."""

    def close(self) -> None:
        """Nothing more will be sent."""


class Backoff:
    """When to try again after the other side was unreachable."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._next_try = 0.0

    @property
    def away(self) -> bool:
        """Whether the last try failed."""
        return self._pause_s > 0

    @property
    def wait_s(self) -> float:
        """Seconds until the next try; 0: now."""
        return max(self._next_try - time.monotonic(), 0.0)

    def failed(self, error: Unreachable) -> None:
        """Wait twice as long as before, or as long as the other side asks."""
        self._pause_s = min(max(self._pause_s * 2, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)
        # Jitter: a fleet must not come back in step.
        pause = max(self._pause_s * _dice.uniform(0.8, 1.2), error.retry_after_s)
        self._next_try = time.monotonic() + pause

    def answered(self) -> None:
        """The other side is there."""
        self._pause_s = self._next_try = 0.0
