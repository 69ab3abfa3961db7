"""`graphmeter doctor`: a collector's address in, a list of checks out, each failed one with its remedy."""

from __future__ import annotations

import asyncio
import sys

import click
from rich.text import Text

from graphmeter import names
from graphmeter_cli import render
from graphmeter_cli.doctor.checks import Check, examine
from graphmeter_cli.options import api_key_option


@click.command("doctor", short_help="Send one run to a collector and read it back.")
@click.option(
    "--endpoint",
    default="http://localhost:4318",
    show_default=True,
    envvar=["GRAPHMETER_ENDPOINT", "GRAPHMETER_URL"],
    metavar="URL",
    help="Collector to examine. [env: GRAPHMETER_ENDPOINT]",
)
@api_key_option("Key to show to the collector, one that may ingest and read.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, endpoint: str, api_key: str, as_json: bool) -> None:
    """Examine a collector: is it alive and ready, of this version, with the right time, and does a run arrive?

    Sends one real run (graph `doctor`, service `graphmeter-doctor`, no model call, no cost) and reads it back through
    the API. Exit code 0 when everything is well, else 1; what is not comes with its remedy.

    \b
    Examples:
      graphmeter doctor
      graphmeter doctor --endpoint http://collector:4318
    """
    checks = asyncio.run(_collect(endpoint.rstrip("/"), api_key.strip(), quiet=as_json))
    if as_json:
        render.print_json(checks)
    sys.exit(0 if all(check.ok for check in checks) else 1)


async def _collect(url: str, api_key: str, *, quiet: bool) -> list[Check]:
    """Every check; shown as it comes unless quiet."""
    console = render.console()
    checks = []
    async for check in examine(url, api_key):
        checks.append(check)
        if not quiet:
            sign = render.mark(names.OK if check.ok else names.ERROR, ascii_only=console.options.ascii_only)
            console.print(Text.assemble(sign, f" {check.name:<10} ", render.plain(check.found)), soft_wrap=True)
            if check.remedy:
                console.print(Text(f"  {'':<10} → {check.remedy}", "yellow"), soft_wrap=True)
    return checks
