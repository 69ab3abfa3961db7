"""The command line as a user runs it, in this process, with its output and exit code."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from graphmeter_cli.group import graphmeter


def run(*arguments: str) -> Result:
    """Run `graphmeter` with these arguments. A traceback of ours ends the test."""
    return CliRunner(catch_exceptions=False).invoke(graphmeter, list(arguments), prog_name="graphmeter")


def json_of(*arguments: str) -> Any:
    """What a command prints with --json."""
    result = run(*arguments, "--json")
    assert (0, "") == (result.exit_code, result.stderr), result.output
    return json.loads(result.stdout)


def failure(code: int, *arguments: str) -> str:
    """The sentence of a command that fails with this exit code and prints nothing else."""
    result = run(*arguments)
    assert (code, "") == (result.exit_code, result.stdout)
    sentence = result.stderr.rpartition("\nError: ")[2] if code == 2 else result.stderr.removeprefix("Error: ")
    assert "Traceback" not in sentence
    return sentence.strip()
