"""Unit tests of anomalies: just within what is usual, beyond it, back; with too short a past, and with too few runs.

Samples come every five minutes, and traffic is evaluated every hour: a past of weeks has to be cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from graphmeter import names
from graphmeter_alerts import anomaly_rules, anomaly_wording, wording
from graphmeter_alerts.anomaly_rules import ALERT_OF, ERRORS_AND_LATENCY, TRAFFIC_DROP
from graphmeter_alerts.anomaly_wording import Words
from graphmeter_alerts.cases import HOUR, MINUTE, Case, Check, Firing, growing, no_alert, series
from graphmeter_alerts.rules import alert_labels
from graphmeter_alerts.slo_rules import JOB
from graphmeter_alerts.threshold_traffic import matching
from graphmeter_config import Config
from graphmeter_config.anomalies import OWN_PAST_BEGINS_S, SAMPLE_S, Anomaly, Band, TrafficDrop

_STEP_MIN: Final = SAMPLE_S // MINUTE
_STEPS_PER_H: Final = HOUR // SAMPLE_S
_WEEK_H: Final = 7 * 24


class Phase(NamedTuple):
    """So many runs an hour for so many hours, and the value of them."""

    runs: float
    hours: int
    value: Fraction = Fraction(0)


# --- traffic ---------------------------------------------------------------------------------------------------------


def traffic_cases(config: Config) -> Iterator[Case]:
    """Every unit test of traffic."""
    drop = config.anomalies.traffic_drop if config.anomalies else None
    if drop is None:
        return
    usual, past_h = 4.0 * drop.at_least, drop.needs_weeks * _WEEK_H
    lasts = 2 + round((drop.for_s or 0) / HOUR + 1)
    little, less = (usual * float(drop.below) * factor for factor in (1.1, 0.9))
    yield _traffic(
        "a little more than what is unusual, a little less, and what is usual",
        drop,
        [(usual, past_h + 1), (little, lasts), (less, lasts), (usual, lasts + 2)],
        (
            Check((past_h + 1 + lasts) * HOUR, TRAFFIC_DROP),
            Check((past_h + 1 + 2 * lasts) * HOUR, TRAFFIC_DROP, (_dropped(config, drop, less),)),
            Check((past_h + 3 + 3 * lasts) * HOUR, TRAFFIC_DROP),
        ),
    )
    yield _traffic(
        "nothing at all, not even a series, and before that every night",
        drop,
        [*[(usual, 12), (usual / 20, 12)] * (7 * drop.needs_weeks), (usual, 6)],
        (
            *(Check((past_h - hour) * HOUR, TRAFFIC_DROP) for hour in (1, 6, 11)),
            Check((past_h + 6) * HOUR, TRAFFIC_DROP),
            Check((past_h + 6 + lasts) * HOUR, TRAFFIC_DROP, (_dropped(config, drop, 0),)),
        ),
        gone_h=lasts,
    )
    yield _traffic(
        "a past that is too short",
        drop,
        [(usual, past_h - 12), (0, lasts)],
        (Check((past_h - 12 + lasts) * HOUR, TRAFFIC_DROP),),
    )
    yield _traffic(
        "hours that have few runs",
        drop,
        [(0.9 * drop.at_least, past_h + 1), (0, lasts)],
        (Check((past_h + 1 + lasts) * HOUR, TRAFFIC_DROP),),
    )


def _traffic(
    what: str, drop: TrafficDrop, phases: Sequence[tuple[float, int]], checks: tuple[Check, ...], gone_h: int = 0
) -> Case:
    of = _identity(drop)
    # By halves, of two statuses: all that ends is traffic.
    values = growing(*((runs / 2 / _STEPS_PER_H, hours * _STEPS_PER_H) for runs, hours in phases))
    gone = f" _x{gone_h * _STEPS_PER_H}" if gone_h else ""
    found = {series(names.RUNS.name, **of, status=status): values + gone for status in (names.OK, names.INTERRUPTED)}
    return Case(f"{TRAFFIC_DROP}: {what}", found, checks, (), _STEP_MIN)


def _dropped(config: Config, drop: TrafficDrop, runs: float) -> Firing:
    group = _group(drop)
    told = anomaly_wording.traffic_drop(config, TRAFFIC_DROP, drop, Words(group), runs=f"{runs:.0f}")
    return Firing({**alert_labels(drop.severity, job=JOB), **group}, told)


# --- bands -----------------------------------------------------------------------------------------------------------


def band_cases(config: Config) -> Iterator[Case]:
    """Every unit test of bands."""
    for name, band in anomaly_rules.bands(config):
        yield from _band(config, name, band)
    yield from _both(config)


class _Values(NamedTuple):
    """What is usual, by turns, a value just within the band, and one beyond it."""

    low: Fraction
    high: Fraction
    near: Fraction
    beyond: Fraction


def _values(band: Band) -> _Values:
    if band.unit == "seconds":
        low, high = Fraction(1, 2), Fraction(1)
        upper = _upper(band, _quantile(low), _quantile(high))
        bounds = [Fraction(repr(bound)) for bound in names.RUN_DURATION_BUCKETS]
        near = high if upper > _quantile(high) * Fraction(5, 4) else low
        return _Values(low, high, near, next(each for each in bounds if _quantile(each) > upper * Fraction(12, 10)))
    low, high = (Fraction(1, 100), Fraction(2, 100)) if band.unit == "ratio" else (Fraction(1), Fraction(2))
    upper, mean = _upper(band, low, high), (low + high) / 2
    # Both halves of the past may not be known alike.
    near = mean + (upper - mean) * Fraction(6, 10)
    beyond = min(upper * Fraction(3, 2), (1 + upper) / 2) if band.unit == "ratio" else upper * Fraction(3, 2)
    return _Values(low, high, _rounded(near), _rounded(beyond))


def _rounded(value: Fraction) -> Fraction:
    return Fraction(f"{float(value):.3g}")


def _upper(band: Band, low: Fraction, high: Fraction) -> Fraction:
    mean, scatter = (low + high) / 2, (high - low) / 2
    return mean * (1 + band.factor) + band.points + band.deviations * scatter


def _quantile(bound: Fraction) -> Fraction:
    """What is taken for the 95th percentile of runs that all are in the bucket up to this bound."""
    bounds = [Fraction(0), *(Fraction(repr(each)) for each in names.RUN_DURATION_BUCKETS)]
    below = bounds[bounds.index(bound) - 1]
    return below + (bound - below) * Fraction(95, 100)


def _past(band: Band, values: _Values, runs: float) -> list[Phase]:
    """Enough of it, half of it high."""
    hours = round((max(band.needs_s, 8 * HOUR) + OWN_PAST_BEGINS_S) / HOUR) // 2 + 1
    return [Phase(runs, hours, values.low), Phase(runs, hours, values.high)]


def _band(config: Config, name: str, band: Band) -> Iterator[Case]:
    alert, values, runs = ALERT_OF[name], _values(band), 4.0 * band.at_least
    past = _past(band, values, runs)
    known_h, lasts = sum(phase.hours for phase in past), _lasts(band)
    near, beyond = Phase(runs, lasts, values.near), Phase(runs, lasts, values.beyond)
    firing = _unusual(config, name, band, values.beyond)
    of, then = _identity(band), Phase(runs, lasts, values.low)
    found = _series(name, of, band, [*past, near, beyond, then])
    short_h = max(1, round((band.needs_s + OWN_PAST_BEGINS_S) / HOUR) - lasts - 1)
    too_short = [Phase(runs, short_h, values.low), beyond]
    few = [Phase(0.9 * band.at_least, phase.hours, phase.value) for phase in (*past, near, beyond, then)]
    checks = (
        Check(short_h * HOUR + lasts * HOUR, alert),
        Check((known_h + lasts) * HOUR, alert),
        Check((known_h + 2 * lasts) * HOUR, alert, (firing,)),
        Check((known_h + 3 * lasts) * HOUR, alert),
    )
    if band.per:
        # Others beside it: one with few runs, one whose past is too short.
        found |= _series(name, {**of, band.per[0]: of[band.per[0]] + "-few"}, band, few)
        found |= _series(name, {**of, band.per[0]: of[band.per[0]] + "-new"}, band, too_short)
    else:
        for what, phases in (("few runs", few), ("a past that is too short", too_short)):
            silent = [Check(sum(phase.hours for phase in phases[: n + 1]) * HOUR, alert) for n in range(len(phases))]
            yield Case(f"{alert}: {what}", _series(name, of, band, phases), tuple(silent), (), _STEP_MIN)
    yield Case(f"{alert}: just within the band, beyond it, and back", found, checks, (), _STEP_MIN)


def _lasts(of: Anomaly) -> int:
    """Hours until an hour is full of what it is about, and the wait is over."""
    return 2 + -(-round(2 * (of.for_s or 0)) // HOUR)


def _both(config: Config) -> Iterator[Case]:
    anomalies = config.anomalies
    if anomalies is None or anomalies.both is None or anomalies.error_rate is None or anomalies.latency_p95 is None:
        return
    one, other, runs = anomalies.error_rate, anomalies.latency_p95, 4.0
    runs *= max(one.at_least, other.at_least)
    longer = one if one.needs_s > other.needs_s else other
    lasts = 2 + -(-round(2 * (anomalies.both.for_s or 0)) // HOUR)
    found: dict[str, str] = {}
    # Errors, then both, then latency.
    for name, band, turns in (("error_rate", one, (1, 1, 0)), ("latency_p95", other, (0, 1, 1))):
        values = _values(band)
        past = [
            Phase(runs, phase.hours, value)
            for phase, value in zip(_past(longer, values, runs), (values.low, values.high), strict=True)
        ]
        now = [Phase(runs, lasts, values.beyond if beyond else values.low) for beyond in turns]
        found |= _series(name, _identity(band), band, [*past, *now])
    known_h = sum(phase.hours for phase in _past(longer, _values(longer), runs))
    group = _group(one)
    failed = wording.percentage(_values(one).beyond)
    told = anomaly_wording.errors_and_latency(config, ERRORS_AND_LATENCY, Words(group), failed=failed)
    firing = Firing({**alert_labels(anomalies.both.severity), **group}, told)
    yield Case(
        f"{ERRORS_AND_LATENCY}: errors alone, both, latency alone",
        found,
        (
            *no_alert((known_h + lasts) * HOUR, (ERRORS_AND_LATENCY,)),
            Check((known_h + 2 * lasts) * HOUR, ERRORS_AND_LATENCY, (firing,)),
            Check((known_h + 3 * lasts) * HOUR, ERRORS_AND_LATENCY),
        ),
        (),
        _STEP_MIN,
    )


def _unusual(config: Config, name: str, band: Band, value: Fraction) -> Firing:
    shown = {
        "ratio": wording.percentage(value),
        "seconds": wording.duration(_quantile(value)) if band.unit == "seconds" else "",
        "usd": f"{float(value):.4g}",
    }[band.unit]
    group = _group(band)
    told = anomaly_wording.unusual(config, ALERT_OF[name], name, band, Words(group), value=shown)
    return Firing({**alert_labels(band.severity), **group}, told)


def _identity(of: Anomaly) -> dict[str, str]:
    return {name: matching(getattr(of.select, name))[0] for name in names.BASE_LABELS}


def _group(of: Anomaly) -> dict[str, str]:
    identity = _identity(of)
    return {name: identity[name] for name in of.per}


def _series(name: str, of: Mapping[str, str], band: Band, phases: Sequence[Phase]) -> dict[str, str]:
    def counter(metric: names.Metric, each: Sequence[float], suffix: str = "", **more: str) -> dict[str, str]:
        steps = ((value / _STEPS_PER_H, phase.hours * _STEPS_PER_H) for value, phase in zip(each, phases, strict=True))
        return {series(metric.name + suffix, **of, **more): growing(*steps)}

    runs = [phase.runs for phase in phases]
    if band.unit == "ratio":
        bad = [phase.runs * float(phase.value) for phase in phases]
        good = [all_ - failed for all_, failed in zip(runs, bad, strict=True)]
        return counter(names.RUNS, good, status=names.OK) | counter(names.RUNS, bad, status=names.LOST)
    found = counter(band.metric, runs, "_count")
    if band.unit == "usd":
        return found | counter(band.metric, [phase.runs * float(phase.value) for phase in phases], "_sum")
    for bound in (*names.RUN_DURATION_BUCKETS, float("inf")):
        within = [phase.runs if phase.value <= bound else 0.0 for phase in phases]
        found |= counter(band.metric, within, "_bucket", le="+Inf" if bound == float("inf") else repr(bound))
    return found
