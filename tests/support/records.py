"""SpanRecords for tests: a builder with sensible facts, and a whole run as the client would send it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from itertools import pairwise
from typing import Any

from graphmeter import names
from graphmeter_collector.records import Cost, Envelope, Outcome, Report, SpanRecord, TokenUsage, Topology

T0_NS = 1_795_000_000_000_000_000
"""2026-11-18 11:06:40 UTC: where test runs start."""
SECOND = 1_000_000_000
ENVELOPE = Envelope(b"e" * 16, b"resource", b"scope")

_FIELDS = frozenset(field.name for field in fields(SpanRecord))


def trace(number: int) -> bytes:
    """A trace id."""
    return hashlib.blake2b(b"trace %d" % number, digest_size=16).digest()


def span_id(number: int) -> bytes:
    """A span id."""
    return number.to_bytes(8, "big")


def record(
    number: int = 1, *, of: int = 1, kind: str = names.NODE, at_s: float = 0.0, s: float = 1.0, **facts: Any
) -> SpanRecord:
    """Span `number` of trace `of`, starting `at_s` seconds into the test's time and lasting `s` seconds."""
    unknown = facts.keys() - _FIELDS
    assert not unknown, f"SpanRecord has no {unknown}"
    start_ns = T0_NS + round(at_s * SECOND)
    return SpanRecord(
        **{
            "trace_id": trace(of),
            "span_id": span_id(number),
            "parent_id": b"",
            "name": f"{kind} {number}",
            "kind": kind,
            "start_ns": start_ns,
            "end_ns": start_ns + round(s * SECOND),
            "envelope": ENVELOPE,
            "body": b"body %d" % number,
            "service": "shop",
            "environment": "test",
            "graph": "support",
            "team": "cx",
            "run_id": f"00000000-0000-0000-0000-{of:012d}",
            **facts,
        }
    )


def note(number: int, kind: str, *, of: int = 1, at_s: float = 0.0, **facts: Any) -> SpanRecord:
    """What a client says besides spans."""
    return record(number, of=of, kind=kind, at_s=at_s, s=0, **{"forwardable": False, **facts})


def topology(*nodes: str) -> Topology:
    """A topology whose nodes follow one another."""
    text = json.dumps({"nodes": nodes, "edges": [[*pair, False] for pair in pairwise(nodes)]}, separators=(",", ":"))
    return Topology(hashlib.blake2b(text.encode(), digest_size=16).digest(), text)


def report(number: int, *, of: int = 1, at_s: float = 0.0, **counts: int) -> SpanRecord:
    """Report `number` of client `of`; belongs to no run."""
    said = Report(f"{of:032x}", number, **counts)
    return note(1000 + number, names.REPORT, of=900 + of, at_s=at_s, run_id="", graph="", said=said)


def answered() -> list[SpanRecord]:
    """Run 51 waits for three hours, run 52 goes on; how it turned out and a late tag were said of both; who reports."""
    asked: dict[str, Any] = {"thread_id": "chat-1", "status": names.INTERRUPTED, "checkpoint_id": "c1"}
    going_on: dict[str, Any] = {"thread_id": "chat-1", "resumed_from": "c1"}
    return [
        record(1, of=51, kind=names.RUN, at_s=100, s=2, **asked),
        record(2, of=51, node="approve", at_s=101, s=1, parent_id=span_id(1), status=names.INTERRUPTED),
        record(1, of=52, kind=names.RUN, at_s=10_902, s=2, tags={"plan": "iron"}, **going_on),
        note(3, names.OUTCOME, of=52, at_s=20_000, said=Outcome("resolved", True, None)),
        note(4, names.OUTCOME, of=52, at_s=20_001, said=Outcome("csat", None, 4.5)),
        note(5, names.TAGS, of=52, at_s=20_002, tags={"plan": "gold", "late": "yes"}),
        note(6, names.TOPOLOGY, of=51, at_s=100, said=topology("__start__", "approve", "__end__")),
        report(1, exported=5, dropped=1),
    ]


def call(
    number: int, *, of: int = 1, input_tokens: int = 100, output_tokens: int = 10, nano: int = 1_000, **facts: Any
) -> SpanRecord:
    """A priced model call of `nano` nano-USD."""
    return record(
        number,
        of=of,
        kind=names.MODEL,
        **{
            "node": "answer",
            "operation": names.OP_CHAT,
            "provider": "openai",
            "model": "gpt-4o",
            "request_model": "gpt-4o",
            "response_id": f"answer-{of}-{number}",
            "usage": TokenUsage(input=input_tokens, output=output_tokens),
            "cost": priced(nano),
            **facts,
        },
    )


def priced(nano: int, *, status: str = "priced", saved_nano: int = 0) -> Cost:
    """A cost of which a third is input and the rest output."""
    first = nano // 3
    parts = (first, 0, 0, 0, 0, 0, nano - first, 0, 0, 0)
    return Cost(nano, parts, status, saved_nano, "genai-prices test", "openai/gpt-4o")


def whole_run(of: int = 1, *, at_s: float = 0.0, status: str = names.OK) -> list[SpanRecord]:
    """What a client sends of one run: start record, two nodes (one of them retried), a tool, three calls, the root."""

    def span(number: int, kind: str, offset_s: float, s: float, **facts: Any) -> SpanRecord:
        common: dict[str, Any] = {"thread_id": f"thread-{of}", "tags": {"intent": "billing"}}
        return record(number, of=of, kind=kind, at_s=at_s + offset_s, s=s, **{**common, **facts})

    root, plan, first, second = span_id(1), span_id(2), span_id(3), span_id(4)
    failed: dict[str, Any] = {"status": names.ERROR, "error_type": "TimeoutError", "attempt_final": False}
    return [
        span(9, names.START, 0, 0, parent_id=root, status=names.RUNNING, forwardable=False),
        call(5, of=of, nano=700, node="plan", parent_id=plan, attempt_span=plan, at_s=at_s + 0.1, s=0.5),
        span(2, names.NODE, 0.1, 0.6, node="plan", step=1, parent_id=root),
        span(3, names.NODE, 0.8, 0.4, node="answer", step=2, parent_id=root, **failed),
        call(6, of=of, nano=1_001, parent_id=second, attempt_span=first, at_s=at_s + 1.3, s=0.7),
        call(
            7,
            of=of,
            parent_id=second,
            cache_hit=True,
            response_id=f"answer-{of}-6",
            cost=Cost(0, (0,) * 10, "cached", 1_001),
            at_s=at_s + 2.1,
            s=0.001,
        ),
        span(8, names.TOOL, 2.2, 0.2, node="answer", tool="search", parent_id=second),
        span(4, names.NODE, 1.25, 1.3, node="answer", step=2, attempt=2, parent_id=root),
        span(1, names.RUN, 0, 2.7, status=status, step=2, tenant="acme", release="1.4.0"),
    ]
