"""Colours by value, drawn from what `graphmeter.yaml` promises: SLOs and budgets in, steps out."""

from __future__ import annotations

from typing import Final

from graphmeter_config import Config
from graphmeter_config.indicators import Indicator, Of
from graphmeter_dashboards.panels import BLUE, GREEN, ORANGE, RED, Steps

NONE_IS_GOOD: Final[Steps] = ((None, GREEN), (0.5, RED))
"""For counts of what should not happen."""
BUDGET_LEFT: Final[Steps] = ((None, RED), (0.0, ORANGE), (0.25, GREEN))
"""For the share of an error budget that is left."""


def errors(config: Config, of: Of = "runs") -> Steps:
    """Orange beyond the strictest error budget for failed runs (or what else `of` says), red beyond the most lenient one."""
    slos = (slo for slo in config.slos if (slo.indicator, slo.of) == ("availability", of))
    return beyond([float(slo.error_budget) for slo in slos], GREEN)


def slow(config: Config, of: Of, indicator: Indicator = "latency") -> Steps:
    """Orange beyond the strictest threshold, red beyond the most lenient one."""
    slos = (slo for slo in config.slos if (slo.indicator, slo.of) == (indicator, of))
    return beyond([slo.bound for slo in slos], BLUE)


def beyond(limits: list[float], otherwise: str) -> Steps:
    """Orange beyond the lowest limit, red beyond the highest; `otherwise` where there is none."""
    if not limits:
        return ((None, otherwise),)
    lowest, highest = min(limits), max(limits)
    return ((None, GREEN), *([(lowest, ORANGE)] if lowest < highest else []), (highest, RED))


def budgets(config: Config) -> Steps:
    """Orange from the lowest threshold of any budget on, red at the limit."""
    warn = min((float(share) for budget in config.budgets for share in budget.thresholds), default=1.0)
    return ((None, GREEN), *([(warn, ORANGE)] if warn < 1 else []), (1.0, RED))


def unattributed(config: Config) -> Steps:
    """Red where the alert about spend that names no team would begin."""
    rule = config.alerting.unattributed
    return ((None, GREEN), *([(float(rule.share), RED)] if rule else []))
