"""New spans in, the rows they change out: pure functions that both databases apply in their own way.

Everything here commutes: sums, minima, maxima, and root fields that only the root brings. So spans may arrive in any
order, in any grouping, at any collector, and the tables end up the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphmeter import names
from graphmeter_collector.records import Cost, SpanRecord
from graphmeter_collector.store import histogram
from graphmeter_collector.store.tables import Row

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS

ATTRIBUTION = ("service", "environment", "graph", "team", "tenant", "release", "thread_id", "user_id", "session_id")
RUN_SUMS = (
    "spans",
    "node_attempts",
    "node_errors",
    "model_calls",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost_nano",
    "unpriced_calls",
)
RUN_NODE_SUMS = ("attempts", "errors", "duration_ns", "model_calls", "input_tokens", "output_tokens", "cost_nano")
ROLLUP_DIMENSIONS = ("service", "environment", "graph", "team", "node", "kind", "provider", "model")
ROLLUP_SUMS = (
    "count",
    "ok",
    "error",
    "interrupted",
    "cancelled",
    "retries",
    "cache_hits",
    "unpriced",
    "duration_ns",
    *(f"{bucket}_tokens" for bucket in names.TOKEN_TYPES),
    "cost_nano",
    "saved_nano",
)
ROLLED_UP = frozenset({names.RUN, names.SUBGRAPH, names.NODE, names.MODEL, names.TOOL, names.RETRIEVER})

_TOKEN_COLUMNS = tuple(f"{bucket}_tokens" for bucket in names.TOKEN_TYPES)
_NANO_COLUMNS = tuple(f"{bucket}_nano" for bucket in names.TOKEN_TYPES)
_NO_PARTS = (0,) * len(names.TOKEN_TYPES)

DUPLICATE = "duplicate"
"""Cost status of a call that another span has brought to the ledger already."""

RollupKey = tuple[int, str, str, str, str, str, str, str, str]
"""Period, then `ROLLUP_DIMENSIONS`."""


@dataclass(slots=True)
class Rollup:
    """What one transaction adds to one rollup row."""

    sums: list[int] = field(default_factory=lambda: [0] * len(ROLLUP_SUMS))
    """In the order of `ROLLUP_SUMS`."""
    latency: histogram.Buckets = field(default_factory=dict)


def once(records: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Sorted by key, each span once: the order in which every collector takes row locks, so that none waits in a circle."""
    unique = {(record.trace_id, record.span_id, record.day): record for record in records}
    return [unique[key] for key in sorted(unique)]


def span_row(record: SpanRecord) -> Row:
    """The facts of a span."""
    is_call = record.kind == names.MODEL
    cost = record.cost
    return {
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "day": record.day,
        "parent_id": record.parent_id or None,
        "run_id": record.run_id,
        "kind": record.kind,
        "name": record.name,
        "service": record.service,
        "environment": record.environment,
        "graph": record.graph,
        "team": record.team,
        "node": record.node,
        "start_ns": record.start_ns,
        "duration_ns": record.duration_ns,
        "status": record.status,
        "error_type": record.error_type,
        "status_message": record.status_message,
        "step": record.step,
        "attempt": record.attempt,
        "attempt_final": record.attempt_final,
        "provider": record.provider,
        "model": record.model,
        "tool": record.tool,
        "input_tokens": record.usage.total_input if is_call else None,
        "output_tokens": record.usage.total_output if is_call else None,
        # Without a price there is no cost to show, not one of zero.
        "cost_nano": cost.total_nano if cost is not None and cost.status not in ("unpriced", "usage_missing") else None,
        "ttft_ns": record.ttft_ns or None,
        "cache_hit": record.cache_hit,
        "settled": True,
    }


def ledger_row(record: SpanRecord) -> Row:
    """A model call as the ledger keeps it."""
    cost = record.cost or Cost(0, _NO_PARTS, "unpriced")
    return {
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "start_ns": record.start_ns,
        "run_id": record.run_id,
        **{column: getattr(record, column) for column in ATTRIBUTION},
        "node": record.node,
        "tags": tags_json(record),
        "operation": record.operation,
        "provider": record.provider,
        "model": record.model,
        "request_model": record.request_model,
        # A cached answer repeats the id of the call that filled the cache.
        "response_id": record.response_id if record.response_id and not record.cache_hit else None,
        "attempt_span": record.attempt_span or None,
        "status": record.status,
        "cache_hit": record.cache_hit,
        **dict(zip(_TOKEN_COLUMNS, (count or None for count in record.usage), strict=True)),
        "price_status": cost.status,
        "price_source": cost.source,
        "price": cost.price,
        "cost_nano": cost.total_nano,
        "saved_nano": cost.saved_nano,
        **dict(zip(_NANO_COLUMNS, (part or None for part in cost.parts), strict=True)),
    }


def mark_duplicate_call(record: SpanRecord) -> None:
    """The call is on the ledger under another span: this one brings neither cost nor tokens."""
    record.cost = Cost(0, _NO_PARTS, DUPLICATE)


def tags_json(record: SpanRecord) -> str:
    """Tags in one canonical text, so that equal tags are equal bytes."""
    return json.dumps(record.tags, sort_keys=True, separators=(",", ":")) if record.tags else "{}"


def run_rows(records: Sequence[SpanRecord]) -> list[Row]:
    """What the spans add to their runs, sorted by key."""
    rows: dict[tuple[bytes, str], Row] = {}
    for record in records:
        if record.run_id:
            key = (record.trace_id, record.run_id)
            row = rows.get(key)
            if row is None:
                row = rows[key] = _new_run(record)
            _add_to_run(row, record)
    return [rows[key] for key in sorted(rows)]


def _new_run(record: SpanRecord) -> Row:
    return {
        "trace_id": record.trace_id,
        "run_id": record.run_id,
        **dict.fromkeys(ATTRIBUTION, ""),
        "tags": "{}",
        "status": names.RUNNING,
        "error_type": "",
        "status_message": "",
        "root_seen": False,
        "started_ns": record.start_ns,
        "ended_ns": None,
        "last_seen_ns": record.end_ns,
        "duration_ns": None,
        "steps": 0,
        **dict.fromkeys(RUN_SUMS, 0),
    }


def _add_to_run(row: Row, record: SpanRecord) -> None:
    is_root = record.kind == names.RUN
    tags = tags_json(record)
    if is_root:
        row.update(
            {column: getattr(record, column) for column in ATTRIBUTION},
            tags=tags,
            status=record.status,
            error_type=record.error_type,
            status_message=record.status_message,
            root_seen=True,
            started_ns=record.start_ns,
            ended_ns=record.end_ns,
            duration_ns=record.duration_ns,
        )
    elif not row["root_seen"]:
        for column in ATTRIBUTION:
            row[column] = max(row[column], getattr(record, column))
        # "{}" sorts after every filled object, hence not a plain maximum.
        row["tags"] = max((row["tags"], tags), key=lambda text: (text != "{}", text))
        row["started_ns"] = min(row["started_ns"], record.start_ns)
    row["last_seen_ns"] = max(row["last_seen_ns"], record.end_ns)
    if record.kind == names.START:
        return
    row["spans"] += 1
    if record.kind == names.NODE:
        row["node_attempts"] += 1
        row["node_errors"] += record.status == names.ERROR
        if "." not in record.node:  # a subgraph counts steps of its own
            row["steps"] = max(row["steps"], record.step)
    elif record.kind == names.TOOL:
        row["tool_calls"] += 1
    elif _is_billable(record):
        row["model_calls"] += 1
        row["input_tokens"] += record.usage.total_input
        row["output_tokens"] += record.usage.total_output
        row["cost_nano"] += record.cost.total_nano if record.cost else 0
        row["unpriced_calls"] += _is_unpriced(record)


def run_node_rows(records: Sequence[SpanRecord]) -> list[Row]:
    """What the spans add to the nodes of their runs, sorted by key."""
    rows: dict[tuple[bytes, str, str], Row] = {}
    for record in records:
        is_attempt = record.kind == names.NODE
        if not record.run_id or not record.node or not (is_attempt or _is_billable(record)):
            continue
        key = (record.trace_id, record.run_id, record.node)
        row = rows.get(key)
        if row is None:
            row = rows[key] = {
                "trace_id": record.trace_id,
                "run_id": record.run_id,
                "node": record.node,
                "first_ns": record.start_ns,
                "last_ns": record.end_ns,
                **dict.fromkeys(RUN_NODE_SUMS, 0),
            }
        row["first_ns"] = min(row["first_ns"], record.start_ns)
        row["last_ns"] = max(row["last_ns"], record.end_ns)
        if is_attempt:
            row["attempts"] += 1
            row["errors"] += record.status == names.ERROR
            row["duration_ns"] += record.duration_ns
        else:
            row["model_calls"] += 1
            row["input_tokens"] += record.usage.total_input
            row["output_tokens"] += record.usage.total_output
            row["cost_nano"] += record.cost.total_nano if record.cost else 0
    return [rows[key] for key in sorted(rows)]


def rollups(records: Sequence[SpanRecord], period_ns: int) -> dict[RollupKey, Rollup]:
    """What the spans add to the rollup rows of a period, by sorted key."""
    found: dict[RollupKey, Rollup] = {}
    for record in records:
        if record.kind not in ROLLED_UP or (record.cost is not None and record.cost.status == DUPLICATE):
            continue
        key = (
            record.start_ns // period_ns,
            record.service,
            record.environment,
            record.graph,
            record.team,
            record.node,
            record.kind,
            record.provider,
            # Tools and retrievers have no model; their name stands in its place.
            record.model or record.tool,
        )
        rollup = found.get(key)
        if rollup is None:
            rollup = found[key] = Rollup()
        _add_to_rollup(rollup, record)
    return {key: found[key] for key in sorted(found)}


def _add_to_rollup(rollup: Rollup, record: SpanRecord) -> None:
    sums, status = rollup.sums, record.status
    sums[0] += 1
    sums[1] += status == names.OK
    sums[2] += status == names.ERROR
    sums[3] += status == names.INTERRUPTED
    sums[4] += status == names.CANCELLED
    sums[5] += record.kind == names.NODE and not record.attempt_final
    sums[8] += record.duration_ns
    histogram.observe(rollup.latency, record.duration_ns)
    cost = record.cost
    if record.kind != names.MODEL:
        return
    sums[6] += record.cache_hit
    sums[7] += _is_unpriced(record)
    if not record.cache_hit:
        for index, count in enumerate(record.usage, start=9):
            sums[index] += count
    if cost is not None:
        sums[-2] += cost.total_nano
        sums[-1] += cost.saved_nano


def _is_billable(record: SpanRecord) -> bool:
    """A model call that reached its provider, told for the first time."""
    return (
        record.kind == names.MODEL
        and not record.cache_hit
        and not (record.cost is not None and record.cost.status == DUPLICATE)
    )


def _is_unpriced(record: SpanRecord) -> bool:
    return not record.cache_hit and (record.cost is None or record.cost.status == "unpriced")
