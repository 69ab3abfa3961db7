"""`graphmeter config`: graphmeter.yaml in, its faults or its meaning out."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import yaml

from graphmeter_cli import render
from graphmeter_cli.configuration import DEFAULT_PATH, chosen, load_or_fail
from graphmeter_cli.units import plural
from graphmeter_config import Config, ConfigError, load


@click.group("config", short_help="Check and show graphmeter.yaml.")
def command() -> None:
    """Check and show graphmeter.yaml."""


@command.command("check", short_help="Check a configuration.")
@click.argument("path", type=click.Path(path_type=Path), default=DEFAULT_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(*, path: Path, as_json: bool) -> None:
    """Check PATH (./graphmeter.yaml) and the files of its .d folder.

    Prints a summary, or every fault with file, line, field, value and remedy; exit code 1 if there is one.

    \b
    Examples:
      graphmeter config check
      graphmeter config check deploy/graphmeter.yaml --json
    """
    try:
        config = load(path)
    except ConfigError as problem:
        if as_json:
            render.print_json({"ok": False, "problems": problem.problems})
        else:
            click.echo(problem, err=True)
        sys.exit(1)
    if as_json:
        render.print_json({"ok": True, "problems": [], "hash": config.hash})
    else:
        click.echo(f"OK {path}: {_summary(config)}")


@command.command("show", short_help="Show the configuration in force.")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def show(*, path: Path | None, as_json: bool) -> None:
    """Show what is in force with PATH (./graphmeter.yaml if it exists): every setting, defaults included.

    Durations are in seconds; secrets are hidden.

    \b
    Examples:
      graphmeter config show
      graphmeter config show deploy/graphmeter.yaml --json
    """
    shown = load_or_fail(chosen(path)).shown()
    if as_json:
        render.print_json(shown)
    else:
        click.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip())


def _summary(config: Config) -> str:
    parts = [
        plural(len(config.slos), "SLO"),
        plural(len(config.budgets), "budget"),
        *([plural(len(config.prices.overrides), "price")] if config.prices.overrides else []),
        plural(len(config.forward.destinations), "forward destination"),
    ]
    return f"{', '.join(parts)}; hash {config.hash}"
