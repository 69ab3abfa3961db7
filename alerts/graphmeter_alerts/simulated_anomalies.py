"""What was counted every five minutes in, which alerts on what is unusual would have fired out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import and_
from typing import Final

from graphmeter_alerts import anomaly_rules
from graphmeter_alerts.would import Group, Would, about, at_each, whose, would
from graphmeter_config import Config, measures, unusual
from graphmeter_config.anomalies import SAMPLE_S, Anomaly, Band, ErrorsAndLatency, TrafficDrop
from graphmeter_config.history import History
from graphmeter_config.measures import Measure
from graphmeter_config.simulation import fired
from graphmeter_config.slices import NS

ALERTS: Final = frozenset(anomaly_rules.ALERTS)
_SAMPLE_NS: Final = SAMPLE_S * NS
_ALERT_OF: Final = {"traffic_drop": anomaly_rules.TRAFFIC_DROP, **anomaly_rules.ALERT_OF}

_Held = dict[Group, list[bool]]


def wanted(config: Config) -> Iterator[Measure]:
    """What has to be counted."""
    if config.anomalies is not None:
        for name, anomaly in config.anomalies.wanted():
            yield measures.of_anomaly(name, anomaly)


def simulate(
    config: Config, found: Mapping[Measure, Mapping[Group, History]], since_ns: int, until_ns: int
) -> Iterator[Would]:
    """What would have fired in [since, until)."""
    if config.anomalies is None:
        return
    first, until = since_ns // _SAMPLE_NS, until_ns // _SAMPLE_NS + 1
    held: dict[str, _Held] = {}
    for name, anomaly in config.anomalies.wanted():
        counted = found[measures.of_anomaly(name, anomaly)]
        held[name] = {group: _held(anomaly, history, first, until) for group, history in counted.items()}
        yield from _would(_ALERT_OF[name], anomaly, anomaly.per, held[name], first)
    if (both := config.anomalies.both) and config.anomalies.error_rate:
        errors, latency = held["error_rate"], held["latency_p95"]
        together = {group: list(map(and_, errors[group], latency[group])) for group in errors if group in latency}
        yield from _would(anomaly_rules.ERRORS_AND_LATENCY, both, config.anomalies.error_rate.per, together, first)


def _held(anomaly: Anomaly, history: History, first: int, until: int) -> list[bool]:
    if isinstance(anomaly, TrafficDrop):
        return unusual.drops(anomaly, history, first, until)
    assert isinstance(anomaly, Band)
    return unusual.above_band(anomaly, history, first, until)


def _would(
    alert: str, of: Anomaly | ErrorsAndLatency, per: tuple[str, ...], held: _Held, first: int
) -> Iterator[Would]:
    waits_ns = round(of.for_s or 0) * NS
    for group, each in held.items():
        stretches = fired(at_each(first, each, _SAMPLE_NS), waits_ns, waits_ns)
        yield from would(alert, about(**whose(per, group)), of.severity, stretches)
