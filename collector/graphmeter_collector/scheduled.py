"""Scheduled reports: a period that is over in, its spend out to receivers, once per period whoever restarts when.

What was sent is known from the keys of notifications, so nothing is remembered here. A collector that was away sends the
report of the last period when it is back, if that ended lately; those before it are not sent any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from graphmeter import names
from graphmeter_collector.notify.courier import Courier
from graphmeter_collector.notify.message import Message, Table
from graphmeter_collector.reports import BILLED, EFFECTIVE, CostRow, Reader, View
from graphmeter_config import Config, Report
from graphmeter_config.periods import Stretch, at

LATEST_NS: Final = 7 * 86_400 * 1_000_000_000
"""How long after its period a report is still sent; that of a day, within a day."""
_NS: Final = 1_000_000_000
_NANO: Final = Decimal(names.NANO_PER_USD)
_BY: Final[dict[View, str]] = {EFFECTIVE: "At effective prices", BILLED: "As billed"}


class Scheduled:
    """Finds reports that are due, makes them, and owes them to their receivers."""

    def __init__(self, reader: Reader, courier: Courier, config: Callable[[], Config]) -> None:
        self._reader = reader
        self._courier = courier
        self._config = config

    async def run(self, now_ns: int) -> None:
        """Owe every report that is due now.

        Raises:
            StoreUnavailable: the database is away; nothing is lost, call again.
        """
        for report in self._config().reports:
            stretch = due(report, now_ns)
            if stretch is None:
                continue
            key = f"report/{report.name}/{stretch.label}"
            receivers = await self._courier.news(key, report.receivers)
            if receivers:
                message = await self._message(report, stretch)
                await self._courier.tell(key, receivers, message, report.format, now_ns)

    async def _message(self, report: Report, stretch: Stretch) -> Message:
        earlier = stretch.before()
        rows = await self._reader.cost(report.by, stretch.since_ns, stretch.until_ns, view=report.view)
        before = await self._reader.cost((), earlier.since_ns, earlier.until_ns, view=report.view)
        return spend_message(report, stretch, rows, sum(row.cost_nano for row in before))


def due(report: Report, now_ns: int) -> Stretch | None:
    """The period that a report is due for, if any: the last that has been over for `report.after_s`."""
    moment = datetime.fromtimestamp((now_ns - round(report.after_s * _NS)) // _NS, UTC)
    stretch = at(report.every, moment, report.timezone).before()
    length = stretch.until_ns - stretch.since_ns
    return stretch if now_ns - stretch.until_ns < min(length, LATEST_NS) + report.after_s * _NS else None


def spend_message(report: Report, stretch: Stretch, rows: Sequence[CostRow], before_nano: int) -> Message:
    """The report on a period: `rows` are its spend, the dearest first, `before_nano` is that of the period before."""
    total = sum(row.cost_nano for row in rows)
    unattributed = sum(row.cost_nano for row in rows if not all(row.group.values()))
    unpriced = sum(row.unpriced_calls for row in rows)
    silent = sum(row.usage_missing_calls for row in rows)
    shown = rows[: report.top]
    lines = [_change(total, before_nano, stretch, report.view)]
    if billed := sum(row.billed_nano for row in rows) - total:
        lines.append(f"Calls were priced again: as billed it was {_usd(billed + total)}.")
    if unattributed:
        lines.append(f"{_usd(unattributed)} names no {' or no '.join(report.by)}.")
    wasted = {why: sum(row.wasted_nano.get(why, 0) for row in rows) for why in names.WASTE_REASONS}
    if any(wasted.values()):
        reasons = ", ".join(f"{why} {_usd(nano)}" for why, nano in wasted.items() if nano)
        lines.append(f"{_usd(sum(wasted.values()))} was for nothing: {reasons}.")
    if saved := sum(row.saved_nano for row in rows):
        lines.append(f"{_usd(saved)} saved by caches.")
    if unpriced:
        lines.append(f"{unpriced:,} calls have no known price and are not in these sums.")
    if silent:
        lines.append(f"{silent:,} calls reported no usage; their cost is not known.")
    table = [
        [
            *(row.group[name] or names.UNATTRIBUTED for name in report.by),
            f"{row.calls:,}",
            _usd(row.cost_nano),
            _share(row, total),
        ]
        for row in shown
    ]
    if rest := rows[report.top :]:
        calls, nano = sum(row.calls for row in rest), sum(row.cost_nano for row in rest)
        table.append([f"{len(rest):,} more", *[""] * (len(report.by) - 1), f"{calls:,}", _usd(nano), ""])
    wide = len(report.by)
    return Message(
        "report",
        f"Spend of {stretch.label}: {_usd(total)}",
        "\n".join(lines),
        Table([*report.by, "calls", "cost", "share"], table, frozenset({wide, wide + 1, wide + 2})) if table else None,
        {
            "report": report.name,
            "every": report.every,
            "period": stretch.label,
            "timezone": report.timezone,
            "since_ns": stretch.since_ns,
            "until_ns": stretch.until_ns,
            "view": report.view,
            "by": list(report.by),
            "total_nano": total,
            "billed_nano": sum(row.billed_nano for row in rows),
            "before_nano": before_nano,
            "unattributed_nano": unattributed,
            "wasted_nano": wasted,
            "saved_nano": saved,
            "unpriced_calls": unpriced,
            "usage_missing_calls": silent,
            "rows": [asdict(row) for row in shown],
            "rows_left_out": len(rest),
        },
    )


def _change(total: int, before: int, stretch: Stretch, view: View) -> str:
    said = f"{_BY[view]}, {stretch.label} ({stretch.timezone})"
    if not before:
        return f"{said}; nothing was spent in the {stretch.period} before."
    change = total - before
    direction = "more" if change >= 0 else "less"
    return f"{said}; {_usd(abs(change))} {direction} than the {stretch.period} before ({change / before:+.1%})."


def _share(row: CostRow, total: int) -> str:
    return f"{row.cost_nano / total:.1%}" if total else "-"


def _usd(nano: int) -> str:
    """`$1,234.56`; `$0.000123` where cents would hide it."""
    usd = Decimal(nano) / _NANO
    return f"${usd:,.2f}" if usd >= 1 or not nano else f"${usd:.6f}"
