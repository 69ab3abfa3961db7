"""Bring a database to the newest schema, once, whoever else tries at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from graphmeter_collector.errors import StartupError
from graphmeter_collector.store.engine import cannot_use, is_sqlite, parse, schema_engine, sqlite_path
from graphmeter_collector.store.lock import FileLock
from graphmeter_collector.store.tables import metadata

_Answer = TypeVar("_Answer")

MIGRATION_LOCK = 0x6772_6D00
"""Advisory lock key on Postgres: `grm` and a number."""
WAIT_S = 60.0
"""How long one process waits for another's migration of an embedded file."""


def migrate(database_url: str, revision: str = "head") -> str:
    """Upgrade (or, for an older revision, downgrade) under a lock; returns the revision the database is at afterwards.

    All of it is one transaction: a migration that fails leaves the schema as it was. Blocking; where an event loop is
    running, call it through `asyncio.to_thread`.

    Raises:
        StartupError: the database cannot be reached, or is newer than this code.
    """
    url = parse(database_url)
    if not is_sqlite(url):
        return _run(url, lambda connection: _to(connection, revision))
    lock = FileLock(sqlite_path(url), "migrate", "it is migrating this database; wait until it is done")
    lock.acquire(WAIT_S)
    try:
        return _run(url, lambda connection: _to(connection, revision))
    finally:
        lock.release()


def current(database_url: str) -> str | None:
    """The revision a database is at; None for one without our tables.

    Raises:
        StartupError: the database cannot be reached.
    """
    url = parse(database_url)
    if is_sqlite(url) and not sqlite_path(url).exists():
        return None
    return _run(url, lambda connection: MigrationContext.configure(connection).get_current_revision())


def head() -> str:
    """The newest revision this code knows."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None  # there is at least one revision
    return newest


def require_head(at: str | None, database: str) -> None:
    """Refuse a database at another revision than this code's.

    Raises:
        StartupError: it is; the message says how to get there.
    """
    script = ScriptDirectory.from_config(_config())
    if at == script.get_current_head():
        return
    _refuse_newer(script, at)
    state = f"is at revision {at}, this version needs {script.get_current_head()}" if at else "has no tables yet"
    raise StartupError(f"the database {database} {state}: run `graphmeter migrate`")


def _to(connection: Connection, revision: str) -> str:
    if connection.dialect.name == "postgresql":
        # Held until the transaction ends, which is when the others may look.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    script = ScriptDirectory.from_config(_config())
    at = MigrationContext.configure(connection).get_current_revision()
    _refuse_newer(script, at)
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["target_metadata"] = metadata
    if revision == "head" or at is None or _is_after(script, revision, at):
        command.upgrade(config, revision)
    else:
        command.downgrade(config, revision)
    return MigrationContext.configure(connection).get_current_revision() or "base"


def _refuse_newer(script: ScriptDirectory, at: str | None) -> None:
    if at is not None and at not in {each.revision for each in script.walk_revisions()}:
        raise StartupError(
            f"the database is at revision {at}, which this version does not know (its newest is "
            f"{script.get_current_head()}): upgrade graphmeter (pip install -U graphmeter), or restore the database of "
            "the older version"
        )


def _is_after(script: ScriptDirectory, revision: str, at: str) -> bool:
    if revision == "base":
        return False
    return at in {each.revision for each in script.iterate_revisions(revision, "base")}


def _config() -> Config:
    config = Config()
    # From package resources, so that an installed wheel migrates as a checkout does.
    config.set_main_option("script_location", str(files("graphmeter_migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(url: URL, work: Callable[[Connection], _Answer]) -> _Answer:
    async def run() -> _Answer:
        engine = schema_engine(url)
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    with _reachable(url):
        return asyncio.run(run())


@contextmanager
def _reachable(url: URL) -> Iterator[None]:
    try:
        yield
    except (OSError, SQLAlchemyError, asyncpg.PostgresError) as problem:
        raise cannot_use(url, problem) from problem
