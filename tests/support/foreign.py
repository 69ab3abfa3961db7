"""Spans of other instrumentations for tests: one span, and a graph run as OpenInference or OpenLLMetry would send it."""

from __future__ import annotations

from typing import Any

from graphmeter import names
from graphmeter_collector.records import SpanRecord, TokenUsage
from support.records import call, record, span_id


def foreign(number: int, kind: str, *, parent: int = 0, **facts: Any) -> SpanRecord:
    """A foreign span that says nothing of where it belongs."""
    unsaid: dict[str, Any] = {"run_id": "", "graph": "", "team": "", "node": "", "foreign": True}
    make = call if kind == names.MODEL else record
    how = {"parent_id": span_id(parent) if parent else b"", **unsaid, **facts}
    return make(number, **how) if kind == names.MODEL else make(number, kind=kind, **how)


def foreign_run(of: int = 1, *, at_s: float = 0.0) -> list[SpanRecord]:
    """A request that runs a graph of two nodes: a call, a call by an SDK in a framework's record of it, a tool, a retry."""

    def span(number: int, kind: str, parent: int = 0, offset_s: float = 0.0, **facts: Any) -> SpanRecord:
        return foreign(number, kind, parent=parent, of=of, at_s=at_s + offset_s, **facts)

    return [
        span(1, names.SPAN, name="POST /chat", team="cx", s=4),
        span(2, names.RUN, 1, 0.1, graph="support", step=2, s=3.5),
        span(3, names.SPAN, 2, 0.2, name="RunnableSequence"),
        span(4, names.NODE, 3, 0.2, node="plan", step=1, team="planners"),
        span(5, names.MODEL, 4, 0.3, nano=700, s=0.5),
        span(6, names.SPAN, 4, 0.9, name="HTTP GET"),
        span(7, names.NODE, 2, 1.3, node="answer", step=2),
        span(8, names.MODEL, 7, 1.4, nano=1_001, response_id="", s=0.5),
        span(9, names.SPAN, 8, 1.45, name="retry"),
        span(10, names.MODEL, 9, 1.5, nano=1_001, response_id="", s=0.4),
        span(11, names.TOOL, 7, 2.0, tool="search", s=0.1),
        span(12, names.SUBGRAPH, 7, 2.2, graph="inner"),
        span(13, names.MODEL, 12, 2.3, nano=0, usage=TokenUsage(), usage_missing=True, response_id=""),
        span(14, names.MODEL, 13, 2.4, nano=90, response_id=""),
    ]


def sdk_calls(of: int) -> list[SpanRecord]:
    """What an SDK's instrumentation adds to `support.records.whole_run`: calls in nodes and tools that we did not see."""
    return [
        foreign(31, names.MODEL, parent=2, of=of, nano=50, at_s=0.2),
        foreign(32, names.SPAN, parent=8, of=of, at_s=2.2),
        foreign(33, names.MODEL, parent=32, of=of, nano=60, at_s=2.3),
        # Below a model call of ours: the same call once more.
        foreign(34, names.MODEL, parent=5, of=of, nano=700, at_s=0.2, response_id=""),
        # What a gateway does in turn is its own business.
        foreign(35, names.MODEL, parent=5, of=of, nano=5, at_s=0.2, service="gateway", team="platform"),
    ]
