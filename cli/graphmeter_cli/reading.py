"""A question and a source in, its answer out: the one place where commands open a database or a collector's API.

Whatever goes wrong on the way (no database, no schema, collector away, unknown run) ends as one sentence, exit code 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import click

from graphmeter_cli.options import Source
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.reports import Reader

_Answer = TypeVar("_Answer")


def ask(source: Source, question: Callable[[Reader], Awaitable[_Answer]]) -> _Answer:
    """Open the source, put the question, close again.

    Raises:
        click.ClickException: the source cannot answer; the message says what to do.
    """

    async def answer() -> _Answer:
        async with reader(source) as opened:
            return await question(opened)

    try:
        return asyncio.run(answer())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem


@asynccontextmanager
async def reader(source: Source) -> AsyncIterator[Reader]:
    """A Reader on the source; for a collector's URL one that asks its HTTP API."""
    if source.url:
        from graphmeter_cli.api import HttpReader

        async with HttpReader(source.url, source.api_key) as over_http:
            yield over_http
        return
    from graphmeter_collector.store.read import open_reader

    async with open_reader(database(source)) as on_database:
        yield on_database


def database(source: Source) -> str:
    """The source's SQLAlchemy URL; an SQLite file that does not exist is said, not created."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from graphmeter_collector.settings import default_data_dir, default_database_url

    url = source.database_url or default_database_url(source.data_dir or default_data_dir())
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Not repeated: it may hold a password.
        raise click.UsageError(
            "--database-url is not a URL: write postgresql://user@host/name or sqlite:///path"
        ) from None
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise click.ClickException(
            f"no database at {parsed.database}: run `graphmeter serve` or `graphmeter demo` first, "
            "or name one with --database-url, --data-dir or --url"
        )
    return url
