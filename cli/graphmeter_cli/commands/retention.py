"""`graphmeter retention`: a database and graphmeter.yaml in, what is too old counted or deleted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from graphmeter_cli import render
from graphmeter_cli.process import settings_from
from graphmeter_cli.units import count, moment
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.retention import DAY_NS, Cutoffs, cutoffs
from graphmeter_collector.store import open_store
from graphmeter_collector.store.read import open_reader
from graphmeter_config import ConfigError, load


@click.group("retention", short_help="Delete what is older than graphmeter.yaml keeps.")
def command() -> None:
    """Delete what is older than `retention` in graphmeter.yaml keeps. A running collector does so by itself, hourly."""


@command.command("run", short_help="Delete now, or show with --dry-run what would go.")
@click.option("--dry-run", is_flag=True, help="Delete nothing: count what would go.")
@click.option("--config", metavar="PATH", help="graphmeter.yaml.  [default: ./graphmeter.yaml if there is one]")
@click.option("--database-url", metavar="URL", help="postgresql://… or sqlite:///…  [default: a file in --data-dir]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the embedded SQLite database.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(*, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Delete what is older than graphmeter.yaml keeps.

    With --dry-run rows are counted, also beside a running collector. Without it Postgres drops whole days of spans, and an
    embedded SQLite file must not be in use by a collector.

    \b
    Examples:
      graphmeter retention run --dry-run
      graphmeter retention run --database-url postgresql://graphmeter@db/graphmeter
    """
    settings = settings_from(flags)
    try:
        kept = cutoffs(load(settings.config_path()).retention, time.time_ns())
        rows = asyncio.run((_due if dry_run else _delete)(settings.database(), kept))
    except (CollectorError, ConfigError) as problem:
        raise click.ClickException(str(problem)) from problem
    if as_json:
        render.print_json({"dry_run": dry_run, "tables": rows})
        return
    days = moment(kept.spans_day * DAY_NS), moment(kept.bodies_day * DAY_NS)
    click.echo(
        f"Spans from before {days[0]} and their bytes from before {days[1]} {'would go' if dry_run else 'are gone'}:"
    )
    for table, gone in rows.items():
        click.echo(f"  {table:<14} {count(gone):>12}")


async def _due(database_url: str, kept: Cutoffs) -> dict[str, int]:
    async with open_reader(database_url) as reader:
        return await reader.due(kept)


async def _delete(database_url: str, kept: Cutoffs) -> dict[str, int]:
    store = await open_store(database_url)
    try:
        return await store.retain(kept)
    finally:
        await store.close()
