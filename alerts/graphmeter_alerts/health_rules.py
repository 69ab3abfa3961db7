"""Alerts about the measuring itself: collectors that do not answer, and a watchdog that proves the way to the receiver."""

from __future__ import annotations

from typing import Final

from graphmeter_alerts import wording
from graphmeter_alerts.rules import Alert, Group, alert_labels, matchers
from graphmeter_alerts.slo_rules import JOB
from graphmeter_alerts.wording import label
from graphmeter_config import Config

COLLECTOR_DOWN: Final = "GraphmeterCollectorDown"
INSTANCE_DOWN: Final = "GraphmeterCollectorInstanceDown"
WATCHDOG: Final = "GraphmeterWatchdog"
ALERTS: Final = (COLLECTOR_DOWN, INSTANCE_DOWN, WATCHDOG)

COLLECTOR_DOWN_FOR_S: Final = 120
INSTANCE_DOWN_FOR_S: Final = 600

UP: Final = "up"
"""Made by Prometheus itself: 1 while a target can be scraped."""


def groups(config: Config) -> list[Group]:
    """The one rule group about collectors."""
    collectors = UP + matchers(job=JOB)
    down = Alert(
        COLLECTOR_DOWN,
        f"(\n  max by (job) ({collectors})\nor\n  absent({collectors}) - 1\n) == 0",
        alert_labels("page"),
        wording.collector_down(config, COLLECTOR_DOWN),
        COLLECTOR_DOWN_FOR_S,
    )
    instance_down = Alert(
        INSTANCE_DOWN,
        f"{collectors} == 0",
        alert_labels("ticket"),
        wording.collector_instance_down(config, INSTANCE_DOWN, instance=label("instance")),
        INSTANCE_DOWN_FOR_S,
    )
    watchdog = Alert(WATCHDOG, "vector(1)", alert_labels("info"), wording.watchdog(config, WATCHDOG))
    return [Group("graphmeter-health", 60, (down, instance_down, watchdog))]
