"""Questions of dashboards and their answers: a database to ask, and a table for people."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graphmeter_dashboards.ask import PANEL, Answer, Refused, Sql

_NARROWEST = 160
_WITHIN_S = 60.0


@contextmanager
def database(url: str) -> Iterator[Sql]:
    """Asks a Postgres, read only, while the block lasts.

    Raises:
        click.ClickException: it is no Postgres, it cannot be reached, or its driver is not installed.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise click.ClickException("--database-url: panels ask Postgres, and this is none: write postgresql://…")
    try:
        import asyncpg
    except ModuleNotFoundError:
        raise click.ClickException("asking Postgres needs asyncpg: pip install 'graphmeter[collector]'") from None
    with asyncio.Runner() as runner:
        settings = {"default_transaction_read_only": "on"}
        try:
            connection = runner.run(asyncpg.connect(url, timeout=_WITHIN_S, server_settings=settings))
        except (OSError, ValueError, TimeoutError, asyncpg.PostgresError) as problem:
            raise click.ClickException(f"cannot ask the database: {problem}") from problem

        def sql(query: str) -> Sequence[Mapping[str, Any]]:
            try:
                rows = runner.run(connection.fetch(query, timeout=_WITHIN_S))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as problem:
                raise Refused(str(problem) or type(problem).__name__) from problem
            return [dict(row) for row in rows]

        try:
            yield sql
        finally:
            runner.run(connection.close())


def print_answers(answers: Mapping[str, Sequence[Answer]]) -> None:
    """A table for each dashboard, and one line about all of them."""
    console = Console(file=sys.stdout, width=max(shutil.get_terminal_size().columns, _NARROWEST), highlight=False)
    for page, of in answers.items():
        table = Table(title=page, title_justify="left", box=None, pad_edge=False)
        for heading in ("what", "query", "of", "answers", "the first"):
            table.add_column(
                heading, justify="right" if heading == "answers" else "left", no_wrap=heading != "the first"
            )
        for each in of:
            name = each.name if each.kind == PANEL else f"{each.kind} {each.name}"
            table.add_row(Text(name), each.ref, _source(each), *_outcome(each))
        console.print(table)
        console.print()
    every = [each for of in answers.values() for each in of]
    refused, unasked = sum(bool(each.fault) for each in every), sum(not each.asked for each in every)
    silent = sum(each.asked and not each.fault and not each.found for each in every)
    console.print(
        f"{len(every)} questions of {len(answers)} dashboards: {len(every) - refused - unasked - silent} answered, "
        f"{silent} without data, {refused} refused, {unasked} not asked"
    )


def _source(each: Answer) -> str:
    return "Postgres" if "postgres" in each.source else "Prometheus"


def _outcome(each: Answer) -> tuple[Text, Text]:
    if each.fault:
        return Text("refused", "bold red"), Text(each.fault)
    if not each.asked:
        return Text("not asked", "dim"), Text()
    return (Text(str(each.found)), Text(each.first)) if each.found else (Text("no data", "yellow"), Text())
