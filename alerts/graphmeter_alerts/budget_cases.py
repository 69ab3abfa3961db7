"""Unit tests of the budgets' rules: each threshold fires alone in its band, below the first nothing, and all resolve."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import budget_rules
from graphmeter_alerts.budget_rules import ALERTS, FORECAST, FORECAST_FOR_S, gauges_of, limit_of
from graphmeter_alerts.cases import MINUTE, Case, Check, Firing, Sample, no_alert, series, staying
from graphmeter_config import Budget, Config

_TEAM: Final = "cx"
_SCOPE: Final = "graph=support"
_COLLECTORS: Final = ("a", "b")


def cases(config: Config) -> Iterator[Case]:
    """Every unit test of the budgets' rules."""
    for budget in config.budgets:
        for share, following in zip(budget.thresholds, [*budget.thresholds[1:], None], strict=True):
            yield _crossed(config, budget, share, following)
        yield _leading(config, budget)


def _labels(budget: Budget) -> dict[str, str]:
    team = {"team": _TEAM} if "team" in budget.per else {}
    return {"budget": budget.name, **team, **({"scope": _SCOPE} if set(budget.per_labels) - {"team"} else {})}


def _crossed(config: Config, budget: Budget, share: Decimal, following: Decimal | None) -> Case:
    """Spend rises from below the first threshold to the threshold itself and into its band; then a period begins."""
    limit = limit_of(budget)
    reached = Fraction(share) * limit
    if float(reached) / float(limit) < float(share):
        # Floats of this limit miss the threshold by their last digit; a real spend would be a nano-USD further.
        reached *= 1 + Fraction(1, 10**12)
    within = (reached + (Fraction(following) * limit if following else 2 * reached)) / 2
    below = Fraction(budget.thresholds[0]) * limit * Fraction(9, 10)
    labels = _labels(budget)
    spend = staying((float(below), 10), (float(reached), 10), (float(within), 10), (0, 10))
    gauges = _gauges(budget, labels, spend, staying((float(limit), 40)))
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


def _leading(config: Config, budget: Budget) -> Case:
    """Spend leads beyond the limit; after an hour that is told, until it leads less far; or it has come that far already."""
    labels, limit = _labels(budget), limit_of(budget)
    minutes = FORECAST_FOR_S // MINUTE
    below = float(min(Fraction(budget.thresholds[0]), Fraction(1)) * limit * Fraction(9, 10))
    forecast = staying((0.9, 10), (1.25, minutes + 20), (0.75, 20), (1.25, minutes + 20))
    spend = staying((below, minutes + 50), (1.2 * float(limit), minutes + 20))
    gauges = _gauges(budget, labels, spend, staying((float(limit), 2 * minutes + 70)))
    gauges |= {series(names.BUDGET_FORECAST.name, **labels, instance=each): forecast for each in _COLLECTORS}
    words = budget_rules.forecast_words(config, budget, whose=(_TEAM, _SCOPE), ratio="125%")
    firing = Firing({**budget_rules.labels_of(config, budget, FORECAST, "ticket"), **labels}, words)
    return Case(
        f"{budget.name} is being spent too fast",
        gauges,
        (
            *no_alert(FORECAST_FOR_S, ALERTS),
            Check(FORECAST_FOR_S + 20 * MINUTE, FORECAST, (firing,)),
            *no_alert(FORECAST_FOR_S + 40 * MINUTE, ALERTS),
            # What is spent is spent: that is another alert's to tell.
            Check(2 * FORECAST_FOR_S + 65 * MINUTE, FORECAST),
        ),
    )


def _gauges(budget: Budget, labels: dict[str, str], spent: str, limit: str) -> dict[str, str]:
    # Each collector reports the same spend: it must not be added.
    return {
        series(metric.name, **labels, instance=collector): values
        for collector in _COLLECTORS
        for metric, values in zip(gauges_of(budget), (spent, limit), strict=True)
    }


def _firing(config: Config, budget: Budget, share: Decimal, labels: dict[str, str], spent: Fraction) -> Firing:
    shown = f"{float(spent):.2f}" if budget.unit == "usd" else f"{float(spent):.0f}"
    annotations = budget_rules.words(config, budget, share, whose=(_TEAM, _SCOPE), spent=shown)
    threshold = budget_rules.alert_threshold(share)
    own = budget_rules.labels_of(
        config, budget, budget_rules.alert_name(share), budget_rules.severity(share), threshold=threshold
    )
    return Firing({**own, **labels}, annotations)
