"""`graphmeter cost`: dimensions and a time range in, spend per group out, with what is unattributed or not priced."""

from __future__ import annotations

import time

import click

from graphmeter_cli import options, reading, render
from graphmeter_cli.options import Source, reads_reports
from graphmeter_collector.reports import COST_DIMENSIONS

_DEFAULT_SINCE = "30d"


@click.command("cost", short_help="Show spend by team, model, graph, node …")
@click.option(
    "--by",
    type=options.dimensions,
    default="team",
    show_default=True,
    metavar="DIMENSIONS",
    help=f"Group by one or more, with commas: {', '.join(COST_DIMENSIONS)}.",
)
@click.option(
    "--since",
    type=options.since,
    metavar="WHEN",
    help=f"Since: 24h (ago), 2026-11-01. UTC.  [default: {_DEFAULT_SINCE}]",
)
@click.option(
    "--month", type=options.month, metavar="YYYY-MM", help="One calendar month (UTC) instead of --since: 2026-11."
)
@reads_reports
def command(
    *, by: tuple[str, ...], since: int | None, month: tuple[int, int] | None, source: Source, as_json: bool
) -> None:
    """Show spend as billed, dearest first, with a total.

    Spend that names no team (or graph, node …) is its own line, `unattributed`. Calls without a known price and calls
    that reported no usage are said below the table, for the sums leave them out.

    \b
    Examples:
      graphmeter cost
      graphmeter cost --by graph,node --since 7d
      graphmeter cost --by model --month 2026-11 --json
    """
    if since is not None and month is not None:
        raise click.UsageError("--since and --month contradict each other: give one of them")
    if month is not None:
        start, end = month
    else:
        start = options.since(_DEFAULT_SINCE) if since is None else since
        end = time.time_ns()
    rows = reading.ask(source, lambda reader: reader.cost(by, start, end))
    if as_json:
        render.print_json(rows)
        return
    render.console().print(render.cost_table(rows, by))
    for note in render.cost_notes(rows):
        click.echo(note)
