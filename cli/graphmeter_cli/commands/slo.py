"""`graphmeter slo`: error budgets now, and what became of objectives between two moments; from the database alone.

Works on a database with a graphmeter.yaml beside it, or asks a collector (`--url`), which has its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from graphmeter_cli import objectives, options, render, spend
from graphmeter_cli.api import HttpReader
from graphmeter_cli.configuration import configured
from graphmeter_cli.objectives import OnDatabase, SloSource
from graphmeter_cli.options import Source, reads_reports
from graphmeter_cli.reading import database
from graphmeter_collector.errors import CollectorError
from graphmeter_config import Config

_Answer = TypeVar("_Answer")
_FORMAT = click.option(
    "--format", "form", type=click.Choice(spend.FORMATS), default="table", show_default=True, help="How to print it."
)


@click.group(
    "slo",
    short_help="Show SLOs: what is left of error budgets, and how fast they burn.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [OPTIONS]",
)
@click.option("--name", default="", metavar="NAME", help="Only this objective.")
@click.option("--burn", is_flag=True, help="Also the windows of each burn-rate tier.")
@_FORMAT
@configured
@reads_reports
@click.pass_context
def command(
    ctx: click.Context, *, name: str, burn: bool, form: str, config: Config, source: Source, as_json: bool
) -> None:
    """Show every objective: what was achieved, what is left of its error budget, how fast that burns, when it is spent.

    \b
    Examples:
      graphmeter slo
      graphmeter slo --name runs-availability --burn
      graphmeter slo --url http://collector:4318 --format markdown
      graphmeter slo report --from 2026-10-01 --to 2026-11-01
      graphmeter slo maintenance
    """
    if ctx.invoked_subcommand is not None:
        typed = [
            each for each in ctx.params if ctx.get_parameter_source(each) is click.core.ParameterSource.COMMANDLINE
        ]
        if typed:
            raise click.UsageError(f"options go behind the command: graphmeter slo {ctx.invoked_subcommand} --…")
        return
    _known(name, config, source)
    rows = _ask(source, config, lambda slos: slos.slos(name))
    spend.show(
        "json" if as_json else form,
        rows,
        lambda: objectives.burn_sheet(rows) if burn else objectives.state_sheet(rows),
        lambda: objectives.burn_table(rows) if burn else objectives.state_table(rows, time.time_ns()),
    )
    if not as_json and form == "table":
        for note in objectives.notes(rows, name):
            click.echo(note)


@command.command("report", short_help="Show what became of objectives between two moments.")
@click.option(
    "--from",
    "since",
    type=options.since,
    default="30d",
    show_default=True,
    metavar="WHEN",
    help="2026-10-01, 30d. UTC.",
)
@click.option("--to", "until", type=options.since, metavar="WHEN", help="Before: 2026-11-01.  [default: now]")
@click.option("--name", default="", metavar="NAME", help="Only this objective.")
@click.option("--with-maintenance", is_flag=True, help="Count maintenance windows as any other time.")
@_FORMAT
@configured
@reads_reports
def report(
    *,
    since: int,
    until: int | None,
    name: str,
    with_maintenance: bool,
    form: str,
    config: Config,
    source: Source,
    as_json: bool,
) -> None:
    """Show what became of objectives: events, bad ones, error budget consumed, the most frequent errors, the nodes hit most.

    Maintenance windows of graphmeter.yaml are shown, and left out of the figures.

    \b
    Examples:
      graphmeter slo report --from 2026-10-01 --to 2026-11-01
      graphmeter slo report --from 7d --name runs-availability --format markdown
      graphmeter slo report --from 30d --with-maintenance
    """
    end = time.time_ns() + 1 if until is None else until
    if end <= since:
        raise click.UsageError("--to is not after --from: exchange them")
    _known(name, config, source)
    told = _ask(source, config, lambda slos: slos.slo_report(since, end, name, leave_out=not with_maintenance))
    if as_json or form == "json":
        render.print_json(told)
        return
    spend.show(form, told.slos, lambda: objectives.report_sheet(told.slos), lambda: objectives.report_table(told.slos))
    if form == "table":
        for note in objectives.maintenance_notes(told):
            click.echo(note)


@command.command("maintenance", short_help="List maintenance windows, and how to silence their alerts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@configured
def maintenance(*, config: Config, as_json: bool) -> None:
    """List the maintenance windows of graphmeter.yaml; of those to come also the command that silences their alerts.

    \b
    Examples:
      graphmeter slo maintenance
    """
    if as_json:
        render.print_json([each.model_dump(mode="json", by_alias=True) for each in config.maintenance])
        return
    if not config.maintenance:
        click.echo("No maintenance window: add one to `maintenance:` in graphmeter.yaml.")
        return
    render.console().print(objectives.maintenance_table(config))
    for line in objectives.silences(config, time.time_ns()):
        click.echo(line)


def _known(name: str, config: Config, source: Source) -> None:
    """A collector has a configuration of its own."""
    names = [slo.name for slo in config.slos]
    if name and not source.url and name not in names:
        raise click.ClickException(f"there is no SLO {name!r} (known: {', '.join(names) or 'none'})")


def _ask(source: Source, config: Config, question: Callable[[SloSource], Awaitable[_Answer]]) -> _Answer:
    async def answer() -> _Answer:
        if source.url:
            async with HttpReader(source.url, source.api_key) as over_http:
                return await question(over_http)
        async with OnDatabase(database(source), config) as stored:
            return await question(stored)

    try:
        return asyncio.run(answer())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem
