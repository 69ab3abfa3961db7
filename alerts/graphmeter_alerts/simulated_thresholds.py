"""What was counted for plain thresholds in, which of their alerts would have fired out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphmeter_alerts import threshold_rules
from graphmeter_alerts.would import Group, Would, about, at_each, whose, would
from graphmeter_config import Config, crossing, measures
from graphmeter_config.history import History
from graphmeter_config.measures import Measure
from graphmeter_config.simulation import MINUTE_NS, fired
from graphmeter_config.slices import NS
from graphmeter_config.threshold import Threshold

ALERTS = frozenset(alert for name, alert in threshold_rules.ALERT_OF.items() if name not in measures.UNSTORED)


def wanted(config: Config) -> Iterator[Measure]:
    """What has to be counted."""
    for name, threshold in threshold_rules.wanted(config):
        yield from measures.of_threshold(name, threshold)


def simulate(
    config: Config, found: Mapping[Measure, Mapping[Group, History]], since_ns: int, until_ns: int
) -> Iterator[Would]:
    """What would have fired in [since, until)."""
    for name, threshold in threshold_rules.wanted(config):
        by_group: dict[Group, dict[str, History]] = {}
        for measure in measures.of_threshold(name, threshold):
            for group, history in found[measure].items():
                by_group.setdefault(group, {})[measure.of] = history
        for group, counted in by_group.items():
            yield from _of_group(name, threshold, group, counted, since_ns // MINUTE_NS, until_ns // MINUTE_NS + 1)


def _of_group(
    name: str, threshold: Threshold, group: Group, counted: Mapping[str, History], first: int, until: int
) -> Iterator[Would]:
    limit = crossing.limit_for(threshold, group)
    if limit is None:
        return
    held = at_each(first, crossing.crossed(name, threshold, limit, counted, first, until))
    waits_ns = round(threshold.for_s or 0) * NS
    labels = {threshold_rules.LABEL: limit.text, **whose(threshold.per, group)}
    yield from would(threshold_rules.ALERT_OF[name], about(**labels), limit.severity, fired(held, waits_ns, waits_ns))
