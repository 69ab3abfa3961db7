"""Which graphmeter.yaml a command means, loaded; a faulty one ends as its list of errors, exit code 1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from graphmeter_config import Config, ConfigError, Problem, load

_Function = TypeVar("_Function", bound=Callable[..., Any])

DEFAULT_PATH = Path("graphmeter.yaml")


def chosen(path: Path | None) -> Path | None:
    """The file asked for, else ./graphmeter.yaml if it exists, else None: the defaults."""
    if path is not None:
        return path
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


def load_or_fail(path: Path | None, warn: Callable[[Problem], object] | None = None) -> Config:
    """Load a file (None: the defaults); see `graphmeter_config.load` for `warn`.

    Raises:
        click.ClickException: the file cannot be read or says something impossible; the message lists every fault.
    """
    try:
        return load(path, warn=warn)
    except ConfigError as problem:
        raise click.ClickException(str(problem)) from problem


def configured(function: _Function) -> _Function:
    """Add --config and --defaults to a command; it receives the loaded `config`."""
    return _configured(function, None)


def configured_for_prometheus(function: _Function) -> _Function:
    """The same, for what Prometheus will evaluate: what it cannot hold is said."""
    return _configured(function, say_warning)


def say_warning(warning: Problem) -> None:
    """Print it on stderr."""
    click.echo(f"warning: {warning}", err=True)


def _configured(function: _Function, warn: Callable[[Problem], object] | None) -> _Function:
    @click.option(
        "--config",
        "path",
        type=click.Path(path_type=Path),
        envvar="GRAPHMETER_CONFIG",
        metavar="FILE",
        help="graphmeter.yaml to use. [env: GRAPHMETER_CONFIG; default: ./graphmeter.yaml if it exists]",
    )
    @click.option("--defaults", is_flag=True, help="Use the built-in defaults, whatever ./graphmeter.yaml says.")
    @functools.wraps(function)
    def with_config(*, path: Path | None, defaults: bool, **rest: Any) -> Any:
        return function(config=load_or_fail(None if defaults else chosen(path), warn), **rest)

    return with_config  # type: ignore[return-value]
