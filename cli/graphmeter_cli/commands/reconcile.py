"""`graphmeter reconcile`: a provider's export in, the ledger's days and models beside it out, with what explains drift."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import click
from rich.table import Table as RichTable

from graphmeter_cli import reading, render, reported, spend
from graphmeter_cli.options import Source, reads_reports
from graphmeter_cli.units import count, usd, usd_places
from graphmeter_collector.notify.message import Table
from graphmeter_collector.reconcile import exports
from graphmeter_collector.reconcile.compare import DriftRow, compare
from graphmeter_collector.reconcile.exports import BadExport, Export
from graphmeter_collector.reports import CostRow, Reader
from graphmeter_config.periods import Stretch


@click.command("reconcile", short_help="Compare the ledger with a provider's export.")
@click.option("--provider", type=click.Choice(exports.PROVIDERS), required=True, help="Whose export it is.")
@click.option(
    "--file",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Cost or usage export, CSV or JSON; repeat it to give both.",
)
@click.option(
    "--tolerance", type=click.FloatRange(0, 100), default=1.0, show_default=True, help="Drift that is fine, in %."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv")),
    default="table",
    show_default=True,
    help="How to print it.",
)
@reads_reports
def command(
    *, provider: str, files: Sequence[Path], tolerance: float, form: str, source: Source, as_json: bool
) -> None:
    """Compare the ledger with a provider's own export, per day (UTC) and model, and say what explains the drift.

    Ends with 1 if the drift of all money is more than --tolerance, or a row of a file could not be read (it is told on
    stderr, and the others are compared); with 0 otherwise.

    \b
    Examples:
      graphmeter reconcile --provider openai --file cost_2026-11-01_2026-11-30.csv
      graphmeter reconcile --provider openai --file cost.csv --file completions_usage.csv --format csv
      graphmeter reconcile --provider anthropic --file cost_report.json --tolerance 2
    """
    export = Export()
    try:
        for file in files:
            exports.read(export, provider, file)
    except BadExport as problem:
        raise click.ClickException(str(problem)) from problem
    for fault in export.faults:
        click.echo(f"Error: {fault}", err=True)
    if not export.days:
        raise click.ClickException("the files name no day: there is nothing to compare")
    rows = compare(reading.ask(source, lambda reader: _ours(reader, provider, export.days)), export)
    spend.show("json" if as_json else form, rows, lambda: _sheet(rows), lambda: _table(rows))
    if export.faults or _off(rows, tolerance):
        raise click.exceptions.Exit(1)


async def _ours(reader: Reader, provider: str, days: set[str]) -> list[CostRow]:
    first, last = (Stretch("day", date.fromisoformat(day), "UTC") for day in (min(days), max(days)))
    rows = await reader.cost(["day", "model"], first.since_ns, last.until_ns, where={"provider": [provider]})
    return [row for row in rows if row.group["day"] in days]


def _off(rows: Sequence[DriftRow], tolerance: float) -> bool:
    drift = sum(row.drift_nano or 0 for row in rows)
    theirs = sum(row.theirs_nano or 0 for row in rows)
    return abs(drift) * 100 > tolerance * theirs


def _sheet(rows: Sequence[DriftRow]) -> Table:
    """As `spend.sheet_of`, with one cell for what explains a row."""
    made = spend.sheet_of(rows, ())
    lines = [[*line[:-1], "; ".join(row.because)] for line, row in zip(made.rows, rows, strict=True)]
    return Table(made.header, lines, made.right)


def _table(rows: Sequence[DriftRow]) -> RichTable:
    result = render.table(
        "day!", "model", "ours USD>", "theirs USD>", "drift USD>", "drift>", "calls>", "theirs>", "because"
    )
    places = usd_places([amount for row in rows for amount in (row.ours_nano, row.theirs_nano or 0)])
    for row in rows:
        result.add_row(
            row.day,
            render.plain(row.model),
            *_money(row.ours_nano, row.theirs_nano, row.drift_nano, places),
            count(row.ours_calls),
            "-" if row.theirs_calls is None else count(row.theirs_calls),
            render.plain("; ".join(row.because)),
        )
    told = [row for row in rows if row.theirs_nano is not None]
    theirs = sum(row.theirs_nano or 0 for row in told) if told else None
    drift = sum(row.drift_nano or 0 for row in told) if told else None
    result.add_section()
    calls = [row.theirs_calls for row in rows if row.theirs_calls is not None]
    cells = _money(sum(row.ours_nano for row in rows), theirs, drift, places)
    ours_calls = count(sum(row.ours_calls for row in rows))
    result.add_row("total", "", *cells, ours_calls, count(sum(calls)) if calls else "-", "", style="bold")
    return result


def _money(ours: int, theirs: int | None, drift: int | None, places: int) -> list[str]:
    if theirs is None or drift is None:
        return [usd(ours, places), "-", "-", "-"]
    return reported.money(ours, theirs, drift, places)
