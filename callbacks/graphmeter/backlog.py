"""A delivery's spans on disk: encoded and written while the other side is away, sent as they are when it is back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from graphmeter import guard
from graphmeter.delivery import Refused, Unreachable
from graphmeter.spool import Lost, Spool

if TYPE_CHECKING:
    from graphmeter.delivery import Ready

_ADOPTION_S: Final = 30.0
"""Seconds between looks for what other processes left."""


class Carrier(Protocol):
    """What can be encoded now and sent later."""

    where: str

    def encode(self, spans: Sequence[Ready]) -> tuple[bytes, int]:
        """A request, empty if there is none to be made, and the number of spans that could not be encoded."""

    def post(self, body: bytes) -> int:
        """Deliver a request; the number of spans refused for good. Raises Unreachable or Refused."""


class Replayed(NamedTuple):
    """What became of a stored request."""

    spans: int
    refused: int
    own: bool


class Backlog:
    """See the module. What the spool raises is for the caller."""

    def __init__(self, carrier: Carrier, spool: Spool) -> None:
        self._carrier = carrier
        self._spool = spool
        self._next_adoption = 0.0

    def adopt(self) -> None:
        """Take over what processes that have ended left, if it is time to look."""
        if time.monotonic() >= self._next_adoption:
            self._next_adoption = time.monotonic() + _ADOPTION_S
            self._spool.adopt()

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return self._spool.waiting

    def keep(self, spans: Sequence[Ready], report: Sequence[Ready] = ()) -> int:
        """Write `spans`, and a `report` that does not count; the number that could not be encoded, and is not among them."""
        body, unencodable = self._carrier.encode([*spans, *report])
        unencodable = min(unencodable, len(spans))
        if body:
            self._spool.write(body, len(spans) - unencodable)
        return unencodable

    def replay(self, *, own: bool) -> Replayed | None:
        """Send the next stored request; None if there is none (`own`: none of this process). Raises Unreachable."""
        if not own:
            self.adopt()
        stored = self._spool.first()
        if stored is None or (own and not stored.own):
            return None
        try:
            refused = min(self._carrier.post(stored.body), stored.spans)
        except Refused as error:
            guard.noticed("spans refused by the collector", f"{self._carrier.where}: {error}")
            refused = stored.spans
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 - one odd request must not block the others; guard counts and logs
            guard.swallowed("replay", error)
            refused = stored.spans
        known = self._spool.done(stored)
        return Replayed(stored.spans, refused, stored.own) if known else Replayed(0, 0, stored.own)

    def take_lost(self) -> Lost:
        """Spans given up since this was last asked."""
        return self._spool.take_lost()

    def close(self) -> None:
        """Leave what is left to other processes."""
        self._spool.close()
