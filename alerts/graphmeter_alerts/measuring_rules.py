"""Alerts about what is lost or late on its way: spans, requests, forwarding, messages, jobs, and rules that are out of date.

Beside `health_rules`, which look at whether collectors and their database are there at all. Counters of collectors are
added; what is read from the database is the same on each, so the largest is taken. Whatever is judged as a share is so
during a replay, too, where counters run faster than events happen.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import measuring_wording as say
from graphmeter_alerts import wording
from graphmeter_alerts.rules import Alert, Group, alert_labels, matchers, quoted
from graphmeter_alerts.slo_rules import JOB
from graphmeter_alerts.wording import label, number
from graphmeter_config import Config

SPOOL_GROWING: Final = "GraphmeterSpoolGrowing"
SPANS_REJECTED: Final = "GraphmeterSpansRejected"
REQUESTS_REFUSED: Final = "GraphmeterRequestsRefused"
CLIENTS_DROPPING: Final = "GraphmeterClientsDropping"
FORWARD_FAILING: Final = "GraphmeterForwardFailing"
FORWARD_DROPPING: Final = "GraphmeterForwardDropping"
NOTIFICATIONS_FAILING: Final = "GraphmeterNotificationsFailing"
JOB_FAILING: Final = "GraphmeterJobFailing"
RULES_OUTDATED: Final = "GraphmeterRulesOutdated"
ALERTS: Final = (
    SPOOL_GROWING,
    SPANS_REJECTED,
    REQUESTS_REFUSED,
    CLIENTS_DROPPING,
    FORWARD_FAILING,
    FORWARD_DROPPING,
    NOTIFICATIONS_FAILING,
    JOB_FAILING,
    RULES_OUTDATED,
)

SPOOL_FULL_WITHIN_S: Final = 3600
LOST_SHARE: Final = Fraction(1, 100)
LOST_AT_LEAST: Final = 10
"""Of spans in an hour; fewer are somebody's experiment."""
REFUSED_SHARE: Final = Fraction(5, 100)
REFUSED_AT_LEAST: Final = 20
"""Of requests in a quarter of an hour; fewer are somebody who tries a door."""
LATE_S: Final = 900
"""How long after they were due spans may still wait to be forwarded."""
OUTDATED_FOR_S: Final = 900
"""Rules and collectors are not deployed in the same second."""
FOR_S: Final = {
    SPOOL_GROWING: 300,
    SPANS_REJECTED: 300,
    REQUESTS_REFUSED: 300,
    CLIENTS_DROPPING: 300,
    FORWARD_FAILING: 300,
    FORWARD_DROPPING: 60,
    NOTIFICATIONS_FAILING: 900,
    JOB_FAILING: 1800,
    RULES_OUTDATED: OUTDATED_FOR_S,
}
OF_METRIC: Final = "exported_job"
"""A label `job` of a metric, as Prometheus renames it: its own is that of the target."""

_LOST: Final = ("dropped", "failed")


def groups(config: Config) -> list[Group]:
    """The one rule group about what is lost or late."""
    alerts = (
        _spool_growing(config),
        _spans_rejected(config),
        _requests_refused(config),
        _clients_dropping(config),
        _forward_failing(config),
        _forward_dropping(config),
        _notifications_failing(config),
        _job_failing(config),
        _rules_outdated(config),
    )
    return [Group("graphmeter-measuring", 60, alerts)]


def forward_late_s(config: Config) -> int:
    """How old what waits to be forwarded may be: traces that sampling has yet to judge wait on purpose."""
    return LATE_S + (round(config.sampling.at_most_s) if config.sampling.rules else 0)


def _alert(name: str, expr: str, annotations: dict[str, str]) -> Alert:
    return Alert(name, expr, alert_labels("ticket"), annotations, FOR_S[name])


def _of(metric: names.Metric, *more: str) -> str:
    return f"{metric.name}{{{','.join([f'job={quoted(JOB)}', *more])}}}"


def _grown(metric: names.Metric, window: str, by: str, *more: str) -> str:
    return f"sum by ({by}) (increase({_of(metric, *more)}[{window}]))"


def _spool_growing(config: Config) -> Alert:
    used, limit = _of(names.COLLECTOR_SPOOL_BYTES), _of(names.COLLECTOR_SPOOL_LIMIT)
    return _alert(
        SPOOL_GROWING,
        f"predict_linear({used}[15m], {SPOOL_FULL_WITHIN_S}) / {limit} > 1\nand\n{used} > 0",
        say.spool_growing(config, SPOOL_GROWING, instance=label("instance")),
    )


def _spans_rejected(config: Config) -> Alert:
    rejected = _grown(names.COLLECTOR_REJECTED, "1h", "job, reason")
    return _alert(
        SPANS_REJECTED,
        f"{rejected}\n/ on (job) group_left ()\n{_grown(names.COLLECTOR_RECEIVED, '1h', 'job')}\n"
        f"> {number(LOST_SHARE)}\nand\n{rejected} >= {LOST_AT_LEAST}",
        say.spans_rejected(config, SPANS_REJECTED, reason=label("reason"), share=wording.PERCENT_VALUE),
    )


def _requests_refused(config: Config) -> Alert:
    refused = _grown(names.COLLECTOR_REQUESTS_REFUSED, "15m", "job, reason")
    all_refused = _grown(names.COLLECTOR_REQUESTS_REFUSED, "15m", "job")
    taken = _grown(names.COLLECTOR_REQUESTS, "15m", "job")
    return _alert(
        REQUESTS_REFUSED,
        # Where everything is refused nothing was taken, ever: then there is no such series.
        f"{refused}\n/ on (job) group_left ()\n({all_refused} + ({taken} or 0 * {all_refused}))\n"
        f"> {number(REFUSED_SHARE)}\nand\n{refused} >= {REFUSED_AT_LEAST}",
        say.requests_refused(config, REQUESTS_REFUSED, reason=label("reason"), share=wording.PERCENT_VALUE),
    )


def _clients_dropping(config: Config) -> Alert:
    by = "service, environment"
    lost = _grown(names.CLIENT_SPANS, "1h", by, f"state=~{quoted('|'.join(_LOST))}")
    return _alert(
        CLIENTS_DROPPING,
        f"{lost}\n/\n{_grown(names.CLIENT_SPANS, '1h', by)}\n> {number(LOST_SHARE)}\nand\n{lost} >= {LOST_AT_LEAST}",
        say.clients_dropping(
            config,
            CLIENTS_DROPPING,
            service=label("service"),
            environment=label("environment"),
            share=wording.PERCENT_VALUE,
        ),
    )


def _forward_failing(config: Config) -> Alert:
    return _alert(
        FORWARD_FAILING,
        f"max by (job, destination) ({_of(names.COLLECTOR_OUTBOX_AGE)}) > {forward_late_s(config)}",
        say.forward_failing(config, FORWARD_FAILING, destination=label("destination"), age=say.DURATION_VALUE),
    )


def _forward_dropping(config: Config) -> Alert:
    return _alert(
        FORWARD_DROPPING,
        f"{_grown(names.COLLECTOR_FORWARD_DROPPED, '1h', 'job, destination, reason')} > 0",
        say.forward_dropping(
            config,
            FORWARD_DROPPING,
            destination=label("destination"),
            reason=label("reason"),
            spans=wording.COUNT_VALUE,
        ),
    )


def _notifications_failing(config: Config) -> Alert:
    # What is tried again waits up to half an hour in between.
    failed = f"result=~{quoted(f'{names.NOTIFY_FAILED}|{names.NOTIFY_GIVEN_UP}')}"
    delivered = f"result={quoted(names.NOTIFIED)}"
    by = "job, receiver"
    return _alert(
        NOTIFICATIONS_FAILING,
        f"{_grown(names.COLLECTOR_NOTIFICATIONS, '1h', by, failed)} > 0\n"
        f"unless\n{_grown(names.COLLECTOR_NOTIFICATIONS, '1h', by, delivered)} > 0",
        say.notifications_failing(config, NOTIFICATIONS_FAILING, receiver=label("receiver")),
    )


def _job_failing(config: Config) -> Alert:
    # Without a database no job succeeds, which is told already.
    return _alert(
        JOB_FAILING,
        f"{_grown(names.COLLECTOR_JOB_FAILURES, '15m', f'job, {OF_METRIC}')} > 0\n"
        f"unless on (job)\nmax by (job) (max_over_time({_of(names.COLLECTOR_DATABASE_AWAY)}[15m])) > 0",
        say.job_failing(config, JOB_FAILING, job=label(OF_METRIC)),
    )


def _rules_outdated(config: Config) -> Alert:
    others = matchers(job=JOB).removesuffix("}") + f",hash!={quoted(config.rules_hash)}}}"
    return _alert(
        RULES_OUTDATED,
        f"count by (job, hash) ({names.COLLECTOR_RULES.name}{others}) > 0",
        say.rules_outdated(config, RULES_OUTDATED, collectors=wording.COUNT_VALUE, hash_=label("hash")),
    )
