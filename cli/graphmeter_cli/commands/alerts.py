"""`graphmeter alerts`: which alerts there are, whom they reach, when they can be believed; and one sent to prove the way."""

from __future__ import annotations

from dataclasses import asdict

import click

from graphmeter_alerts import rulefiles, startup, trial
from graphmeter_alerts.alertmanager import receiver_of
from graphmeter_alerts.rulefiles import Rule
from graphmeter_cli import render
from graphmeter_cli.configuration import configured
from graphmeter_cli.options import duration
from graphmeter_cli.units import NS_PER_S
from graphmeter_config import Config
from graphmeter_config.values import duration_text


@click.group("alerts", short_help="List alerts, and send one as a test.")
def command() -> None:
    """List the alerts that graphmeter.yaml gives, and send one as a test."""


@command.command("list", short_help="Which alerts there are, whom they reach, and since when they can be believed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@configured
def list_(*, config: Config, as_json: bool) -> None:
    """Show every alert: severity, receiver, how long it waits, and when its windows are full after a fresh start.

    \b
    Examples:
      graphmeter alerts list
      graphmeter alerts list --config /etc/graphmeter/graphmeter.yaml --json
    """
    found = startup.starts(config)
    if as_json:
        render.print_json([asdict(one) for one in found])
        return
    table = render.table("alert", "of", "severity", "told", "waits>", "full after>", "after a fresh start")
    for one in found:
        waits, full = (duration_text(seconds) if seconds else "-" for seconds in (one.waits_s, one.whole_s))
        table.add_row(one.alert, one.about, one.severity, one.receiver, waits, full, one.until_then)
    render.console().print(table)


@command.command("test", short_help="Send one alert through a running Alertmanager.")
@click.argument("name")
@click.option(
    "--alertmanager",
    "url",
    envvar="GRAPHMETER_ALERTMANAGER_URL",
    default="http://localhost:9093",
    show_default=True,
    metavar="URL",
    help="Alertmanager to send it to. [env: GRAPHMETER_ALERTMANAGER_URL]",
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Also a label of it, such as team=search.")
@click.option("--wait", default="1m", show_default=True, help="How long to wait until receivers are told.")
@click.option("--dry-run", is_flag=True, help="Send nothing; say whom it would reach by graphmeter.yaml.")
@configured
def test(*, config: Config, name: str, url: str, labels: tuple[str, ...], wait: str, dry_run: bool) -> None:
    """Send the alert NAME, marked as a test, say whom Alertmanager told, and take it back.

    It has the labels of the real one, so it takes its route; --label gives those that only a real event has. Alertmanager
    waits for 30 s (group_wait) before it tells of something new. Exit code 1: nobody was told.

    \b
    Examples:
      graphmeter alerts test GraphmeterErrorBudgetBurnFast
      graphmeter alerts test GraphmeterBudgetExhausted --label team=search --alertmanager http://alertmanager:9093
      graphmeter alerts test GraphmeterWatchdog --dry-run
    """
    given = _labels(labels)
    sent = trial.trial_of(_rule(config, name, given), given)
    expected = receiver_of(config, dict(sent.labels))
    click.echo(f"{name} {{{', '.join(f'{key}={value}' for key, value in sent.labels.items() if key != 'alertname')}}}")
    if dry_run:
        click.echo(f"would reach the receiver {expected}, by graphmeter.yaml")
        return
    manager = trial.Alertmanager(url)
    try:
        with manager.firing(sent) as before:
            _follow(manager, sent, before, expected, duration(wait) / NS_PER_S)
    except trial.Unreachable as problem:
        raise click.ClickException(str(problem)) from problem


def _follow(manager: trial.Alertmanager, sent: trial.Trial, before: trial.Told, expected: str, wait_s: float) -> None:
    route = manager.route(sent)
    click.echo(f"reached the receiver {', '.join(route.receivers)} of {manager.url}")
    if expected not in route.receivers:
        click.echo(f"by graphmeter.yaml it is {expected}: that Alertmanager has another configuration")
    if route.suppressed_by:
        raise click.ClickException(f"nobody is told: {route.suppressed_by} holds it back")
    if set(route.silent) == set(route.receivers):
        raise click.ClickException("nobody is told: the receiver has no address (alerting.receivers, alerting.owners)")
    told = manager.told(before, wait_s)
    if told.failed:
        failed = ", ".join(f"{name} {count}" for name, count in told.failed.items())
        raise click.ClickException(f"requests that failed: {failed}; Alertmanager's log says why, and it tries again")
    if not told.sent:
        raise click.ClickException(
            f"nobody was told within {duration_text(wait_s)}: where such an alert fires already, the next news waits for "
            "group_interval (5m); try --wait 6m"
        )
    click.echo(f"told: {', '.join(f'{name} {count}' for name, count in told.sent.items())}; now it is resolved")


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is not a label: write NAME=VALUE", param_hint="--label")
        found[name] = value
    return found


def _rule(config: Config, name: str, given: dict[str, str]) -> Rule:
    alerts = [rule for rule in rulefiles.of_config(config) if rule.kind == "alert"]
    named = [rule for rule in alerts if rule.name == name]
    if not named:
        known = ", ".join(dict.fromkeys(rule.name for rule in alerts))
        raise click.BadParameter(f"graphmeter.yaml gives no alert {name!r}: write one of {known}", param_hint="NAME")
    # Of several with one name (tiers, budgets) the one whose own labels were given, else the first.
    matching = [rule for rule in named if all(given.get(key, value) == value for key, value in rule.labels.items())]
    return (matching or named)[0]
