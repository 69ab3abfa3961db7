"""Releases in the database: when the first run of each began, whichever collector saw it.

Connections of its own, opened when they are needed: a mark on a dashboard must not wait for the writer of spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from graphmeter_collector.store.aside import Aside, calm
from graphmeter_collector.store.engine import is_sqlite
from graphmeter_collector.store.tables import release_seen

Release = tuple[str, str, str]
"""Service, environment, release."""

_KEY: Final = ("service", "environment", "release")


class ReleaseTable(Aside):
    """The releases of one database. Methods raise StoreUnavailable when it is away."""

    about = "releases"

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        embedded = is_sqlite(self._url)
        self._insert = sqlite.insert if embedded else postgresql.insert
        self._least = func.min if embedded else func.least

    @calm
    async def saw(self, first_ns: Mapping[Release, int]) -> None:
        """Runs of releases began then; the earliest stands, whoever tells it."""
        # In one order: two collectors that see the same deployment must not wait for each other.
        rows = [dict(zip(_KEY, release, strict=True)) | {"first_ns": ns} for release, ns in sorted(first_ns.items())]
        if rows:
            statement = self._insert(release_seen).values(rows)
            earliest = self._least(release_seen.c.first_ns, statement.excluded.first_ns)
            async with self._transaction() as connection:
                await connection.execute(
                    statement.on_conflict_do_update(index_elements=list(_KEY), set_={"first_ns": earliest})
                )

    @calm
    async def newest(self, limit: int) -> dict[Release, int]:
        """When the first runs of the releases that came last began."""
        columns = [release_seen.c[name] for name in (*_KEY, "first_ns")]
        query = select(*columns).order_by(release_seen.c.first_ns.desc(), *columns).limit(limit)
        async with self._question() as connection:
            return {(row[0], row[1], row[2]): row[3] for row in await connection.execute(query)}
