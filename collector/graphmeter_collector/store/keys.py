"""API keys in the database: rows in, `Key`s out. Their hashes only; the keys themselves are stored nowhere.

Connections of its own, opened when they are needed: commands use it beside a running collector, and a collector must
not wait for its writer to learn who may come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, insert, inspect, select, update

from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.keys import Key, scopes_of, scopes_text
from graphmeter_collector.store.aside import Aside, calm
from graphmeter_collector.store.engine import is_sqlite, shown, sqlite_path
from graphmeter_collector.store.tables import api_key


class KeyTable(Aside):
    """The keys of one database. Methods raise StoreUnavailable when it is away, or has no such table."""

    about = "keys"

    @calm
    async def exist(self) -> bool:
        """Whether there are any, revoked ones included; also False for a database without our tables."""
        if not self._there():
            return False
        async with self._question() as connection:
            if not await connection.run_sync(lambda sync: inspect(sync).has_table(api_key.name)):
                return False
            return (await connection.execute(select(api_key.c.id).limit(1))).first() is not None

    @calm
    async def all(self) -> list[Key]:
        """Every key, the oldest first."""
        if not self._there():
            raise StoreUnavailable(f"there is no database {shown(self._url)} to have keys in")
        async with self._question() as connection:
            rows = await connection.execute(select(api_key).order_by(api_key.c.created_ns, api_key.c.id))
            return [_key(row) for row in rows.mappings()]

    @calm
    async def add(self, key: Key) -> None:
        async with self._transaction() as connection:
            await connection.execute(insert(api_key).values(_row(key)))

    @calm
    async def revoke(self, key_id: str, now_ns: int) -> Key | None:
        """The key as it is afterwards; None if there is no such key. One that was revoked before stays so since then."""
        async with self._transaction() as connection:
            await connection.execute(
                update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_ns == 0).values(revoked_ns=now_ns)
            )
            rows = await connection.execute(select(api_key).where(api_key.c.id == key_id))
            return next((_key(row) for row in rows.mappings()), None)

    @calm
    async def used(self, at_ns: Mapping[str, int]) -> None:
        """Write down when keys, by id, were last used; the latest stands."""
        statement = (
            update(api_key)
            .where(api_key.c.id == bindparam("key"), api_key.c.used_ns < bindparam("at"))
            .values(used_ns=bindparam("at"))
        )
        # In one order, so that two collectors wait for each other in a line.
        used = [{"key": key, "at": at} for key, at in sorted(at_ns.items())]
        async with self._transaction() as connection:
            await connection.execute(statement, used)

    def _there(self) -> bool:
        return not is_sqlite(self._url) or sqlite_path(self._url).is_file()


def _row(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": scopes_text(key.scopes),
        "team": key.team,
        "salt": key.salt,
        "digest": key.digest,
        "last4": key.last4,
        "created_ns": key.created_ns,
        "used_ns": key.used_ns,
        "expires_ns": key.expires_ns,
        "revoked_ns": key.revoked_ns,
    }


def _key(row: Mapping[Any, Any]) -> Key:
    values: dict[str, Any] = dict(row)
    return Key(**values | {"scopes": scopes_of(values["scopes"])})
