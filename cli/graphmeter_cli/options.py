"""Values as people type them on the command line: money, durations, moments, months, and where to read from.

Each function turns text into the integers of `reports` (nano-USD, ns) or fails with one sentence (exit code 2).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from graphmeter import names
from graphmeter_cli.units import NS_PER_S
from graphmeter_config.values import duration_ms

_Function = TypeVar("_Function", bound=Callable[..., Any])


def usd(text: str) -> int:
    """`0.05` or `$0.05` → nano-USD."""
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise click.BadParameter(f"{text!r} is not an amount in USD: write 0.05")
    return int(amount * names.NANO_PER_USD)


def duration(text: str) -> int:
    """`500ms`, `2s`, `24h`, `30d`, as graphmeter.yaml writes durations → ns."""
    try:
        return duration_ms(text.strip()) * 1_000_000
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a duration: write 500ms, 2s, 15m, 24h or 30d") from None


def since(text: str, zone: tzinfo = UTC) -> int:
    """`24h` (ago), `2026-11-01` or `2026-11-01T12:00` (of the time zone unless it names an offset) → ns since the epoch."""
    try:
        return max(time.time_ns() - duration(text), 0)
    except click.BadParameter:
        pass  # a date, then
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a duration nor a date: write 24h, 7d or 2026-11-01") from None
    return max(_ns(moment if moment.tzinfo else moment.replace(tzinfo=zone)), 0)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * NS_PER_S


@dataclass(frozen=True, slots=True)
class Source:
    """Where a report reads: a collector's HTTP API if `url` is set, else a database."""

    url: str = ""
    database_url: str = ""
    """SQLAlchemy URL; empty means the SQLite file in `data_dir`."""
    data_dir: Path | None = None
    """None means the collector's default."""
    api_key: str = field(default="", repr=False)
    """For `url`: a key that may read."""


def reads_reports(function: _Function) -> _Function:
    """Add --url, --api-key, --database-url, --data-dir and --json to a command.

    It receives `source: Source` and `as_json: bool`.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
    @click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="GRAPHMETER_DATA_DIR",
        help="Folder of the embedded SQLite database. [env: GRAPHMETER_DATA_DIR]",
    )
    @click.option(
        "--database-url",
        envvar="GRAPHMETER_DATABASE_URL",
        metavar="URL",
        help="Database to read, postgresql://… or sqlite:///…. [env: GRAPHMETER_DATABASE_URL]",
    )
    @click.option(
        "--url",
        envvar="GRAPHMETER_URL",
        metavar="URL",
        help="Collector to ask over HTTP, http://host:4318. [env: GRAPHMETER_URL]",
    )
    @api_key_option("Key to show to the collector, one that may read.")
    @functools.wraps(function)
    def with_source(
        *, url: str | None, database_url: str | None, data_dir: Path | None, api_key: str, as_json: bool, **rest: Any
    ) -> Any:
        source = _choose(click.get_current_context(), url or "", database_url or "", data_dir, api_key)
        return function(source=source, as_json=as_json, **rest)

    return with_source  # type: ignore[return-value]


def api_key_option(says: str) -> Callable[[_Function], _Function]:
    """--api-key, better given as GRAPHMETER_API_KEY: command lines are seen by everybody on the machine."""
    return click.option(
        "--api-key", envvar="GRAPHMETER_API_KEY", default="", metavar="KEY", help=f"{says} [env: GRAPHMETER_API_KEY]"
    )


def _choose(ctx: click.Context, url: str, database_url: str, data_dir: Path | None, api_key: str) -> Source:
    """What was typed beats the environment; typing a collector and a database at once is a contradiction."""
    typed = {
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and ctx.params[name]
    }
    database_typed = typed & {"database_url", "data_dir"}
    if "url" in typed and database_typed:
        raise click.UsageError(
            "--url asks a collector, --database-url and --data-dir read a database: give one of them"
        )
    if url and not database_typed:
        return Source(url=url.rstrip("/"), api_key=api_key.strip())
    if "data_dir" in typed and "database_url" not in typed:
        database_url = ""
    return Source(database_url=database_url, data_dir=data_dir)
