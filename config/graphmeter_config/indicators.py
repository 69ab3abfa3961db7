"""What an objective can be about: which events, which of them are good, and by what they can be told apart.

One table for all kinds. An event is good by how it ended, or because it stayed at or under a threshold. Where it is
measured decides what is possible: a dimension has to be one of its labels, a threshold one of its bounds, for between two
bounds nobody knows on which side an event was. So files are checked against the wire contract, and what is accepted can
be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from graphmeter import names

Indicator = Literal["availability", "latency", "first_token", "cost"]
Of = Literal["runs", "nodes", "tools", "models"]
Dimension = Literal["graph", "node", "tool", "provider", "model", "team", "environment", "service"]
DIMENSIONS: Final[tuple[Dimension, ...]] = (
    "graph",
    "node",
    "tool",
    "provider",
    "model",
    "team",
    "environment",
    "service",
)
"""All there are, in the order in which they are told."""

GOOD_STATUSES: Final = (names.OK,)
BAD_STATUSES: Final = (names.ERROR, names.LOST)
"""Runs that were interrupted or cancelled, or still run, are neither good nor bad."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of objective."""

    measured: names.Metric
    """Counted by status, or a histogram: then events are good up to a threshold."""
    per: tuple[Dimension, ...]
    """What is judged by itself, unless the file says otherwise."""
    good: tuple[str, ...] = ()
    """Statuses; empty where a threshold decides."""
    bad: tuple[str, ...] = ()

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What events can be selected and grouped by."""
        return tuple(dimension for dimension in DIMENSIONS if dimension in self.measured.labels)

    @property
    def bounds(self) -> tuple[float, ...]:
        """Thresholds there can be, rising, in seconds or USD; none where the status decides."""
        return self.measured.buckets


_ENDED: Final = {"good": GOOD_STATUSES, "bad": (names.ERROR,)}
_OF_A_GRAPH: Final[tuple[Dimension, ...]] = ("graph",)
_OF_A_NODE: Final[tuple[Dimension, ...]] = ("graph", "node")
_OF_A_MODEL: Final[tuple[Dimension, ...]] = ("provider", "model")

KINDS: Final[Mapping[tuple[Indicator, Of], Kind]] = MappingProxyType(
    {
        ("availability", "runs"): Kind(names.RUNS, _OF_A_GRAPH, GOOD_STATUSES, BAD_STATUSES),
        ("availability", "nodes"): Kind(names.NODE_RUNS, _OF_A_NODE, **_ENDED),
        ("availability", "tools"): Kind(names.TOOL_CALLS, ("tool",), **_ENDED),
        ("availability", "models"): Kind(names.LLM_CALLS, _OF_A_MODEL, **_ENDED),
        ("latency", "runs"): Kind(names.RUN_DURATION, _OF_A_GRAPH),
        ("latency", "nodes"): Kind(names.NODE_DURATION, _OF_A_NODE),
        ("latency", "models"): Kind(names.LLM_DURATION, _OF_A_MODEL),
        ("first_token", "models"): Kind(names.LLM_TTFT, _OF_A_MODEL),
        ("cost", "runs"): Kind(names.RUN_COST, _OF_A_GRAPH),
    }
)
