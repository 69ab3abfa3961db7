"""What is stored in, which alerts of a configuration would have fired out, and which cannot be known and why.

Counts of events and spend come from whoever can read the database; they are judged by the engine of the configuration with
the waits of the rules. An alert that nobody here can judge is named with its reason: silence is never taken for peace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from graphmeter import names
from graphmeter_alerts import (
    budget_burn_rules,
    health_rules,
    measuring_rules,
    simulated_anomalies,
    simulated_budgets,
    simulated_limits,
    simulated_thresholds,
    slo_rules,
    spend_rules,
    threshold_rules,
)
from graphmeter_alerts.would import Group, Would, about, whose, would
from graphmeter_config import Config, Slo, simulation
from graphmeter_config.history import History, Slices
from graphmeter_config.measures import Measure
from graphmeter_config.simulation import Spend
from graphmeter_config.slices import NS

_OF_PROMETHEUS: Final = "about scrapes, which only Prometheus knows of"
_OF_COLLECTORS: Final = "about collectors themselves, whose counters are not stored"
_ALWAYS: Final = "always fires"
_WHY_NOT: Final[Mapping[str, str]] = {
    slo_rules.ABSENT: _OF_PROMETHEUS,
    health_rules.COLLECTOR_DOWN: _OF_PROMETHEUS,
    health_rules.INSTANCE_DOWN: _OF_PROMETHEUS,
    health_rules.WATCHDOG: _ALWAYS,
    health_rules.DATABASE_AWAY: _OF_COLLECTORS,
    health_rules.SPOOL_FILLING: _OF_COLLECTORS,
    health_rules.REPLAYING: _OF_COLLECTORS,
    **dict.fromkeys(measuring_rules.ALERTS, _OF_COLLECTORS),
    threshold_rules.ALERT_OF["state_size"]: "about sizes of states, which are not stored",
}
_BY_MEASURE: Final = (simulated_thresholds, simulated_limits, simulated_anomalies)
"""Who says what is to be counted, and judges it."""
SIMULATED: Final = frozenset(
    {
        slo_rules.BURN_FAST,
        slo_rules.BURN_SLOW,
        slo_rules.EXHAUSTED,
        spend_rules.UNATTRIBUTED,
        *simulated_budgets.ALERTS,
        *(alert for kind in _BY_MEASURE for alert in kind.ALERTS),
    }
)


class Stored(NamedTuple):
    """What happened, by what is judged by itself."""

    events: Mapping[str, Mapping[Group, History]]
    """By name of the SLO."""
    spend: Mapping[str, Mapping[Group, Spend]]
    """By name of the budget, by the quarter of an hour."""
    minutes: Mapping[str, Mapping[Group, Slices]]
    """The same by the minute, of budgets whose speed is judged, for as long as `simulated_budgets.reach_s` looks back."""
    nobodys: Spend
    """In nano-USD, as is what follows."""
    everybodys: Spend
    measured: Mapping[Measure, Mapping[Group, History]]
    """What `wanted` asks for."""


def wanted(config: Config) -> list[Measure]:
    """What else has to be counted, each once."""
    return list(dict.fromkeys(measure for kind in _BY_MEASURE for measure in kind.wanted(config)))


def why_not(alert: str) -> str:
    """Why an alert is not simulated; empty for one that is."""
    return "" if alert in SIMULATED else _WHY_NOT[alert]


def simulate(config: Config, stored: Stored, since_ns: int, until_ns: int) -> list[Would]:
    """Every alert that would have fired in [since, until), by when it began."""
    found: list[Would] = []
    for slo in config.slos:
        for group, events in stored.events.get(slo.name, {}).items():
            found += _of_slo(slo, group, events, since_ns, until_ns)
    for budget in config.budgets:
        for scope, spend in stored.spend.get(budget.name, {}).items():
            found += simulated_budgets.of_period(budget, scope, spend, since_ns, until_ns)
    for budget in budget_burn_rules.watched(config):
        for scope, minutes in stored.minutes[budget.name].items():
            spend = stored.spend[budget.name].get(scope, Spend.of({}))
            found += simulated_budgets.of_speed(budget, scope, spend, minutes, since_ns, until_ns)
    found += _of_nobody(config, stored, since_ns, until_ns)
    for kind in _BY_MEASURE:
        found += kind.simulate(config, stored.measured, since_ns, until_ns)
    return sorted(found, key=lambda one: (one.since_ns, one.alert, one.about))


def _of_slo(slo: Slo, group: Group, events: History, since_ns: int, until_ns: int) -> Iterator[Would]:
    which = whose(slo.per, group)
    # Tiers of a calendar month depend on its length, as do those of the rules: on that of now.
    for tier in slo.plan_at(until_ns).tiers:
        held = simulation.burning(events, slo, tier, since_ns, until_ns)
        stretches = simulation.fired(held, slo_rules.for_s(tier) * NS, slo_rules.keep_firing_for_s(tier) * NS)
        said = about(slo=slo.name, burn=tier.name, **which)
        yield from would(slo_rules.burn_alert(tier), said, tier.severity, stretches)
    spent = simulation.fired(simulation.exhausted(events, slo, since_ns, until_ns), slo_rules.EXHAUSTED_FOR_S * NS)
    yield from would(slo_rules.EXHAUSTED, about(slo=slo.name, **which), "ticket", spent)


def _of_nobody(config: Config, stored: Stored, since_ns: int, until_ns: int) -> Iterator[Would]:
    wanted = config.alerting.unattributed
    if wanted is not None:
        least = int(wanted.at_least_usd * names.NANO_PER_USD)
        spends = (stored.nobodys, stored.everybodys)
        held = simulation.unattributed(*spends, wanted.share, least, since_ns, until_ns)
        yield from would(spend_rules.UNATTRIBUTED, "", "ticket", simulation.fired(held, spend_rules.FOR_S * NS))
