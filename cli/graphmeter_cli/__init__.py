"""The `graphmeter` command: thin, one file per subcommand; what it does lives in the other packages.

`main` is what the console script calls. It works on a base install too: a command whose extra is missing answers with
the line that installs it, and `graphmeter --help` never imports what a subcommand needs.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

__all__ = ["EXTRAS", "main"]

EXTRAS = {"rules": "alerts", "alerts": "alerts", "dashboards": "dashboards", "demo": "all", "stack": "alerts,collector"}
"""The extra a subcommand needs, where it is not `collector`."""

CYCLES: Final = (50_000, 20, 50)
"""Thresholds of Python's collector of cycles for a command. Loading modules makes half a million objects that stay: with
Python's own it looks through them again and again, a tenth of the time that a command or a collector takes to start."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed or found wanting, 2 called wrongly."""
    gc.set_threshold(*CYCLES)
    # A name that the terminal cannot spell must not end a report half-way.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        from graphmeter_cli.group import graphmeter

        graphmeter(prog_name="graphmeter")
    except ModuleNotFoundError as missing:
        module = _module(missing)
        if not module or module.startswith("graphmeter"):
            raise  # a broken install, not a missing extra
        sys.exit(_how_to_install(module, sys.argv[1:]))


def _module(missing: BaseException | None) -> str:
    """The module that was not found, also where a package of ours has said so in words of its own."""
    while isinstance(missing, ModuleNotFoundError):
        if missing.name:
            return missing.name
        missing = missing.__cause__
    return ""


def _how_to_install(module: str, arguments: list[str]) -> str:
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    extra = EXTRAS.get(command, "collector")
    called = f"graphmeter {command}".rstrip()
    return f"`{called}` needs {module.partition('.')[0]}, which is not installed: pip install 'graphmeter[{extra}]'"
