"""`graphmeter stack`: flags in; collector, Prometheus and Alertmanager run until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from graphmeter_cli import render
from graphmeter_cli.configuration import chosen, load_or_fail, say_warning
from graphmeter_cli.stack import tools
from graphmeter_cli.stack.run import Plan, Port, stack
from graphmeter_collector.settings import DEFAULT_PORT, default_data_dir

_PORT = click.IntRange(0, 65535)


@click.command("stack", short_help="Run collector, Prometheus and Alertmanager together, without Docker.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="GRAPHMETER_DATA_DIR",
    help="Folder for everything that is kept.  [default: where `graphmeter serve` keeps its database]",
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="GRAPHMETER_CONFIG",
    metavar="FILE",
    help="graphmeter.yaml to use. [env: GRAPHMETER_CONFIG; default: ./graphmeter.yaml if it exists]",
)
@click.option(
    "--database-url",
    envvar="GRAPHMETER_DATABASE_URL",
    default="",
    metavar="URL",
    help="postgresql://… or sqlite:///…  [default: a file in --data-dir]",
)
@click.option(
    "--forward", multiple=True, metavar="URL", help="OTLP/HTTP backend to send every span on to, such as a Jaeger."
)
@click.option("--port", type=_PORT, default=DEFAULT_PORT, show_default=True, help="Port of the collector.")
@click.option("--prometheus-port", type=_PORT, default=9090, show_default=True, help="Port of Prometheus.")
@click.option("--alertmanager-port", type=_PORT, default=9093, show_default=True, help="Port of Alertmanager.")
@click.option("--prometheus", "prometheus_named", default="", metavar="PROGRAM", help="Prometheus, if not on PATH.")
@click.option("--alertmanager", "alertmanager_named", default="", metavar="PROGRAM", help="Alertmanager, likewise.")
def command(
    *,
    data_dir: Path | None,
    path: Path | None,
    database_url: str,
    forward: tuple[str, ...],
    port: int,
    prometheus_port: int,
    alertmanager_port: int,
    prometheus_named: str,
    alertmanager_named: str,
) -> None:
    """Run collector, Prometheus and Alertmanager together, without Docker.

    Prometheus evaluates the rules of graphmeter.yaml and tells Alertmanager; both are started if they are found, and the
    command says how to get what is missing. Everything listens on 127.0.0.1 and keeps its data in one folder. A default
    port that is busy is replaced, and named; one that was asked for is an error; 0 takes any. Ctrl-C ends everything.

    \b
    Examples:
      graphmeter stack
      graphmeter stack --config graphmeter.yaml --data-dir ./data
      graphmeter stack --prometheus ~/prometheus-3.5.0/prometheus --alertmanager ~/alertmanager-0.28.1/alertmanager
    """
    used = chosen(path)
    plan = Plan(
        data_dir=data_dir or default_data_dir(),
        config=load_or_fail(used, say_warning),
        config_path=used,
        database_url=database_url,
        forward=forward,
        collector=_port("port", port),
        prometheus=_port("prometheus_port", prometheus_port),
        alertmanager=_port("alertmanager_port", alertmanager_port),
        prometheus_binary=tools.find(tools.PROMETHEUS, prometheus_named, "--prometheus"),
        alertmanager_binary=tools.find(tools.ALERTMANAGER, alertmanager_named, "--alertmanager"),
    )
    try:
        stack(plan, render.console())
    except OSError as problem:
        raise click.ClickException(f"cannot use {plan.data_dir}: {problem.strerror}") from problem


def _port(name: str, number: int) -> Port:
    source = click.get_current_context().get_parameter_source(name)
    return Port(number, source is not ParameterSource.DEFAULT, f"--{name.replace('_', '-')}")
