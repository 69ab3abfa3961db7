"""What was counted against limits of providers in, which of their alerts would have fired out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

from graphmeter_alerts import provider_rules
from graphmeter_alerts.provider_rules import Limited
from graphmeter_alerts.would import Group, Would, about, at_each, whose, would
from graphmeter_config import Config, crossing, measures
from graphmeter_config.history import History
from graphmeter_config.measures import Measure
from graphmeter_config.simulation import MINUTE_NS, fired
from graphmeter_config.slices import NS

ALERTS: Final = frozenset(provider_rules.ALERTS)


def wanted(config: Config) -> Iterator[Measure]:
    """What has to be counted."""
    for one in _limited(config):
        yield measures.of_provider_limit(one.by, one.of)


def simulate(
    config: Config, found: Mapping[Measure, Mapping[Group, History]], since_ns: int, until_ns: int
) -> Iterator[Would]:
    """What would have fired in [since, until)."""
    first, until = since_ns // MINUTE_NS, until_ns // MINUTE_NS + 1
    for one in _limited(config):
        for_ns, keep_ns = round(one.by.for_s or 0) * NS, round(one.by.window_s) * NS
        minutes = round(one.by.window_s) // measures.MINUTE_S
        near = Fraction(one.by.warn_at) * one.per_minute * minutes
        for group, history in found[measures.of_provider_limit(one.by, one.of)].items():
            held = crossing.beyond(history.parts[0].windows(minutes, first, until), near)
            said = about(**one.labels, **whose(one.by.per, group))
            yield from would(provider_rules.NEAR, said, one.by.severity, fired(at_each(first, held), for_ns, keep_ns))


def _limited(config: Config) -> Iterator[Limited]:
    for by in config.provider_limits:
        yield from provider_rules.limited(by)
