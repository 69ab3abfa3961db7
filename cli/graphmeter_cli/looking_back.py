"""`graphmeter rules simulate`: a configuration and what is stored in, the alerts that would have fired out."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime

import click

from graphmeter_alerts import rulefiles
from graphmeter_alerts.simulate import Stored, simulate, why_not
from graphmeter_alerts.would import Would
from graphmeter_cli.configuration import configured
from graphmeter_cli.options import Source, reads_reports, since
from graphmeter_cli.units import NS_PER_S, plural
from graphmeter_config import Config
from graphmeter_config.values import duration_text


@click.command("simulate", short_help="What would have fired on what is stored?")
@click.option("--since", "since_text", default="30d", show_default=True, metavar="WHEN", help="`30d` ago, or a date.")
@configured
@reads_reports
def command(*, config: Config, source: Source, as_json: bool, since_text: str) -> None:
    """Judge what is stored by graphmeter.yaml, and say which alerts would have fired, and when.

    Burn rates of SLOs and of budgets, plain thresholds and limits of providers by the minute; anomalies every five minutes;
    thresholds and forecasts of budgets, and spend without a team, by the quarter of an hour. Other alerts are named with
    the reason why they are not judged. Nothing is sent or stored.

    \b
    Examples:
      graphmeter rules simulate --since 30d
      graphmeter rules simulate --config stricter.yaml --since 2026-11-01 --json
    """
    from graphmeter_cli import render

    if source.url:
        raise click.UsageError(
            "events are read from the database: leave --url (GRAPHMETER_URL) out, or give --database-url"
        )
    since_ns, until_ns = since(since_text), time.time_ns()
    if since_ns >= until_ns:
        raise click.BadParameter(
            f"{since_text!r} is yet to come: write 30d, or a date before now", param_hint="--since"
        )
    begins_ns, looked_at = _stored(config, source, since_ns, until_ns)
    found = simulate(config, looked_at, begins_ns, until_ns)
    alerts = list(dict.fromkeys(rule.name for rule in rulefiles.of_config(config) if rule.kind == "alert"))
    left_out = {alert: why for alert in alerts if (why := why_not(alert))}
    if as_json:
        render.print_json({"since_ns": begins_ns, "fired": [asdict(one) for one in found], "not_simulated": left_out})
        return
    table = render.table("alert", "of", "severity", "from (UTC)", "for>")
    for one in found:
        table.add_row(one.alert, render.plain(one.about), one.severity, _moment(one.since_ns), _length(one, until_ns))
    if found:
        render.console().print(table)
    before = ": nothing is stored from before" if begins_ns > since_ns else ""
    click.echo(f"{plural(len(found), 'alert')} since {_moment(begins_ns)} UTC{before}")
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for alert, why in left_out.items():
        reasons[why].append(alert)
    for why, named in reasons.items():
        click.echo(f"Not simulated: {', '.join(named)}: {why}.")


def _moment(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M}"


def _length(one: Would, until_ns: int) -> str:
    if one.until_ns is None:
        return f"{duration_text((until_ns - one.since_ns) // NS_PER_S // 60 * 60)}, still"
    return duration_text((one.until_ns - one.since_ns) // NS_PER_S)


def _stored(config: Config, source: Source, since_ns: int, until_ns: int) -> tuple[int, Stored]:
    """What is looked at, and from when on."""
    from graphmeter_cli import reading, stored
    from graphmeter_collector.errors import CollectorError
    from graphmeter_collector.store.measured import first_event_ns
    from graphmeter_collector.store.read import open_reader

    async def read() -> tuple[int, Stored]:
        async with open_reader(reading.database(source)) as reader:
            # Years of nothing would be judged minute by minute.
            begins_ns = max(since_ns, await first_event_ns(reader) or until_ns)
            return begins_ns, await stored.read(reader, config, begins_ns, until_ns)

    try:
        return asyncio.run(read())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem
