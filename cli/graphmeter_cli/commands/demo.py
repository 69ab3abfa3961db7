"""`graphmeter demo`: flags in, the demo runs; exit code 0 only if what was stored equals what was run."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from graphmeter_cli import render
from graphmeter_cli.demo.run import Plan, demo
from graphmeter_examples.models import model_from_environment

FROM_KEY = "from-key"


@click.command("demo", short_help="Run the example graphs through a real collector and show what was measured.")
@click.option("--once", is_flag=True, help="Exit after the summary: 0 if what was stored equals what was run, else 1.")
@click.option("--loop", is_flag=True, help="Run the workload again and again, as load, until Ctrl-C; no summary.")
@click.option("--runs", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Graph runs to make.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=7, show_default=True, help="What happens in them.")
@click.option("--port", type=click.IntRange(0, 65535), default=4318, show_default=True, help="Another if it is busy.")
@click.option("--endpoint", default="", metavar="URL", help="Use a collector that runs already: http://host:4318.")
@click.option(
    "--database-url", default="", metavar="URL", help="Store here, postgresql://…; default: a temporary file."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Keep the SQLite database in this folder.")
@click.option("--forward", multiple=True, metavar="URL", help="Also send every span on to this OTLP/HTTP backend.")
@click.option(
    "--provider",
    default="",
    metavar="MODEL",
    help=f"Ask a real model: openai:gpt-4o-mini, or `{FROM_KEY}` for the one whose key is in the environment. Costs money.",
)
def command(
    *,
    once: bool,
    loop: bool,
    runs: int,
    seed: int,
    port: int,
    endpoint: str,
    database_url: str,
    data_dir: Path | None,
    forward: tuple[str, ...],
    provider: str,
) -> None:
    """Run the example graphs through a real collector and show what was measured.

    Starts a collector on an embedded database, drives four LangGraph applications through it, and prints latency and
    spend per node, spend per model and team, a trace, an SLO and a budget. Then it compares what was stored with what
    was run, to the token and the nano-USD, and stays up until Ctrl-C. Only the chat model is a stand-in.

    \b
    Examples:
      graphmeter demo
      graphmeter demo --once --runs 60
      graphmeter demo --forward http://localhost:14318
      graphmeter demo --endpoint http://collector:4318 --loop
    """
    if once and loop:
        raise click.UsageError("--once and --loop contradict each other: give one of them")
    if endpoint and (database_url or data_dir or forward):
        raise click.UsageError(
            "--endpoint uses a collector with a database and destinations of its own: leave out the others"
        )
    plan = Plan(
        runs=runs,
        seed=seed,
        model=_model(provider),
        port=port,
        endpoint=endpoint,
        database_url=database_url,
        data_dir=data_dir,
        forward=forward,
        once=once,
        loop=loop,
    )
    # As Ctrl-C: the collector we started must not outlive us.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(0 if demo(plan, render.console()) else 1)


def _model(provider: str) -> str:
    if provider != FROM_KEY:
        return provider
    if not (model := model_from_environment()):
        raise click.UsageError(f"--provider {FROM_KEY}: set OPENAI_API_KEY, ANTHROPIC_API_KEY or GOOGLE_API_KEY")
    return model


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
