"""Alertmanager's configuration: who is told about which severity, how often, and which alert silences which.

Only what Alertmanager 0.25 and newer accept; one setting that needs more says so at the head of the file. Whom an alert
reaches is decided by the first route that matches: the watchdog's, then those of owners, then those of severities.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from graphmeter_alerts import (
    anomaly_rules,
    budget_burn_rules,
    budget_rules,
    health_rules,
    provider_rules,
    receivers,
    slo_rules,
    threshold_rules,
)
from graphmeter_alerts.routing import Matcher, Route, reached
from graphmeter_alerts.rules import PRODUCT, to_yaml
from graphmeter_config import Config
from graphmeter_config.alerting import SEVERITIES, AlertReceiver, Owner, Severity
from graphmeter_config.indicators import DIMENSIONS
from graphmeter_config.section import glob_regex

PAGE: Final = "page"
TICKET: Final = "ticket"
DEADMAN: Final = "deadman"
NOBODY: Final = "nobody"
"""Gets what somebody else tells already."""
TEST: Final = "graphmeter_test"
"""Label of an alert that only proves the way to its receiver; it silences no real one, nor the other way round."""

_REPEAT_PAGE: Final = "1h"
_REPEAT: Final = "1d"
# Without the second matcher an alert that has no SLO would silence every other one: missing labels are equal.
_OF_AN_SLO: Final = Matcher("slo", ".+", "=~")
_OURS: Final = Matcher("product", PRODUCT)
BURSTS: Final = (
    budget_burn_rules.BURN_FAST,
    budget_burn_rules.EXHAUSTS_SOON,
    provider_rules.NEAR,
    threshold_rules.ALERT_OF["spend_usd_per_hour"],
)
"""What takes the replay of an outage for a burst; shares stay what they were."""
SILENT_WITHOUT_COLLECTORS: Final = (slo_rules.ABSENT, health_rules.INSTANCE_DOWN, anomaly_rules.TRAFFIC_DROP)
"""What says nothing new while not one collector answers; each carries the label `job`."""

_OF_ERRORS_OR_LATENCY: Final = (
    threshold_rules.ALERT_OF["error_rate"],
    threshold_rules.ALERT_OF["latency_p95"],
    anomaly_rules.ALERT_OF["error_rate"],
    anomaly_rules.ALERT_OF["latency_p95"],
)


def configuration(config: Config) -> str:
    """YAML of alertmanager.yml."""
    told = dict(_receivers(config))
    root = {
        # Whatever carries a severity of which we know nothing reaches somebody.
        "receiver": TICKET,
        "group_by": ["alertname", "slo", "graph", "budget", "team", "scope"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": _REPEAT,
        "routes": [route.plain() for route in routes(config)],
    }
    return to_yaml(
        {
            "route": root,
            "inhibit_rules": _inhibitions(),
            "receivers": [
                receivers.plain(name, receiver, send_resolved=name != DEADMAN) for name, receiver in told.items()
            ],
        }
    )


def notes(config: Config) -> list[str]:
    """What an Alertmanager has to be able to do beyond the oldest that we know."""
    files = [name for name, receiver in _receivers(config) if receiver.webhook_file]
    return [f"{', '.join(files)}: url_file of a webhook needs Alertmanager 0.26."] if files else []


def receiver_of(config: Config, labels: dict[str, str]) -> str:
    """Name of the receiver that an alert with these labels reaches."""
    return reached(routes(config), labels, TICKET)


def routes(config: Config) -> list[Route]:
    """In order: the first that matches an alert decides."""
    deadman = Route(
        (Matcher("alertname", health_rules.WATCHDOG),),
        DEADMAN,
        {"group_wait": "0s", "group_interval": "1m", "repeat_interval": "5m"},
    )
    told = Route((Matcher(budget_rules.TOLD_BY, budget_rules.COLLECTOR),), NOBODY)
    # Whoever is named by an SLO or budget comes before those who are found by a team.
    owned = [route for found in (_by_name, _by_team) for owner in config.alerting.owners for route in found(owner)]
    return [deadman, told, *owned, *(_route(severity, severity) for severity in SEVERITIES)]


def _by_name(owner: Owner) -> Iterator[Route]:
    for severity in owner.receivers():
        yield _route(severity, _name(owner, severity), Matcher("owner", owner.name))


def _by_team(owner: Owner) -> Iterator[Route]:
    if owner.teams is None:
        return
    literal = len(owner.teams) == 1 and not set("*?") & set(owner.teams[0])
    pattern = owner.teams[0] if literal else "|".join(map(glob_regex, owner.teams))
    # An alert without the label is about no team at all, whatever the pattern.
    about = (Matcher("owner", ""), Matcher("team", "", "!="), Matcher("team", pattern, "=" if literal else "=~"))
    for severity in owner.receivers():
        yield _route(severity, _name(owner, severity), *about)


def _route(severity: Severity, receiver: str, *about: Matcher) -> Route:
    often = {"repeat_interval": _REPEAT_PAGE} if severity == "page" else {}
    return Route((*about, Matcher("severity", severity)), receiver, often)


def _name(owner: Owner, severity: Severity) -> str:
    # Names of owners have no slash: two can never be one, nor that of a severity.
    return f"{owner.name}/{severity}"


def _receivers(config: Config) -> Iterator[tuple[str, AlertReceiver]]:
    general = config.alerting.receivers
    yield from ((severity, general.of(severity)) for severity in SEVERITIES)
    yield DEADMAN, general.deadman
    yield NOBODY, AlertReceiver()
    for owner in config.alerting.owners:
        yield from ((_name(owner, severity), receiver) for severity, receiver in owner.receivers().items())


def _inhibitions() -> list[dict[str, Any]]:
    pages = [_OURS, Matcher("severity", PAGE), _OF_AN_SLO]
    tickets = [_OURS, Matcher("severity", TICKET), _OF_AN_SLO]
    down = [Matcher("alertname", health_rules.COLLECTOR_DOWN)]
    without = [Matcher("alertname", "|".join(SILENT_WITHOUT_COLLECTORS), "=~")]
    return [
        # Somebody is on it already. Of all that SLOs may judge by; what an alert lacks is equal to what another lacks.
        _inhibition(pages, tickets, "slo", *DIMENSIONS),
        # Thresholds of a budget need none: each ends where the next begins. It would keep back only that news.
        _inhibition(down, without, "job"),
        # What is not stored is not counted.
        _inhibition(
            [Matcher("alertname", health_rules.DATABASE_AWAY)],
            [Matcher("alertname", anomaly_rules.TRAFFIC_DROP)],
            "job",
        ),
        # Both together say more than each alone, and a page of an SLO as much.
        _inhibition(
            [Matcher("alertname", anomaly_rules.ERRORS_AND_LATENCY)], [_any_of(*_OF_ERRORS_OR_LATENCY)], "graph"
        ),
        _inhibition(pages, [_any_of(*_OF_ERRORS_OR_LATENCY)], "graph"),
        # Counters catch up with an outage.
        _inhibition([Matcher("alertname", health_rules.REPLAYING)], [_any_of(*BURSTS)]),
    ]


def _any_of(*alerts: str) -> Matcher:
    return Matcher("alertname", "|".join(alerts), "=~")


def _inhibition(source: list[Matcher], target: list[Matcher], *equal: str) -> dict[str, Any]:
    return {
        "source_matchers": [matcher.text for matcher in source],
        "target_matchers": [matcher.text for matcher in target],
        "equal": [*equal, TEST],
    }
