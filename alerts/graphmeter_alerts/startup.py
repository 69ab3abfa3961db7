"""A configuration in, for each of its alerts when it can be believed after a fresh start out.

Read off the expressions themselves, through all that they build on: a window that reaches back a day holds less until a
day has passed. Most alerts judge what there is so far, so they may fire sooner, on less; those that compare with last week
say nothing before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graphmeter_alerts import anomaly_rules, budget_rules, health_rules, measuring_rules, promql, rulefiles, slo_rules
from graphmeter_alerts.alertmanager import receiver_of
from graphmeter_alerts.rulefiles import Rule
from graphmeter_config import Config
from graphmeter_config.anomalies import OWN_PAST_BEGINS_S
from graphmeter_config.values import duration_text

_AT_ONCE: Final = "judges what is in force now, whatever was before"
_FROM_THE_LEDGER: Final = "counted from the ledger, also what was before the rules"
_FIRST_EVENT: Final = "from its first event on: what was never measured cannot go missing"
_SPECIAL: Final[Mapping[str, tuple[float, str]]] = {
    slo_rules.ABSENT: (0.0, _FIRST_EVENT),
    budget_rules.THRESHOLD: (0.0, _FROM_THE_LEDGER),
    budget_rules.EXHAUSTED: (0.0, _FROM_THE_LEDGER),
    budget_rules.FORECAST: (
        0.0,
        "after a hundredth of the period: seven hours of a month, a quarter of an hour of a day",
    ),
    health_rules.REPLAYING: (0.0, _AT_ONCE),
    health_rules.WATCHDOG: (0.0, "always; silence means that alerting itself is broken"),
    measuring_rules.RULES_OUTDATED: (0.0, "once collectors are scraped"),
}
"""What the windows of an expression do not tell."""


@dataclass(frozen=True, slots=True)
class Start:
    """One alert after a fresh start."""

    alert: str
    about: str
    """`slo=…, burn=…`."""
    severity: str
    receiver: str
    """Of Alertmanager, for an alert about no team in particular."""
    waits_s: float
    """Its `for`."""
    whole_s: float
    """After so long its windows are full."""
    until_then: str
    """How to read it before."""


def starts(config: Config, rules: Sequence[Rule] = ()) -> list[Start]:
    """Every alert of a configuration, in the order of its files."""
    rules = rules or rulefiles.of_config(config)
    reach = _Reach(rules)
    return [_start(config, rule, reach) for rule in rules if rule.kind == "alert"]


def _start(config: Config, rule: Rule, reach: _Reach) -> Start:
    whole_s, history_s = reach.of(rule)
    words = _words(whole_s, history_s)
    special = {**_SPECIAL, **_of_anomalies(config)}
    if rule.name in special:
        whole_s, words = special[rule.name]
    own = {key: value for key, value in rule.labels.items() if key not in ("severity", "product", "job")}
    return Start(
        rule.name,
        ", ".join(f"{key}={value}" for key, value in own.items()),
        rule.labels.get("severity", ""),
        receiver_of(config, {"alertname": rule.name, **rule.labels}),
        promql.seconds(rule.for_),
        whole_s,
        words,
    )


def _of_anomalies(config: Config) -> Mapping[str, tuple[float, str]]:
    """How much of the past has to be known is counted in values, which no window tells."""
    anomalies = config.anomalies
    found: dict[str, tuple[float, str]] = {}
    if anomalies is None:
        return found
    for name, band in anomalies.bands():
        needed = duration_text(band.needs_s + OWN_PAST_BEGINS_S)
        said = f"says nothing before {needed} with enough runs; until {duration_text(band.history_s)} are known by less"
        found[anomaly_rules.ALERT_OF[name]] = (band.history_s + OWN_PAST_BEGINS_S, said)
    if anomalies.both is not None:
        found[anomaly_rules.ERRORS_AND_LATENCY] = max(
            found[anomaly_rules.ALERT_OF[name]] for name in ("error_rate", "latency_p95")
        )
    if anomalies.traffic_drop is not None:
        drop = anomalies.traffic_drop
        said = f"says nothing before {7 * drop.needs_weeks}d: it compares with what was then"
        found[anomaly_rules.TRAFFIC_DROP] = (drop.weeks * 7 * 86_400.0 + 3600, said)
    return found


def _words(whole_s: float, history_s: float) -> str:
    if history_s:
        return f"says nothing before {duration_text(history_s)}: it compares with what was then"
    if whole_s:
        return f"may fire sooner: until {duration_text(whole_s)} have passed it judges what there is so far"
    return _AT_ONCE


class _Reach:
    """How far back rules look, through the records that they read."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._records: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            if rule.kind == "record":
                self._records.setdefault((rule.name, rule.labels.get("slo", "")), []).append(rule)

    def of(self, rule: Rule, seen: frozenset[str] = frozenset()) -> tuple[float, float]:
        """Seconds that all windows reach back, and those without which there is no answer at all (`offset`)."""
        expression = promql.read(rule.expr)
        whole = history = 0.0
        for selector in expression.selectors:
            inner = inner_history = 0.0
            if selector.metric not in seen:
                for record in self._records.get((selector.metric, rule.labels.get("slo", "")), ()):
                    deeper, deeper_history = self.of(record, seen | {selector.metric})
                    inner, inner_history = max(inner, deeper), max(inner_history, deeper_history)
            # Slices are added up as they come: the window is what counts, not what it is made of.
            whole = max(whole, selector.offset_s + max(selector.window_s, inner))
            history = max(history, selector.offset_s + inner_history)
        return max(whole, expression.subquery_s), history
