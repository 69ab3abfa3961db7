"""`graphmeter prices simulate`: which models would have been others in, what that would have cost out; nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.table import Table

from graphmeter import names
from graphmeter_cli import reading, render, spend
from graphmeter_cli.configuration import configured
from graphmeter_cli.options import Source
from graphmeter_cli.repricing import money, price_book
from graphmeter_cli.spend import Asked
from graphmeter_cli.units import count, plural, usd_places
from graphmeter_collector.errors import BadRequest, CollectorError
from graphmeter_config import Config

if TYPE_CHECKING:
    from graphmeter_collector.simulating import Replacement, SimulatedRow, Simulation


@click.command("simulate", short_help="What if another model had answered?")
@click.option(
    "--replace",
    "replace",
    multiple=True,
    required=True,
    metavar="MODEL=OTHER",
    help="Calls of MODEL (`*` is anything) as if OTHER had answered; may be repeated, the first that matches applies.",
)
@configured
@spend.asks("model")
def command(*, asked: Asked, source: Source, config: Config, replace: tuple[str, ...]) -> None:
    """Show what calls would have cost with another model, from their stored tokens; nothing is stored.

    MODEL is the one that answered, or that was asked for. OTHER is one of the same provider, or PROVIDER/MODEL. The same
    tokens are priced, at the prices of the call's own time: another model may use more of them, or fewer.

    \b
    Examples:
      graphmeter prices simulate --replace gpt-4o=gpt-4o-mini --node classify --since 30d
      graphmeter prices simulate --replace "gpt-4o*=gpt-4.1-mini" --replace o3=anthropic/claude-haiku-4-5 --by node
      graphmeter prices simulate --replace gpt-5=gpt-5-mini --month last --by team --format csv
    """
    from graphmeter_collector.simulating import replacements

    try:
        wanted = replacements(replace)
    except BadRequest as problem:
        raise click.BadParameter(str(problem), param_hint="--replace") from problem
    if source.url:
        raise click.UsageError(
            "calls are read from the database: leave --url (GRAPHMETER_URL) out, or give --database-url"
        )
    found = _simulated(asked, source, config, wanted)
    if asked.form == "json":
        render.print_json(asdict(found))
        return
    spend.show(asked.form, found.rows, lambda: spend.sheet_of(found.rows, asked.by), lambda: _table(found, asked.by))
    for line in _notes(found) if asked.form == "table" else ():
        click.echo(line)


def _simulated(asked: Asked, source: Source, config: Config, wanted: Sequence[Replacement]) -> Simulation:
    from graphmeter_collector import garbage
    from graphmeter_collector.ledger import CallKey, StoredCall, Which
    from graphmeter_collector.simulating import simulate
    from graphmeter_collector.store import versions
    from graphmeter_collector.store.read import open_reader

    which = Which(asked.since_ns, asked.until_ns, asked.where, asked.by, asked.timezone, asked.view)

    async def answer() -> Simulation:
        async with open_reader(reading.database(source)) as reader:

            async def read(which: Which, after: CallKey | None) -> list[StoredCall]:
                return await versions.calls(reader, which, after)

            return await simulate(reader, read, price_book(config, source.data_dir), which, wanted)

    try:
        with garbage.settled():
            return asyncio.run(answer())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem


def _table(found: Simulation, by: Sequence[str]) -> Table:
    result = render.table(*by, "instead", "calls>", "before USD>", "after USD>", "change USD>", "change>")
    places = usd_places([amount for row in found.rows for amount in (row.before_nano, row.after_nano)])
    for row in found.rows:
        group = [render.plain(row.group[name], empty=names.UNATTRIBUTED) for name in by]
        result.add_row(*group, render.plain(row.replacement), *_cells([row], places))
    result.add_section()
    result.add_row("total", *[""] * len(by), *_cells(found.rows, places), style="bold")
    return result


def _cells(rows: Sequence[SimulatedRow], places: int) -> list[str]:
    before, after = sum(row.before_nano for row in rows), sum(row.after_nano for row in rows)
    share = f"{(after - before) / before * 100:+.1f} %" if before else "-"
    return [count(sum(row.calls for row in rows)), *money(before, after, places), share]


def _notes(found: Simulation) -> list[str]:
    before = "effective prices" if found.view == "effective" else "as billed"
    return [
        f"Before: {before}. After: the same tokens by {found.prices}; another model may use more of them, or fewer.",
        *(
            f"Not in these sums: {plural(each.calls, 'call')} of {each.model} by {each.replacement}: {each.why}."
            for each in found.left_out
        ),
    ]
