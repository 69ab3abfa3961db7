"""What all questions on spend have in common: options in, one `Asked` out; and rows as table, CSV, JSON or Markdown."""

from __future__ import annotations

import csv
import functools
import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

import click
from rich.table import Table as RichTable

from graphmeter import names
from graphmeter_cli import options, render
from graphmeter_cli.options import reads_reports
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.notify.message import Table, markdown_table
from graphmeter_collector.reports import COST_DIMENSIONS, COST_SHORT, EFFECTIVE, VIEWS, View, Where, dimension
from graphmeter_config import periods, zones
from graphmeter_config.periods import NoPeriod, NoZone, Period

_Function = TypeVar("_Function", bound=Callable[..., Any])
_DEFAULT_SINCE: Final = "30d"
_NANO: Final = Decimal(names.NANO_PER_USD)
FORMATS: Final = ("table", "csv", "json", "markdown")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which spend, and how it is to be shown."""

    by: tuple[str, ...]
    since_ns: int
    until_ns: int
    before: tuple[int, int]
    """The time before: as long, or the calendar period before."""
    where: Where
    timezone: str
    form: str
    view: View = EFFECTIVE
    """By which prices."""


def asks(by: str, *, formats: Sequence[str] = FORMATS) -> Callable[[_Function], _Function]:
    """Add options for time, groups, filters, format and source; the command receives `asked: Asked` and `source: Source`."""
    return _asks([*_groups(by), *_times(_DEFAULT_SINCE), *_shapes(formats)])


def chooses() -> Callable[[_Function], _Function]:
    """The same for a command that changes what it is told to: a time must be said, and it is neither grouped nor shown."""
    return _asks(_times(""))


def _asks(options_of: Sequence[Callable[[Any], Any]]) -> Callable[[_Function], _Function]:
    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def with_question(
            *,
            as_json: bool,
            where: tuple[str, ...],
            by: str = "",
            form: str = "table",
            view: View = EFFECTIVE,
            **rest: Any,
        ) -> Any:
            given = {name: rest.pop(_parameter(name)) for name in COST_DIMENSIONS}
            when = {name: rest.pop(name) for name in ("month", "week", "day", "since", "until", "timezone")}
            if "form" not in click.get_current_context().params and not any(
                when[name] for name in ("month", "week", "day", "since")
            ):
                raise click.UsageError("say since when: --since 2026-11-01, --since 30d, or --month last")
            since_ns, until_ns, before = _time(**when)
            asked = Asked(
                _dimensions(by),
                since_ns,
                until_ns,
                before,
                _conditions(given, where),
                when["timezone"],
                "json" if as_json else form,
                view,
            )
            return function(asked=asked, **rest)

        command: Any = reads_reports(with_question)
        for name in reversed(COST_DIMENSIONS):
            command = click.option(
                f"--{_parameter(name).replace('_', '-')}",
                _parameter(name),
                multiple=True,
                metavar="NAME",
                help=f"Only spend of this {COST_SHORT.get(name, name).replace('_', ' ')}; may be repeated.",
            )(command)
        for option in reversed(options_of):
            command = option(command)
        return command  # type: ignore[no-any-return]

    return decorate


def _groups(by: str) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--by",
            default=by,
            show_default=bool(by),
            metavar="DIMENSIONS",
            help=f"Group by one or more, with commas: {', '.join(COST_SHORT.get(name, name) for name in COST_DIMENSIONS)}, "
            "day, week, month, or tags: tag:plan.",
        )
    ]


def _times(since: str) -> list[Callable[[Any], Any]]:
    default = f"  [default: {since}]" if since else ""
    return [
        click.option("--month", metavar="YYYY-MM", help="One calendar month: 2026-11, `this` or `last`."),
        click.option("--week", metavar="YYYY-Www", help="One week, from Monday: 2026-W47, `this` or `last`."),
        click.option("--day", metavar="YYYY-MM-DD", help="One day: 2026-11-20, `this` or `last`."),
        click.option("--since", metavar="WHEN", help=f"Since: 24h (ago), 2026-11-01.{default}"),
        click.option("--until", metavar="WHEN", help="Before: 24h (ago), 2026-11-20.  [default: now]"),
        click.option("--timezone", default="UTC", show_default=True, help="Of all these: Europe/Berlin."),
        click.option(
            "--where", multiple=True, metavar="NAME=VALUE", help="Only spend of this: tag:plan=pro; may be repeated."
        ),
    ]


def _shapes(formats: Sequence[str]) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--view",
            type=click.Choice(VIEWS),
            default=EFFECTIVE,
            show_default=True,
            help="By which prices: the last that each call was given, or those it was billed by.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="How to print it; all but table have all digits.",
        ),
    ]


def _parameter(name: str) -> str:
    return COST_SHORT.get(name, name)


def _dimensions(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_dimension(part.strip()) for part in text.split(",") if part.strip()))


def _dimension(text: str) -> str:
    try:
        return dimension(text)
    except BadRequest as problem:
        raise click.BadParameter(str(problem)) from problem


def _conditions(given: dict[str, tuple[str, ...]], where: Iterable[str]) -> Where:
    found = {name: list(values) for name, values in given.items() if values}
    for each in where:
        name, sign, value = each.partition("=")
        if not sign:
            raise click.BadParameter(f"{each!r} is no condition: write --where tag:plan=pro")
        found.setdefault(_dimension(name.strip()), []).append(value)
    return found


def _time(
    month: str | None, week: str | None, day: str | None, since: str | None, until: str | None, timezone: str
) -> tuple[int, int, tuple[int, int]]:
    said: dict[Period, str | None] = {"month": month, "week": week, "day": day}
    named = [(period, text) for period, text in said.items() if text is not None]
    typed = [f"--{period}" for period, _ in named]
    typed += [f"--{name}" for name, value in (("since", since), ("until", until)) if value is not None]
    if named and len(typed) > 1:
        raise click.UsageError(f"{' and '.join(typed)} contradict each other: give one of them")
    try:
        zone = zones.zone(periods.known_zone(timezone))
        if named:
            period, text = named[0]
            found = periods.parse(period, text, timezone)
            earlier = found.before()
            return found.since_ns, found.until_ns, (earlier.since_ns, earlier.until_ns)
    except (NoPeriod, NoZone) as problem:
        raise click.BadParameter(str(problem)) from problem
    start = options.since(since or _DEFAULT_SINCE, zone)
    end = time.time_ns() if until is None else options.since(until, zone)
    if end <= start:
        raise click.UsageError(f"--until {until} is not after --since {since or _DEFAULT_SINCE}: exchange them")
    return start, end, (max(2 * start - end, 0), start)


def usd_exact(nano: int) -> str:
    """All nine digits, for machines: `0.001234500`."""
    return f"{Decimal(nano) / _NANO:.9f}"


def show(form: str, rows: Sequence[Any], sheet: Callable[[], Table], table: Callable[[], RichTable]) -> None:
    """Print rows in a format; `sheet` has the exact values, `table` is for people."""
    match form:
        case "json":
            render.print_json(rows)
        case "csv":
            made = sheet()
            click.echo(csv_text([made.header, *made.rows]), nl=False)
        case "markdown":
            click.echo(markdown_table(sheet()))
        case _:
            render.console().print(table())


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """RFC 4180, with line feeds."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()


def sheet_of(rows: Sequence[Any], by: Sequence[str]) -> Table:
    """Groups, then every plain field of the rows; money as USD with all digits."""
    # What nobody asked for is in no row.
    fields = [
        name
        for name in (asdict(rows[0]) if rows else ())
        if not any(isinstance(getattr(row, name), dict) for row in rows)
        and not (name in ("failed_calls", "failed_nano", "nano") and getattr(rows[0], name) is None)
    ]
    header = [*by, *(f"{name.removesuffix('_nano')}_usd" if name.endswith("_nano") else name for name in fields)]
    lines = [[*(row.group[name] for name in by), *(_cell(name, getattr(row, name)) for name in fields)] for row in rows]
    return Table(header, lines, frozenset(range(len(by), len(header))))


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    return usd_exact(value) if name.endswith("_nano") and isinstance(value, int) else str(value)
