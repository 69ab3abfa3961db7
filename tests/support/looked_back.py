"""Two graphs side by side, an hour long: one crosses every limit for fifteen minutes, the other comes close to each."""

from __future__ import annotations

from typing import Any, Final

from graphmeter import names
from graphmeter_collector.records import Cost, Outcome, SpanRecord
from support.records import call, note, priced, record, span_id

BEGINS_S: Final = 200
"""Into the test's time: a whole five minutes since the epoch."""
MINUTES: Final = 60
BAD: Final = range(20, 35)
"""Minutes in which one of the two is not well."""
LOST_AFTER_S: Final = 600
GRAPHS: Final = ("bad", "calm")
THRESHOLDS: Final[dict[str, Any]] = {
    "error_rate": {"window": "10m", "for": "2m", "above": "30%"},
    "node_error_rate": {"window": "5m", "for": None, "above": "30%", "per": ["graph"], "at_least": 10},
    "latency_p95": {"window": "5m", "for": None, "above": "7s", "at_least": 10},
    "node_latency_p95": {"window": "5m", "for": "1m", "above": "7s", "at_least": 10, "per": ["graph"]},
    "run_duration": {"window": "5m", "above": "20s", "select": {"team": "cx"}},
    "run_cost_usd": {"window": "5m", "above": 1},
    "spend_usd_per_hour": {"above": 80, "per": ["graph"]},
    "cost_usd_per_run": {"window": "5m", "for": None, "above": "0.4", "at_least": 10},
    "waste": {"window": "10m", "for": None, "above": "30%", "at_least_usd": "0.5", "per": ["graph"]},
    "unpriced_calls": {"window": "5m", "for": None, "above": 3, "per": ["graph"]},
    "escalations": {"window": "10m", "for": None, "above": "30%", "kind": ["escal*"]},
    "human_wait": {"for": "2m", "above": "5m"},
    "cache_hits": {"window": "5m", "for": None, "below": "20%", "at_least": 10, "per": ["graph"]},
    "rate_limited": {"window": "5m", "for": None, "above": "30%", "at_least": 10, "per": ["graph"]},
    "lost_runs": {"window": "10m", "above": 2},
}
# What goes too fast for one of the two, what will not last a day for it, and what is soon spent by both.
BUDGETS: Final[list[dict[str, Any]]] = [
    {"name": name, "limit_usd": limit, "rolling": "7d", "per": ["graph"]}
    for name, limit in (("fast", 4000), ("short", 400), ("gone", 60))
]
LIMITS: Final[list[dict[str, Any]]] = [
    {"name": "account", "provider": "open*", "per": ["graph"], "tokens_per_minute": 650, "requests_per_minute": 6}
]


def minute(at: int) -> list[SpanRecord]:
    """All that ended within a minute, of both graphs."""
    return [record for index, graph in enumerate(GRAPHS) for record in _of_graph(graph, index, at)]


def _of_graph(graph: str, index: int, at: int) -> list[SpanRecord]:
    bad = graph == "bad" and at in BAD
    found: list[SpanRecord] = []
    for number in range(4):
        when: dict[str, Any] = {"of": 1 + (at * 4 + number) * 2 + index, "graph": graph}
        start_s = BEGINS_S + 60 * at + 5 * number
        fails = number < (2 if bad else 1)
        s = 9.0 if bad and number == 3 else 25.0 if bad and number == 2 else 4.0
        ended: dict[str, Any] = {"status": names.ERROR, "error_type": "RateLimitError"} if fails else {}
        refused = {**ended, "rate_limited": True} if fails else {}
        usd = 1.5 if bad and number in (0, 3) else 0.3
        node = span_id(2)
        found += [
            call(4, cost=priced(round(usd * 1e9)), attempt_span=node, at_s=start_s, s=1, **when, **refused),
            record(2, node="answer", at_s=start_s, s=s, **when, **ended),
            record(1, kind=names.RUN, at_s=start_s, s=s, **when, **ended),
        ]
        if not bad and number != 2:
            found.append(call(5, cost=Cost(0, (0,) * 10, "cached", 1000), cache_hit=True, at_s=start_s, s=0.01, **when))
        if number == 3 and (bad or at % 3 == 0):
            nothing = Cost(0, (0,) * 10, "unpriced")
            found.append(call(6, cost=nothing, model="new", at_s=start_s, s=0.1, **when))
        if fails:
            found.append(note(7, names.OUTCOME, said=Outcome("escalated", False, None), at_s=start_s + s, **when))
            found.append(note(8, names.OUTCOME, said=Outcome("approved", True, None), at_s=start_s + s, **when))
    return [*found, *_unended(graph, index, at)]


def _unended(graph: str, index: int, at: int) -> list[SpanRecord]:
    """A run that takes minutes, runs whose process dies, and a question that waits."""
    who: dict[str, Any] = {"graph": graph, "thread_id": f"thread of {graph}"}
    start_s = BEGINS_S + 60 * at + 1
    found: list[SpanRecord] = []
    if at == BAD[0]:
        found += [
            note(9, names.START, of=9000 + 10 * index + each, at_s=start_s, status=names.RUNNING, graph=graph, team="x")
            for each in range(3 if graph == "bad" else 2)
        ]
        if graph == "bad":
            found.append(note(9, names.START, of=9300, at_s=start_s, status=names.RUNNING, heartbeat_ns=0, graph=graph))
        found.append(record(1, kind=names.RUN, of=9100 + index, at_s=start_s, status=names.INTERRUPTED, **who))
    if graph == "bad" and at == BAD[-1]:
        found.append(
            record(1, kind=names.RUN, of=9300, at_s=BEGINS_S + 60 * BAD[0] + 1, s=60 * len(BAD) - 30, graph=graph)
        )
    if at == (BAD[-1] if graph == "bad" else BAD[3]):
        found.append(record(1, kind=names.RUN, of=9200 + index, at_s=start_s, resumed_from="c1", **who))
    return found
