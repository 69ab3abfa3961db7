"""`graphmeter cost`: dimensions and a time range in, spend per group out, with what is unattributed or not priced."""

from __future__ import annotations

import time
from typing import Any

import click

from graphmeter_cli import reading, render
from graphmeter_cli.options import Month, Since, Source, reads_reports
from graphmeter_collector.reports import COST_DIMENSIONS

_DEFAULT_SINCE = "30d"


class Dimensions(click.ParamType[tuple[str, ...]]):
    """`graph,node` → ("graph", "node"), each one of `COST_DIMENSIONS`."""

    name = "dimensions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        wanted = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        for dimension in wanted:
            if dimension not in COST_DIMENSIONS:
                self.fail(f"cannot group by {dimension!r}: choose of {', '.join(COST_DIMENSIONS)}", param, ctx)
        return wanted


@click.command("cost", short_help="Show spend by team, model, graph, node …")
@click.option(
    "--by",
    type=Dimensions(),
    default="team",
    show_default=True,
    metavar="DIMENSIONS",
    help=f"Group by one or more, with commas: {', '.join(COST_DIMENSIONS)}.",
)
@click.option(
    "--since", type=Since(), metavar="WHEN", help=f"Since: 24h (ago), 2026-11-01. UTC.  [default: {_DEFAULT_SINCE}]"
)
@click.option("--month", type=Month(), metavar="YYYY-MM", help="One calendar month (UTC) instead of --since: 2026-11.")
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
        start = since if since is not None else Since().convert(_DEFAULT_SINCE, None, None)
        end = time.time_ns()
    rows = reading.ask(source, lambda reader: reader.cost(by, start, end))
    if as_json:
        render.print_json(rows)
        return
    render.console().print(render.cost_table(rows, by))
    for note in render.cost_notes(rows):
        click.echo(note)
