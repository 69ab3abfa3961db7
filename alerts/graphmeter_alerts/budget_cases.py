"""Unit tests of the budgets' rules: each threshold fires alone in its band, below the first nothing, and all resolve."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import budget_rules
from graphmeter_alerts.budget_rules import ALERTS
from graphmeter_alerts.cases import MINUTE, Case, Check, Firing, Sample, no_alert, series, staying
from graphmeter_alerts.rules import alert_labels
from graphmeter_config import Budget, Config

_TEAM: Final = "cx"
_COLLECTORS: Final = ("a", "b")


def cases(config: Config) -> Iterator[Case]:
    """Every unit test of the budgets' rules."""
    for budget in config.budgets:
        for share, following in zip(budget.thresholds, [*budget.thresholds[1:], None], strict=True):
            yield _crossed(config, budget, share, following)


def _crossed(config: Config, budget: Budget, share: Decimal, following: Decimal | None) -> Case:
    """Spend rises from below the first threshold to the threshold itself and into its band; then a period begins."""
    limit = Fraction(budget.limit_usd)
    reached = Fraction(share) * limit
    if float(reached) / float(limit) < float(share):
        # Floats of this limit miss the threshold by their last digit; a real spend would be a nano-USD further.
        reached *= 1 + Fraction(1, 10**12)
    within = (reached + (Fraction(following) * limit if following else 2 * reached)) / 2
    below = Fraction(budget.thresholds[0]) * limit * Fraction(9, 10)
    labels = {"budget": budget.name, **({"team": _TEAM} if budget.per_team else {})}
    spend = staying((float(below), 10), (float(reached), 10), (float(within), 10), (0, 10))
    gauges = {
        # Each collector reports the same spend: it must not be added.
        series(metric.name, **labels, instance=collector): values
        for collector in _COLLECTORS
        for metric, values in ((names.BUDGET_SPENT, spend), (names.BUDGET_LIMIT, staying((float(limit), 40))))
    }
    used = series(budget_rules.USED, **labels)
    checks: list[Check] = list(no_alert(5 * MINUTE, ALERTS))
    for at_s, spent in ((15 * MINUTE, reached), (25 * MINUTE, within)):
        for name in ALERTS:
            firing = (_firing(config, budget, share, labels, spent),) if name == budget_rules.alert_name(share) else ()
            checks.append(Check(at_s, name, firing))
    return Case(
        f"{budget.name} reaches {budget_rules.alert_threshold(share)}%, and starts anew with the next period",
        gauges,
        (*checks, *no_alert(35 * MINUTE, ALERTS)),
        (Sample(25 * MINUTE, used, {used: float(within) / float(limit)}),),
    )


def _firing(config: Config, budget: Budget, share: Decimal, labels: dict[str, str], spent: Fraction) -> Firing:
    annotations = budget_rules.words(config, budget, share, team=_TEAM, spent=f"{float(spent):.2f}")
    threshold = budget_rules.alert_threshold(share)
    return Firing({**alert_labels(budget_rules.severity(share), threshold=threshold), **labels}, annotations)
