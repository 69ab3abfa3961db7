"""`graphmeter dashboards`: graphmeter.yaml in, Grafana dashboards out."""

from __future__ import annotations

from pathlib import Path

import click

from graphmeter_cli.configuration import configured
from graphmeter_config import Config
from graphmeter_dashboards import write


@click.group("dashboards", short_help="Build Grafana dashboards.")
def command() -> None:
    """Build Grafana dashboards."""


@command.command("build", short_help="Write dashboard files.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into.")
@click.option(
    "--team",
    "teams",
    multiple=True,
    metavar="NAME",
    help="A dashboard of this team's own, too; may be repeated. Teams that budgets or SLOs name have theirs anyway.",
)
@configured
def build(*, out: Path, teams: tuple[str, ...], config: Config) -> None:
    """Write Grafana dashboards as JSON, ready for provisioning or import.

    \b
    Examples:
      graphmeter dashboards build --out dashboards/generated
      graphmeter dashboards build --out /var/lib/grafana/dashboards --config /etc/graphmeter/graphmeter.yaml
      graphmeter dashboards build --out dashboards --team cx --team growth
    """
    if "" in teams:
        raise click.BadParameter("a team has a name", param_hint="--team")
    try:
        written = write(config, out, teams)
    except OSError as problem:
        raise click.ClickException(f"cannot write to {out}: {problem.strerror}") from problem
    for path in written:
        click.echo(path)
