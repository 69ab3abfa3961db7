"""Money budgets in, alerts on their thresholds out. Spend comes from the ledger, through the collectors' gauges."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import wording
from graphmeter_alerts.rules import Alert, Group, Record, alert_labels, matchers
from graphmeter_alerts.wording import label, label_or, number
from graphmeter_config import Budget, Config

THRESHOLD: Final = "GraphmeterBudgetThreshold"
EXHAUSTED: Final = "GraphmeterBudgetExhausted"
FORECAST: Final = "GraphmeterBudgetForecast"
ALERTS: Final = (THRESHOLD, EXHAUSTED, FORECAST)
FORECAST_FOR_S: Final = 3600
"""How long spend has to lead beyond the limit before somebody is told: an hour's burst is none."""

TOLD_BY: Final = "told_by"
COLLECTOR: Final = "collector"

USED: Final = "graphmeter:budget_used:ratio"


def groups(config: Config) -> list[Group]:
    """The one rule group of all budgets; none without budgets."""
    if not config.budgets:
        return []
    # Every collector reads these gauges from the one database: one of them is taken, not their sum.
    used = [f"{_gauge(spent)}\n/\n({_gauge(limit)} > 0)" for spent, limit in _GAUGES.values()]
    alerts = [alert for budget in config.budgets for alert in (*_alerts(config, budget), _forecast(config, budget))]
    return [Group("graphmeter-budgets", 60, (Record(USED, "\nor\n".join(used)), *alerts))]


def alert_name(share: Decimal) -> str:
    """Below the limit it is a warning."""
    return EXHAUSTED if share >= 1 else THRESHOLD


def severity(share: Decimal) -> str:
    """A warning can wait until morning."""
    return "page" if share >= 1 else "ticket"


def alert_threshold(share: Decimal) -> str:
    """A share as the label `threshold` has it: `80`."""
    return wording.number(100 * Fraction(share))


def limit_of(budget: Budget) -> Fraction:
    """The limit as its gauge has it: in USD or tokens."""
    return Fraction(budget.limit, names.NANO_PER_USD if budget.unit == "usd" else 1)


def gauges_of(budget: Budget) -> tuple[names.Metric, names.Metric]:
    """The gauges of spend and limit."""
    return _GAUGES[budget.unit]


def labels_of(config: Config, budget: Budget, alert: str, severity: str, **more: str) -> dict[str, str]:
    """Labels that an alert of a budget has of its own, beside those of its gauges.

    Whom the collector tells of a crossing is not told by Alertmanager as well, which knows such alerts by a label.
    """
    told = alert != FORECAST and budget.receivers and config.alerting.budget_crossings == "once"
    return alert_labels(
        severity,
        budget=budget.name,
        **({"owner": budget.owner} if budget.owner else {}),
        **({TOLD_BY: COLLECTOR} if told else {}),
        **more,
    )


def words(config: Config, budget: Budget, share: Decimal, *, whose: tuple[str, str], spent: str) -> dict[str, str]:
    """What an alert says about one threshold; `whose` is team and scope."""
    return wording.budget_crossed(
        config, alert_name(share), said(budget, whose), f"{alert_threshold(share)}%", spent=spent
    )


def forecast_words(config: Config, budget: Budget, *, whose: tuple[str, str], ratio: str) -> dict[str, str]:
    """What the alert on the forecast says."""
    return wording.budget_forecast(config, FORECAST, said(budget, whose), ratio=ratio)


def said(budget: Budget, whose: tuple[str, str]) -> wording.BudgetWords:
    """What is said of a budget; `whose` is team and scope."""
    return wording.BudgetWords(
        budget.name, _team(budget, whose), _scope(budget, whose), _in_period(budget), budget.unit, _amount(budget)
    )


def _team(budget: Budget, whose: tuple[str, str]) -> str:
    return whose[0] if "team" in budget.per else ""


def _scope(budget: Budget, whose: tuple[str, str]) -> str:
    return whose[1] if set(budget.per_labels) - {"team"} else ""


def _in_period(budget: Budget) -> str:
    return f"in the last {budget.period_text}" if budget.rolling_ns else f"in this {budget.period_text}"


def _amount(budget: Budget) -> str:
    return f"{budget.limit_usd:.2f}" if budget.limit_usd is not None else str(budget.limit)


def _gauge(metric: names.Metric, selector: str = "") -> str:
    return f"max by ({', '.join(metric.labels)}) ({metric.name}{selector})"


def _alerts(config: Config, budget: Budget) -> Iterator[Alert]:
    selector = matchers(budget=budget.name)
    value = wording.USD_VALUE if budget.unit == "usd" else wording.COUNT_VALUE
    for share, following in zip(budget.thresholds, [*budget.thresholds[1:], None], strict=True):
        # Each threshold hands over to the next one, so that one budget is one alert.
        band = f">= {number(Fraction(share))}" + (f" < {number(Fraction(following))}" if following else "")
        yield Alert(
            alert_name(share),
            f"{_gauge(gauges_of(budget)[0], selector)}\nand\n{USED}{selector} {band}",
            labels_of(config, budget, alert_name(share), severity(share), threshold=alert_threshold(share)),
            words(config, budget, share, whose=WHOSE, spent=value),
        )


def _forecast(config: Config, budget: Budget) -> Alert:
    selector = matchers(budget=budget.name)
    # Who has spent it all hears so from another alert.
    return Alert(
        FORECAST,
        f"{_gauge(names.BUDGET_FORECAST, selector)} >= 1\nand\n{USED}{selector} < 1",
        labels_of(config, budget, FORECAST, "ticket"),
        forecast_words(config, budget, whose=WHOSE, ratio=wording.PERCENT_VALUE),
        for_s=FORECAST_FOR_S,
    )


_GAUGES: Final = {
    "usd": (names.BUDGET_SPENT, names.BUDGET_LIMIT),
    "tokens": (names.BUDGET_SPENT_TOKENS, names.BUDGET_LIMIT_TOKENS),
}
WHOSE: Final = (label_or("team", names.UNATTRIBUTED), label("scope"))
"""Team and scope, as labels of an alert have them."""
