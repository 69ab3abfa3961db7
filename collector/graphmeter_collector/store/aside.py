"""A few rows of one kind beside the store, on connections of their own: what they are for must not wait for the store.

Opened by the first question, closed by `close`; the database's failures come out as ours, with what they were about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.store.engine import parse, read_engine, schema_engine, shown


class Aside:
    """Base of the tables that are asked so. Methods raise StoreUnavailable when the database is away."""

    about: ClassVar[str]
    """What is in them, as errors name it: `keys`."""

    def __init__(self, database_url: str) -> None:
        """Nothing is opened yet.

        Raises:
            StartupError: the URL names no database that can be used.
        """
        self._url = parse(database_url)
        self._reading = read_engine(self._url)
        self._writing: AsyncEngine | None = None

    async def close(self) -> None:
        """Close every connection."""
        await self._reading.dispose()
        if self._writing is not None:
            await self._writing.dispose()

    @asynccontextmanager
    async def _question(self) -> AsyncIterator[AsyncConnection]:
        async with self._reachable(), self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        if self._writing is None:
            self._writing = schema_engine(self._url)
        async with self._reachable(), self._writing.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _reachable(self) -> AsyncIterator[None]:
        try:
            yield
        except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
            cause = getattr(problem, "orig", None) or problem
            raise StoreUnavailable(f"cannot use the {self.about} in {shown(self._url)}: {cause}") from problem
