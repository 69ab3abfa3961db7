"""Report rows in, rich tables and trees out; and the exact JSON of the same rows.

Names in a report come from other people's programs: they are shown as plain text (no markup, no control characters).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graphmeter import names
from graphmeter_cli.units import count, duration, moment, percent, plural, usd, usd_places
from graphmeter_collector.reports import BILLED, BudgetRow, CostRow, NodeRow, OutcomeRow, RunRow, View

STYLES = {
    names.OK: "green",
    names.ERROR: "bold red",
    names.LOST: "bold red",
    names.INTERRUPTED: "yellow",
    names.CANCELLED: "yellow",
    names.RUNNING: "cyan",
}
_MARKS = {
    names.OK: ("✓", "+"),
    names.ERROR: ("✗", "x"),
    names.LOST: ("?", "?"),
    names.INTERRUPTED: ("‖", "="),
    names.CANCELLED: ("⊘", "/"),
    names.RUNNING: ("…", "~"),
}
"""Mark of a status, and the one for terminals without Unicode."""

_NARROWEST = 200
"""Columns that tables are laid out for at least: on a narrower terminal, in a file or a pipe, long lines wrap or run on, but
no number loses its digits and no id is torn apart."""


def console() -> Console:
    """A console on stdout as it is now."""
    columns = shutil.get_terminal_size().columns
    return Console(file=sys.stdout, width=max(columns, _NARROWEST), highlight=False)


def print_json(value: Any) -> None:
    """Print rows (dataclasses, or lists and dicts of them) as indented JSON: the fields of `reports`, integers as stored."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=asdict))


def plain(value: str, style: str = "", *, empty: str = "") -> Text:
    """Somebody else's text, harmless: control characters become `\\x1b`-like escapes."""
    shown = value or empty
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)
    return Text(shown, style)


def mark(status: str, *, ascii_only: bool = False) -> Text:
    """The sign of a status: ✓ ok, ✗ error, ? lost, ‖ interrupted, ⊘ cancelled, … running."""
    signs = _MARKS.get(status, ("·", "."))
    return Text(signs[1] if ascii_only else signs[0], STYLES.get(status, ""))


def status_text(status: str) -> Text:
    return plain(status, STYLES.get(status, ""))


def table(*columns: str, title: str = "") -> Table:
    """An open table; a column whose heading ends in `>` is right-aligned, in `!` keeps its full width."""
    result = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        number, whole = column.endswith(">"), column.endswith("!")
        heading = column.rstrip(">!")
        result.add_column(heading, justify="right" if number else "left", no_wrap=number or whole, overflow="fold")
    return result


def run_table(rows: Sequence[RunRow]) -> Table:
    """Runs, one a line, in the order given."""
    result = table(
        "started (UTC)!",
        "run!",
        "graph",
        "team",
        "status!",
        "duration>",
        "steps>",
        "calls>",
        "tokens>",
        "USD>",
        *(("outcome",) if any(row.outcomes for row in rows) else ()),
        "error",
    )
    told = any(row.outcomes for row in rows)
    places = usd_places(row.cost_nano for row in rows)
    for row in rows:
        result.add_row(
            moment(row.started_ns),
            plain(row.run_id, empty=row.trace_id),
            plain(row.graph),
            plain(row.team, empty=names.UNATTRIBUTED),
            Text.assemble(status_text(row.status), plain(waiting(row), "dim")),
            duration(row.duration_ns),
            count(row.steps),
            count(row.model_calls),
            count(row.input_tokens + row.output_tokens),
            usd(row.cost_nano, places) + ("+?" if row.unpriced_calls else ""),
            *((outcome_text(row.outcomes),) if told else ()),
            plain(row.error_type, "red"),
        )
    return result


def waiting(row: RunRow) -> str:
    """What an interrupted run waits for or waited, or that a run resumes one; empty for all others."""
    wait = row.wait
    if wait is None:
        return ", resumed" if row.resumed_run_id else ""
    if wait.until_ns is None:
        return ", waiting"
    if wait.resumed is None:
        return ", going on"
    return f", answered after {duration(wait.until_ns - wait.since_ns)}" if wait.resumed else ", left"


def outcome_text(outcomes: Sequence[OutcomeRow]) -> Text:
    """`resolved: good, csat: 4.5`; the last word of each kind."""
    last = {each.kind: each for each in outcomes}
    parts = []
    for each in last.values():
        judged = "" if each.good is None else "good" if each.good else "bad"
        valued = "" if each.value is None else f"{each.value:g}"
        said = " ".join(part for part in (judged, valued) if part)
        style = "" if each.good is None else STYLES[names.OK] if each.good else STYLES[names.ERROR]
        parts.append(plain(f"{each.kind}: {said}" if said else each.kind, style))
    return Text(", ").join(parts)


def node_table(rows: Sequence[NodeRow], title: str = "") -> Table:
    """Nodes with runs, errors, latency of attempts, tokens and spend; the service is shown where there are several."""
    several = len({(row.service, row.environment) for row in rows}) > 1
    places = usd_places(row.cost_nano for row in rows)
    unasked = ("-", "-", "-", "-")  # a node that never calls a model
    columns = ("runs>", "errors>", "retries>", "p50>", "p95>", "p99>", "calls>", "tokens in>", "tokens out>", "USD>")
    result = table(*(("service",) if several else ()), "graph", "node", *columns, title=title)
    for row in sorted(rows, key=lambda row: (row.service, row.environment, row.graph, row.node)):
        service = f"{row.service} ({row.environment})" if row.environment else row.service
        result.add_row(
            *((plain(service),) if several else ()),
            plain(row.graph),
            plain(row.node),
            count(row.runs),
            Text(count(row.errors), "red" if row.errors else ""),
            count(row.attempts - row.runs),
            duration(row.p50_ns),
            duration(row.p95_ns),
            duration(row.p99_ns),
            *((count(row.model_calls), *_spent(row, places)) if row.model_calls else unasked),
        )
    return result


def _spent(row: NodeRow, places: int) -> tuple[str, str, str]:
    return count(row.input_tokens), count(row.output_tokens), usd(row.cost_nano, places)


def cost_table(rows: Sequence[CostRow], by: Sequence[str], title: str = "") -> Table:
    """Spend per group, dearest first, groups that name nothing as `unattributed` at the end, and the total."""
    total = sum(row.cost_nano for row in rows)
    places = usd_places([*(row.cost_nano for row in rows), total])
    result = table(
        *by,
        "calls>",
        "cached>",
        "tokens in>",
        "tokens out>",
        "USD>",
        "share>",
        "wasted USD>",
        "saved USD>",
        title=title,
    )
    unsaid = [row for row in rows if not all(row.group.values())]
    for row in [*(row for row in rows if all(row.group.values())), *unsaid]:
        loose = "yellow" if row in unsaid else ""
        result.add_row(
            *(plain(row.group[name], loose, empty=names.UNATTRIBUTED) for name in by),
            *_cost_cells([row], places),
            f"{row.cost_nano / total * 100:.1f} %" if total else "-",
            *_for_nothing([row], places),
        )
    result.add_section()
    heading = ["total", *[""] * (len(by) - 1)] if by else []
    result.add_row(*heading, *_cost_cells(rows, places), "", *_for_nothing(rows, places), style="bold")
    return result


def _cost_cells(rows: Iterable[CostRow], places: int) -> list[str]:
    rows = list(rows)
    return [
        count(sum(row.calls for row in rows)),
        count(sum(row.cache_hits for row in rows)),
        count(tokens_in(rows)),
        count(tokens_out(rows)),
        usd(sum(row.cost_nano for row in rows), places),
    ]


def _for_nothing(rows: Sequence[CostRow], places: int) -> list[str]:
    """What was paid for nothing, and what was had for nothing."""
    wasted = sum(nano for row in rows for nano in row.wasted_nano.values())
    saved = sum(row.saved_nano for row in rows)
    return [usd(wasted, places) if wasted else "", usd(saved) if saved else ""]


def tokens_in(rows: Iterable[CostRow]) -> int:
    """Input tokens of all buckets."""
    return sum(row.tokens.get(bucket, 0) for row in rows for bucket in names.INPUT_TOKEN_TYPES)


def tokens_out(rows: Iterable[CostRow]) -> int:
    """Output tokens of all buckets."""
    return sum(row.tokens.get(bucket, 0) for row in rows for bucket in names.OUTPUT_TOKEN_TYPES)


def view_notes(rows: Sequence[CostRow], view: View) -> list[str]:
    """By which prices the amounts above are, and what they were as billed where that was something else."""
    if view == BILLED:
        return ["As billed."]
    cost, billed = sum(row.cost_nano for row in rows), sum(row.billed_nano for row in rows)
    if cost == billed:
        return ["Effective prices."]
    places = usd_places([*(row.cost_nano for row in rows), cost, billed])
    return [f"Effective prices; as billed it was {usd(billed, places)} (--view billed)."]


def cost_notes(rows: Sequence[CostRow]) -> list[str]:
    """What was for nothing, and what the sums leave out (calls without a price, without usage), in sentences, if any."""
    notes = []
    wasted = {why: sum(row.wasted_nano.get(why, 0) for row in rows) for why in names.WASTE_REASONS}
    if total := sum(wasted.values()):
        reasons = ", ".join(f"{why} {usd(nano)}" for why, nano in wasted.items() if nano)
        notes.append(f"{usd(total)} was for nothing ({reasons}): `graphmeter cost waste` says where.")
    if unpriced := sum(row.unpriced_calls for row in rows):
        notes.append(
            f"{plural(unpriced, 'call')} could not be priced and cost more than shown: "
            "add a price for the model under `prices:` in graphmeter.yaml."
        )
    if missing := sum(row.usage_missing_calls for row in rows):
        notes.append(f"{plural(missing, 'call')} reported no token usage; their cost is not known.")
    return notes


def budget_table(rows: Sequence[BudgetRow], title: str = "") -> Table:
    """Budgets, what was spent of them in their current period, the thresholds crossed, and where spend leads."""
    amounts = [(row.limit_nano, row.spent_nano, row.reserved_nano) for row in rows if row.unit == "usd"]
    places = usd_places([amount for some in amounts for amount in some])
    # Only strict guards reserve, and only while a call is under way.
    reserved = ["reserved>"] if any(row.reservations for row in rows) else []
    headings = ("budget", "of", "limit>", "spent>", *reserved, "used>", "crossed", "leads to>", "until (UTC)!")
    result = table(*headings, title=title)
    for row in rows:
        money = row.unit == "usd"
        held = usd(row.reserved_nano, places) if money else count(row.reserved_tokens)
        result.add_row(
            plain(row.budget),
            plain(_whose(row)),
            usd(row.limit_nano, places) if money else count(row.limit_tokens),
            usd(row.spent_nano, places) if money else count(row.spent_tokens),
            *([held] if reserved else []),
            Text(percent(row.used_ratio), "red" if row.crossed else "green"),
            plain(", ".join(row.crossed), "red"),
            percent(row.forecast_ratio),
            moment(row.period_end_ns),
        )
    return result


def _whose(row: BudgetRow) -> str:
    if list(row.scope) in ([], ["team"]):
        return row.team or (names.UNATTRIBUTED if row.per_team else "all")
    return ", ".join(f"{name} {value or names.UNATTRIBUTED}" for name, value in row.scope.items())
