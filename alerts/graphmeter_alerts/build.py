"""A configuration in, every file for Prometheus and Alertmanager out; the same configuration gives the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from graphmeter_alerts import (
    alertmanager,
    anomaly_cases,
    anomaly_rules,
    budget_burn_cases,
    budget_burn_rules,
    budget_cases,
    budget_rules,
    health_cases,
    health_rules,
    measuring_cases,
    measuring_rules,
    provider_cases,
    provider_rules,
    slo_cases,
    slo_month_cases,
    slo_rules,
    spend_cases,
    spend_rules,
    threshold_cases,
    threshold_rules,
)
from graphmeter_alerts.cases import Case, unit_test_file
from graphmeter_alerts.rules import Group, rule_file
from graphmeter_config import Config, Slo

RULES: Final = ".rules.yml"
TESTS: Final = ".test.yml"
ALERTMANAGER: Final = "alertmanager.yml"
ALERTS: Final = (
    *slo_rules.ALERTS,
    *budget_rules.ALERTS,
    *budget_burn_rules.ALERTS,
    *spend_rules.ALERTS,
    *threshold_rules.ALERTS,
    *provider_rules.ALERTS,
    *anomaly_rules.ALERTS,
    *health_rules.ALERTS,
    *measuring_rules.ALERTS,
)
"""Every alert there can be; each has a runbook of its name."""

_MADE_BY: Final = "# Made by `graphmeter rules build`"


def build(config: Config) -> dict[str, str]:
    """File name → text: rule files (`*.rules.yml`), their promtool tests (`*.test.yml`), `alertmanager.yml`."""
    files: dict[str, str] = {}
    for slo in config.slos:
        groups, cases = slo_rules.groups(config, slo), list(slo_cases.cases(config, slo))
        files |= _pair(config, f"slo-{slo.name}", groups, slo_rules.SLICE, cases, notes(slo))
        if slo.calendar:
            cases = list(slo_month_cases.cases(config, slo))
            months = unit_test_file(f"slo-{slo.name}{RULES}", groups, slo_month_cases.EVERY, cases)
            files[f"slo-{slo.name}.months{TESTS}"] = _header(config) + months
    if config.budgets:
        files |= _pair(config, "budgets", budget_rules.groups(config), "1m", list(budget_cases.cases(config)))
    if budget_burn_rules.watched(config):
        rules = budget_burn_rules.groups(config)
        files |= _pair(config, "budget-burn", rules, "5m", list(budget_burn_cases.cases(config)))
    if config.alerting.unattributed is not None:
        files |= _pair(config, "spend", spend_rules.groups(config), "1m", list(spend_cases.cases(config)))
    if threshold_rules.wanted(config):
        rules = threshold_rules.groups(config)
        files |= _pair(config, "thresholds", rules, "5m", list(threshold_cases.cases(config)))
    if rules := anomaly_rules.band_groups(config):
        files |= _pair(config, "anomalies", rules, "5m", list(anomaly_cases.band_cases(config)))
    if rules := anomaly_rules.traffic_groups(config):
        files |= _pair(config, "anomaly-traffic", rules, "1h", list(anomaly_cases.traffic_cases(config)))
    for limit in config.provider_limits:
        rules, cases = provider_rules.groups(config, limit), list(provider_cases.cases(config, limit))
        files |= _pair(config, f"provider-limit-{limit.name}", rules, "1m", cases)
    groups = [*health_rules.groups(config), *measuring_rules.groups(config)]
    files |= _pair(config, "health", groups, "1m", [*health_cases.cases(config), *measuring_cases.cases(config)])
    files[ALERTMANAGER] = _header(config, alertmanager.notes(config)) + alertmanager.configuration(config)
    return files


def notes(slo: Slo) -> list[str]:
    """Where the alerts of an SLO differ from the usual ones, and why."""
    plan = slo_rules.burn_plan(slo)
    changed = [f"{tier.name} is not the usual one: {tier.note}." for tier in plan.tiers if tier.note]
    return [*changed, *(f"{tier.name} is left out: {tier.reason}." for tier in plan.dropped)]


def write(config: Config, out: Path) -> list[Path]:
    """Write all files into a folder, which is made if need be; returns their paths.

    Nothing is replaced before everything is written; files that an earlier configuration left are removed, for their
    alerts would go on.

    Raises:
        OSError: the folder cannot be written to.
    """
    files = build(config)
    out.mkdir(parents=True, exist_ok=True)
    fresh = {out / name: out / f".{name}.{os.getpid()}.new" for name in files}
    try:
        for path, temporary in fresh.items():
            temporary.write_text(files[path.name], encoding="utf-8")
        for path, temporary in fresh.items():
            temporary.replace(path)
    finally:
        for temporary in fresh.values():
            temporary.unlink(missing_ok=True)
    for path in _left_over(out, files):
        path.unlink()
    return list(fresh)


def _left_over(out: Path, files: dict[str, str]) -> Iterator[Path]:
    for path in sorted(out.iterdir()):
        ours = path.name.endswith((RULES, TESTS)) and path.name not in files
        if ours and path.read_text(encoding="utf-8", errors="replace").startswith(_MADE_BY):
            yield path


def _pair(
    config: Config,
    stem: str,
    groups: Sequence[Group],
    evaluate_every: str,
    cases: Sequence[Case],
    notes: Sequence[str] = (),
) -> dict[str, str]:
    rules = stem + RULES
    return {
        rules: _header(config, notes) + rule_file(groups),
        stem + TESTS: _header(config) + unit_test_file(rules, groups, evaluate_every, cases),
    }


def _header(config: Config, notes: Sequence[str] = ()) -> str:
    lines = [
        f"{_MADE_BY} from configuration {config.hash}: change graphmeter.yaml and build again.",
        *(f"# {note}" for note in notes),
    ]
    return "\n".join(lines) + "\n"
