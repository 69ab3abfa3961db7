"""Example events of an SLO, as the series that a collector would expose for them: what unit tests of rules feed in.

Good and bad events a minute come in, whatever makes them so: series by status come out, or a histogram with the buckets
around the threshold, so that a rule that reads the wrong one is found out.
"""

from __future__ import annotations

from typing import NamedTuple

from graphmeter import names
from graphmeter_alerts import slo_events
from graphmeter_alerts.cases import growing, series
from graphmeter_alerts.slo_events import STATUS
from graphmeter_config import Slo

_EXAMPLE = "example"


class Phase(NamedTuple):
    """So many events of each sort every minute, for so many minutes."""

    good: float
    bad: float
    minutes: int


def identity(slo: Slo, **other: str) -> dict[str, str]:
    """What example events are told apart by, so that the SLO selects them."""
    labels = [label for label in slo.kind.measured.labels if label != STATUS]
    return {label: _matching(getattr(slo.select, label)[0]) for label in labels} | other


def group(slo: Slo, **other: str) -> dict[str, str]:
    """The part of it that the SLO judges by."""
    of = identity(slo, **other)
    return {name: of[name] for name in slo.per}


def traffic(slo: Slo, *phases: Phase, **other: str) -> dict[str, str]:
    """Series of good and bad events; what never happens has no series if its status decides."""
    good = growing(*((phase.good, phase.minutes) for phase in phases))
    both = growing(*((phase.good + phase.bad, phase.minutes) for phase in phases))
    if slo.kind.bounds:
        return _histogram(slo, good, both, growing((0, sum(phase.minutes for phase in phases))), other)
    found = {}
    if any(phase.good for phase in phases):
        found[ended(slo, slo.kind.good[0], **other)] = good
    if any(phase.bad for phase in phases):
        # Every kind of bad: all have to count.
        share = 1 / len(slo.kind.bad)
        bad = growing(*((phase.bad * share, phase.minutes) for phase in phases))
        found |= {ended(slo, status, **other): bad for status in slo.kind.bad}
    return found


def only_good(slo: Slo, values: str) -> dict[str, str]:
    """Series of events of which none is bad."""
    if slo.kind.bounds:
        return _histogram(slo, values, values, values, {})
    return {ended(slo, slo.kind.good[0]): values}


def ended(slo: Slo, status: str, **other: str) -> str:
    """Name of the series of events with a status."""
    return series(slo.kind.measured.name, **identity(slo, **other), **{STATUS: status})


def present(slo: Slo, values: str, **other: str) -> dict[str, str]:
    """What shows that events are measured, where that is another metric than their own."""
    instead = slo_events.instead_of(slo)
    return {series(instead.name, **identity(slo, **other), **{STATUS: names.OK}): values} if instead else {}


def _histogram(slo: Slo, good: str, both: str, none: str, other: dict[str, str]) -> dict[str, str]:
    of, name, bounds = identity(slo, **other), slo.kind.measured.name, slo.kind.bounds
    at = bounds.index(slo.bound)
    found = {series(f"{name}_count", **of): both}
    for near in range(max(at - 1, 0), min(at + 2, len(bounds))):
        values = none if near < at else good if near == at else both
        found[series(f"{name}_bucket", **of, le=repr(bounds[near]))] = values
    return found | {series(f"{name}_bucket", **of, le="+Inf"): both} | present(slo, both, **other)


def _matching(glob: str) -> str:
    """A value that the glob matches, and few others would."""
    return glob.replace("*", _EXAMPLE).replace("?", "x")
