"""`graphmeter prices reprice`: which calls in, what they cost by the prices that are known now out, and on the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from graphmeter_cli import reading, render, spend
from graphmeter_cli.configuration import configured
from graphmeter_cli.options import Source
from graphmeter_cli.spend import Asked
from graphmeter_cli.units import count, plural, usd, usd_places
from graphmeter_collector.errors import CollectorError
from graphmeter_config import Config

if TYPE_CHECKING:
    from graphmeter_collector.ledger import Which
    from graphmeter_collector.price.book import PriceBook
    from graphmeter_collector.repricing import LeftOut, ModelChange, Outcome


def price_book(config: Config, data_dir: Path | None) -> PriceBook:
    """The prices that a collector with this configuration and data folder has."""
    from graphmeter_collector.price import published
    from graphmeter_collector.price.book import PriceBook
    from graphmeter_collector.settings import default_data_dir

    try:
        found = published.kept(data_dir or default_data_dir())
    except published.BadPublication as problem:
        click.echo(f"{problem}: the built-in catalogue is used; run `graphmeter prices update`", err=True)
        found = None
    return PriceBook(None if found is None else [found.catalogue()], config.prices)


@click.command("reprice", short_help="Price calls of the ledger again.")
@click.option("--only-unpriced", is_flag=True, help="Only calls whose price was not known.")
@click.option("--dry-run", is_flag=True, help="Store nothing: show what would change.")
@click.option("--reason", default="", metavar="TEXT", help="Written down with it: why.")
@configured
@spend.chooses()
def command(*, asked: Asked, source: Source, config: Config, only_unpriced: bool, dry_run: bool, reason: str) -> None:
    """Price calls of the ledger again, each by the price of its own time as it is known now.

    What a call was billed stays; what it costs now is a version beside it, which counts in reports (--view effective, their
    default) and budgets. Rollups, metrics and runs stay as billed. Doing it twice changes nothing the second time, and what
    was interrupted is finished by doing it again. Works beside running collectors; prices are those of the graphmeter.yaml
    given here.

    \b
    Examples:
      graphmeter prices reprice --since 2026-11-01 --dry-run
      graphmeter prices reprice --month last --only-unpriced
      graphmeter prices reprice --since 7d --model gpt-5 --reason "contract signed late"
    """
    from graphmeter_collector import garbage
    from graphmeter_collector.ledger import Which
    from graphmeter_collector.repricing import reprice
    from graphmeter_collector.store.versions import PriceVersions

    if source.url:
        raise click.UsageError(
            "calls are priced again in the database: leave --url (GRAPHMETER_URL) out, or give --database-url"
        )
    where = dict(asked.where)
    if only_unpriced:
        if "price_status" in where:
            raise click.UsageError("--only-unpriced and --price-status contradict each other: give one of them")
        where["price_status"] = ["unpriced"]
    which = Which(asked.since_ns, asked.until_ns, where, timezone=asked.timezone)
    by_catalogue = bool(click.get_current_context().params.get("defaults"))

    async def done() -> Outcome:
        versions = PriceVersions(reading.database(source))
        try:
            book = price_book(config, source.data_dir)
            found = await reprice(versions, book, which, reason=reason, dry_run=dry_run, by_catalogue=by_catalogue)
        finally:
            await versions.close()
        return found

    try:
        with garbage.settled():
            outcome = asyncio.run(done())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem
    if not outcome.calls:
        raise click.ClickException(_nothing(source, which))
    if asked.form == "json":
        render.print_json(asdict(outcome))
        return
    render.console().print(_table(outcome.models))
    for line in _notes(outcome):
        click.echo(line)


def _nothing(source: Source, which: Which) -> str:
    """What to say where no call is what was asked for: what there was at that time."""
    there = reading.ask(source, lambda reader: reader.cost(["model"], which.since_ns, which.until_ns))
    models = [row.group["model"] for row in there]
    if not models:
        return "no call of that time is on the ledger: choose another --since or --until"
    named = ", ".join(models[:10]) + (" …" if len(models) > 10 else "")
    return f"no call of that time is what was asked for: widen the selection; called were then: {named}"


def _table(rows: Sequence[ModelChange]) -> Table:
    result = render.table("provider", "model", "calls>", "changed>", "before USD>", "after USD>", "change USD>")
    places = usd_places([amount for row in rows for amount in (row.before_nano, row.after_nano)])
    for row in rows:
        result.add_row(render.plain(row.provider), render.plain(row.model), *_cells([row], places))
    result.add_section()
    result.add_row("total", "", *_cells(rows, places), style="bold")
    return result


def _cells(rows: Sequence[ModelChange], places: int) -> list[str]:
    before, after = sum(row.before_nano for row in rows), sum(row.after_nano for row in rows)
    counts = [count(sum(row.calls for row in rows)), count(sum(row.repriced for row in rows))]
    return [*counts, *money(before, after, places)]


def money(before: int, after: int, places: int) -> list[str]:
    """Before, after, and the change with its sign."""
    change = after - before
    return [usd(before, places), usd(after, places), ("+" if change > 0 else "") + usd(change, places)]


def _notes(outcome: Outcome) -> list[str]:
    of = f"{count(outcome.repriced)} of {plural(outcome.calls, 'call')}"
    if not outcome.repriced:
        lines = [f"All calls cost what they did, by {outcome.prices}; nothing is stored."]
    elif outcome.dry_run:
        lines = [f"{of} would cost something else, by {outcome.prices}; nothing is stored (--dry-run)."]
    else:
        lines = [
            f"{of} cost something else now, by {outcome.prices}: version {outcome.version}. "
            "What was billed stays: --view billed."
        ]
    return [*lines, *(f"{left_out(each)}; what they cost stays as it is." for each in outcome.unpriced)]


def left_out(each: LeftOut) -> str:
    """Which calls cannot be priced, and why."""
    model = f"{each.provider}/{each.model}" if each.provider else each.model
    return f"{plural(each.calls, 'call')} of {model}: {each.why}"
