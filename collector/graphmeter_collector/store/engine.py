"""Database URLs in, SQLAlchemy engines out, with one sentence where a URL or a database is not what it should be."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from graphmeter_collector.errors import DatabaseAway, StartupError

POOL_SIZE = 4
"""Connections for reports; writer and jobs have their own."""
CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
BUSY_TIMEOUT_MS = 10_000
PAGE_BYTES = 8192
"""Of a new SQLite file. A commit writes whole pages: twice the default makes half as many, a sixth less time for rows."""

_AIOSQLITE = "sqlite+aiosqlite"
_WRITE = "write postgresql://user@host/name or sqlite:///path"
_SCHEMES = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "postgresql+asyncpg": "postgresql",
}


def parse(database_url: str) -> URL:
    """The URL with its plain scheme, `sqlite` or `postgresql`, if it names a database we can use.

    Raises:
        StartupError: it does not; the message never repeats the URL, which may hold a password.
    """
    try:
        url = make_url(database_url)
        if not is_sqlite(url):
            # asyncpg reads it by itself, and is stricter: `host[`.
            urlsplit(url.render_as_string(hide_password=False))
    except (ArgumentError, ValueError):
        raise StartupError(f"the database URL is not a URL: {_WRITE}") from None
    scheme = _SCHEMES.get(url.drivername)
    if scheme is None:
        raise StartupError(f"cannot store in {url.drivername!r}: {_WRITE}")
    if scheme == "sqlite" and url.database in (None, "", ":memory:"):
        raise StartupError("the SQLite URL names no file: write sqlite:///path (four slashes for an absolute path)")
    return url.set(drivername=scheme)


def is_sqlite(url: URL) -> bool:
    """Whether the database is an embedded file."""
    return url.get_backend_name() == "sqlite"


def sqlite_path(url: URL) -> Path:
    """The file of an embedded database."""
    return Path(url.database or "")


def shown(url: URL) -> str:
    """The URL as it may be printed: without password and options."""
    return url.set(query={}).render_as_string(hide_password=True)


_AWAY = (
    OSError,  # refused, unreachable, timed out, a name that is not known
    asyncpg.PostgresConnectionError,
    # Starting up, shutting down, killed; and no connection left.
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)


def cannot_use(url: URL, problem: BaseException) -> StartupError:
    """The error that says so: `DatabaseAway` if nothing answers there, and may again."""
    cause = getattr(problem, "orig", None) or problem
    found: BaseException | None = problem
    kind = StartupError
    while found is not None:
        if not is_sqlite(url) and isinstance(found, _AWAY):
            kind = DatabaseAway
        found = found.__cause__ or found.__context__
    return kind(f"cannot use the database {shown(url)}: {cause}")


async def connect(url: URL) -> asyncpg.Connection[asyncpg.Record]:
    """One connection to Postgres. Options of the URL (`?sslmode=require`) mean what they mean to libpq."""
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=COMMAND_TIMEOUT_S)


def read_engine(url: URL) -> AsyncEngine:
    """An engine for questions: its connections cannot write, nor make a file that is not there."""
    if not is_sqlite(url):
        return _postgres_engine(url, read_only=True)
    path = quote(str(sqlite_path(url).absolute()))
    # Put together, not parsed: parsing would decode the path.
    return _sqlite_engine(URL.create(_AIOSQLITE, database=f"file:{path}", query={"mode": "ro", "uri": "true"}))


def schema_engine(url: URL) -> AsyncEngine:
    """An engine for migrations; makes the file and its folder."""
    if not is_sqlite(url):
        return _postgres_engine(url)
    sqlite_path(url).parent.mkdir(parents=True, exist_ok=True)
    engine = _sqlite_engine(URL.create(_AIOSQLITE, database=str(sqlite_path(url))))
    # Python's driver begins no transaction for CREATE TABLE by itself, and half a migration must not stay.
    event.listen(engine.sync_engine, "connect", _large_pages)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _postgres_engine(url: URL, *, read_only: bool = False) -> AsyncEngine:
    async def connected() -> asyncpg.Connection[asyncpg.Record]:
        connection = await connect(url)
        if read_only:
            # Reports read indexes from end to end, which are in memory more often than not; at the default's price of a page
            # the planner prefers to read the whole table.
            try:
                await connection.execute("SET default_transaction_read_only = on; SET random_page_cost = 1.1")
            except BaseException:
                connection.terminate()  # nobody else knows of it yet
                raise
        return connection

    return create_async_engine(
        "postgresql+asyncpg://", async_creator=connected, pool_size=POOL_SIZE, pool_pre_ping=True
    )


def _sqlite_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(url, connect_args={"isolation_level": None})
    event.listen(engine.sync_engine, "connect", _wait_for_the_writer)
    return engine


def _wait_for_the_writer(connection: object, _record: object) -> None:
    _set(connection, "busy_timeout", BUSY_TIMEOUT_MS)


def _large_pages(connection: object, _record: object) -> None:
    """Of a file that is empty; one that holds tables keeps the pages it has."""
    _set(connection, "page_size", PAGE_BYTES)


def _set(connection: object, pragma: str, value: int) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # a DBAPI connection has no common type
    cursor.execute(f"PRAGMA {pragma} = {value}")
    cursor.close()
