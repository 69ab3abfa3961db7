"""`graphmeter cost`: which spend and by what in, spend per group, movers, dear runs, cost of one run or outcome out."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table as RichTable
from rich.text import Text

from graphmeter import names
from graphmeter_cli import reading, render, reported, spend
from graphmeter_cli.options import Source
from graphmeter_cli.spend import Asked
from graphmeter_cli.units import count, duration, percent, usd, usd_places
from graphmeter_collector import focus
from graphmeter_collector.notify.message import Table
from graphmeter_collector.reports import CostRow, OutcomeCostRow, Reader, RunRow, UnitCostRow
from graphmeter_collector.spending import MoverRow, WasteRow, movers, waste


@click.group(
    "cost",
    short_help="Show spend by team, model, graph, node …",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [OPTIONS]",
)
@spend.asks("team", formats=(*spend.FORMATS, "focus"))
@click.pass_context
def command(ctx: click.Context, *, asked: Asked, source: Source) -> None:
    """Show spend, dearest first, with a total.

    Spend that names no team (or graph, node …) is its own line, `unattributed`. Calls without a known price and calls
    that reported no usage are said below the table, for the sums leave them out.

    \b
    Examples:
      graphmeter cost
      graphmeter cost --month 2026-11 --by team,graph,node
      graphmeter cost --week last --timezone Europe/Berlin --team cx --by model --format csv
      graphmeter cost --by tag:plan,day --since 7d
      graphmeter cost --month last --format focus
      graphmeter cost movers --week this --by team,model
      graphmeter cost waste --by graph,node
      graphmeter cost runs --top 20 --graph support
      graphmeter cost per run --by graph
      graphmeter cost per outcome --by graph --month last
    """
    if ctx.invoked_subcommand is not None:
        typed = [
            name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if typed:
            raise click.UsageError(f"options go behind the command: graphmeter cost {ctx.invoked_subcommand} --…")
        return
    if asked.form == "focus":
        _print_focus(asked, source)
        return
    rows = reading.ask(source, lambda reader: _cost(reader, asked))
    spend.show(asked.form, rows, lambda: _cost_sheet(rows, asked.by), lambda: render.cost_table(rows, asked.by))
    for note in (*render.view_notes(rows, asked.view), *render.cost_notes(rows)) if asked.form == "table" else ():
        click.echo(note)


@command.command("movers", short_help="What moved most against the time before.")
@spend.asks("team")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="How many, those that moved most.")
def movers_command(*, asked: Asked, source: Source, top: int) -> None:
    """Show spend beside that of the time before, what moved most first; what is new or vanished is said.

    The time before a calendar month, week or day is the one before it; before anything else it is as long.

    \b
    Examples:
      graphmeter cost movers --week this --by team,model
      graphmeter cost movers --month last --timezone Europe/Berlin --by graph,node --top 50
    """

    async def both(reader: Reader) -> list[MoverRow]:
        before = await reader.cost(asked.by, *asked.before, where=asked.where, timezone=asked.timezone, view=asked.view)
        return movers(await _cost(reader, asked), before, asked.view)

    rows = reading.ask(source, both)
    shown = rows[:top]
    spend.show(
        asked.form,
        shown,
        lambda: spend.sheet_of(shown, asked.by),
        lambda: _mover_table(rows, len(shown), asked.by),
    )
    _say_view(asked)


@command.command("reported", short_help="What providers say that calls cost, beside what the ledger says.")
@spend.asks("provider,model")
def reported_command(*, asked: Asked, source: Source) -> None:
    """Show calls of which the provider, or a gateway, said what they cost: ours, theirs, and the drift (ours less theirs).

    OpenRouter, xAI, Perplexity and LiteLLM say it with each answer. Calls of which nobody says it are not counted here;
    `graphmeter reconcile` compares those with the provider's export.

    \b
    Examples:
      graphmeter cost reported --month this
      graphmeter cost reported --by day,model --provider openrouter --since 7d --format csv
    """
    rows = reading.ask(
        source,
        lambda reader: reader.reported_cost(
            asked.by, asked.since_ns, asked.until_ns, where=asked.where, timezone=asked.timezone, view=asked.view
        ),
    )
    spend.show(asked.form, rows, lambda: spend.sheet_of(rows, asked.by), lambda: reported.table(rows, asked.by))
    if asked.form == "table" and not rows:
        click.echo("no provider said what a call cost in this time")
    _say_view(asked)


@command.command("waste", short_help="What was paid for nothing.")
@spend.asks("graph,node")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="How many, the dearest.")
def waste_command(*, asked: Asked, source: Source, top: int) -> None:
    """Show which part of the spend was for nothing, and why, dearest first.

    A call was for nothing if it failed (error) or was cancelled, by itself or with the attempt of its node, or if another
    attempt followed that one (retry).

    \b
    Examples:
      graphmeter cost waste --week this
      graphmeter cost waste --by team,model --month last
      graphmeter cost waste --by run --top 5 --graph support
    """
    spent = reading.ask(source, lambda reader: _cost(reader, asked))
    rows = waste(spent)
    shown = rows[:top]
    spend.show(
        asked.form,
        shown,
        lambda: spend.sheet_of(shown, asked.by),
        lambda: _waste_table(rows, len(shown), spent, asked.by),
    )
    _say_view(asked)


@command.command("runs", short_help="The most expensive runs.")
@spend.asks("")
@click.option("--top", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
def runs_command(*, asked: Asked, source: Source, top: int) -> None:
    """Show the runs that cost most, by what they spent within the time that is asked for.

    \b
    Examples:
      graphmeter cost runs --top 20 --graph support
      graphmeter cost runs --day last --where tag:plan=free
    """
    if asked.by:
        raise click.UsageError("runs are not grouped: leave --by out, or see `graphmeter cost per run --by graph`")

    async def dearest(reader: Reader) -> list[tuple[CostRow, RunRow | None]]:
        # Calls outside any run have no run to show.
        found = await reader.cost(
            ["run_id"],
            asked.since_ns,
            asked.until_ns,
            where=asked.where,
            limit=top + 1,
            detail=True,
            view=asked.view,
        )
        named = [row for row in found if row.group["run_id"]][:top]
        return [(row, await reader.run(row.group["run_id"])) for row in named]

    rows = reading.ask(source, dearest)
    if asked.form == "json":
        render.print_json([{"cost": cost, "run": run} for cost, run in rows])
        return
    spend.show(asked.form, rows, lambda: _run_sheet(rows), lambda: _run_table(rows))
    if asked.form == "table":
        for note in render.view_notes([cost for cost, _ in rows], asked.view):
            click.echo(note)


@command.command("per", short_help="What one run, thread, user or good outcome costs.")
@click.argument("unit", metavar="UNIT")
@spend.asks("")
def per_command(*, unit: str, asked: Asked, source: Source) -> None:
    """Show what one UNIT costs: run, thread (a conversation), user, session, tenant, or a good outcome.

    Runs, threads, … are counted if they called a model in the time asked for, with what they spent in it; median and 95th
    percentile are exact. What a good outcome costs is all spend of the group by the number of its good outcomes.

    \b
    Examples:
      graphmeter cost per run --by graph
      graphmeter cost per thread --team cx --month last
      graphmeter cost per outcome --by graph --month last
    """
    if unit == "outcome":
        good = reading.ask(
            source,
            lambda reader: reader.outcome_cost(
                asked.by, asked.since_ns, asked.until_ns, where=asked.where, view=asked.view
            ),
        )
        spend.show(asked.form, good, lambda: spend.sheet_of(good, asked.by), lambda: _outcome_table(good, asked.by))
        _say_view(asked)
        return
    rows = reading.ask(
        source,
        lambda reader: reader.unit_cost(
            unit, asked.by, asked.since_ns, asked.until_ns, where=asked.where, view=asked.view
        ),
    )
    spend.show(asked.form, rows, lambda: spend.sheet_of(rows, asked.by), lambda: _unit_table(rows, asked.by))
    _say_view(asked)


def _say_view(asked: Asked) -> None:
    for note in render.view_notes((), asked.view) if asked.form == "table" else ():
        click.echo(note)


def _print_focus(asked: Asked, source: Source) -> None:
    if asked.timezone != "UTC":
        raise click.UsageError("FOCUS has days of UTC: leave --timezone out")
    if periods := {"week", "month"} & set(asked.by):
        raise click.UsageError(f"FOCUS rows are by day: leave {', '.join(sorted(periods))} out of --by")
    by = tuple(dict.fromkeys((*focus.DIMENSIONS, *asked.by)))
    spent = reading.ask(
        source,
        lambda reader: reader.cost(by, asked.since_ns, asked.until_ns, where=asked.where, detail=True, view=asked.view),
    )
    lines = ([row[column] for column in focus.COLUMNS] for row in focus.rows(spent))
    click.echo(spend.csv_text([focus.COLUMNS, *lines]), nl=False)


async def _cost(reader: Reader, asked: Asked) -> list[CostRow]:
    return await reader.cost(
        asked.by, asked.since_ns, asked.until_ns, where=asked.where, timezone=asked.timezone, view=asked.view
    )


def _cost_sheet(rows: Sequence[CostRow], by: Sequence[str]) -> Table:
    made = spend.sheet_of(rows, by)
    more = [
        [
            *(spend.usd_exact(row.wasted_nano.get(why, 0)) for why in names.WASTE_REASONS),
            *(str(row.tokens[bucket]) for bucket in names.TOKEN_TYPES),
        ]
        for row in rows
    ]
    names_of = [
        *(f"wasted_{why}_usd" for why in names.WASTE_REASONS),
        *(f"{each}_tokens" for each in names.TOKEN_TYPES),
    ]
    header = [*made.header, *names_of] if rows else made.header
    lines = [[*line, *told] for line, told in zip(made.rows, more, strict=True)]
    return Table(header, lines, frozenset(range(len(by), len(header))))


def _group(row: CostRow | MoverRow | WasteRow | UnitCostRow | OutcomeCostRow, by: Sequence[str]) -> list[Text]:
    return [render.plain(row.group[name], empty=names.UNATTRIBUTED) for name in by]


def _mover_table(rows: Sequence[MoverRow], shown: int, by: Sequence[str]) -> RichTable:
    result = render.table(*by, "before USD>", "USD>", "change USD>", "change>", "")
    places = usd_places([amount for row in rows for amount in (row.cost_nano, row.before_nano)])
    for row in rows[:shown]:
        style = "red" if row.change_nano > 0 else "green" if row.change_nano < 0 else ""
        result.add_row(
            *_group(row, by),
            usd(row.before_nano, places),
            usd(row.cost_nano, places),
            Text(_signed(row.change_nano, places), style),
            "-" if row.change_ratio is None else f"{row.change_ratio * 100:+.1f} %",
            "" if row.state == "moved" else row.state,
        )
    now, before = sum(row.cost_nano for row in rows), sum(row.before_nano for row in rows)
    ratio = f"{(now - before) / before * 100:+.1f} %" if before else "-"
    result.add_section()
    more = f"all {count(len(rows))}" if len(rows) > shown else ""
    heading = ["total", *[""] * (len(by) - 1)] if by else []
    cells = (usd(before, places), usd(now, places), _signed(now - before, places), ratio, more)
    result.add_row(*heading, *cells, style="bold")
    return result


def _waste_table(rows: Sequence[WasteRow], shown: int, spent: Sequence[CostRow], by: Sequence[str]) -> RichTable:
    result = render.table(*by, "reason", "calls>", "USD>", "of its spend>", "of all>")
    places = usd_places(row.cost_nano for row in rows)
    total = sum(row.cost_nano for row in spent)
    for row in rows[:shown]:
        result.add_row(
            *_group(row, by),
            Text(row.reason),
            count(row.calls),
            usd(row.cost_nano, places),
            percent(row.share),
            percent(row.cost_nano / total if total else None),
        )
    wasted = sum(row.cost_nano for row in rows)
    more = f"all {count(len(rows))}" if len(rows) > shown else ""
    heading = ["total", *[""] * (len(by) - 1)] if by else []
    result.add_section()
    cells = (count(sum(row.calls for row in rows)), usd(wasted, places), "", percent(wasted / total if total else None))
    result.add_row(*heading, more, *cells, style="bold")
    return result


def _signed(nano: int, places: int) -> str:
    return ("+" if nano > 0 else "") + usd(nano, places)


def _run_table(rows: Sequence[tuple[CostRow, RunRow | None]]) -> RichTable:
    result = render.table(
        "run!", "graph", "team", "user", "status!", "duration>", "calls>", "failed>", "USD>", "failed USD>"
    )
    places = usd_places(cost.cost_nano for cost, _ in rows)
    for cost, run in rows:
        result.add_row(
            render.plain(cost.group["run_id"]),
            *((render.plain(run.graph), render.plain(run.team, empty=names.UNATTRIBUTED)) if run else ("", "")),
            render.plain(run.user_id if run else ""),
            render.status_text(run.status) if run else Text("-"),
            duration(run.duration_ns if run else None),
            count(cost.calls),
            count(cost.failed_calls or 0),
            usd(cost.cost_nano, places) + ("+?" if cost.unpriced_calls else ""),
            usd(cost.failed_nano, places) if cost.failed_nano else "",
        )
    return result


def _run_sheet(rows: Sequence[tuple[CostRow, RunRow | None]]) -> Table:
    made = spend.sheet_of([cost for cost, _ in rows], ["run_id"])
    facts = ("graph", "team", "user_id", "thread_id", "status", "started_ns", "duration_ns")
    told = [[str(getattr(run, name)) if run else "" for name in facts] for _, run in rows]
    header = [made.header[0], *facts, *made.header[1:]]
    lines = [[line[0], *more, *line[1:]] for line, more in zip(made.rows, told, strict=True)]
    return Table(header, lines, frozenset(range(1 + len(facts), len(header))))


def _unit_table(rows: Sequence[UnitCostRow], by: Sequence[str]) -> RichTable:
    unit = rows[0].unit.removesuffix("_id") if rows else "unit"
    result = render.table(*by, f"{unit}s>", "USD>", "mean>", "median>", "p95>", "most>", f"without {unit}>")
    places = usd_places([amount for row in rows for amount in (row.median_nano, row.mean_nano)])
    for row in rows:
        each = (row.cost_nano, row.mean_nano, row.median_nano, row.p95_nano, row.max_nano)
        rest = usd(row.rest_nano, places) if row.rest_nano else ""
        result.add_row(*_group(row, by), count(row.units), *(usd(nano, places) for nano in each), rest)
    return result


def _outcome_table(rows: Sequence[OutcomeCostRow], by: Sequence[str]) -> RichTable:
    result = render.table(*by, "outcome", "good>", "bad>", "not judged>", "good ones>", "USD>", "USD per good one>")
    for row in rows:
        judged = row.good + row.bad
        result.add_row(
            *_group(row, by),
            render.plain(row.kind),
            *(count(number) for number in (row.good, row.bad, row.unjudged)),
            percent(row.good / judged if judged else None),
            usd(row.cost_nano),
            "-" if row.per_good_nano is None else usd(row.per_good_nano),
        )
    return result
