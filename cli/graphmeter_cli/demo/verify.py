"""What the workload knows it did and what the collector says was done in, one comparison per kind of fact out.

The workload's tally counts inside the example nodes, models and tools and never asks Graphmeter; the stored side comes
from the same reports everybody reads. Equal means: every run, attempt, call, token and nano-USD, group by group.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from graphmeter import names
from graphmeter_cli.units import NS_PER_S
from graphmeter_collector.reports import CostRow, NodeRow, Reader, RunCount, RunFilter, RunRow
from graphmeter_examples.tally import Tally, by

_POLL_S = 0.1
_PAGE = 1000  # runs per question

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
    dimensions = ("service", "graph", "team", "node", "model")
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


def compare(tally: Tally, stored: Stored) -> list[Comparison]:
    """Every comparison, equal or not."""
    call = ("graph", "team", "node", "model")
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
        Comparison("model calls", call, by(tally.model_calls, *call), _per_call(stored, lambda row: row.calls)),
        *(_tokens(tally, stored, bucket, call) for bucket in names.TOKEN_TYPES),
        Comparison("cost, nano-USD", call, by(tally.cost_nano, *call), _per_call(stored, lambda row: row.cost_nano)),
        Comparison(
            "tool calls",
            ("graph",),
            by(tally.tool_calls, "graph"),
            _sum(stored.runs, lambda row: (row.graph,), lambda row: row.tool_calls),
        ),
    ]


def _tokens(tally: Tally, stored: Stored, bucket: str, call: tuple[str, ...]) -> Comparison:
    run = by({key: count for key, count in tally.tokens.items() if key.type == bucket}, *call)
    return Comparison(f"tokens, {bucket}", call, run, _per_call(stored, lambda row: row.tokens.get(bucket, 0)))


def _per_node(stored: Stored, number: Callable[[NodeRow], int]) -> Groups:
    return _sum(stored.nodes, lambda row: (row.graph, row.node), number)


def _per_call(stored: Stored, number: Callable[[CostRow], int]) -> Groups:
    return _sum(stored.cost, lambda row: _values(row.group, "graph", "team", "node", "model"), number)


def _values(group: Mapping[str, str], *keys: str) -> tuple[str, ...]:
    return tuple(group[key] for key in keys)


def _sum(rows: list[_Row], group: Callable[[_Row], tuple[str, ...]], number: Callable[[_Row], int]) -> Groups:
    sums: Groups = Counter()
    for row in rows:
        sums[group(row)] += number(row)
    return sums


async def until_equal(
    reader: Reader, service: str, since_ns: int, tally: Tally, *, within_s: float
) -> list[Comparison]:
    """Compare until everything is equal or time is up; the last comparisons either way."""
    deadline = time.monotonic() + within_s
    while True:
        comparisons = compare(tally, await fetch(reader, service, since_ns))
        if all(comparison.equal for comparison in comparisons) or time.monotonic() > deadline:
            return comparisons
        await asyncio.sleep(_POLL_S)
