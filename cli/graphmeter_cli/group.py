"""The command group: names and one-line summaries of all subcommands, each imported only when it is called.

Not called `main.py`: importing such a submodule would hide the function `graphmeter_cli.main` behind it.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

from graphmeter import names

SUBCOMMANDS: Final = {
    "demo": "Run the example graphs through a real collector and show what was measured.",
    "serve": "Run the collector.",
    "stack": "Run collector, Prometheus and Alertmanager together, without Docker.",
    "init": "Write an annotated graphmeter.yaml.",
    "doctor": "Send one run to a collector and read it back.",
    "runs": "List graph runs.",
    "trace": "Show one run as a tree.",
    "nodes": "Show latency, errors and spend per node.",
    "cost": "Show spend by team, model, graph, node …",
    "prices": "Explain and update prices; price calls again.",
    "reconcile": "Compare the ledger with a provider's export.",
    "budget": "Show and set budgets.",
    "slo": "Show SLOs: what is left of error budgets, and how fast they burn.",
    "config": "Check and show graphmeter.yaml.",
    "rules": "Build, check and compare Prometheus rules.",
    "alerts": "List alerts, and send one as a test.",
    "dashboards": "Build and check Grafana dashboards.",
    "keys": "Make, list and revoke API keys.",
    "retention": "Delete what is older than graphmeter.yaml keeps.",
    "migrate": "Bring the database's schema to the newest revision.",
}
"""Every subcommand in the order of `--help`; the module is `graphmeter_cli.commands.<name>`, the command in it `command`."""


class LazyGroup(click.Group):
    """Knows its subcommands by name; `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        command = importlib.import_module(f"graphmeter_cli.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


def _version() -> str:
    from importlib.metadata import version

    return version(names.SCOPE)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"graphmeter {_version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def graphmeter() -> None:
    """Latency, errors and spend of LangGraph applications.

    Start with `graphmeter demo`. Reports read the collector's database (--database-url, or the SQLite file in
    --data-dir), or a collector's HTTP API (--url).
    """
