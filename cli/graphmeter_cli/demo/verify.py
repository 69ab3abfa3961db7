"""What the workload knows it did and what the collector says was done in, one comparison per kind of fact out.

The workload's tally counts inside the example nodes, models and tools and never asks Graphmeter; the stored side comes
from the same reports everybody reads. Equal means: every run, attempt, call, token and nano-USD, group by group.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from graphmeter import names
from graphmeter_cli.units import NS_PER_S
from graphmeter_collector.reports import CostRow, NodeRow, Reader, RunCount, RunFilter, RunRow
from graphmeter_examples.tally import Tally, by

_POLL_S = 0.1
_PAGE = 1000  # runs per question
_CALL = ("graph", "team", "node", "model")

_Row = TypeVar("_Row")
Groups = Counter[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a collector's reports say about one service."""

    run_counts: list[RunCount]
    runs: list[RunRow]
    nodes: list[NodeRow]
    cost: list[CostRow]
    """By service, graph, team, node and model."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One kind of fact: what was run and what was stored, by group."""

    what: str
    by: tuple[str, ...]
    run: Groups
    stored: Groups

    @property
    def equal(self) -> bool:
        return +self.run == +self.stored

    def differences(self) -> list[tuple[str, int, int]]:
        """Groups that differ: name, number run, number stored."""
        return [
            (", ".join(part or names.UNATTRIBUTED for part in group), self.run[group], self.stored[group])
            for group in sorted(self.run.keys() | self.stored.keys())
            if self.run[group] != self.stored[group]
        ]


async def fetch(reader: Reader, service: str, since_ns: int) -> Stored:
    """Everything the reports say about `service` since then."""
    until_ns = time.time_ns() + NS_PER_S  # the range ends before `until_ns`
    dimensions = ("service", *_CALL)
    return Stored(
        run_counts=[row for row in await reader.run_counts(since_ns, until_ns) if row.service == service],
        runs=await _runs(reader, service, since_ns),
        nodes=[row for row in await reader.nodes(since_ns, until_ns) if row.service == service],
        cost=[row for row in await reader.cost(dimensions, since_ns, until_ns) if row.group["service"] == service],
    )


async def _runs(reader: Reader, service: str, since_ns: int) -> list[RunRow]:
    """Every run of a service, page by page, newest first; pages overlap in their last nanosecond."""
    found: dict[tuple[str, str], RunRow] = {}
    where = RunFilter(since_ns=since_ns, limit=_PAGE)
    while True:
        page = await reader.runs(where)
        found |= {(row.trace_id, row.run_id): row for row in page if row.service == service}
        if len(page) < _PAGE or page[-1].started_ns + 1 == where.until_ns:
            return list(found.values())
        where = replace(where, until_ns=page[-1].started_ns + 1)


def compare(tally: Tally, stored: Stored, *, exact: bool = True) -> list[Comparison]:
    """Every comparison, equal or not. Not `exact`: a real provider answered, whose tokens and bill only it knows."""
    node = ("graph", "node")
    return [
        Comparison(
            "runs",
            ("graph", "team", "status"),
            by(tally.runs, "graph", "team", "status"),
            _sum(stored.run_counts, lambda row: (row.graph, row.team, row.status), lambda row: row.count),
        ),
        Comparison("node executions", node, by(tally.executions, *node), _per_node(stored, lambda row: row.runs)),
        Comparison("node attempts", node, by(tally.attempts, *node), _per_node(stored, lambda row: row.attempts)),
        Comparison(
            "node errors",
            node,
            by({key: count for key, count in tally.executions.items() if key.status == names.ERROR}, *node),
            _per_node(stored, lambda row: row.errors),
        ),
        *(_bill(tally, stored) if exact else ()),
        Comparison(
            "tool calls",
            ("graph",),
            by(tally.tool_calls, "graph"),
            _sum(stored.runs, lambda row: (row.graph,), lambda row: row.tool_calls),
        ),
    ]


def _bill(tally: Tally, stored: Stored) -> Iterator[Comparison]:
    yield Comparison("model calls", _CALL, by(tally.model_calls, *_CALL), _per_call(stored, lambda row: row.calls))
    for bucket in names.TOKEN_TYPES:
        run = by({key: count for key, count in tally.tokens.items() if key.type == bucket}, *_CALL)
        kept = _sum(stored.cost, _call, partial(_tokens, bucket))
        yield Comparison(f"tokens, {bucket}", _CALL, run, kept)
    yield Comparison("cost, nano-USD", _CALL, by(tally.cost_nano, *_CALL), _per_call(stored, lambda row: row.cost_nano))


def _tokens(bucket: str, row: CostRow) -> int:
    return row.tokens.get(bucket, 0)


def _call(row: CostRow) -> tuple[str, ...]:
    return tuple(row.group[dimension] for dimension in _CALL)


def _per_node(stored: Stored, number: Callable[[NodeRow], int]) -> Groups:
    return _sum(stored.nodes, lambda row: (row.graph, row.node), number)


def _per_call(stored: Stored, number: Callable[[CostRow], int]) -> Groups:
    return _sum(stored.cost, _call, number)


def _sum(rows: list[_Row], group: Callable[[_Row], tuple[str, ...]], number: Callable[[_Row], int]) -> Groups:
    sums: Groups = Counter()
    for row in rows:
        sums[group(row)] += number(row)
    return sums


async def until_equal(
    reader: Reader, service: str, since_ns: int, tally: Tally, *, exact: bool = True, within_s: float
) -> list[Comparison]:
    """Compare until everything is equal or time is up; the last comparisons either way."""
    deadline = time.monotonic() + within_s
    while True:
        comparisons = compare(tally, await fetch(reader, service, since_ns), exact=exact)
        if all(comparison.equal for comparison in comparisons) or time.monotonic() > deadline:
            return comparisons
        await asyncio.sleep(_POLL_S)
