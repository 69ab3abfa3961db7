"""Alertmanager's configuration: who is told about which severity, how often, and which alert silences which.

Only what Alertmanager 0.25 and newer accept.
"""

from __future__ import annotations

from typing import Any, Final

from graphmeter_alerts import health_rules, slo_rules
from graphmeter_alerts.rules import PRODUCT, to_yaml
from graphmeter_config import Config
from graphmeter_config.alerting import AlertReceiver
from graphmeter_config.indicators import DIMENSIONS

PAGE: Final = "page"
TICKET: Final = "ticket"
DEADMAN: Final = "deadman"

# Without the second matcher an alert that has no SLO would silence every other one: missing labels are equal.
_OF_AN_SLO: Final = 'slo=~".+"'


def configuration(config: Config) -> str:
    """YAML of alertmanager.yml."""
    receivers = config.alerting.receivers
    return to_yaml(
        {
            "route": {
                # Whatever carries a severity of which we know nothing reaches somebody.
                "receiver": TICKET,
                "group_by": ["alertname", "slo", "graph", "budget", "team", "scope"],
                "group_wait": "30s",
                "group_interval": "5m",
                "repeat_interval": "1d",
                "routes": _routes(),
            },
            "inhibit_rules": _inhibitions(),
            "receivers": [
                _receiver(PAGE, receivers.page),
                _receiver(TICKET, receivers.ticket),
                _receiver(DEADMAN, receivers.deadman),
            ],
        }
    )


def _routes() -> list[dict[str, Any]]:
    watchdog = [f'alertname="{health_rules.WATCHDOG}"']
    return [
        {
            "matchers": watchdog,
            "receiver": DEADMAN,
            "group_wait": "0s",
            "group_interval": "1m",
            "repeat_interval": "5m",
        },
        {"matchers": ['severity="page"'], "receiver": PAGE, "repeat_interval": "1h"},
        {"matchers": ['severity="ticket"'], "receiver": TICKET},
    ]


def _inhibitions() -> list[dict[str, Any]]:
    without_collector = f"{slo_rules.ABSENT}|{health_rules.INSTANCE_DOWN}"
    return [
        {  # somebody is on it already
            "source_matchers": [f'product="{PRODUCT}"', 'severity="page"', _OF_AN_SLO],
            "target_matchers": [f'product="{PRODUCT}"', 'severity="ticket"', _OF_AN_SLO],
            # Of all that SLOs may judge by; what an alert lacks is equal to what another lacks.
            "equal": ["slo", *DIMENSIONS],
        },
        # Thresholds of a budget need none: each ends where the next begins. It would keep back only that news.
        {
            "source_matchers": [f'alertname="{health_rules.COLLECTOR_DOWN}"'],
            "target_matchers": [f'alertname=~"{without_collector}"'],
            "equal": ["job"],
        },
    ]


def _receiver(name: str, receiver: AlertReceiver) -> dict[str, Any]:
    if receiver.webhook is None:
        return {"name": name}
    return {"name": name, "webhook_configs": [{"url": receiver.webhook, "send_resolved": True}]}
