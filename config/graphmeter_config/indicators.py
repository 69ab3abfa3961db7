"""What an objective can be about: which events, which of them are good, and by what they can be told apart.

One table for all kinds. An event is good by how it ended, by what the application said of it, or because it stayed at or
under a threshold. Where it is measured decides what is possible: a dimension has to be one of its labels, a threshold one
of its bounds, for between two bounds nobody knows on which side an event was. So files are checked against the wire
contract, and what is accepted can be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from graphmeter import names

Indicator = Literal["availability", "latency", "first_token", "cost", "quality"]
Of = Literal["runs", "nodes", "tools", "models", "outcomes"]
Dimension = Literal["graph", "node", "tool", "provider", "model", "kind", "team", "environment", "service"]
DIMENSIONS: Final[tuple[Dimension, ...]] = (
    "graph",
    "node",
    "tool",
    "provider",
    "model",
    "kind",
    "team",
    "environment",
    "service",
)
"""All there are, in the order in which they are told."""

GOOD_STATUSES: Final = (names.OK,)
BAD_STATUSES: Final = (names.ERROR, names.LOST)
"""Runs that were interrupted or cancelled, or still run, are neither good nor bad."""


_SHOWN_WHEN_EMPTY: Final = frozenset({"graph", "team", "node"})


def shown(dimension: str, value: str) -> str:
    """A value as metrics show it, whose labels selectors are written for."""
    return value or (names.UNATTRIBUTED if dimension in _SHOWN_WHEN_EMPTY else "")


class Counted(NamedTuple):
    """Events of a metric, or those of them whose label has one of these values."""

    metric: names.Metric
    label: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of objective."""

    events: Counted
    """All that is judged."""
    bad: Counted | None
    """The bad ones; None where `events` is a histogram: then they are those above a threshold."""
    per: tuple[Dimension, ...]
    """What is judged by itself, unless the file says otherwise."""

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What events can be grouped by."""
        return tuple(dimension for dimension in DIMENSIONS if dimension in self.events.metric.labels)

    @property
    def selectable(self) -> tuple[Dimension, ...]:
        """What they can be selected by; bad ones that are counted elsewhere also by what stands there."""
        labels = {*self.events.metric.labels, *(self.bad.metric.labels if self.bad else ())}
        return tuple(dimension for dimension in DIMENSIONS if dimension in labels)

    @property
    def bounds(self) -> tuple[float, ...]:
        """Thresholds there can be, rising, in seconds or USD; empty where there is none."""
        return self.events.metric.buckets


_STATUS: Final = "status"


def _ended(metric: names.Metric, per: tuple[Dimension, ...], bad: tuple[str, ...] = (names.ERROR,)) -> Kind:
    return Kind(Counted(metric, _STATUS, (*GOOD_STATUSES, *bad)), Counted(metric, _STATUS, bad), per)


_OF_A_GRAPH: Final[tuple[Dimension, ...]] = ("graph",)
_OF_A_NODE: Final[tuple[Dimension, ...]] = ("graph", "node")
_OF_A_MODEL: Final[tuple[Dimension, ...]] = ("provider", "model")
_RUNS: Final = _ended(names.RUNS, _OF_A_GRAPH, BAD_STATUSES)
_JUDGED: Final = Counted(names.OUTCOMES, "good", ("true", "false"))
_NOT_GOOD: Final = Counted(names.OUTCOMES, "good", ("false",))

KINDS: Final[Mapping[tuple[Indicator, Of], Kind]] = MappingProxyType(
    {
        ("availability", "runs"): _RUNS,
        ("availability", "nodes"): _ended(names.NODE_RUNS, _OF_A_NODE),
        ("availability", "tools"): _ended(names.TOOL_CALLS, ("tool",)),
        ("availability", "models"): _ended(names.LLM_CALLS, _OF_A_MODEL),
        ("latency", "runs"): Kind(Counted(names.RUN_DURATION), None, _OF_A_GRAPH),
        ("latency", "nodes"): Kind(Counted(names.NODE_DURATION), None, _OF_A_NODE),
        ("latency", "models"): Kind(Counted(names.LLM_DURATION), None, _OF_A_MODEL),
        ("first_token", "models"): Kind(Counted(names.LLM_TTFT), None, _OF_A_MODEL),
        ("cost", "runs"): Kind(Counted(names.RUN_COST), None, _OF_A_GRAPH),
        ("quality", "runs"): Kind(_RUNS.events, _NOT_GOOD, _OF_A_GRAPH),
        ("quality", "outcomes"): Kind(_JUDGED, _NOT_GOOD, ("graph", "kind")),
    }
)
