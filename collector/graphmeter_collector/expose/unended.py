"""Runs that are not over in, two gauges out: how many they are, and how long the oldest of them has been there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from graphmeter.names import Metric
from graphmeter_collector.reports import Unended
from graphmeter_collector.telemetry import Metrics

_NS: Final = 1_000_000_000


class UnendedGauges:
    """One kind of what is not over. Whom there was something of once is at 0 later, not gone: lines would have gaps."""

    def __init__(self, count: Metric, oldest: Metric) -> None:
        self._count = count
        self._oldest = oldest
        self._known: dict[tuple[str, ...], float] = {}

    def show(self, metrics: Metrics, found: Mapping[tuple[str, str, str, str], Unended], now_ns: int) -> None:
        """Tell what the database holds at a moment; ages in seconds."""
        self._known = dict.fromkeys([*self._known, *found], 0.0)
        metrics.replace(self._count, self._known | {key: float(each.runs) for key, each in found.items()})
        ages = {key: max(now_ns - each.oldest_ns, 0) / _NS for key, each in found.items()}
        metrics.replace(self._oldest, self._known | ages, fold=max)
