"""Unit tests of the rules about collectors: one of two down, all down, none known, back again; and the watchdog."""

from __future__ import annotations

from collections.abc import Iterator

from graphmeter_alerts import wording
from graphmeter_alerts.cases import MINUTE, Case, Check, Firing, series, staying
from graphmeter_alerts.health_rules import (
    COLLECTOR_DOWN,
    COLLECTOR_DOWN_FOR_S,
    INSTANCE_DOWN,
    INSTANCE_DOWN_FOR_S,
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
    yield Case(
        "the watchdog always fires",
        {a: staying((1, 10))},
        (Check(0, WATCHDOG, (always,)), Check(9 * MINUTE, WATCHDOG, (always,))),
    )
