"""Literal report rows for the tests of what the command line prints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphmeter import names
from graphmeter_collector.reports import CostRow, NodeRow, RunRow, SpanRow

RUN = RunRow(
    trace_id="019aa2f06f0e7d10a6a33e0c3a52a1de",
    run_id="019aa2f0-6f0e-7d10-a6a3-3e0c3a52a1de",
    service="shop",
    environment="prod",
    graph="support",
    team="cx",
    tenant="",
    release="1.2.0",
    thread_id="t-1",
    user_id="",
    session_id="",
    tags={},
    status=names.OK,
    error_type="",
    status_message="",
    started_ns=1_795_233_830_000_000_000,
    ended_ns=1_795_233_831_230_000_000,
    duration_ns=1_230_000_000,
    steps=3,
    spans=5,
    node_attempts=3,
    node_errors=1,
    model_calls=2,
    tool_calls=1,
    input_tokens=1000,
    output_tokens=234,
    cost_nano=12_345_000,
    unpriced_calls=0,
)

SPAN = SpanRow(
    trace_id=RUN.trace_id,
    span_id="0000000000000001",
    parent_id="",
    run_id=RUN.run_id,
    kind=names.RUN,
    name="invoke_workflow support",
    service="shop",
    graph="support",
    team="cx",
    node="",
    start_ns=RUN.started_ns,
    duration_ns=1_230_000_000,
    status=names.OK,
    error_type="",
    status_message="",
    step=0,
    attempt=1,
    attempt_final=True,
    provider="",
    model="",
    tool="",
    input_tokens=0,
    output_tokens=0,
    cost_nano=None,
    ttft_ns=0,
    cache_hit=False,
)

NODE = NodeRow(
    service="shop",
    environment="prod",
    graph="support",
    node="classify",
    runs=10,
    attempts=12,
    errors=1,
    p50_ns=45_200_000,
    p95_ns=1_230_000_000,
    p99_ns=125_000_000_000,
    percentile_error=0.0,
    model_calls=10,
    input_tokens=12_000,
    output_tokens=345,
    cost_nano=1_500_000_000,
)


def span(number: int, parent: int = 0, **changes: Any) -> SpanRow:
    """Span number `number` below span number `parent` (0: the top), starting `number` ms into the run."""
    return replace(
        SPAN,
        span_id=f"{number:016x}",
        parent_id=f"{parent:016x}" if parent else "",
        start_ns=SPAN.start_ns + number * 1_000_000,
        **changes,
    )


def spend(nano: int, *, calls: int = 1, unpriced: int = 0, missing: int = 0, **group: str) -> CostRow:
    """A group of model calls that cost this much."""
    tokens = dict.fromkeys(names.TOKEN_TYPES, 0) | {"input": 100, "cache_read": 20, "output": 30, "reasoning": 7}
    return CostRow(
        group=group,
        calls=calls,
        cache_hits=0,
        unpriced_calls=unpriced,
        usage_missing_calls=missing,
        tokens=tokens,
        cost_nano=nano,
        saved_nano=0,
    )
