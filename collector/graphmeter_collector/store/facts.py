"""New spans in, the rows they add out: pure functions whose result both databases apply in their own way.

Everything commutes: sums, minima, maxima, and root fields that only the root brings. So spans may arrive in any order,
in any grouping, at any collector, and the tables end up the same. Rows are tuples in the order of their table's columns,
sorted by key: the order in which every collector takes its locks, so that none waits in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add, attrgetter
from typing import Any

from graphmeter import names
from graphmeter_collector.records import Cost, SpanKey, SpanRecord
from graphmeter_collector.store import histogram, parts

HOUR_NS = 3_600_000_000_000
HOURS_PER_DAY = 24
DAY_NS = HOURS_PER_DAY * HOUR_NS

Row = tuple[Any, ...]

DUPLICATE = "duplicate"
"""Cost status of a call that another span has brought to the ledger already."""

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
"""`count` is `retries` (attempts that were followed by another) plus `cache_hits` plus the four statuses of all others.
Duration and latency leave answers from a cache out, and so do tokens: nobody waited for or consumed them."""
PIECES = frozenset({names.TOOL, names.RETRIEVER})
"""What has a cost only where somebody gave it a price."""
ROLLED_UP = frozenset({names.RUN, names.SUBGRAPH, names.NODE, names.MODEL, names.TOOL, names.RETRIEVER})
_AT = {name: index for index, name in enumerate(ROLLUP_SUMS)}
_FIRST_TOKENS = _AT["duration_ns"] + 1
_COUNT, _RETRIES, _CACHE_HITS, _UNPRICED = (_AT[name] for name in ("count", "retries", "cache_hits", "unpriced"))
_DURATION, _COST, _SAVED = (_AT[name] for name in ("duration_ns", "cost_nano", "saved_nano"))

RollupKey = tuple[int, str, str, str, str, str, str, str, str]
"""Period, then `ROLLUP_DIMENSIONS`."""

_NO_PARTS = (0,) * len(names.TOKEN_TYPES)
_NO_PRICE = Cost(0, _NO_PARTS, "unpriced")
_OPERATIONS = {names.TOOL: names.OP_TOOL, names.RETRIEVER: names.OP_RETRIEVAL}
_WITHOUT_COST = frozenset({"unpriced", "usage_missing"})


@dataclass(slots=True)
class Rollup:
    """What one transaction adds to one rollup row."""

    sums: list[int] = field(default_factory=lambda: [0] * len(ROLLUP_SUMS))
    """In the order of `ROLLUP_SUMS`."""
    latency: histogram.Buckets = field(default_factory=dict)


def is_call(record: SpanRecord) -> bool:
    """Whether the span is a call that belongs on the ledger now: of a model, or of a tool or retriever that has a price."""
    return (record.kind == names.MODEL or is_paid_piece(record)) and not record.waits_for


def is_paid_piece(record: SpanRecord) -> bool:
    """Whether the span is a call of a tool or retriever that costs something by itself."""
    return record.cost is not None and record.kind in PIECES


def mark_duplicate(record: SpanRecord) -> None:
    """Say to whoever counts the record that its call is on the ledger under another span."""
    record.cost = Cost(0, _NO_PARTS, DUPLICATE)


def mark_duplicates(records: Iterable[SpanRecord], billed: Collection[SpanKey]) -> None:
    """The same of those whose call the ledger had already."""
    if billed:
        for record in records:
            if record.key in billed:
                mark_duplicate(record)


def span_row(record: SpanRecord) -> Row:
    """Row of `span`."""
    call = record.kind == names.MODEL
    consumed = call and not record.cache_hit
    cost = record.cost
    return (
        record.trace_id,
        record.span_id,
        record.day,
        record.parent_id or None,
        record.run_id,
        record.kind,
        record.name,
        record.service,
        record.environment,
        record.graph,
        record.team,
        record.node,
        record.start_ns,
        record.duration_ns,
        record.status,
        record.error_type,
        record.status_message,
        record.step,
        record.attempt,
        record.attempt_final,
        record.provider,
        record.model,
        record.tool,
        record.usage.total_input if consumed else 0 if call else None,
        record.usage.total_output if consumed else 0 if call else None,
        # Without a price there is no cost to show, not one of zero.
        cost.total_nano if cost is not None and cost.status not in _WITHOUT_COST else None,
        record.ttft_ns or None,
        record.cache_hit,
        not record.waits_for,
        record.outer_attempts or None,
    )


def body_row(record: SpanRecord) -> Row:
    """Row of `span_body`."""
    return (record.trace_id, record.span_id, record.day, record.envelope.id, record.body)


def outbox_rows(records: Sequence[SpanRecord], destinations: Sequence[str], queued_ns: int) -> list[Row]:
    """Rows of `outbox`."""
    if not destinations:
        return []
    waiting = [(r.trace_id, r.day, r.span_id, len(r.body)) for r in records if r.forwardable and r.kind != names.START]
    rows = parts.rows(waiting, queued_ns)
    return [(destination, *row) for destination in sorted(destinations) for row in rows]


def ledger_row(record: SpanRecord) -> Row:
    """Row of `ledger` for a call that may cost something."""
    cost = record.cost or _NO_PRICE
    return (
        record.trace_id,
        record.span_id,
        record.start_ns,
        record.run_id,
        record.service,
        record.environment,
        record.graph,
        record.team,
        record.tenant,
        record.release,
        record.node,
        record.thread_id,
        record.user_id,
        record.session_id,
        tags_json(record),
        record.operation or _OPERATIONS.get(record.kind, ""),
        record.provider,
        # Tools and retrievers have no model; their name stands in its place, as in rollups.
        record.model or record.tool,
        record.request_model,
        # A cached answer repeats the id of the call that filled the cache.
        record.response_id if record.response_id and not record.cache_hit else None,
        record.attempt_span or None,
        record.status,
        record.cache_hit,
        *(count or None for count in record.usage),
        cost.status,
        cost.source,
        cost.price,
        cost.total_nano,
        cost.saved_nano,
        *(part or None for part in cost.parts),
        record.service_tier,
        record.server,
        record.duration_ns,
        record.images,
        record.outer_attempts or None,
        record.reported_nano,
    )


def tags_json(record: SpanRecord) -> str:
    """Tags as one canonical text, so that equal tags are equal bytes."""
    return json.dumps(record.tags, sort_keys=True, separators=(",", ":")) if record.tags else "{}"


def rollups(records: Sequence[SpanRecord], billed: Collection[SpanKey] = ()) -> dict[RollupKey, Rollup]:
    """What the spans add to the rollup rows of their hours, by sorted key.

    `billed` are calls that the ledger had already: they were counted with the span that brought them.
    """
    alike: dict[tuple[int, object], list[SpanRecord]] = {}
    for record in records:
        # Of other instrumentations' spans only the calls count: they have no run whose nodes could be reported.
        if record.kind not in ROLLED_UP or not (record.run_id or record.kind == names.MODEL or is_paid_piece(record)):
            continue
        if billed and record.key in billed:
            continue
        # Most are told to be alike by identity; those that are not meet again in one row, below.
        key = (record.start_ns // HOUR_NS, record.likeness or _alike(record))
        try:
            alike[key].append(record)
        except KeyError:
            alike[key] = [record]
    found: dict[RollupKey, Rollup] = {}
    for (hour, _), same in alike.items():
        *dimensions, model, tool, status, final, cached = _alike(same[0])
        # Tools and retrievers have no model; their name stands in its place.
        rollup_key: RollupKey = (hour, *dimensions, model or tool)
        rollup = found.get(rollup_key)
        if rollup is None:
            rollup = found[rollup_key] = Rollup()
        _roll_up(rollup, same, _CACHE_HITS if cached else _AT[status] if final else _RETRIES)
    return {key: found[key] for key in sorted(found)}


def daily(hourly: Mapping[RollupKey, Rollup]) -> dict[RollupKey, Rollup]:
    """What rollups of hours add to those of their days, by sorted key."""
    found: dict[RollupKey, Rollup] = {}
    for hour_key, added in hourly.items():
        key = (hour_key[0] // HOURS_PER_DAY, *hour_key[1:])
        rollup = found.get(key)
        if rollup is None:
            found[key] = Rollup(added.sums.copy(), added.latency.copy())
        else:
            rollup.sums = list(map(add, rollup.sums, added.sums))
            histogram.merge(rollup.latency, added.latency)
    return {key: found[key] for key in sorted(found)}


_alike: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(
    *ROLLUP_DIMENSIONS, "tool", "status", "attempt_final", "cache_hit"
)


def _roll_up(rollup: Rollup, records: Sequence[SpanRecord], outcome: int) -> None:
    """Add spans of one row that all ended the same way; `outcome` is the sum that counts such an end."""
    sums = rollup.sums
    sums[_COUNT] += len(records)
    sums[outcome] += len(records)
    served = outcome != _CACHE_HITS
    if served:
        durations = [record.duration_ns for record in records]
        sums[_DURATION] += sum(durations)
        histogram.observe_all(rollup.latency, durations)
    if records[0].kind == names.MODEL:
        costs = [record.cost or _NO_PRICE for record in records]
        sums[_COST] += sum([cost.total_nano for cost in costs])
        sums[_SAVED] += sum([cost.saved_nano for cost in costs])
        if served:
            if waits := [record.ttft_ns for record in records if record.ttft_ns]:
                histogram.observe_all(rollup.latency, waits, histogram.FIRST_TOKEN)
            sums[_UNPRICED] += [cost.status for cost in costs].count("unpriced")
            usages = zip(*[record.usage for record in records], strict=True)
            for index, count in enumerate(map(sum, usages), start=_FIRST_TOKENS):
                sums[index] += count
    elif records[0].kind in PIECES:
        sums[_COST] += sum([record.cost.total_nano for record in records if record.cost is not None])
