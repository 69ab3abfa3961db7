"""`graphmeter serve`: flags in, collector settings out, and the collector runs until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from graphmeter_cli.process import settings_from
from graphmeter_collector.errors import CollectorError
from graphmeter_config import ConfigError


@click.command("serve", short_help="Run the collector.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port for OTLP/HTTP, API and metrics.  [default: 4318]")
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    help="Port for OTLP/gRPC.  [default: 4317, if --port is left at its default, too]",
)
@click.option("--no-grpc", is_flag=True, default=None, help="Do not listen for OTLP/gRPC.")
@click.option("--database-url", metavar="URL", help="postgresql://… or sqlite:///…  [default: a file in --data-dir]")
@click.option("--config", metavar="FILE", help="graphmeter.yaml to use.  [default: ./graphmeter.yaml if it exists]")
@click.option(
    "--forward", multiple=True, metavar="URL", help="OTLP/HTTP backend to send every span on to; may be repeated."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the embedded SQLite database.")
@click.option(
    "--spool-dir",
    type=click.Path(path_type=Path),
    help="Folder for requests that wait while Postgres is away.  [default: spool in --data-dir]",
)
@click.option("--allow-anonymous", is_flag=True, default=None, help="Take requests without an API key from everywhere.")
@click.option("--open-metrics", is_flag=True, default=None, help="/metrics needs no API key.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="A further port for /metrics, /health and /ready alone, on every address and without keys.",
)
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), help="[default: auto]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
def command(**flags: Any) -> None:
    """Run the collector: OTLP/HTTP and OTLP/gRPC in; database, metrics, API and forwarded traces out.

    Every flag can also be set as GRAPHMETER_<FLAG> in the environment: GRAPHMETER_DATABASE_URL. Stops cleanly on
    SIGTERM and Ctrl-C; nothing acknowledged is lost.

    \b
    Examples:
      graphmeter serve
      graphmeter serve --forward http://localhost:14318
      graphmeter serve --host 0.0.0.0 --database-url postgresql://graphmeter@db/graphmeter    # once it has API keys
    """
    settings = settings_from(flags)
    # Heavy, and of no use to `--help` or to a flag that is wrong.
    from graphmeter_collector.serving import serve

    try:
        serve(settings)
    except (CollectorError, ConfigError) as problem:
        raise click.ClickException(str(problem)) from problem
