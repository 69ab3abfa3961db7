"""`graphmeter rules`: graphmeter.yaml in, Prometheus rules out; and rules looked at, compared, tried on what is stored."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import yaml

from graphmeter_alerts import rulefiles, write
from graphmeter_alerts.diff import diff as difference
from graphmeter_alerts.lint import lint as findings
from graphmeter_alerts.rulefiles import Rule
from graphmeter_cli import looking_back, render
from graphmeter_cli.configuration import configured, configured_for_prometheus
from graphmeter_cli.units import plural
from graphmeter_config import Config, ConfigError, load


@click.group("rules", short_help="Build, check and compare Prometheus rules.")
def command() -> None:
    """Build Prometheus rules from graphmeter.yaml, check rules of any origin, compare two sets of them."""


@command.command("build", short_help="Write rule files.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into.")
@configured_for_prometheus
def build(*, out: Path, config: Config) -> None:
    """Write alerts on SLOs, budgets, thresholds, providers' limits, anomalies, and the collector itself.

    \b
    Examples:
      graphmeter rules build --out alerts/generated
      graphmeter rules build --out /etc/prometheus/rules --config /etc/graphmeter/graphmeter.yaml
    """
    try:
        written = write(config, out)
    except OSError as problem:
        raise click.ClickException(f"cannot write to {out}: {problem.strerror}") from problem
    for path in written:
        click.echo(path)


@command.command("lint", short_help="Look for faults in rule files.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave out findings of this kind, such as no-for.")
@click.option("--strict", is_flag=True, help="Warnings fail, too.")
@click.option(
    "--runbooks", type=click.Path(path_type=Path, file_okay=False), help="Folder that has to hold a page per alert."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured
def lint(
    *,
    config: Config,
    paths: tuple[Path, ...],
    ignore: tuple[str, ...],
    strict: bool,
    runbooks: Path | None,
    as_json: bool,
) -> None:
    """Check rule files, your own or built ones: PATHS are files, or folders whose rule files are taken.

    Metrics that nobody exposes or records, labels that a metric does not have, two rules of one series, alerts without
    severity, runbook or `for`, gauges of the database that are added up … What --config records counts as known. Whether
    expressions are PromQL at all is told by `promtool check rules`. Exit code 1: there are errors.

    \b
    Examples:
      graphmeter rules lint alerts/generated
      graphmeter rules lint my.rules.yml --strict --ignore no-for
    """
    files = [rulefiles.read_file(file) for path in paths for file in rulefiles.files_in(path)]
    found = [one for one in findings(files, rulefiles.of_config(config), runbooks) if one.code not in ignore]
    if as_json:
        render.print_json([{"level": one.level, "code": one.code, **asdict(one.problem)} for one in found])
    else:
        for one in found:
            click.echo(one)
        errors = sum(one.level == "error" for one in found)
        rules = sum(len(file.rules) for file in files)
        click.echo(
            f"{plural(rules, 'rule')} in {plural(len(files), 'file')}: {plural(errors, 'error')}, "
            f"{plural(len(found) - errors, 'warning')}",
            err=True,
        )
    if any(strict or one.level == "error" for one in found):
        raise click.exceptions.Exit(1)


@command.command("diff", short_help="What deploying other rules would change, in words.")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(*, old: Path, new: Path, as_json: bool) -> None:
    """Compare two folders of rules, two rule files, or two graphmeter.yaml; each side may be any of these.

    Exit code 0: they mean the same; 1: something differs; 2: one cannot be read.

    \b
    Examples:
      graphmeter rules diff /etc/prometheus/rules rules
      graphmeter rules diff graphmeter.yaml new.yaml
      graphmeter rules diff alerts/generated graphmeter.yaml
    """
    changes = difference(_rules_of(old), _rules_of(new))
    if as_json:
        render.print_json([asdict(change) for change in changes])
    else:
        for change in changes:
            click.echo(change)
        click.echo(plural(len(changes), "difference"), err=True)
    if changes:
        raise click.exceptions.Exit(1)


def _rules_of(path: Path) -> list[Rule]:
    """Rules of a folder or rule file, or those that a graphmeter.yaml gives."""
    if path.is_file() and not _is_rule_file(path):
        try:
            return rulefiles.of_config(load(path))
        except ConfigError as problem:
            raise _Unreadable(str(problem)) from problem
    files = [rulefiles.read_file(file) for file in rulefiles.files_in(path)]
    if problems := [str(problem) for file in files for problem in file.problems]:
        raise _Unreadable("\n".join(problems))
    if not files:
        raise _Unreadable(f"{path} holds no rule file: name the folder that `graphmeter rules build --out` wrote to")
    return [rule for file in files for rule in file.rules]


def _is_rule_file(path: Path) -> bool:
    try:
        return "groups" in (yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError):
        return path.name.endswith(".rules.yml")


command.add_command(looking_back.command)


class _Unreadable(click.ClickException):
    """Not to be taken for a difference."""

    exit_code = 2
