"""Tells receivers what they are owed: messages in, rows of the database, then POSTs until one is answered.

`tell` writes down what is owed, once per key, and that is all a caller waits for; a round then delivers it, tries again
with growing pauses for a day, and gives up. So what was once owed survives restarts, and one collector at a time delivers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from graphmeter import names
from graphmeter_collector.notifications import Notification
from graphmeter_collector.notify.message import Format, Message, body
from graphmeter_collector.notify.post import Told, post
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config, Receiver

if TYPE_CHECKING:
    import aiohttp

_log = structlog.stdlib.get_logger(__name__)

NS: Final = 1_000_000_000
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 1800.0
GIVE_UP_AFTER_S: Final = 86_400.0
KEPT_S: Final = 100 * 86_400.0
"""How long finished ones stay known: nothing is told twice within any period of a report or budget."""
ROUND: Final = 100
"""Notifications that one round tries to deliver."""
AT_ONCE: Final = 8
"""Requests under way at the same time."""


class Owed(Protocol):
    """What the courier needs of the store."""

    async def add(self, notifications: Sequence[Notification]) -> list[str]: ...

    async def known(self, keys: Sequence[str]) -> set[str]: ...

    async def due(self, now_ns: int, limit: int) -> list[Notification]: ...

    async def waiting(self) -> dict[str, int]: ...

    async def delivered(self, key: str, now_ns: int) -> None: ...

    async def failed(self, key: str, error: str, due_ns: int) -> None: ...

    async def given_up(self, key: str, error: str, now_ns: int) -> None: ...

    async def forget(self, before_ns: int) -> int: ...


class Courier:
    """Tells the receivers of the configuration in force."""

    def __init__(self, owed: Owed, config: Callable[[], Config], metrics: Metrics) -> None:
        self._owed = owed
        self._config = config
        self._metrics = metrics
        self._waiting: dict[tuple[str, ...], float] = {}
        self.bell = asyncio.Event()
        """Set when something new is owed here: whoever runs `round` need not wait for the clock."""

    async def tell(
        self,
        key: str,
        receivers: Sequence[str],
        message: Message,
        form: Format | None = None,
        now_ns: int | None = None,
    ) -> list[str]:
        """Owe a message to receivers, once for each, whoever says so and how often; returns those to whom it is news.

        Args:
            key: What the message is about, for all times: `budget/team-monthly/cx/2026-11/80%`.
            form: Of the body; None is the receiver's own: Slack's blocks, or JSON.

        Raises:
            StoreUnavailable: nothing is owed; say it again.
        """
        now_ns = time.time_ns() if now_ns is None else now_ns
        known = self._receivers()
        owed = []
        for name in receivers:
            slack = name in known and known[name].kind == "slack"
            content_type, text = body(message, form or ("slack" if slack else "json"))
            owed.append(Notification(f"{key}/{name}", name, message.kind, content_type, text, now_ns))
        new = await self._owed.add(owed)
        if new:
            self.bell.set()
        return [each.receiver for each in owed if each.key in new]

    async def news(self, key: str, receivers: Sequence[str]) -> list[str]:
        """To which receivers a message would be news: it saves making one that was told before."""
        known = await self._owed.known([f"{key}/{name}" for name in receivers])
        return [name for name in receivers if f"{key}/{name}" not in known]

    async def due(self) -> bool:
        """Whether a round has something to do."""
        return self._concerned() and bool(await self._owed.due(time.time_ns(), 1))

    async def round(self) -> None:
        """Deliver what is due; one collector at a time."""
        due = await self._owed.due(time.time_ns(), ROUND)
        if not due:
            return
        import aiohttp

        places = asyncio.Semaphore(AT_ONCE)
        async with aiohttp.ClientSession() as session:
            delivering = (self._deliver(session, notification, places) for notification in due)
            # One that cannot be noted down must not keep the others from it.
            for fault in await asyncio.gather(*delivering, return_exceptions=True):
                if isinstance(fault, BaseException):
                    raise fault

    async def forget(self) -> None:
        """Delete what was finished long ago."""
        await self._owed.forget(time.time_ns() - round(KEPT_S * NS))

    async def show(self) -> None:
        """Tell in the metrics how much is owed, and to whom."""
        if not self._concerned():
            return
        known = {(name,): 0.0 for name in self._receivers()}
        owed = {(name,): float(count) for name, count in (await self._owed.waiting()).items()}
        self._waiting = dict.fromkeys(self._waiting, 0.0) | known | owed
        self._metrics.replace(names.COLLECTOR_NOTIFICATIONS_WAITING, self._waiting)
        for (name,) in self._waiting:
            for result in names.NOTIFY_RESULTS:
                self._metrics.declare(names.COLLECTOR_NOTIFICATIONS, name, result)

    def _concerned(self) -> bool:
        """Most collectors tell nobody, and need not ask the database whether they should."""
        return bool(self._config().receivers or self._waiting or self.bell.is_set())

    def _receivers(self) -> Mapping[str, Receiver]:
        return {each.name: each for each in self._config().receivers}

    async def _deliver(
        self, session: aiohttp.ClientSession, notification: Notification, places: asyncio.Semaphore
    ) -> None:
        async with places:
            receiver = self._receivers().get(notification.receiver)
            if receiver is None:
                told = Told(delivered=False, error="no receiver of this name in the configuration", again=True)
            else:
                told = await post(session, receiver, notification.key, notification.content_type, notification.body)
        await self._note(notification, told)

    async def _note(self, notification: Notification, told: Told) -> None:
        key, name, now_ns = notification.key, notification.receiver, time.time_ns()
        pause_s = _pause_s(notification.attempts, told.after_s)
        late = now_ns + pause_s * NS > notification.created_ns + GIVE_UP_AFTER_S * NS
        if told.delivered:
            await self._owed.delivered(key, now_ns)
            result = names.NOTIFIED
            _log.info("notified", receiver=name, about=key)
        elif told.again and not late:
            await self._owed.failed(key, told.error, now_ns + round(pause_s * NS))
            result = names.NOTIFY_FAILED
            if not notification.attempts:
                _log.warning("notify_failed", receiver=name, about=key, error=told.error, again_in_s=round(pause_s))
        else:
            await self._owed.given_up(key, told.error, now_ns)
            result = names.NOTIFY_GIVEN_UP
            _log.error("notify_given_up", receiver=name, about=key, error=told.error)
        self._metrics.inc(names.COLLECTOR_NOTIFICATIONS, name, result)


def _pause_s(attempts: int, asked_s: float) -> float:
    """How long until the next attempt: doubling, never less than the receiver asked for, and not with all others at once."""
    grown: float = min(FIRST_PAUSE_S * 2 ** min(attempts, 20), LONGEST_PAUSE_S)
    jitter: float = random.uniform(1.0, 1.25)  # noqa: S311 - no secret
    return max(grown, min(asked_s, GIVE_UP_AFTER_S / 4)) * jitter
