"""Flags of `serve` and `migrate` in, the collector's settings out; a bad value ends as a sentence naming its flag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from pydantic import ValidationError

from graphmeter_collector.settings import Settings

_NO_FLAG = frozenset({"api_keys", "api_keys_file"})


def settings_from(flags: Mapping[str, Any]) -> Settings:
    """Settings from the flags that were given; the environment and the defaults say the rest.

    Raises:
        click.UsageError: a value is impossible. Values are never repeated: a database URL holds a password.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None and value != ()})
    except ValidationError as problem:
        raise click.UsageError("\n".join(_sentence(error["loc"], error["msg"]) for error in problem.errors())) from None


def _sentence(where: tuple[int | str, ...], message: str) -> str:
    name = str(where[0]) if where else "settings"
    flag, variable = f"--{name.replace('_', '-')}", f"GRAPHMETER_{name.upper()}"
    said = message.removeprefix("Value error, ")
    # Secrets have no flag: command lines are seen by everybody on the machine.
    return f"{variable}: {said}" if name in _NO_FLAG else f"{flag} (or {variable}): {said}"
