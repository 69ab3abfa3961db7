"""Colours by value, drawn from what `graphmeter.yaml` promises: SLOs and budgets in, steps out."""

from __future__ import annotations

from typing import Final

from graphmeter_config import Config
from graphmeter_dashboards.panels import GREEN, ORANGE, RED, Steps

NONE_IS_GOOD: Final[Steps] = ((None, GREEN), (0.5, RED))
"""For counts of what should not happen."""


def errors(config: Config) -> Steps:
    """Orange beyond the strictest error budget for failed runs, red beyond the most lenient one."""
    of_runs = (slo for slo in config.slos if (slo.indicator, slo.of) == ("availability", "runs"))
    allowed = sorted(float(slo.error_budget) for slo in of_runs)
    if not allowed:
        return ((None, GREEN),)
    if allowed[0] == allowed[-1]:
        return ((None, GREEN), (allowed[0], RED))
    return ((None, GREEN), (allowed[0], ORANGE), (allowed[-1], RED))


def budgets(config: Config) -> Steps:
    """Orange from the lowest threshold of any budget on, red at the limit."""
    warn = min((float(share) for budget in config.budgets for share in budget.thresholds), default=1.0)
    return ((None, GREEN), *([(warn, ORANGE)] if warn < 1 else []), (1.0, RED))


def unattributed(config: Config) -> Steps:
    """Red where the alert about spend that names no team would begin."""
    rule = config.alerting.unattributed
    return ((None, GREEN), *([(float(rule.share), RED)] if rule else []))
