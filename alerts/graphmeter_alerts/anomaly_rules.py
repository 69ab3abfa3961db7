"""What is unusual in, recorded bands and alerts out.

Every anomaly records its value, what is expected and the band around it, which dashboards draw. Values of hours with few
runs are not recorded at all, so that they are neither judged nor part of the past. Rules of one kind stand in one group:
each reads what the one before it has just recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import anomaly_wording, slo_events, wording
from graphmeter_alerts.anomaly_wording import Words
from graphmeter_alerts.rules import Alert, Group, Record, alert_labels, quoted
from graphmeter_alerts.slo_rules import JOB
from graphmeter_alerts.wording import label, number
from graphmeter_config import Config
from graphmeter_config.anomalies import OWN_PAST_BEGINS_S, SAMPLE_S, Anomaly, Band, TrafficDrop
from graphmeter_config.indicators import BAD_STATUSES, GOOD_STATUSES
from graphmeter_config.values import duration_text

TRAFFIC_DROP: Final = "GraphmeterTrafficDrop"
ALERT_OF: Final[Mapping[str, str]] = {
    "error_rate": "GraphmeterErrorRateAnomaly",
    "latency_p95": "GraphmeterLatencyAnomaly",
    "cost_usd_per_run": "GraphmeterCostPerRunAnomaly",
}
"""Name in the file → alert."""
ERRORS_AND_LATENCY: Final = "GraphmeterErrorsAndLatency"
ALERTS: Final = (TRAFFIC_DROP, *ALERT_OF.values(), ERRORS_AND_LATENCY)

TRAFFIC: Final = "graphmeter:anomaly_traffic"
_WINDOW: Final = "1h"
_VALUE: Final = {"ratio": wording.PERCENT_VALUE, "seconds": wording.DURATION_VALUE, "usd": wording.SMALL_USD_VALUE}


def traffic_groups(config: Config) -> list[Group]:
    """The rule group about traffic; none where nobody asks for it."""
    drop = config.anomalies.traffic_drop if config.anomalies else None
    return [Group("graphmeter-anomaly-traffic", SAMPLE_S, tuple(_traffic(config, drop)))] if drop else []


def band_groups(config: Config) -> list[Group]:
    """The rule group of all bands; none without any."""
    rules = [rule for name, band in bands(config) for rule in _band(config, name, band)]
    return [Group("graphmeter-anomalies", SAMPLE_S, (*rules, *_both(config)))] if rules else []


def bands(config: Config) -> list[tuple[str, Band]]:
    """Bands that are on."""
    return list(config.anomalies.bands()) if config.anomalies else []


def series_of(name: str, what: str) -> str:
    """Name of what is recorded: the unit for the value itself, `expected`, `upper_band`, `lower_band`, `events`."""
    return f"graphmeter:anomaly_{name}:{what}"


def _template(per: Sequence[str]) -> dict[str, str]:
    return {each: label(each) for each in per}


# --- traffic ---------------------------------------------------------------------------------------------------------


def _traffic(config: Config, drop: TrafficDrop) -> Iterator[Record | Alert]:
    runs, past, expected, lower = (f"{TRAFFIC}:{what}" for what in ("runs", "past", "expected", "lower_band"))
    yield Record(runs, _increase(drop, names.RUNS))
    for week in range(1, drop.weeks + 1):
        yield Record(past, f"{runs} offset {week}w", {"week": str(week)})
    # The median: a holiday, or an outage a week ago, is one of several.
    known = f"count without (week) ({past}) >= {drop.needs_weeks}"
    yield Record(expected, f"quantile without (week) (0.5, {past})\nand\n{known}")
    yield Record(lower, f"{number(Fraction(drop.below))} * {expected}")
    # Where nothing is counted any more there are no series, and not one run.
    yield Alert(
        TRAFFIC_DROP,
        f"(\n  {runs}\nor\n  0 * {lower}\n) < {lower}\nand\n{expected} >= {drop.at_least}",
        alert_labels(drop.severity, job=JOB),
        anomaly_wording.traffic_drop(config, TRAFFIC_DROP, drop, Words(_template(drop.per)), runs=wording.COUNT_VALUE),
        round(drop.for_s or 0),
        round(drop.for_s or 0),
    )


# --- bands -----------------------------------------------------------------------------------------------------------


def _band(config: Config, name: str, band: Band) -> Iterator[Record | Alert]:
    value, expected, upper, lower, events = (
        series_of(name, what) for what in (band.unit, "expected", "upper_band", "lower_band", "events")
    )
    yield Record(events, _events(band))
    yield Record(value, _value(name, band))
    past = f"{value}[{duration_text(band.history_s)}] offset {duration_text(OWN_PAST_BEGINS_S)}"
    yield Record(expected, f"avg_over_time({past})\nand\ncount_over_time({past}) >= {band.samples}")
    scatter = f"{band.deviations} * stddev_over_time({past})"
    points = f" + {number(band.points)}" if band.points else ""
    yield Record(upper, f"{number(1 + band.factor)} * {expected}{points} + {scatter}")
    minus = points.replace("+", "-")
    yield Record(lower, f"clamp_min({number(1 - band.factor)} * {expected}{minus} - {scatter}, 0)")
    yield Alert(
        ALERT_OF[name],
        f"{value} > {upper}",
        alert_labels(band.severity),
        anomaly_wording.unusual(
            config, ALERT_OF[name], name, band, Words(_template(band.per)), value=_VALUE[band.unit]
        ),
        round(band.for_s or 0),
        round(band.for_s or 0),
    )


def _both(config: Config) -> Iterator[Alert]:
    both = config.anomalies.both if config.anomalies else None
    if config.anomalies is None or both is None or config.anomalies.error_rate is None:
        return
    parts = [
        f"{series_of(name, unit)} > {series_of(name, 'upper_band')}"
        for name, unit in (("error_rate", "ratio"), ("latency_p95", "seconds"))
    ]
    words = Words(_template(config.anomalies.error_rate.per))
    yield Alert(
        ERRORS_AND_LATENCY,
        "\nand\n".join(parts),
        alert_labels(both.severity),
        anomaly_wording.errors_and_latency(config, ERRORS_AND_LATENCY, words, failed=wording.PERCENT_VALUE),
        round(both.for_s or 0),
        round(both.for_s or 0),
    )


def _events(band: Band) -> str:
    if band.metric is names.RUNS:
        return _increase(band, names.RUNS, _statuses(*GOOD_STATUSES, *BAD_STATUSES))
    return _increase(band, band.metric, suffix="_count")


def _value(name: str, band: Band) -> str:
    events = f"{series_of(name, 'events')} >= {band.at_least}"
    if band.unit == "ratio":
        bad = _increase(band, names.RUNS, _statuses(*BAD_STATUSES))
        return f"(\n  {bad}\nor\n  0 * {series_of(name, 'events')}\n)\n/\n({events})"
    if band.unit == "usd":
        return f"{_increase(band, band.metric, suffix='_sum')}\n/\n({events})"
    by = ", ".join((*band.per, "le"))
    buckets = slo_events.selector(f"{band.metric.name}_bucket", slo_events.chosen(band.select, band.metric.labels))
    return f"histogram_quantile(0.95, sum by ({by}) (rate({buckets}[{_WINDOW}])))\nand\n{events}"


def _statuses(*values: str) -> str:
    return f"status=~{quoted('|'.join(values))}"


def _increase(of: Anomaly, metric: names.Metric, *also: str, suffix: str = "") -> str:
    counter = slo_events.selector(metric.name + suffix, [*also, *slo_events.chosen(of.select, metric.labels)])
    return f"sum by ({', '.join(of.per)}) (increase({counter}[{_WINDOW}]))"
