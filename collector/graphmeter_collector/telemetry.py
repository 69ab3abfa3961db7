"""The collector's metrics: events in, Prometheus text out. Every family is defined in `graphmeter.names`.

Two things differ from a plain client library, and both are for the sake of `increase()` and of the bill:

**A child is born at zero.** Prometheus cannot see a counter's first step when the child appears already moved. A new
counter or histogram child is therefore exposed at 0 on the first scrape after its birth, and with its value from the
next one on; what happens in between is kept, not lost. Only a scraper turns that page: a fetch whose Accept header
names an exposition format with its version, as Prometheus and its kin send. Browsers and curl (`*/*`) get the true
values at once and change nothing, so looking at `/metrics` never eats the zero that Prometheus was to see. The price:
of two Prometheus servers on one collector only the first to come sees the zero, and a scraper that names no format
gets none; both then miss a new child's first increments, as they would with any other exporter.

**Labels are bounded.** Each label has a cap on its distinct values over all families; what does not fit is counted
under `other`. A series that names no graph, team or node says `unattributed`, so that `team=~".+"` leaves no money out.
"""

from __future__ import annotations

import operator
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType

from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Exposed
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from graphmeter import names
from graphmeter.names import Metric

DEFAULT_LABEL_CAP = 500
LABEL_CAPS: Mapping[str, int] = MappingProxyType(
    {"graph": 200, "node": 500, "model": 200, "team": 200, "tool": 300, "error_type": 200, "release": 10_000}
)
"""Distinct values a label may take before further ones become `other`; every other label: `DEFAULT_LABEL_CAP`."""

_UNATTRIBUTED_WHEN_EMPTY = frozenset({"graph", "team", "node"})

_Labels = tuple[str, ...]
_Mark = tuple[str, float, float]
"""An exemplar: trace id, value, Unix time in seconds."""


class _Child:
    """One time series (for a histogram: one set of them)."""

    __slots__ = ("counts", "labels", "mark", "marks", "shown", "value")

    def __init__(self, labels: _Labels, buckets: int) -> None:
        self.labels = labels
        self.value = 0.0
        """Counter and gauge: the value. Histogram: the sum of observations."""
        self.shown = False
        self.mark: _Mark | None = None
        self.counts = [0] * (buckets + 1) if buckets else []
        """Histogram: observations per bucket, not cumulative, +Inf last."""
        self.marks: dict[int, _Mark] = {}


class _Family:
    """A metric and its children. `by_given` maps labels as callers write them, `by_shown` as they are exposed."""

    __slots__ = ("attributed", "buckets", "by_given", "by_shown", "metric")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.buckets = metric.buckets
        self.attributed = metric.labels[: len(names.BASE_LABELS)] == names.BASE_LABELS
        self.by_given: dict[_Labels, _Child] = {}
        self.by_shown: dict[_Labels, _Child] = {}


class Metrics:
    """Counters, histograms and gauges of `families`, safe to move from any thread.

    Labels are given in the order of `Metric.labels`. A wrong number of them is a ValueError, and so is a counter that
    would go down (`increase()` would take it for a restart and count all of it again); an unknown metric is a KeyError.
    All are faults of the caller, not of the data.
    """

    def __init__(
        self, families: Iterable[Metric] = names.METRICS, *, label_caps: Mapping[str, int] = LABEL_CAPS
    ) -> None:
        self._families = {metric.name: _Family(metric) for metric in families}
        self._caps = dict(label_caps)
        self._values: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        for family in self._families.values():
            if not family.metric.labels and family.metric.type != "gauge":
                self.declare(family.metric)

    def inc(
        self,
        metric: Metric,
        *labels: str,
        by: float = 1.0,
        events: int = 1,
        trace_id: str = "",
        marked: float | None = None,
    ) -> None:
        """Add to a counter.

        Args:
            by: What to add, of all events together.
            events: How many they are.
            trace_id: In hex, of one of them: the exemplar.
            marked: Its share of `by`, unless it is all.
        """
        if not by >= 0:
            raise ValueError(f"{metric.name} cannot go down: {by}")
        with self._lock:
            family = self._families[metric.name]
            child = family.by_given.get(labels) or self._child(family, labels, overflowing=events)
            child.value += by
            if trace_id:
                child.mark = (trace_id, by if marked is None else marked, time.time())

    def observe(self, metric: Metric, *labels: str, value: float, trace_id: str = "") -> None:
        """Add an observation to a histogram. `trace_id` (hex) becomes the exemplar of its bucket."""
        with self._lock:
            family = self._families[metric.name]
            child = family.by_given.get(labels) or self._child(family, labels)
            bucket = bisect_left(family.buckets, value)
            child.counts[bucket] += 1
            child.value += value
            if trace_id:
                child.marks[bucket] = (trace_id, value, time.time())

    def observe_all(self, metric: Metric, *labels: str, values: Sequence[float], traces: Sequence[bytes] = ()) -> None:
        """Add observations to a histogram. `traces`, one for each value, become the exemplars of their buckets.

        An empty one stands for none.
        """
        with self._lock:
            family = self._families[metric.name]
            child = family.by_given.get(labels) or self._child(family, labels, overflowing=len(values))
            bounds, counts = family.buckets, child.counts
            buckets = [bisect_left(bounds, value) for value in values]
            for bucket in buckets:
                counts[bucket] += 1
            child.value += sum(values)
            if traces:
                now = time.time()
                # The last of each bucket stands.
                for bucket, (value, trace) in dict(zip(buckets, zip(values, traces, strict=True), strict=True)).items():
                    if trace:
                        child.marks[bucket] = (trace.hex(), value, now)

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            family = self._families[metric.name]
            child = family.by_given.get(labels) or self._child(family, labels, overflowing=0)
            child.value = value

    def replace(
        self,
        metric: Metric,
        values: Mapping[tuple[str, ...], float],
        fold: Callable[[float, float], float] = operator.add,
    ) -> None:
        """Set all children of a gauge; those not in `values` vanish.

        What a full label makes one, as `other`, is folded into one value: summed, unless something else is asked for.
        """
        with self._lock:
            family = self._families[metric.name]
            family.by_given.clear()
            family.by_shown.clear()
            for labels, value in values.items():
                # Read again every few seconds, a gauge is no event that could be lost in `other`.
                child = self._child(family, labels, overflowing=0)
                child.value = fold(child.value, value)

    def declare(self, metric: Metric, *labels: str) -> None:
        """Make a counter or histogram child known, so that it is exposed at 0 before its first event."""
        with self._lock:
            family = self._families[metric.name]
            if labels not in family.by_given:
                self._child(family, labels, overflowing=0)

    def value(self, metric: Metric, *labels: str) -> float:
        """True value of a counter or gauge, number of observations of a histogram; 0 for a child that is not there."""
        with self._lock:
            family = self._families[metric.name]
            child = family.by_given.get(labels) or family.by_shown.get(labels)
            if child is None:
                return 0.0
            return float(sum(child.counts)) if family.buckets else child.value

    def render(self, accept_header: str) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics (with exemplars) or Prometheus text, as asked for."""
        try:
            encode, content_type = choose_encoder(accept_header)
        except (TypeError, ValueError):  # the library compares versions that are none
            accept_header = ""
            encode, content_type = choose_encoder(accept_header)
        return encode(_Snapshot(self._collect(scrape=_is_scrape(accept_header)))), content_type

    def _child(self, family: _Family, given: _Labels, *, overflowing: int = 1) -> _Child:
        """The child for labels not met before: checks caps, folds overflow, of so many events. Callers hold the lock."""
        metric = family.metric
        if len(given) != len(metric.labels):
            raise ValueError(f"{metric.name} has labels {metric.labels}, got {given}")
        shown: list[str] = []
        overflowed = False
        for label, value in zip(metric.labels, given, strict=True):
            # Lone surrogates cannot be written as UTF-8; one would break the whole page.
            text = value.encode("utf-8", "replace").decode()
            if not text and family.attributed and label in _UNATTRIBUTED_WHEN_EMPTY:
                text = names.UNATTRIBUTED
            elif not self._admit(label, text):
                text = names.OVERFLOW
                overflowed = True
                if overflowing:
                    self._count_overflow(label, overflowing)
            shown.append(text)
        labels = tuple(shown)
        child = family.by_shown.get(labels)
        if child is None:
            child = family.by_shown[labels] = _Child(labels, len(metric.buckets))
        if not overflowed:
            # Overflowing labels are not remembered: whoever makes them up must not fill our memory.
            family.by_given[given] = child
        return child

    def _admit(self, label: str, value: str) -> bool:
        values = self._values.setdefault(label, set())
        if value in values or value in ("", names.OVERFLOW):
            return True
        if len(values) >= self._caps.get(label, DEFAULT_LABEL_CAP):
            return False
        values.add(value)
        return True

    def _count_overflow(self, label: str, events: int) -> None:
        family = self._families.get(names.COLLECTOR_LABEL_OVERFLOW.name)
        if family is not None:
            child = family.by_given.get((label,)) or self._child(family, (label,), overflowing=0)
            child.value += events

    def _collect(self, *, scrape: bool) -> list[Exposed]:
        with self._lock:
            return [_expose(family, scrape=scrape) for family in self._families.values()]


class _Snapshot(Collector):
    """What prometheus_client's encoders read."""

    def __init__(self, families: list[Exposed]) -> None:
        self._collected = families

    def collect(self) -> Iterator[Exposed]:
        return iter(self._collected)


def _is_scrape(accept_header: str) -> bool:
    return "openmetrics-text" in accept_header or "version=" in accept_header


def _expose(family: _Family, *, scrape: bool) -> Exposed:
    """A family as it is to be seen now, with HELP and TYPE even while it has no children: they tell what will come."""
    metric = family.metric
    children = family.by_shown.values()
    if metric.type == "gauge":
        gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for child in children:
            gauge.add_metric(child.labels, child.value)
        return gauge
    if metric.type == "counter":
        counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for child in children:
            moved = child.shown or not scrape
            counter.add_metric(
                child.labels, child.value if moved else 0.0, exemplar=_exemplar(child.mark) if moved else None
            )
            child.shown |= scrape
        return counter
    histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*map(floatToGoString, family.buckets), "+Inf"]
    for child in children:
        if child.shown or not scrape:
            cumulative = accumulate(child.counts)
            marks = child.marks
            histogram.add_metric(
                child.labels,
                [
                    (bound, count, mark) if (mark := _exemplar(marks.get(index))) else (bound, count)
                    for index, (bound, count) in enumerate(zip(bounds, cumulative, strict=True))
                ],
                child.value,
            )
        else:
            histogram.add_metric(child.labels, [(bound, 0) for bound in bounds], 0.0)
        child.shown |= scrape
    return histogram


def _exemplar(mark: _Mark | None) -> Exemplar | None:
    return Exemplar({"trace_id": mark[0]}, mark[1], mark[2]) if mark else None
