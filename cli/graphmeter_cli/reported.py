"""Calls of which the provider said what they cost in, a table of both amounts and the drift between them out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table as RichTable

from graphmeter import names
from graphmeter_cli import render
from graphmeter_cli.units import count, usd, usd_places
from graphmeter_collector.reports import ReportedCostRow


def table(rows: Sequence[ReportedCostRow], by: Sequence[str]) -> RichTable:
    """One line per group and a total; unpriced calls, and those without usage, are said beside the drift they explain."""
    result = render.table(*by, "calls>", "ours USD>", "theirs USD>", "drift USD>", "drift>", "because")
    places = usd_places([amount for row in rows for amount in (row.cost_nano, row.reported_nano)])
    for row in rows:
        group = [render.plain(row.group[name], empty=names.UNATTRIBUTED) for name in by]
        result.add_row(
            *group, count(row.calls), *money(row.cost_nano, row.reported_nano, row.drift_nano, places), _because(row)
        )
    result.add_section()
    ours, theirs = sum(row.cost_nano for row in rows), sum(row.reported_nano for row in rows)
    heading = ["total", *[""] * (len(by) - 1)] if by else []
    result.add_row(
        *heading, count(sum(row.calls for row in rows)), *money(ours, theirs, ours - theirs, places), "", style="bold"
    )
    return result


def money(ours: int, theirs: int, drift: int, places: int) -> list[str]:
    """Cells of amounts in nano-USD: ours, theirs, ours less theirs, and that as a share of theirs."""
    share = f"{drift / theirs * 100:+.2f} %" if theirs else "-"
    return [usd(ours, places), usd(theirs, places), ("+" if drift > 0 else "") + usd(drift, places), share]


def _because(row: ReportedCostRow) -> str:
    reasons = []
    if row.unpriced_calls:
        reasons.append(f"{count(row.unpriced_calls)} unpriced calls of ours")
    if row.usage_missing_calls:
        reasons.append(f"{count(row.usage_missing_calls)} calls of ours without usage")
    return "; ".join(reasons)
