"""Database URLs in, SQLAlchemy engines out, with one sentence where a URL or a database is not what it should be."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from graphmeter_collector.errors import StartupError

POOL_SIZE = 4
"""Connections for reports and jobs; the writer has one of its own."""


def parse(database_url: str) -> URL:
    """The URL, if it names a database we can use.

    Raises:
        StartupError: it does not; the message never repeats the URL, which may hold a password.
    """
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise StartupError(
            "the database URL is not a URL: write postgresql://user@host/name or sqlite:///path"
        ) from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise StartupError(
            f"cannot store in {url.get_backend_name()!r}: write postgresql://user@host/name or sqlite:///path"
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise StartupError("the SQLite URL names no file: write sqlite:///path")
    return url


def is_sqlite(url: URL) -> bool:
    """Whether the database is an embedded file."""
    return url.get_backend_name() == "sqlite"


def sqlite_path(url: URL) -> Path:
    """The file of an embedded database."""
    return Path(url.database or "")


def asyncpg_dsn(url: URL) -> str:
    """The URL as asyncpg reads it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def read_engine(url: URL) -> AsyncEngine:
    """An engine for questions."""
    if is_sqlite(url):
        engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"))
        event.listen(engine.sync_engine, "connect", _wait_for_the_writer)
        return engine
    return create_async_engine(url.set(drivername="postgresql+asyncpg"), pool_size=POOL_SIZE, pool_pre_ping=True)


def _wait_for_the_writer(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # a DBAPI connection has no common type
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.close()
