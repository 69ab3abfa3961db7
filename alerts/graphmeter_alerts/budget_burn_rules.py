"""Money budgets in, alerts on the speed of their spending out: the burn-rate tiers of SLOs on money, and what lasts no day.

Thresholds of a budget tell how far spend has come, its forecast where the period ends; these find what runs away, within
the hour. Only budgets in USD, whose spend a counter tells as it happens; and none per user, session or thread, of whom
the gauges tell only the one that has used most.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import budget_rules, wording
from graphmeter_alerts.rules import Alert, Group, matchers
from graphmeter_alerts.wording import number
from graphmeter_config import Budget, Config
from graphmeter_config.burn import Tier, spend_tiers
from graphmeter_config.values import duration_text

BURN_FAST: Final = "GraphmeterSpendBurnFast"
BURN_SLOW: Final = "GraphmeterSpendBurnSlow"
EXHAUSTS_SOON: Final = "GraphmeterBudgetExhaustsSoon"
ALERTS: Final = (BURN_FAST, BURN_SLOW, EXHAUSTS_SOON)

SOON_H: Final = 24
SPEED_H: Final = 6
"""The speed that is taken to go on is that of so many hours."""
SOON_FOR_S: Final = 900
SHORTEST_S: Final = 7 * 86_400
"""A budget of a day has always less than a day to go: its forecast says all there is to say."""
_TOO_SHORT_S: Final = 2 * 3600
KEEP_FIRING_FOR_S: Final = {"page": 900, "ticket": 3600}
_BY: Final = f"by ({', '.join(names.BUDGET_COST.labels)})"


def watched(config: Config) -> list[Budget]:
    """Budgets whose speed is known."""
    return [
        budget
        for budget in config.budgets
        if budget.unit == "usd" and budget.per_labels == budget.per and budget.nominal_s >= _TOO_SHORT_S
    ]


def groups(config: Config) -> list[Group]:
    """The one rule group of them; none without any."""
    alerts = [alert for budget in watched(config) for alert in (*_burns(config, budget), *_soon(config, budget))]
    return [Group("graphmeter-budget-burn", 60, tuple(alerts))] if alerts else []


def tiers(budget: Budget) -> tuple[Tier, ...]:
    """Fastest first."""
    return spend_tiers(budget.nominal_s)


def burn_alert(tier: Tier) -> str:
    """Name of a tier's alert."""
    return BURN_FAST if tier.severity == "page" else BURN_SLOW


def severity(budget: Budget, tier: Tier) -> str:
    """Somebody is woken only where calls will be stopped; money that is spent can be asked about in the morning."""
    return "page" if tier.severity == "page" and budget.hard else "ticket"


def labels_of(config: Config, budget: Budget, alert: str, severity: str, **more: str) -> dict[str, str]:
    """Labels that an alert has of its own. The collector tells nobody of these."""
    labels = budget_rules.labels_of(config, budget, alert, severity, **more)
    return {name: value for name, value in labels.items() if name != budget_rules.TOLD_BY}


def burn_words(config: Config, budget: Budget, tier: Tier, *, whose: tuple[str, str], spent: str) -> dict[str, str]:
    """What an alert on the speed says; `spent` is USD in the long window."""
    lasts = duration_text(60 * int(tier.exhausts_within_s(budget.nominal_s) / 60))
    return wording.spend_burn(
        config,
        burn_alert(tier),
        budget_rules.said(budget, whose),
        spent=spent,
        long=duration_text(tier.long_s),
        short=duration_text(tier.short_s),
        share=wording.percentage(tier.share),
        lasts=lasts,
    )


def soon_words(config: Config, budget: Budget, *, whose: tuple[str, str], hours: str) -> dict[str, str]:
    """What the alert on a budget that lasts no day says."""
    return wording.budget_exhausts_soon(config, EXHAUSTS_SOON, budget_rules.said(budget, whose), hours=hours)


def lasts_into_another_day(budget: Budget) -> bool:
    """Whether its end may be more than a day away."""
    return budget.nominal_s >= SHORTEST_S


def _burns(config: Config, budget: Budget) -> Iterator[Alert]:
    limit = _gauge(names.BUDGET_LIMIT, budget)
    for tier in tiers(budget):
        name, level = burn_alert(tier), severity(budget, tier)
        short = tier.share * Fraction(tier.short_s, tier.long_s)
        yield Alert(
            name,
            f"{_spent(budget, tier.long_s)} > {number(tier.share)} * {limit}\n"
            f"and\n{_spent(budget, tier.short_s)} > {number(short)} * {limit}\n"
            f"and\n{_gauge(names.BUDGET_SPENT, budget)} < {limit}",
            labels_of(config, budget, name, level, burn=tier.name),
            burn_words(config, budget, tier, whose=budget_rules.WHOSE, spent=wording.USD_VALUE),
            keep_firing_for_s=KEEP_FIRING_FOR_S[tier.severity],
        )


def _soon(config: Config, budget: Budget) -> Iterator[Alert]:
    if not lasts_into_another_day(budget):
        return
    rest = f"({_gauge(names.BUDGET_LIMIT, budget)} - {_gauge(names.BUDGET_SPENT, budget)} > 0)"
    hours = f"{rest}\n/\n({_spent(budget, SPEED_H * 3600)} / {SPEED_H} > 0)"
    # Of a window nothing ends: what is spent leaves it again.
    before_its_end = (
        "" if budget.rolling_ns else f"\nand\n{hours} < ({_gauge(names.BUDGET_END, budget)} - time()) / 3600"
    )
    yield Alert(
        EXHAUSTS_SOON,
        f"{hours} < {SOON_H}{before_its_end}",
        labels_of(config, budget, EXHAUSTS_SOON, "ticket"),
        soon_words(config, budget, whose=budget_rules.WHOSE, hours=wording.COUNT_VALUE),
        SOON_FOR_S,
        SOON_FOR_S,
    )


def _spent(budget: Budget, window_s: float) -> str:
    # Each collector counts what it stored: they are added.
    counter = names.BUDGET_COST.name + matchers(budget=budget.name)
    return f"sum {_BY} (increase({counter}[{duration_text(window_s)}]))"


def _gauge(metric: names.Metric, budget: Budget) -> str:
    return f"max {_BY} ({metric.name}{matchers(budget=budget.name)})"
