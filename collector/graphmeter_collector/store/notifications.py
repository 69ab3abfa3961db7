"""Notifications in the database: each is put there once, by its key, and stays until it is delivered or given up.

Connections of its own, opened when they are needed: telling somebody must not wait for the writer of spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from graphmeter_collector.notifications import Notification
from graphmeter_collector.store.aside import Aside, calm
from graphmeter_collector.store.engine import is_sqlite
from graphmeter_collector.store.tables import notification

WAITING = "waiting"
DELIVERED = "delivered"
GIVEN_UP = "given_up"

_FIELDS = tuple(Notification.__dataclass_fields__)


class NotificationTable(Aside):
    """The notifications of one database. Methods raise StoreUnavailable when it is away."""

    about = "notifications"

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self._insert = sqlite.insert if is_sqlite(self._url) else postgresql.insert

    @calm
    async def add(self, notifications: Iterable[Notification]) -> list[str]:
        """Keys of those that are new; the others were put there before, and stay as they are."""
        rows = [{name: getattr(each, name) for name in _FIELDS} | {"due_ns": each.created_ns} for each in notifications]
        if not rows:
            return []
        async with self._transaction() as connection:
            statement = self._insert(notification).values(rows).on_conflict_do_nothing()
            return [row.key for row in await connection.execute(statement.returning(notification.c.key))]

    @calm
    async def known(self, keys: Sequence[str]) -> set[str]:
        """Which of the keys were put there before."""
        async with self._question() as connection:
            rows = await connection.execute(select(notification.c.key).where(notification.c.key.in_(keys)))
            return {row.key for row in rows}

    @calm
    async def due(self, now_ns: int, limit: int) -> list[Notification]:
        """Those that should be delivered now, the one that has waited longest first."""
        columns = [notification.c[name] for name in _FIELDS]
        query = (
            select(*columns)
            .where(notification.c.status == WAITING, notification.c.due_ns <= now_ns)
            .order_by(notification.c.due_ns, notification.c.key)
            .limit(limit)
        )
        async with self._question() as connection:
            return [Notification(**row) for row in (await connection.execute(query)).mappings()]

    @calm
    async def waiting(self) -> dict[str, int]:
        """How many are not delivered yet, by receiver."""
        query = (
            select(notification.c.receiver, func.count().label("count"))
            .where(notification.c.status == WAITING)
            .group_by(notification.c.receiver)
        )
        async with self._question() as connection:
            return {row["receiver"]: row["count"] for row in (await connection.execute(query)).mappings()}

    @calm
    async def delivered(self, key: str, now_ns: int) -> None:
        """The receiver has it."""
        await self._finish(key, DELIVERED, "", now_ns)

    @calm
    async def given_up(self, key: str, error: str, now_ns: int) -> None:
        """It will never be delivered."""
        await self._finish(key, GIVEN_UP, error, now_ns)

    @calm
    async def failed(self, key: str, error: str, due_ns: int) -> None:
        """It was not delivered, and is due again later."""
        values = {"attempts": notification.c.attempts + 1, "error": error, "due_ns": due_ns}
        async with self._transaction() as connection:
            await connection.execute(update(notification).where(notification.c.key == key).values(**values))

    @calm
    async def forget(self, before_ns: int) -> int:
        """Delete those that were finished before then; returns how many."""
        finished = (notification.c.status != WAITING, notification.c.done_ns < before_ns)
        async with self._transaction() as connection:
            return (await connection.execute(delete(notification).where(*finished))).rowcount

    async def _finish(self, key: str, status: str, error: str, now_ns: int) -> None:
        values = {"attempts": notification.c.attempts + 1, "status": status, "error": error, "done_ns": now_ns}
        async with self._transaction() as connection:
            await connection.execute(update(notification).where(notification.c.key == key).values(**values))
