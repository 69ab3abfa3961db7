"""Asks of strict budgets as they come in, decided group by group: whatever arrived during one transaction is the next one.

A lone ask waits for nobody, and a flood shares locks and commits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import structlog

from graphmeter import names
from graphmeter_collector.errors import CollectorError, StoreFailed, TooManyRequests
from graphmeter_collector.reports import Ask, Held, Reserved
from graphmeter_collector.telemetry import Metrics

_log = structlog.stdlib.get_logger(__name__)

MOST_AT_ONCE: Final = 256
"""Asks per transaction."""
MOST_WAITING: Final = 4096
"""Asks that wait for a transaction: further ones are told to come again."""


class Table(Protocol):
    """What is needed of the store."""

    async def reserve(self, asks: Sequence[Ask], now_ns: int) -> list[Reserved | CollectorError]: ...

    async def release(self, ids: Iterable[str], now_ns: int) -> None: ...

    async def open(self, name: str, now_ns: int) -> list[Held]: ...

    async def expire(self, before_ns: int) -> int: ...


class Reservations:
    """What this collector decides of strict budgets."""

    def __init__(self, table: Table, metrics: Metrics) -> None:
        self._table = table
        self._metrics = metrics
        self._waiting: deque[tuple[Ask, asyncio.Future[Reserved]]] = deque()
        self._deciding: asyncio.Task[None] | None = None

    async def reserve(self, ask: Ask) -> Reserved:
        """What is decided on an ask.

        Raises:
            NoSuchBudget, BadRequest: nothing can be.
            Transient: nothing is known of it; the same ask may be made again.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise TooManyRequests(f"{len(self._waiting)} calls wait for a decision of strict budgets: ask again later")
        decided: asyncio.Future[Reserved] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, decided))
        if self._deciding is None or self._deciding.done():
            self._deciding = asyncio.create_task(self._decide_all())
        return await decided

    async def release(self, reservation: str) -> None:
        """Give up what was reserved: its call cost nothing. Again, or for an id that nobody knows, it changes nothing."""
        await self._table.release([reservation], time.time_ns())

    async def open(self, name: str) -> list[Held]:
        """What calls under way have reserved of a budget now."""
        return await self._table.open(name, time.time_ns())

    async def expire(self) -> None:
        """Delete what has expired."""
        await self._table.expire(time.time_ns())

    async def _decide_all(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            try:
                answers: Sequence[Reserved | CollectorError] = await self._table.reserve(
                    [ask for ask, _ in group], time.time_ns()
                )
            except CollectorError as error:
                answers = [error] * len(group)
            except Exception as error:  # noqa: BLE001 - logged with its traceback, told to everybody who waits
                _log.exception("reserving_failed", asks=len(group))
                answers = [StoreFailed(f"reserving failed: {type(error).__name__}")] * len(group)
            for (ask, decided), answer in zip(group, answers, strict=True):
                self._tell(ask, decided, answer)

    def _tell(self, ask: Ask, decided: asyncio.Future[Reserved], answer: Reserved | CollectorError) -> None:
        if isinstance(answer, Reserved) and answer.counted:
            outcome = names.GRANTED if answer.granted else names.REFUSED
            self._metrics.inc(names.COLLECTOR_RESERVATIONS, ask.budget, outcome)
        if decided.done():  # whoever asked has hung up; should it be granted, it expires
            return
        if isinstance(answer, Reserved):
            decided.set_result(answer)
        else:
            decided.set_exception(answer)
