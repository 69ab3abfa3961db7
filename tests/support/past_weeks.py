"""A week and four hours of runs: one graph loses its traffic against the week before, one of two others is unusual.

What collectors would count of them is added up here by itself, every five minutes, from the runs alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from graphmeter import names
from graphmeter_collector.records import SpanRecord
from support.records import call, priced, record

STEP_S: Final = 300
BEGINS_S: Final = 200
"""Into the test's time: a whole five minutes since the epoch."""
WEEK: Final = 7 * 86_400 // STEP_S
STEPS: Final = WEEK + 4 * 12
DROPS: Final = range(WEEK + 18, WEEK + 36)
"""Steps in which one graph has a quarter of its usual traffic, and another has half."""
BANDS: Final = range(STEPS - 22 * 12, STEPS)
UNUSUAL: Final = range(STEPS - 11 * 12, STEPS - 2 * 12)
"""Steps in which one graph fails, is slow and is dear, until that is its own past; another is so a little."""
ANOMALIES: Final[dict[str, Any]] = {
    "traffic_drop": {"weeks": 1, "needs_weeks": 1, "select": {"graph": ["drops", "halves"]}, "for": "15m"},
    **{
        name: {"history": "1d", "needs": "3h", "select": {"graph": ["bad", "calm"]}, "for": wait, **more}
        for name, wait, more in (
            ("error_rate", "10m", {}),
            ("latency_p95", None, {}),
            ("cost_usd_per_run", "10m", {"deviations": 2}),
        )
    },
    "errors_and_latency": {"for": "5m"},
}


class Ran(NamedTuple):
    """A run that ended within a step."""

    graph: str
    at: int
    number: int
    s: float
    status: str
    usd: float


def ran() -> Iterator[Ran]:
    """Every run."""
    for at in (*range(48), *range(WEEK, STEPS)):
        for graph, left in (("drops", 1), ("halves", 2)):
            for number in range(left if at in DROPS else 4):
                yield Ran(graph, at, number, 1.0, names.OK, 0.0)
    for at in BANDS:
        for graph in ("bad", "calm"):
            much, little = (each == graph and at in UNUSUAL for each in ("bad", "calm"))
            for number in range(3):
                fails = number == 0 and (much or at % (12 if little else 24) == 0)
                s = 40.0 if much and number == 1 else 4.5 if little else 3.0 + at % 3
                usd = (0.05 if much else 0.0105 if little else 0.01) + 0.001 * (at % 2)
                yield Ran(graph, at, number, s, names.ERROR if fails else names.OK, usd)


def records() -> Iterator[SpanRecord]:
    """As clients send them."""
    for of, run in enumerate(ran(), start=1):
        when: dict[str, Any] = {"of": of, "at_s": BEGINS_S + run.at * STEP_S + 60 * run.number, "graph": run.graph}
        yield record(1, kind=names.RUN, s=run.s, status=run.status, **when)
        if run.usd:
            yield call(2, cost=priced(round(run.usd * names.NANO_PER_USD)), s=run.s, **when)


def counted() -> dict[str, list[str]]:
    """Series of a collector, as promtool calls them, with their values at the end of each step."""
    grown: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for run in ran():
        labels = f'graph="{run.graph}"'
        for status in (names.OK, names.ERROR):
            grown[f'{names.RUNS.name}{{{labels},status="{status}"}}'][run.at] += status == run.status
        # Of what nobody asks for nothing is said.
        for metric, value in ((names.RUN_DURATION, run.s), (names.RUN_COST, run.usd)) if run.usd else ():
            for bound in (*metric.buckets, float("inf")):
                le = "+Inf" if bound == float("inf") else f"{bound}"
                grown[f'{metric.name}_bucket{{{labels},le="{le}"}}'][run.at] += value <= bound
            grown[f"{metric.name}_sum{{{labels}}}"][run.at] += value
            grown[f"{metric.name}_count{{{labels}}}"][run.at] += 1
    return {name: list(_values(steps)) for name, steps in grown.items()}


def _values(steps: defaultdict[int, float]) -> Iterator[str]:
    first, total = min(steps), 0.0
    for at in range(STEPS + 1):
        # Born at zero, when the first run begins.
        yield f"{total:.9g}" if at >= first else "_"
        total += steps.get(at, 0.0)
