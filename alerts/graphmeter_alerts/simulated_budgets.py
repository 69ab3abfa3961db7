"""What was spent in, which alerts on budgets would have fired out: thresholds and forecast, and how fast money goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from graphmeter_alerts import budget_burn_rules, budget_rules
from graphmeter_alerts.would import Group, Would, about, at_each, whose, would
from graphmeter_config import Budget, Config, simulation, spending_speed
from graphmeter_config.history import Slices
from graphmeter_config.simulation import MINUTE_NS, Spend, fired
from graphmeter_config.slices import NS

ALERTS: Final = frozenset(
    {budget_rules.THRESHOLD, budget_rules.EXHAUSTED, budget_rules.FORECAST, *budget_burn_rules.ALERTS}
)


def reach_s(config: Config) -> int:
    """How far the speed of budgets looks back; 0: that of none is judged."""
    speeds = [budget_burn_rules.tiers(budget)[-1].long_s for budget in budget_burn_rules.watched(config)]
    return max([*speeds, budget_burn_rules.SPEED_H * 3600]) if speeds else 0


def of_period(budget: Budget, scope: Group, spend: Spend, since_ns: int, until_ns: int) -> Iterator[Would]:
    """Of thresholds and the forecast."""
    which = whose(budget.per, scope)
    moments = simulation.spending(spend, budget, since_ns, until_ns)
    for share, following in zip(budget.thresholds, [*budget.thresholds[1:], None], strict=True):
        stretches = fired(simulation.in_band(moments, budget, share, following), 0)
        said = about(budget=budget.name, threshold=budget_rules.alert_threshold(share), **which)
        yield from would(budget_rules.alert_name(share), said, budget_rules.severity(share), stretches)
    led = fired(simulation.leading_beyond(moments, budget), budget_rules.FORECAST_FOR_S * NS)
    yield from would(budget_rules.FORECAST, about(budget=budget.name, **which), "ticket", led)


def of_speed(
    budget: Budget, scope: Group, spend: Spend, minutes: Slices, since_ns: int, until_ns: int
) -> Iterator[Would]:
    """Of how fast a budget is spent, one of those that `budget_burn_rules.watched` names."""
    which, first, until = whose(budget.per, scope), since_ns // MINUTE_NS, until_ns // MINUTE_NS + 1
    spent = spending_speed.spent_until(budget, spend, minutes, first, until)
    for tier in budget_burn_rules.tiers(budget):
        held = at_each(first, spending_speed.too_fast(budget, tier, minutes, spent, first, until))
        severity, keep_s = budget_burn_rules.severity(budget, tier), budget_burn_rules.KEEP_FIRING_FOR_S[tier.severity]
        said = about(budget=budget.name, burn=tier.name, **which)
        yield from would(budget_burn_rules.burn_alert(tier), said, severity, fired(held, 0, keep_s * NS))
    if budget_burn_rules.lasts_into_another_day(budget):
        hours = {"soon_h": budget_burn_rules.SOON_H, "speed_h": budget_burn_rules.SPEED_H}
        gone = spending_speed.soon_gone(budget, minutes, spent, first, until, **hours)
        waits_ns = budget_burn_rules.SOON_FOR_S * NS
        stretches = fired(at_each(first, gone), waits_ns, waits_ns)
        yield from would(budget_burn_rules.EXHAUSTS_SOON, about(budget=budget.name, **which), "ticket", stretches)
