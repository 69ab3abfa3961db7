"""`graphmeter runs`: a filter in, the newest matching runs out."""

from __future__ import annotations

import click

from graphmeter import names
from graphmeter_cli import options, reading, render
from graphmeter_cli.options import Source, reads_reports
from graphmeter_collector.reports import RunFilter


@click.command("runs", short_help="List graph runs.")
@click.option("--graph", default="", help="Only runs of this graph.")
@click.option("--status", type=click.Choice(names.RUN_STATUSES), help="Only runs with this status.")
@click.option("--team", default="", help="Only runs of this team.")
@click.option("--min-cost", type=options.usd, metavar="USD", help="Only runs that cost at least this much: 0.05.")
@click.option("--min-duration", type=options.duration, metavar="DURATION", help="Only runs this long: 2s, 5m.")
@click.option(
    "--since",
    type=options.since,
    metavar="WHEN",
    help="Started since: 24h (ago), 2026-11-01. UTC.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Newest runs to list.")
@reads_reports
def command(
    *,
    graph: str,
    status: str | None,
    team: str,
    min_cost: int | None,
    min_duration: int | None,
    since: int | None,
    limit: int,
    source: Source,
    as_json: bool,
) -> None:
    """List graph runs, newest first.

    \b
    Examples:
      graphmeter runs --since 24h --status error
      graphmeter runs --graph support --min-cost 0.05 --min-duration 2s
      graphmeter runs --url http://collector:4318 --json
    """
    where = RunFilter(
        graph=graph,
        status=status or "",
        team=team,
        min_cost_nano=min_cost or 0,
        min_duration_ns=min_duration or 0,
        since_ns=since or 0,
        limit=limit,
    )
    rows = reading.ask(source, lambda reader: reader.runs(where))
    if as_json:
        render.print_json(rows)
    elif rows:
        render.console().print(render.run_table(rows))
        if any(row.unpriced_calls for row in rows):
            click.echo("+? marks runs with calls that have no price: they cost more than shown.")
    else:
        click.echo("No runs match.")
