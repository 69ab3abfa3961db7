"""What a receiver is to be told, as it waits in the database: the noun between those who tell, `store` and `notify`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notification:
    """One POST that is owed to one receiver. The body is ready: what is tried again is the same text."""

    key: str
    """What it is about, for all times: `report/daily-spend/2026-11-20/finops`. A second one with this key is the first."""
    receiver: str
    kind: str
    """`report`, `budget`."""
    content_type: str
    body: str
    created_ns: int
    attempts: int = 0
    """Made so far."""
