"""Alerts about the measuring itself.

Collectors that do not answer, a database that does not, a spool that fills; a replay, which silences alerts on bursts; and
a watchdog that proves the way to the receiver.
"""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter_alerts import wording
from graphmeter_alerts.rules import Alert, Group, alert_labels, matchers
from graphmeter_alerts.slo_rules import JOB
from graphmeter_alerts.wording import label
from graphmeter_config import Config

COLLECTOR_DOWN: Final = "GraphmeterCollectorDown"
INSTANCE_DOWN: Final = "GraphmeterCollectorInstanceDown"
DATABASE_AWAY: Final = "GraphmeterDatabaseAway"
SPOOL_FILLING: Final = "GraphmeterSpoolFilling"
REPLAYING: Final = "GraphmeterReplaying"
WATCHDOG: Final = "GraphmeterWatchdog"
ALERTS: Final = (COLLECTOR_DOWN, INSTANCE_DOWN, DATABASE_AWAY, SPOOL_FILLING, REPLAYING, WATCHDOG)

COLLECTOR_DOWN_FOR_S: Final = 120
INSTANCE_DOWN_FOR_S: Final = 600
DATABASE_AWAY_FOR_S: Final = 300
"""A restart or a failover of the database is shorter, and nobody notices it."""
SPOOL_FILLING_FROM: Final = 0.8
SPOOL_FILLING_FOR_S: Final = 60

REPLAYED_AFTER_S: Final = 600
"""What waited for less is lost among what happens anyway: windows of bursts are an hour, and their alerts keep firing."""

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
    away = Alert(
        DATABASE_AWAY,
        f"sum by (job) ({names.COLLECTOR_DATABASE_AWAY.name}{matchers(job=JOB)}) > 0",
        alert_labels("page"),
        wording.database_away(config, DATABASE_AWAY, collectors=wording.COUNT_VALUE),
        DATABASE_AWAY_FOR_S,
    )
    used, limit = (
        metric.name + matchers(job=JOB) for metric in (names.COLLECTOR_SPOOL_BYTES, names.COLLECTOR_SPOOL_LIMIT)
    )
    filling = Alert(
        SPOOL_FILLING,
        f"{used} / {limit} > {SPOOL_FILLING_FROM}",
        alert_labels("page"),
        wording.spool_filling(config, SPOOL_FILLING, instance=label("instance"), share=wording.PERCENT_VALUE),
        SPOOL_FILLING_FOR_S,
    )
    replaying, oldest = (
        metric.name + matchers(job=JOB) for metric in (names.COLLECTOR_REPLAYING, names.COLLECTOR_SPOOL_OLDEST)
    )
    replayed = Alert(
        REPLAYING,
        f"max by (job) (max_over_time({replaying}[90m])) > 0\n"
        f"and\nmax by (job) (max_over_time({oldest}[2h])) > {REPLAYED_AFTER_S}",
        alert_labels("info"),
        wording.replaying(config, REPLAYING),
    )
    watchdog = Alert(WATCHDOG, "vector(1)", alert_labels("info"), wording.watchdog(config, WATCHDOG))
    return [Group("graphmeter-health", 60, (down, instance_down, away, filling, replayed, watchdog))]
