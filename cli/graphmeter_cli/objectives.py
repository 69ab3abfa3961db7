"""Objectives for people and machines: where `graphmeter slo` reads, and its rows as tables and sheets."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.table import Table as RichTable
from rich.text import Text

from graphmeter import names
from graphmeter_cli.render import plain, table
from graphmeter_cli.units import NS_PER_S, count, duration, moment, percent, plural
from graphmeter_collector.expose.slo_report import report
from graphmeter_collector.expose.slos import slos
from graphmeter_collector.notify.message import Table
from graphmeter_collector.reports import Culprit, SloReport, SloReports, SloRow
from graphmeter_collector.store.read import SqlReader, open_reader
from graphmeter_config import Config
from graphmeter_config.section import glob_regex


class SloSource(Protocol):
    """What the commands need."""

    async def slos(self, name: str = "") -> list[SloRow]: ...

    async def slo_report(self, since_ns: int, until_ns: int, name: str, *, leave_out: bool) -> SloReports: ...


class OnDatabase:
    """The objectives of a configuration, counted in a database."""

    def __init__(self, database_url: str, config: Config) -> None:
        self._url = database_url
        self._config = config
        self._stack = AsyncExitStack()
        self._reader: SqlReader | None = None

    async def __aenter__(self) -> Self:
        self._reader = await self._stack.enter_async_context(open_reader(self._url))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def slos(self, name: str = "") -> list[SloRow]:
        """State of every SLO now, or of one."""
        assert self._reader is not None  # used as a context manager
        return await slos(self._reader, self._config, only=name)

    async def slo_report(self, since_ns: int, until_ns: int, name: str, *, leave_out: bool) -> SloReports:
        """What became of SLOs in [since, until)."""
        assert self._reader is not None  # used as a context manager
        return await report(self._reader, self._config, since_ns, until_ns, only=name, leave_out=leave_out)


# --- now ----------------------------------------------------------------------------------------------------------


def state_table(rows: Sequence[SloRow], now_ns: int, title: str = "") -> RichTable:
    """One line for each of the things that an objective judges by themselves."""
    result = table(
        *(
            "SLO!",
            "of",
            "objective>",
            "window>",
            "events>",
            "bad>",
            "achieved>",
            "budget left>",
            "burn (1h)>",
            "spent in>",
        ),
        title=title,
    )
    for row in rows:
        left = row.budget_remaining_ratio
        result.add_row(
            plain(row.slo),
            plain(who(row.scope)),
            _objective(row),
            row.window,
            count(row.total),
            Text(count(row.bad), "red" if row.bad else ""),
            percent(row.achieved_ratio, 2),
            Text(percent(left), "" if left is None else "green" if left > 0 else "bold red"),
            Text(_speed(row.burn_rate), "red" if (row.burn_rate or 0) > 1 else ""),
            _spent_in(row, now_ns),
        )
    return result


def burn_table(rows: Sequence[SloRow]) -> RichTable:
    """The windows of each tier: how fast the budget burns in them, and whether that is beyond the tier."""
    result = table("SLO!", "of", "tier!", "beyond>", "short>", "burn>", "long>", "burn>", "bad>", "crossed")
    for row in rows:
        for each in row.burn:
            result.add_row(
                plain(row.slo),
                plain(who(row.scope)),
                each.tier,
                _speed(each.factor),
                each.short,
                _speed(each.short_burn_rate),
                each.long,
                _speed(each.long_burn_rate),
                count(each.long_bad),
                Text("yes", "bold red") if each.crossed else Text("no"),
            )
    return result


def state_sheet(rows: Sequence[SloRow]) -> Table:
    """All plain fields, exact."""
    fields = (
        *("slo", "objective_percent", "indicator", "of", "threshold", "window", "since_ns", "total", "good", "bad"),
        *("unsure", "achieved_ratio", "budget_remaining_ratio", "burn_rate", "exhausted_at_ns"),
    )
    lines = [[row.slo, who(row.scope), *(_cell(getattr(row, name)) for name in fields[1:])] for row in rows]
    return Table(["slo", "scope", *fields[1:]], lines, frozenset(range(7, 2 + len(fields) - 1)))


def burn_sheet(rows: Sequence[SloRow]) -> Table:
    """The same of tiers."""
    fields = (
        *("tier", "severity", "factor", "short", "short_events", "short_bad", "short_burn_rate"),
        *("long", "long_events", "long_bad", "long_burn_rate", "crossed"),
    )
    lines = [
        [row.slo, who(row.scope), *(_cell(getattr(each, name)) for name in fields)] for row in rows for each in row.burn
    ]
    return Table(["slo", "scope", *fields], lines)


def notes(rows: Sequence[SloRow], name: str) -> Iterator[str]:
    """What the table cannot say."""
    if not rows:
        yield f"{name or 'No SLO'} had {'no' if name else 'any'} events in its window."
    if unsure := sum(row.unsure for row in rows):
        yield (
            f"{plural(unsure, 'event')} were stored by a collector of an earlier version, which did not look at "
            "thresholds: on which side they lie is an estimate."
        )


# --- a time -------------------------------------------------------------------------------------------------------


def report_table(rows: Sequence[SloReport]) -> RichTable:
    """What became of each objective, and what was wrong."""
    result = table(
        "SLO!",
        "of",
        "objective>",
        "events>",
        "bad>",
        "achieved>",
        "budget used>",
        "met",
        "errors",
        "nodes",
        "left out>",
    )
    for row in rows:
        result.add_row(
            plain(row.slo),
            plain(who(row.scope)),
            _objective(row),
            count(row.total),
            Text(count(row.bad), "red" if row.bad else ""),
            percent(row.achieved_ratio, 2),
            percent(row.budget_consumed_ratio),
            Text("yes", "green") if row.met else Text("no", "bold red"),
            plain(_named(row.errors)),
            plain(_named(row.nodes)),
            f"{count(row.excluded_bad)} of {count(row.excluded_total)}" if row.excluded_total else "-",
        )
    return result


def report_sheet(rows: Sequence[SloReport]) -> Table:
    """All fields, exact."""
    fields = (
        *(
            "objective_percent",
            "indicator",
            "of",
            "threshold",
            "since_ns",
            "until_ns",
            "total",
            "good",
            "bad",
            "unsure",
        ),
        *("achieved_ratio", "budget_consumed_ratio", "met", "excluded_total", "excluded_bad"),
    )
    lines = [
        [
            row.slo,
            who(row.scope),
            *(_cell(getattr(row, name)) for name in fields),
            _named(row.errors),
            _named(row.nodes),
        ]
        for row in rows
    ]
    return Table(["slo", "scope", *fields, "errors", "nodes"], lines)


def maintenance_notes(told: SloReports) -> Iterator[str]:
    """The windows of that time, and whether they count."""
    for each in told.maintenance:
        said = "left out" if told.left_out else "counted"
        yield f"Maintenance {each.name}, {moment(each.since_ns)} to {moment(each.until_ns)} UTC: {said}."
    if not told.slos:
        yield "No event of any SLO in this time. A longer one: --from 90d."


# --- maintenance --------------------------------------------------------------------------------------------------


def maintenance_table(config: Config) -> RichTable:
    """Every window, as written."""
    result = table("maintenance!", "from (UTC)!", "to (UTC)!", "lasts>", "SLOs", "what")
    for each in config.maintenance:
        result.add_row(
            plain(each.name),
            moment(each.since_ns),
            moment(each.until_ns),
            duration(each.until_ns - each.since_ns),
            plain(", ".join(each.slos)),
            plain(each.description),
        )
    return result


def silences(config: Config, now_ns: int) -> Iterator[str]:
    """Commands that keep Alertmanager silent in the windows to come."""
    for each in config.maintenance:
        if each.until_ns > now_ns:
            about = "|".join(map(glob_regex, each.slos))
            when = f"--start={_utc(max(each.since_ns, now_ns))} --end={_utc(each.until_ns)}"
            comment = shlex.quote(f"maintenance {each.name}")
            # An SLO's alerts alone: what else goes wrong meanwhile is told.
            matcher = shlex.quote(f'slo=~"{about}"' if about != ".*" else 'slo=~".+"')
            yield f"amtool silence add {matcher} {when} --comment={comment}"


# --- words --------------------------------------------------------------------------------------------------------


def who(scope: dict[str, str]) -> str:
    """`support, node search`; `all` where everything is judged together."""
    said = (
        value or names.UNATTRIBUTED if name == "graph" else f"{name} {value or names.UNATTRIBUTED}"
        for name, value in scope.items()
    )
    return ", ".join(said) or "all"


def _objective(row: SloRow | SloReport) -> str:
    return f"{row.objective_percent} %" + (f" in {row.threshold}" if row.threshold else "")


def _speed(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3g} ×"


def _spent_in(row: SloRow, now_ns: int) -> str:
    if row.budget_remaining_ratio is not None and row.budget_remaining_ratio <= 0:
        return "spent"
    return "-" if row.exhausted_at_ns is None else duration(max(row.exhausted_at_ns - now_ns, 0))


def _named(found: Sequence[Culprit]) -> str:
    return ", ".join(f"{each.name} {count(each.bad)}" for each in found) or "-"


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
