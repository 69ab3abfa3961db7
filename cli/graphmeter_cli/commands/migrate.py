"""`graphmeter migrate`: a database in, its schema at the newest revision out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from graphmeter_cli import render
from graphmeter_cli.process import settings_from
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.store.migrate import migrate


@click.command("migrate", short_help="Bring the database's schema to the newest revision.")
@click.option("--database-url", metavar="URL", help="postgresql://… or sqlite:///…  [default: a file in --data-dir]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the embedded SQLite database.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool, **flags: Any) -> None:
    """Bring the database's schema to the newest revision and print it.

    `graphmeter serve` does the same at its start. Safe to run at any time and from several places at once: the
    database is locked meanwhile, and a schema that is new already stays as it is.

    \b
    Examples:
      graphmeter migrate
      graphmeter migrate --database-url postgresql://graphmeter@db/graphmeter
    """
    settings = settings_from(flags)
    try:
        head = migrate(settings.database())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem
    if as_json:
        render.print_json({"revision": head})
    else:
        click.echo(f"schema at {head}")
