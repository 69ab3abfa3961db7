"""Unit tests of the rules about collectors.

One of two down, all down, none known, back again; a database away, for a while and for longer; a spool that fills; a
replay; and the watchdog.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphmeter import names
from graphmeter_alerts import wording
from graphmeter_alerts.cases import MINUTE, Case, Check, Firing, series, staying
from graphmeter_alerts.health_rules import (
    COLLECTOR_DOWN,
    COLLECTOR_DOWN_FOR_S,
    DATABASE_AWAY,
    DATABASE_AWAY_FOR_S,
    INSTANCE_DOWN,
    INSTANCE_DOWN_FOR_S,
    REPLAYING,
    SPOOL_FILLING,
    SPOOL_FILLING_FROM,
    UP,
    WATCHDOG,
)
from graphmeter_alerts.rules import alert_labels
from graphmeter_alerts.slo_rules import JOB
from graphmeter_config import Config


def cases(config: Config) -> Iterator[Case]:
    """Every unit test of the rules about collectors."""
    down = Firing({**alert_labels("page"), "job": JOB}, wording.collector_down(config, COLLECTOR_DOWN))
    instance_down = Firing(
        {**alert_labels("ticket"), "job": JOB, "instance": "b"},
        wording.collector_instance_down(config, INSTANCE_DOWN, instance="b"),
    )
    always = Firing(alert_labels("info"), wording.watchdog(config, WATCHDOG))
    a, b = (series(UP, job=JOB, instance=instance) for instance in "ab")
    page_s, ticket_s, breaks_s = COLLECTOR_DOWN_FOR_S, INSTANCE_DOWN_FOR_S, 10 * MINUTE
    yield Case(
        "one of two collectors down is a ticket, and resolves",
        {a: staying((1, 40)), b: staying((1, 10), (0, 20), (1, 10))},
        (
            Check(breaks_s + ticket_s - MINUTE, INSTANCE_DOWN),
            Check(breaks_s + ticket_s, INSTANCE_DOWN, (instance_down,)),
            Check(breaks_s + ticket_s, COLLECTOR_DOWN),
            Check(32 * MINUTE, INSTANCE_DOWN),
        ),
    )
    yield Case(
        "every collector down is a page, and resolves with the first that is back",
        {a: staying((1, 10), (0, 10), (1, 10)), b: staying((1, 10), (0, 20))},
        (
            Check(breaks_s + page_s - MINUTE, COLLECTOR_DOWN),
            Check(breaks_s + page_s, COLLECTOR_DOWN, (down,)),
            Check(21 * MINUTE, COLLECTOR_DOWN),
        ),
    )
    yield Case(
        "a job without targets is a page, and resolves",
        {a: f"_x9 {staying((1, 10))}"},
        (
            Check(page_s - MINUTE, COLLECTOR_DOWN),
            Check(page_s, COLLECTOR_DOWN, (down,)),
            Check(12 * MINUTE, COLLECTOR_DOWN),
            Check(12 * MINUTE, INSTANCE_DOWN),
        ),
    )
    yield Case(
        "another job that is down is not ours",
        {a: staying((1, 20)), series(UP, job="other", instance="c"): staying((0, 20))},
        (Check(19 * MINUTE, COLLECTOR_DOWN), Check(19 * MINUTE, INSTANCE_DOWN)),
    )

    def at(metric: str, instance: str) -> str:
        return series(metric, job=JOB, instance=instance)

    away = Firing({**alert_labels("page"), "job": JOB}, wording.database_away(config, DATABASE_AWAY, collectors="2"))
    database_away = names.COLLECTOR_DATABASE_AWAY.name
    yield Case(
        "a database that is away is a page, unless it is soon back, and resolves while what waited is replayed",
        {
            at(database_away, "a"): staying((0, 5), (1, 4), (0, 11), (1, 10), (0, 10)),
            at(database_away, "b"): staying((0, 5), (1, 4), (0, 11), (1, 10), (0, 10)),
            at(names.COLLECTOR_SPOOL_OLDEST.name, "a"): staying((0, 20), (600, 15), (0, 5)),
        },
        (
            Check(5 * MINUTE + DATABASE_AWAY_FOR_S, DATABASE_AWAY),
            Check(20 * MINUTE + DATABASE_AWAY_FOR_S - MINUTE, DATABASE_AWAY),
            Check(20 * MINUTE + DATABASE_AWAY_FOR_S, DATABASE_AWAY, (away,)),
            Check(31 * MINUTE, DATABASE_AWAY),
        ),
    )
    filling = Firing(
        {**alert_labels("page"), "job": JOB, "instance": "b"},
        wording.spool_filling(config, SPOOL_FILLING, instance="b", share="81%"),
    )
    full_at = round(1000 * SPOOL_FILLING_FROM)
    yield Case(
        "a spool that fills is a page, a spool with room is none",
        {
            at(names.COLLECTOR_SPOOL_LIMIT.name, "a"): staying((1000, 30)),
            at(names.COLLECTOR_SPOOL_LIMIT.name, "b"): staying((1000, 30)),
            at(names.COLLECTOR_SPOOL_BYTES.name, "a"): staying((full_at, 30)),
            at(names.COLLECTOR_SPOOL_BYTES.name, "b"): staying((0, 10), (full_at + 10, 10), (0, 10)),
        },
        (
            Check(9 * MINUTE, SPOOL_FILLING),
            Check(10 * MINUTE, SPOOL_FILLING),
            Check(12 * MINUTE, SPOOL_FILLING, (filling,)),
            Check(21 * MINUTE, SPOOL_FILLING),
        ),
    )
    replayed = Firing({**alert_labels("info"), "job": JOB}, wording.replaying(config, REPLAYING))
    yield Case(
        "a replay of what waited for long is told for an hour and a half, a short one not at all",
        {
            at(names.COLLECTOR_REPLAYING.name, "a"): staying((0, 20), (1, 2), (0, 178), (1, 5), (0, 115)),
            at(names.COLLECTOR_REPLAYING.name, "b"): staying((0, 320)),
            at(names.COLLECTOR_SPOOL_OLDEST.name, "a"): staying((0, 15), (580, 7), (0, 158), (620, 25), (0, 115)),
        },
        (
            Check(21 * MINUTE, REPLAYING),
            Check(190 * MINUTE, REPLAYING),
            Check(201 * MINUTE, REPLAYING, (replayed,)),
            Check(290 * MINUTE, REPLAYING, (replayed,)),
            Check(296 * MINUTE, REPLAYING),
        ),
    )
    yield Case(
        "the watchdog always fires",
        {a: staying((1, 10))},
        (Check(0, WATCHDOG, (always,)), Check(9 * MINUTE, WATCHDOG, (always,))),
    )
