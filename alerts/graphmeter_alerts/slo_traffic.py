"""Example events of an SLO, as the series that a collector would expose for them: what unit tests of rules feed in.

Good and bad events a minute come in, whatever makes them so: series by status come out, or a histogram with the buckets
around the threshold, so that a rule that reads the wrong one is found out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from graphmeter import names
from graphmeter_alerts import slo_events
from graphmeter_alerts.cases import growing, series
from graphmeter_config import Slo
from graphmeter_config.indicators import Counted

_EXAMPLE: Final = "example"
_ANY: Final = {"status": names.SPAN_STATUSES, "good": ("true", "false", "unknown")}
"""By the label that says how events turned out."""


class Phase(NamedTuple):
    """So many events of each sort every minute, for so many minutes."""

    good: float
    bad: float
    minutes: int


def identity(slo: Slo, **other: str) -> dict[str, str]:
    """What example events are told apart by, so that the SLO selects them."""
    return {name: _matching(getattr(slo.select, name)[0]) for name in slo.kind.selectable} | other


def group(slo: Slo, **other: str) -> dict[str, str]:
    """The part of it that the SLO judges by."""
    of = identity(slo, **other)
    return {name: of[name] for name in slo.per}


def traffic(slo: Slo, *phases: Phase, **other: str) -> dict[str, str]:
    """Series of good and bad events; what never happens has no series, unless it is a bucket."""
    kind = slo.kind
    good = growing(*((phase.good, phase.minutes) for phase in phases))
    both = growing(*((phase.good + phase.bad, phase.minutes) for phase in phases))
    if kind.bad is None:
        return _histogram(slo, good, both, growing((0, sum(phase.minutes for phase in phases))), other)
    found = {}
    if kind.bad.metric is not kind.events.metric:
        # Bad ones are told of events that are counted themselves.
        found[counted(slo, kind.events, kind.events.values[0], **other)] = both
    elif any(phase.good for phase in phases):
        found[counted(slo, kind.events, kind.events.values[0], **other)] = good
    if any(phase.bad for phase in phases):
        # Every kind of bad: all have to count.
        share = 1 / len(kind.bad.values)
        bad = growing(*((phase.bad * share, phase.minutes) for phase in phases))
        found |= {counted(slo, kind.bad, value, **other): bad for value in kind.bad.values}
    return found | present(slo, both, **other)


def only_good(slo: Slo, values: str) -> dict[str, str]:
    """Series of events of which none is bad."""
    events = slo.kind.events
    if slo.kind.bad is None:
        return _histogram(slo, values, values, values, {})
    return {counted(slo, events, events.values[0]): values} | present(slo, values)


def neither(slo: Slo, values: str) -> dict[str, str]:
    """Series of what is neither good nor bad; none where all events are judged."""
    # Where both are counted alike, `events` names all that is judged.
    parts = {part.metric: part for part in (slo.kind.bad, slo.kind.events) if part and part.label}
    return {
        counted(slo, part, value): values
        for part in parts.values()
        for value in _ANY[part.label]
        if value not in part.values
    }


def counted(slo: Slo, part: Counted, value: str, **other: str) -> str:
    """Name of the series of example events with a value of the label that says how they turned out."""
    return series(part.metric.name, **_labels(slo, part.metric, **other), **{part.label: value})


def present(slo: Slo, values: str, **other: str) -> dict[str, str]:
    """What shows that events are measured, where that is another metric than their own."""
    instead = slo_events.instead_of(slo)
    if instead is None:
        return {}
    return {series(instead.name, **_labels(slo, instead, **other), status=names.OK): values}


def _labels(slo: Slo, metric: names.Metric, **other: str) -> dict[str, str]:
    of = identity(slo, **other)
    return {label: of[label] for label in metric.labels if label in of}


def _histogram(slo: Slo, good: str, both: str, none: str, other: dict[str, str]) -> dict[str, str]:
    metric, bounds = slo.kind.events.metric, slo.kind.bounds
    of, at = _labels(slo, metric, **other), bounds.index(slo.bound)
    found = {series(f"{metric.name}_count", **of): both}
    for near in range(max(at - 1, 0), min(at + 2, len(bounds))):
        values = none if near < at else good if near == at else both
        found[series(f"{metric.name}_bucket", **of, le=repr(bounds[near]))] = values
    return found | {series(f"{metric.name}_bucket", **of, le="+Inf"): both} | present(slo, both, **other)


def _matching(glob: str) -> str:
    """A value that the glob matches, and few others would."""
    return glob.replace("*", _EXAMPLE).replace("?", "x")
