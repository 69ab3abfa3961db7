"""Every command explains itself, and the documentation knows all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from graphmeter_cli.group import SUBCOMMANDS, graphmeter

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(command: click.Command = graphmeter, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command, groups included."""
    if path:
        yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


def command_at(path: tuple[str, ...]) -> click.Command:
    command: click.Command | None = graphmeter
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    return command


def section(name: str) -> str:
    """The part of the documentation about a top-level command."""
    _, found, rest = DOCUMENTATION.read_text().partition(f"\n## {name}\n")
    assert found, f"docs/cli.md has no section on {name}"
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_with_examples(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(graphmeter, [*path, "--help"])

    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert (
        isinstance(command_at(path), click.Group)
        or f"graphmeter {' '.join(path)}" in result.output.partition("Examples:")[2]
    )


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_option_has_help_and_is_documented(path: tuple[str, ...]) -> None:
    documented = section(path[0])

    for parameter in command_at(path).params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert f"`{parameter.opts[0]}" in documented, f"{parameter.opts[0]} is not in docs/cli.md"


def test_the_documentation_lists_every_command_and_no_other() -> None:
    listed = re.findall(r"^\| \[`(\w+)`\]\(#\1\)", DOCUMENTATION.read_text(), re.MULTILINE)

    assert list(SUBCOMMANDS) == listed


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_summary_in_the_group_is_that_of_the_command(name: str) -> None:
    assert SUBCOMMANDS[name] == command_at((name,)).short_help


def test_the_help_of_the_group_names_every_command() -> None:
    output = CliRunner().invoke(graphmeter, ["--help"]).output

    assert all(f"\n  {name} " in output for name in SUBCOMMANDS)
