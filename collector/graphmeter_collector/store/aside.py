"""A few rows of one kind beside the store, on connections of their own: what they are for must not wait for the store.

Opened by the first question, closed by `close`; the database's failures come out as ours, with what they were about. What
is asked is finished even if nobody waits for it any more, where the driver needs that: see `store.calm`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.store.calm import Calm
from graphmeter_collector.store.engine import is_sqlite, parse, read_engine, schema_engine, shown

_Table = TypeVar("_Table", bound="Aside")
_Asked = ParamSpec("_Asked")
_Answer = TypeVar("_Answer")


class Aside:
    """Base of the tables that are asked so, by methods that are `calm`. They raise StoreUnavailable when it is away."""

    about: ClassVar[str]
    """What is in them, as errors name it: `keys`."""

    def __init__(self, database_url: str) -> None:
        """Nothing is opened yet.

        Raises:
            StartupError: the URL names no database that can be used.
        """
        self._url = parse(database_url)
        self._calm = Calm(needed=is_sqlite(self._url))
        self._reading = read_engine(self._url)
        self._writing: AsyncEngine | None = None

    async def close(self) -> None:
        """Finish what is under way, then close every connection."""
        await self._calm.rest()
        await self._reading.dispose()
        if self._writing is not None:
            await self._writing.dispose()

    @asynccontextmanager
    async def _question(self) -> AsyncIterator[AsyncConnection]:
        async with self._reachable(), self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self._reachable(), self._writer().begin() as connection:
            yield connection

    def _writer(self) -> AsyncEngine:
        if self._writing is None:
            self._writing = schema_engine(self._url)
        return self._writing

    @asynccontextmanager
    async def _reachable(self) -> AsyncIterator[None]:
        try:
            yield
        except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
            cause = getattr(problem, "orig", None) or problem
            raise StoreUnavailable(f"cannot use the {self.about} in {shown(self._url)}: {cause}") from problem


def calm(
    method: Callable[Concatenate[_Table, _Asked], Coroutine[Any, Any, _Answer]],
) -> Callable[Concatenate[_Table, _Asked], Coroutine[Any, Any, _Answer]]:
    """A question or a transaction as one whole, which no cancellation leaves in the middle."""

    @functools.wraps(method)
    async def ask(table: _Table, /, *args: _Asked.args, **kwargs: _Asked.kwargs) -> _Answer:
        return await table._calm.ask(method(table, *args, **kwargs))

    return ask
