"""`graphmeter nodes`: a time range in, one line per node out: runs, errors, latency, tokens, spend."""

from __future__ import annotations

import time

import click

from graphmeter_cli import options, reading, render
from graphmeter_cli.options import Source, reads_reports


@click.command("nodes", short_help="Show latency, errors and spend per node.")
@click.option("--graph", default="", help="Only nodes of this graph.")
@click.option("--team", default="", help="Only work done for this team.")
@click.option(
    "--since",
    type=options.since,
    default="24h",
    show_default=True,
    metavar="WHEN",
    help="Since: 24h (ago), 2026-11-01. UTC. More than a day: whole hours.",
)
@reads_reports
def command(*, graph: str, team: str, since: int, source: Source, as_json: bool) -> None:
    """Show latency, errors, tokens and spend per node.

    Latency is that of attempts, retries included; errors are executions whose last attempt failed.

    \b
    Examples:
      graphmeter nodes
      graphmeter nodes --graph support --team cx --since 7d
    """
    rows = reading.ask(source, lambda reader: reader.nodes(since, time.time_ns(), graph=graph, team=team))
    if as_json:
        render.print_json(rows)
    elif rows:
        console = render.console()
        console.print(render.node_table(rows))
        if error := max(row.percentile_error for row in rows):
            sign = "+/-" if console.options.ascii_only else "±"
            console.print(f"Percentiles of more than a day are within {sign}{error:.1%}.", style="dim")
    else:
        click.echo("No node has run in this time. A longer one: --since 30d.")
