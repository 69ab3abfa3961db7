"""Money budgets in, alerts on their thresholds out. Spend comes from the ledger, through the collectors' gauges."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import wording
from graphmeter_alerts.rules import Alert, Group, Record, alert_labels, matchers
from graphmeter_alerts.wording import label, number
from graphmeter_config import Budget, Config

THRESHOLD: Final = "GraphmeterBudgetThreshold"
EXHAUSTED: Final = "GraphmeterBudgetExhausted"
ALERTS: Final = (THRESHOLD, EXHAUSTED)

USED: Final = "graphmeter:budget_used:ratio"


def groups(config: Config) -> list[Group]:
    """The one rule group of all budgets; none without budgets."""
    if not config.budgets:
        return []
    # Every collector reads these gauges from the one database: one of them is taken, not their sum.
    used = f"{_gauge(names.BUDGET_SPENT)}\n/\n({_gauge(names.BUDGET_LIMIT)} > 0)"
    alerts = [alert for budget in config.budgets for alert in _alerts(config, budget)]
    return [Group("graphmeter-budgets", 60, (Record(USED, used), *alerts))]


def alert_name(share: Decimal) -> str:
    """Below the limit it is a warning."""
    return EXHAUSTED if share >= 1 else THRESHOLD


def severity(share: Decimal) -> str:
    """A warning can wait until morning."""
    return "page" if share >= 1 else "ticket"


def alert_threshold(share: Decimal) -> str:
    """A share as the label `threshold` has it: `80`."""
    return wording.number(100 * Fraction(share))


def words(config: Config, budget: Budget, share: Decimal, *, team: str, spent: str) -> dict[str, str]:
    """What an alert says about one threshold."""
    limit, threshold = f"{budget.limit_usd:.2f}", f"{alert_threshold(share)}%"
    name, shown_team = alert_name(share), team if budget.per_team else ""
    return wording.budget_crossed(
        config, name, budget.name, threshold, limit, budget.period, team=shown_team, spent=spent
    )


def _gauge(metric: names.Metric, selector: str = "") -> str:
    return f"max by ({', '.join(metric.labels)}) ({metric.name}{selector})"


def _alerts(config: Config, budget: Budget) -> Iterator[Alert]:
    selector = matchers(budget=budget.name)
    for share, following in zip(budget.thresholds, [*budget.thresholds[1:], None], strict=True):
        # Each threshold hands over to the next one, so that one budget is one alert.
        band = f">= {number(Fraction(share))}" + (f" < {number(Fraction(following))}" if following else "")
        yield Alert(
            alert_name(share),
            f"{_gauge(names.BUDGET_SPENT, selector)}\nand\n{USED}{selector} {band}",
            alert_labels(severity(share), budget=budget.name, threshold=alert_threshold(share)),
            words(config, budget, share, team=label("team"), spent=wording.USD_VALUE),
        )
