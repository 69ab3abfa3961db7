"""`graphmeter rules`: graphmeter.yaml in, Prometheus rules out."""

from __future__ import annotations

from pathlib import Path

import click

from graphmeter_alerts import write
from graphmeter_cli.configuration import configured
from graphmeter_config import Config


@click.group("rules", short_help="Build Prometheus rules from graphmeter.yaml.")
def command() -> None:
    """Build Prometheus rules from graphmeter.yaml."""


@command.command("build", short_help="Write rule files.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into.")
@configured
def build(*, out: Path, config: Config) -> None:
    """Write burn-rate alerts for every SLO, alerts for every budget, and alerts about the collector itself.

    \b
    Examples:
      graphmeter rules build --out alerts/generated
      graphmeter rules build --out /etc/prometheus/rules --config /etc/graphmeter/graphmeter.yaml
    """
    try:
        written = write(config, out)
    except OSError as problem:
        raise click.ClickException(f"cannot write to {out}: {problem.strerror}") from problem
    for path in written:
        click.echo(path)
