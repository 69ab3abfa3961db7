"""`graphmeter dashboards`: graphmeter.yaml in, Grafana dashboards out; and what they would show, asked of real servers."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import click

from graphmeter_cli.asked import database, print_answers
from graphmeter_cli.configuration import configured
from graphmeter_cli.options import duration
from graphmeter_cli.units import NS_PER_S
from graphmeter_config import Config
from graphmeter_dashboards import write
from graphmeter_dashboards.ask import Prometheus, ask
from graphmeter_dashboards.build import dashboards
from graphmeter_dashboards.check import TimeRange


@click.group("dashboards", short_help="Build and check Grafana dashboards.")
def command() -> None:
    """Build Grafana dashboards, and ask what they ask."""


_of_teams = click.option(
    "--team",
    "teams",
    multiple=True,
    metavar="NAME",
    callback=lambda ctx, option, value: _named(value),
    help="A dashboard of this team's own, too; may be repeated. Teams that budgets or SLOs name have theirs anyway.",
)


def _named(teams: tuple[str, ...]) -> tuple[str, ...]:
    if "" in teams:
        raise click.BadParameter("a team has a name")
    return teams


@command.command("build", short_help="Write dashboard files.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into.")
@_of_teams
@configured
def build(*, out: Path, teams: tuple[str, ...], config: Config) -> None:
    """Write Grafana dashboards as JSON, ready for provisioning or import.

    \b
    Examples:
      graphmeter dashboards build --out dashboards/generated
      graphmeter dashboards build --out /var/lib/grafana/dashboards --config /etc/graphmeter/graphmeter.yaml
      graphmeter dashboards build --out dashboards --team cx --team growth
    """
    try:
        written = write(config, out, teams)
    except OSError as problem:
        raise click.ClickException(f"cannot write to {out}: {problem.strerror}") from problem
    for path in written:
        click.echo(path)


@command.command("check", short_help="Ask everything that the dashboards ask.")
@click.option(
    "--prometheus", "prometheus_url", metavar="URL", help="Prometheus with the collector's metrics and the rules."
)
@click.option(
    "--database-url",
    envvar="GRAPHMETER_DATABASE_URL",
    metavar="URL",
    help="postgresql://… of the collector. Left out, panels on it are not asked. [env: GRAPHMETER_DATABASE_URL]",
)
@click.option(
    "--since", "since_ns", default="1h", show_default=True, type=duration, help="How far the time range goes back."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_of_teams
@configured
def check(
    *,
    prometheus_url: str | None,
    database_url: str | None,
    since_ns: int,
    as_json: bool,
    teams: tuple[str, ...],
    config: Config,
) -> None:
    """Ask every question of every panel, annotation and variable, and print each with its answer.

    Ends with 1 if one was refused; no data is no fault.

    \b
    Examples:
      graphmeter dashboards check --prometheus http://localhost:9090
      graphmeter dashboards check --prometheus http://localhost:9090 --database-url postgresql://graphmeter@localhost/graphmeter
    """
    if not prometheus_url and not database_url:
        raise click.UsageError("nobody to ask: give --prometheus, --database-url or both")
    time_range = TimeRange.last(since_ns / NS_PER_S)
    prometheus = Prometheus(prometheus_url) if prometheus_url else None
    with database(database_url) if database_url else nullcontext() as sql:
        answers = {
            dashboard["title"]: list(ask(dashboard, prometheus, sql, time_range))
            for dashboard in dashboards(config, teams)
        }
    if as_json:
        click.echo(json.dumps({page: [each._asdict() for each in of] for page, of in answers.items()}, indent=2))
    else:
        print_answers(answers)
    if any(each.fault for of in answers.values() for each in of):
        raise click.exceptions.Exit(1)
