"""`graphmeter budget`: budgets in force, what is spent of them and where that leads; those of the API are set here.

Works on a database, also beside the collectors that use it, or through one of them (`--url`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from graphmeter_cli import render
from graphmeter_cli.budgets import BudgetSource, OnDatabase, OverHttp
from graphmeter_cli.options import Source, reads_reports
from graphmeter_cli.reading import database
from graphmeter_cli.units import moment
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.reports import BudgetRow
from graphmeter_config import Budget
from graphmeter_config.load import explained

_Answer = TypeVar("_Answer")


@click.group("budget", short_help="Show and set budgets.")
def command() -> None:
    """Show budgets, what is spent of them and where that leads; set and remove those that are not in graphmeter.yaml."""


@command.command("list", short_help="List the budgets in force.")
@reads_reports
def show_all(*, source: Source, as_json: bool) -> None:
    """List the budgets in force: limit, period, whose it is, and whether it comes from graphmeter.yaml or the API.

    \b
    Examples:
      graphmeter budget list
      graphmeter budget list --url http://collector:4318 --json
    """
    known = _ask(source, lambda budgets: budgets.known())
    if as_json:
        render.print_json([asdict(one) for one in known])
        return
    table = render.table("budget!", "limit>", "period", "per", "match", "thresholds", "hard", "source")
    for one in known:
        table.add_row(*(render.plain(text) for text in _cells(Budget.model_validate(one.definition), one.source)))
    render.console().print(table)


@command.command("show", short_help="Show one budget as a file would write it.")
@click.argument("name")
@reads_reports
def show_one(*, name: str, source: Source, as_json: bool) -> None:
    """Show the budget NAME: its definition, whose it is, and since when everything is counted.

    \b
    Examples:
      graphmeter budget show team-monthly
    """
    import yaml

    known = [one for one in _ask(source, lambda budgets: budgets.known()) if one.name == name]
    if not known:
        raise click.ClickException(f"there is no budget {name!r}: `graphmeter budget list` shows those in force")
    [one] = known
    if as_json:
        render.print_json(asdict(one))
        return
    click.echo(yaml.safe_dump({"budgets": [one.definition]}, sort_keys=False, allow_unicode=True), nl=False)
    click.echo(f"# from {one.source}; counted since {moment(one.since_ns)} UTC", err=True)


@command.command("status", short_help="Show spend, what is left, and where it leads.")
@click.argument("name", required=False)
@reads_reports
def status(*, name: str | None, source: Source, as_json: bool) -> None:
    """Show what is spent of every budget (or of NAME) in its current period, what is left, and where it leads.

    \b
    Examples:
      graphmeter budget status
      graphmeter budget status team-monthly --json
    """
    rows, counting = _ask(source, _standing)
    rows = [row for row in rows if name in (None, row.budget)]
    counting = [each for each in counting if name in (None, each)]
    if as_json:
        render.print_json([*map(asdict, rows), *({"budget": each, "counted": False} for each in counting)])
        return
    render.console().print(render.budget_table(rows))
    for each in counting:
        click.echo(f"{each}: counting; it is new, and what was spent in its period before is being added up.")
    for row in rows:
        if not row.calls and not row.scope and not row.spent_nano and not row.spent_tokens:
            click.echo(f"{row.budget}: no call was counted in this period; if there should be some, look at its match.")


@command.command("set", short_help="Put a budget into force, or change it.")
@click.argument("name")
@click.option("--limit-usd", metavar="USD", help="The limit in USD.")
@click.option("--limit-tokens", metavar="TOKENS", help="The limit in tokens, instead.")
@click.option("--period", type=click.Choice(["month", "week", "day"]), help="Calendar period.  [default: month]")
@click.option("--timezone", metavar="ZONE", help="Where the period begins at midnight.  [default: UTC]")
@click.option("--rolling", metavar="DURATION", help="Instead of a period: 24h, 7d, 30d.")
@click.option("--match", "matches", multiple=True, metavar="NAME=PATTERN", help="Which spend counts; may be repeated.")
@click.option("--per", "per", multiple=True, metavar="NAME", help="Whose limit it is; may be repeated.")
@click.option("--threshold", "thresholds", multiple=True, metavar="PERCENT", help="What is told; may be repeated.")
@click.option("--hard", is_flag=True, help="Guards in applications stop what would exceed it.")
@click.option("--opening-spend", metavar="AMOUNT", help="What was spent before Graphmeter counted …")
@click.option("--opening-in", metavar="PERIOD", help="… and in which period: 2026-11.")
@click.option("--receiver", "receivers", multiple=True, metavar="NAME", help="Who is told; may be repeated.")
@reads_reports
def put(*, name: str, source: Source, as_json: bool, matches: tuple[str, ...], **said: Any) -> None:
    """Put the budget NAME into force, or replace it by this definition. Budgets of graphmeter.yaml are changed there.

    \b
    Examples:
      graphmeter budget set tenant-acme --limit-usd 250 --match tenant=acme --hard
      graphmeter budget set users-daily --limit-tokens 200000 --period day --per user --threshold 100%
    """
    definition = {key: list(value) if isinstance(value, tuple) else value for key, value in said.items() if value}
    if matches:
        definition["match"] = _match(matches)
    definition["name"] = name
    try:
        one = Budget.model_validate(definition, by_alias=True, by_name=False, context={"file": True})
    except ValidationError as error:
        raise click.UsageError("; ".join(explained(error, Budget))) from error
    new = _ask(source, lambda budgets: budgets.put(one))
    if as_json:
        render.print_json(one.definition())
    else:
        click.echo(f"Budget {name} is in force{'' if new else ', changed'}, on every collector.")
        # A collector does not keep anybody waiting for long; on the database it is done by now.
        if source.url and name in _ask(source, _standing)[1]:
            click.echo(
                "What was spent in its period before is being counted: `graphmeter budget status` tells it then."
            )


@command.command("remove", short_help="Take a budget out of force.")
@click.argument("name")
@reads_reports
def remove(*, name: str, source: Source, as_json: bool) -> None:
    """Take the budget NAME out of force; what was counted for it is forgotten, the ledger stays.

    \b
    Examples:
      graphmeter budget remove tenant-acme
    """
    if not _ask(source, lambda budgets: budgets.remove(name)):
        raise click.ClickException(f"there is no budget {name!r}: `graphmeter budget list` shows those in force")
    if as_json:
        render.print_json({"removed": name})
    else:
        click.echo(f"Budget {name} is out of force.")


@command.command("recount", short_help="Sum the ledger anew.")
@click.argument("name", required=False)
@reads_reports
def recount(*, name: str | None, source: Source, as_json: bool) -> None:
    """Sum the ledger anew for the budget NAME, or for every one: its current period, should its spend be in doubt.

    Works on the database, also beside running collectors, which go on meanwhile.

    \b
    Examples:
      graphmeter budget recount team-monthly --database-url postgresql://graphmeter@db/graphmeter
    """
    if source.url:
        raise click.UsageError("the ledger is summed on the database: give --database-url or --data-dir, not --url")

    async def summed() -> int:
        async with OnDatabase(database(source)) as budgets:
            return await budgets.recount(name or "")

    try:
        sums = asyncio.run(summed())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem
    if as_json:
        render.print_json({"budget": name or "", "sums": sums})
    else:
        click.echo(
            f"{f'Budget {name} was' if name else 'All budgets were'} counted anew from the ledger: {sums:,} sums."
        )


async def _standing(budgets: BudgetSource) -> tuple[list[BudgetRow], list[str]]:
    """States, and the budgets that are being counted and have none yet."""
    rows = await budgets.states()
    return rows, [one.name for one in await budgets.known() if not one.counted]


def _cells(one: Budget, source: str) -> list[str]:
    limit = f"{one.limit_usd} USD" if one.limit_usd is not None else f"{one.limit_tokens:,} tokens"
    period = f"rolling {one.period_text}" if one.rolling_ns else f"{one.period} ({one.timezone})"
    match = json.dumps({name: " ".join(globs) for name, globs in one.match.restricting().items()})
    thresholds = ", ".join(one.crossed(10 * one.limit))
    return [
        one.name,
        limit,
        period,
        ", ".join(one.per) or "all together",
        "all" if match == "{}" else match,
        thresholds,
        "yes" if one.hard else "no",
        source,
    ]


def _match(texts: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        name, sign, pattern = text.partition("=")
        if not sign:
            raise click.UsageError(f"--match {text!r} has no pattern: write team=cx or tag:plan=free*")
        found.setdefault(name.strip(), []).append(pattern.strip())
    return found


def _ask(source: Source, question: Callable[[BudgetSource], Awaitable[_Answer]]) -> _Answer:
    async def answer() -> _Answer:
        made = OverHttp(source.url, source.api_key) if source.url else OnDatabase(database(source))
        async with made as budgets:
            return await question(budgets)

    try:
        return asyncio.run(answer())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem
