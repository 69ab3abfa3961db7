"""`graphmeter config`: graphmeter.yaml in, its faults or its meaning out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import click
import yaml

from graphmeter import names
from graphmeter_cli import render
from graphmeter_cli.configuration import DEFAULT_PATH, chosen, load_or_fail, say_warning
from graphmeter_cli.options import Source, reads_reports
from graphmeter_cli.reading import ask
from graphmeter_cli.units import NS_PER_S, plural
from graphmeter_config import Config, ConfigError, Problem, load

_OF_ALL: Final = ("service", "environment", "graph", "team")
_SOMEBODYS: Final = ("graph", "team", "node")
_SEEN_FOR_NS: Final = 30 * 86_400 * NS_PER_S


@click.group("config", short_help="Check and show graphmeter.yaml.")
def command() -> None:
    """Check and show graphmeter.yaml."""


@command.command("check", short_help="Check a configuration.")
@click.argument("path", type=click.Path(path_type=Path), default=DEFAULT_PATH)
@click.option(
    "--seen",
    "ask_seen",
    is_flag=True,
    help="SLOs and budgets must select what was measured in the last 30 days; reads a database.",
)
@reads_reports
def check(*, path: Path, ask_seen: bool, source: Source, as_json: bool) -> None:
    """Check PATH (./graphmeter.yaml) and the files of its .d folder.

    Prints a summary, or every fault with file, line, field, value and remedy; exit code 1 if there is one. What can be used
    but does less than it says, such as an SLO window that Prometheus cannot hold, is a warning. With --seen, it
    is a fault that an SLO or a budget names a graph (node, tool, model, team …) that a database or a collector (--url) does
    not know.

    \b
    Examples:
      graphmeter config check
      graphmeter config check deploy/graphmeter.yaml --json
      graphmeter config check --seen --url http://collector:4318
    """
    warnings: list[Problem] = []
    try:
        config = load(path, _seen(source) if ask_seen else None, warnings.append)
    except ConfigError as problem:
        if as_json:
            render.print_json({"ok": False, "problems": problem.problems})
        else:
            click.echo(problem, err=True)
        sys.exit(1)
    if as_json:
        render.print_json({"ok": True, "problems": [], "warnings": warnings, "hash": config.hash})
    else:
        for warning in warnings:
            say_warning(warning)
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


def _seen(source: Source) -> dict[str, set[str]]:
    """Values of the last 30 days by dimension, as metrics show them."""
    found: dict[str, set[str]] = {name: set() for name in (*_OF_ALL, "node", "tool", "retriever", "provider", "model")}
    for one in ask(source, lambda reader: reader.series(time.time_ns() - _SEEN_FOR_NS)):
        said = {name: getattr(one, name) for name in _OF_ALL}
        match one.kind:
            case names.NODE:
                said |= {"node": one.node}
            case names.TOOL:
                said |= {"node": one.node, "tool": one.model}
            case names.RETRIEVER:
                said |= {"node": one.node, "retriever": one.model}
            case names.MODEL:
                said |= {"node": one.node, "provider": one.provider, "model": one.model}
        for name, value in said.items():
            found[name].add(value or (names.UNATTRIBUTED if name in _SOMEBODYS else ""))
    return {name: values - {""} for name, values in found.items()}


def _summary(config: Config) -> str:
    parts = [
        plural(len(config.slos), "SLO"),
        plural(len(config.budgets), "budget"),
        *([plural(len(config.prices.overrides), "price")] if config.prices.overrides else []),
        plural(len(config.forward.destinations), "forward destination"),
    ]
    return f"{', '.join(parts)}; hash {config.hash}"
