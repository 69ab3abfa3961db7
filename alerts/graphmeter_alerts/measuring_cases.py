"""Unit tests of the rules about what is lost or late: each fires for what it is about, not for less, and resolves.

Two collectors in all of them: counters are added, what is read from the database is not. And ten minutes without a
database with everything replayed after them, where nothing is lost and nothing may fire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from graphmeter import names
from graphmeter_alerts import measuring_rules as rules
from graphmeter_alerts import measuring_wording as say
from graphmeter_alerts.cases import HOUR, MINUTE, Case, Check, Firing, growing, no_alert, series, staying
from graphmeter_alerts.rules import alert_labels
from graphmeter_alerts.slo_rules import JOB
from graphmeter_config import Config

_COLLECTORS: Final = ("a", "b")
_OTHER_HASH: Final = "0123456789abcdef"


def cases(config: Config) -> Iterator[Case]:
    """Every unit test of these rules."""
    yield _spool(config)
    yield _rejected(config)
    yield _refused(config)
    yield _refused_without_any_taken(config)
    yield _clients(config)
    yield _late(config)
    yield _dropped(config)
    yield _untold(config)
    yield _jobs(config)
    yield _outdated(config)
    yield _few()
    yield _enough(config)
    yield _replayed(config)


def _each(metric: names.Metric, values: str, **labels: str) -> dict[str, str]:
    """The same on every collector."""
    return {series(metric.name, job=JOB, instance=instance, **labels): values for instance in _COLLECTORS}


def _firing(annotations: Mapping[str, str], **labels: str) -> tuple[Firing, ...]:
    return (Firing({**alert_labels("ticket"), "job": JOB, **labels}, annotations),)


def _spool(config: Config) -> Case:
    told = _firing(say.spool_growing(config, rules.SPOOL_GROWING, instance="b"), instance="b")
    limit, used = names.COLLECTOR_SPOOL_LIMIT, names.COLLECTOR_SPOOL_BYTES
    return Case(
        "a spool that will be full within the hour, one that grows slowly, and its end",
        {
            **_each(limit, staying((6000, 60))),
            # A quarter of an hour has passed: 7500 in an hour, and 5250.
            series(used.name, job=JOB, instance="a"): f"0+70x15 {staying((1050, 45))}",
            series(used.name, job=JOB, instance="b"): f"0+100x30 {staying((0, 29))}",
        },
        (
            Check(MINUTE, rules.SPOOL_GROWING),
            Check(15 * MINUTE, rules.SPOOL_GROWING, told),
            Check(25 * MINUTE, rules.SPOOL_GROWING, told),
            Check(50 * MINUTE, rules.SPOOL_GROWING),
        ),
    )


def _rejected(config: Config) -> Case:
    told = _firing(say.spans_rejected(config, rules.SPANS_REJECTED, reason="late", share="1.2%"), reason="late")
    return Case(
        "1.2% of the spans are rejected, for one reason; 0.8% for another are accepted",
        {
            **_each(names.COLLECTOR_RECEIVED, growing((500, 130))),
            **_each(names.COLLECTOR_REJECTED, growing((6, 60), (0, 70)), reason="late"),
            **_each(names.COLLECTOR_REJECTED, growing((4, 130)), reason="damaged"),
        },
        (
            Check(4 * MINUTE, rules.SPANS_REJECTED),
            Check(HOUR, rules.SPANS_REJECTED, told),
            Check(125 * MINUTE, rules.SPANS_REJECTED),
        ),
    )


def _refused(config: Config) -> Case:
    words = say.requests_refused(config, rules.REQUESTS_REFUSED, reason="unknown_key", share="6%")
    return Case(
        "6% of the requests are refused, for one reason; 4% for another are not told",
        {
            **_each(names.COLLECTOR_REQUESTS, growing((90, 120)), protocol=names.GRPC),
            **_each(names.COLLECTOR_REQUESTS_REFUSED, growing((6, 60), (0, 60)), reason="unknown_key"),
            **_each(names.COLLECTOR_REQUESTS_REFUSED, growing((4, 120)), reason="too_large"),
        },
        (
            Check(2 * MINUTE, rules.REQUESTS_REFUSED),
            Check(HOUR, rules.REQUESTS_REFUSED, _firing(words, reason="unknown_key")),
            Check(80 * MINUTE, rules.REQUESTS_REFUSED),
        ),
    )


def _refused_without_any_taken(config: Config) -> Case:
    words = say.requests_refused(config, rules.REQUESTS_REFUSED, reason="unknown_key", share="100%")
    return Case(
        "every request since the start is refused",
        _each(names.COLLECTOR_REQUESTS_REFUSED, growing((10, 60)), reason="unknown_key"),
        (Check(HOUR, rules.REQUESTS_REFUSED, _firing(words, reason="unknown_key")),),
    )


def _clients(config: Config) -> Case:
    who = {"service": "desk", "environment": "prod"}
    told = say.clients_dropping(config, rules.CLIENTS_DROPPING, **who, share="1.2%")
    firing = (Firing({**alert_labels("ticket"), **who}, told),)

    def sent(per_minute: float, state: str, of: dict[str, str], until: int = 130) -> dict[str, str]:
        values = growing((per_minute, until), (0, 130 - until)) if until < 130 else growing((per_minute, 130))
        return _each(names.CLIENT_SPANS, values, **of, state=state)

    other = who | {"service": "web"}

    return Case(
        "an application loses 1.2% of its spans, in both ways; another one 0.8%",
        {
            **sent(988, "exported", who),
            **sent(8, "dropped", who, until=60),
            **sent(4, "failed", who, until=60),
            **sent(992, "exported", other),
            **sent(8, "dropped", other),
        },
        (
            Check(2 * MINUTE, rules.CLIENTS_DROPPING),
            Check(HOUR, rules.CLIENTS_DROPPING, firing),
            Check(125 * MINUTE, rules.CLIENTS_DROPPING),
        ),
    )


def _late(config: Config) -> Case:
    limit = rules.forward_late_s(config)
    words = say.forward_failing(config, rules.FORWARD_FAILING, destination="jaeger", age=_duration(limit + 60))
    return Case(
        "what waits for a destination is too old, then sent; what waits for another one is not",
        {
            **_each(
                names.COLLECTOR_OUTBOX_AGE,
                staying((limit - 60, 10), (limit + 60, 20), (0, 10)),
                destination="jaeger",
            ),
            **_each(names.COLLECTOR_OUTBOX_AGE, staying((limit, 40)), destination="tempo"),
        },
        (
            Check(9 * MINUTE, rules.FORWARD_FAILING),
            Check(12 * MINUTE, rules.FORWARD_FAILING),
            Check(20 * MINUTE, rules.FORWARD_FAILING, _firing(words, destination="jaeger")),
            Check(31 * MINUTE, rules.FORWARD_FAILING),
        ),
    )


def _dropped(config: Config) -> Case:
    labels = {"destination": "jaeger", "reason": names.FORWARD_REFUSED}
    words = say.forward_dropping(config, rules.FORWARD_DROPPING, **labels, spans="20")
    # So few, and so long after, that Prometheus 3, whose windows leave out the sample at their beginning, says the same.
    return Case(
        "a destination refuses spans for good, and no more after an hour",
        _each(names.COLLECTOR_FORWARD_DROPPED, growing((0, 10), (1, 10), (0, 100)), **labels),
        (
            Check(10 * MINUTE, rules.FORWARD_DROPPING),
            Check(11 * MINUTE, rules.FORWARD_DROPPING),
            Check(65 * MINUTE, rules.FORWARD_DROPPING, _firing(words, **labels)),
            Check(85 * MINUTE, rules.FORWARD_DROPPING),
        ),
    )


def _untold(config: Config) -> Case:
    def attempts(result: str, values: str, receiver: str) -> dict[str, str]:
        return _each(names.COLLECTOR_NOTIFICATIONS, values, receiver=receiver, result=result)

    words = say.notifications_failing(config, rules.NOTIFICATIONS_FAILING, receiver="finops")
    return Case(
        "nothing reaches a receiver until one message does; another one gets them late",
        {
            **attempts(names.NOTIFY_FAILED, growing((1, 90), (0, 60)), "finops"),
            **attempts(names.NOTIFY_GIVEN_UP, growing((0, 150)), "finops"),
            **attempts(names.NOTIFIED, growing((0, 90), (1, 60)), "finops"),
            **attempts(names.NOTIFY_FAILED, growing((1, 150)), "billing"),
            **attempts(names.NOTIFIED, growing((0.1, 150)), "billing"),
        },
        (
            Check(10 * MINUTE, rules.NOTIFICATIONS_FAILING),
            Check(HOUR, rules.NOTIFICATIONS_FAILING, _firing(words, receiver="finops")),
            Check(100 * MINUTE, rules.NOTIFICATIONS_FAILING),
        ),
    )


def _jobs(config: Config) -> Case:
    def failing(job: str, *phases: tuple[float, int]) -> dict[str, str]:
        return _each(names.COLLECTOR_JOB_FAILURES, growing(*phases), **{rules.OF_METRIC: job})

    words = say.job_failing(config, rules.JOB_FAILING, job="sweep")
    return Case(
        "a job fails for half an hour; another one did twice; without a database nothing is said of any",
        {
            **failing("sweep", (0, 10), (1, 60), (0, 40), (1, 60)),
            **failing("budgets", (0, 10), (2, 1), (0, 159)),
            **_each(names.COLLECTOR_DATABASE_AWAY, staying((0, 100), (1, 70))),
        },
        (
            Check(30 * MINUTE, rules.JOB_FAILING),
            Check(60 * MINUTE, rules.JOB_FAILING, _firing(words, exported_job="sweep")),
            Check(90 * MINUTE, rules.JOB_FAILING),
            Check(160 * MINUTE, rules.JOB_FAILING),
        ),
    )


def _outdated(config: Config) -> Case:
    def info(instance: str, hash_: str) -> str:
        return series(names.COLLECTOR_RULES.name, job=JOB, instance=instance, hash=hash_)

    words = say.rules_outdated(config, rules.RULES_OUTDATED, collectors="2", hash_=_OTHER_HASH)
    return Case(
        "collectors with another configuration than these rules, until there are rules of theirs",
        {
            **{info(instance, config.rules_hash): staying((1, 10), (None, 40), (1, 20)) for instance in _COLLECTORS},
            **{info(instance, _OTHER_HASH): staying((None, 10), (1, 40), (None, 20)) for instance in _COLLECTORS},
        },
        (
            Check(9 * MINUTE, rules.RULES_OUTDATED),
            Check(20 * MINUTE, rules.RULES_OUTDATED),
            Check(40 * MINUTE, rules.RULES_OUTDATED, _firing(words, hash=_OTHER_HASH)),
            Check(60 * MINUTE, rules.RULES_OUTDATED),
        ),
    )


_TRIAL: Final = {"service": "trial", "environment": "dev"}


def _lost_at_once(spans: int, requests: int) -> dict[str, str]:
    def once(count: int) -> str:
        return growing((0, 10), (count / len(_COLLECTORS), 1), (0, 30))

    return {
        **_each(names.COLLECTOR_RECEIVED, once(spans)),
        **_each(names.COLLECTOR_REJECTED, once(spans), reason="late"),
        **_each(names.COLLECTOR_REQUESTS, growing((0, 41)), protocol=names.GRPC),
        **_each(names.COLLECTOR_REQUESTS_REFUSED, once(requests), reason="unknown_key"),
        **_each(names.CLIENT_SPANS, once(spans), **_TRIAL, state="dropped"),
    }


def _few() -> Case:
    alerts = (rules.SPANS_REJECTED, rules.REQUESTS_REFUSED, rules.CLIENTS_DROPPING)
    return Case(
        "all of a handful is lost",
        _lost_at_once(rules.LOST_AT_LEAST - 2, rules.REFUSED_AT_LEAST - 2),
        tuple(check for minute in (12, 20, 40) for check in no_alert(minute * MINUTE, alerts)),
    )


def _enough(config: Config) -> Case:
    rejected = say.spans_rejected(config, rules.SPANS_REJECTED, reason="late", share="100%")
    refused = say.requests_refused(config, rules.REQUESTS_REFUSED, reason="unknown_key", share="100%")
    dropped = say.clients_dropping(config, rules.CLIENTS_DROPPING, **_TRIAL, share="100%")
    return Case(
        "all of a few more is lost",
        _lost_at_once(rules.LOST_AT_LEAST + 2, rules.REFUSED_AT_LEAST + 2),
        (
            Check(20 * MINUTE, rules.SPANS_REJECTED, _firing(rejected, reason="late")),
            Check(20 * MINUTE, rules.REQUESTS_REFUSED, _firing(refused, reason="unknown_key")),
            Check(20 * MINUTE, rules.CLIENTS_DROPPING, (Firing({**alert_labels("ticket"), **_TRIAL}, dropped),)),
        ),
    )


def _replayed(config: Config) -> Case:
    """Spans come in all the time; for ten minutes they go to disk, and are stored from there in three."""
    before, away, replay, after = 60, 10, 3, 60
    end = before + away + replay + after
    caught_up = 100 * (1 + away / replay)
    stored = ((100, before), (0, away), (caught_up, replay), (100, after))
    late = config.sampling.at_most_s if config.sampling.rules else 0
    return Case(
        "ten minutes without a database and their replay are no loss",
        {
            **_each(names.COLLECTOR_RECEIVED, growing((100, end))),
            **_each(
                names.COLLECTOR_REJECTED, growing(*((rate / 200, minutes) for rate, minutes in stored)), reason="late"
            ),
            **_each(names.COLLECTOR_REQUESTS, growing((10, end)), protocol=names.GRPC),
            **_each(names.COLLECTOR_REQUESTS_REFUSED, growing((0, end)), reason="spool_full"),
            **_each(
                names.CLIENT_SPANS,
                growing(*stored),
                service="desk",
                environment="prod",
                state="exported",
            ),
            **_each(names.COLLECTOR_SPOOL_LIMIT, staying((100_000, end))),
            **_each(names.COLLECTOR_SPOOL_BYTES, f"0+0x{before - 1} 0+500x{away} {staying((0, replay + after - 1))}"),
            **_each(names.COLLECTOR_DATABASE_AWAY, staying((0, before), (1, away), (0, replay + after))),
            **_each(
                names.COLLECTOR_OUTBOX_AGE,
                staying((5, before), (600, away), (late + 600, replay), (5, after)),
                destination="jaeger",
            ),
            **_each(
                names.COLLECTOR_JOB_FAILURES,
                growing((0, before), (4, away), (0, replay + after)),
                **{rules.OF_METRIC: "sweep"},
            ),
        },
        tuple(check for minute in range(before, end, 5) for check in no_alert(minute * MINUTE, rules.ALERTS)),
    )


def _duration(seconds: int) -> str:
    """What `humanizeDuration` makes of a minute and more."""
    parts: list[str] = []
    rest = seconds
    for unit, length in (("d", 24 * HOUR), ("h", HOUR), ("m", MINUTE), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts or unit in "ms":
            parts.append(f"{count}{unit}")
    return " ".join(parts)
