"""An objective and a time in, its events and the bad ones among them out, by what it judges by itself.

Days and hours come from rollups, which hold what ended how and packed latencies whose counts are exact at the bounds of
metrics; what a run cost is known of the run alone, and outcomes have rows of their own. Short windows of burn-rate tiers are
finer than the hours of rollups and tell what has just ended: they are counted row by row.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.reports import Judgement, Judgements
from graphmeter_collector.store import histogram, ranges, sums
from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.events import Chosen, Condition, Facts, columns_of, facts_of
from graphmeter_collector.store.facts import DAY_NS, HOUR_NS
from graphmeter_collector.store.tables import is_open, run
from graphmeter_config import Slo
from graphmeter_config.indicators import Indicator, Of

LATELY_NS: Final = 6 * HOUR_NS
"""Longest window that is counted row by row."""
_TO_THE_HOUR_NS: Final = 3 * DAY_NS
"""Ranges longer than this begin with a whole hour: less than one and a half percent of them."""
_ROWS_AT_ONCE: Final = 500


class _Sums(NamedTuple):
    """Rows of rollups that hold events."""

    kind: str
    by_latency: bool
    """By how long they took; else by how they ended."""
    measure: int = 0
    """Which of what a row's histogram holds."""


class EventCounter:
    """Adds up what rows say, of what an SLO selects."""

    def __init__(self, slo: Slo, size: int = 1) -> None:
        self.slo = slo
        self.chosen = Chosen(slo.select.restricting(), slo.per)
        self.found: list[dict[tuple[str, ...], Judgement]] = [{} for _ in range(size)]

    def add(self, group: tuple[str, ...], said: Judgement, at: int = 0) -> None:
        """Count events."""
        before = self.found[at].get(group)
        self.found[at][group] = said if before is None else before.plus(said)


_ROLLED_UP: Final[Mapping[tuple[Indicator, Of], _Sums]] = {
    ("availability", "runs"): _Sums(names.RUN, by_latency=False),
    ("availability", "nodes"): _Sums(names.NODE, by_latency=False),
    ("availability", "tools"): _Sums(names.TOOL, by_latency=False),
    ("availability", "models"): _Sums(names.MODEL, by_latency=False),
    ("latency", "runs"): _Sums(names.RUN, by_latency=True),
    ("latency", "nodes"): _Sums(names.NODE, by_latency=True),
    ("latency", "models"): _Sums(names.MODEL, by_latency=True),
    ("first_token", "models"): _Sums(names.MODEL, by_latency=True, measure=histogram.FIRST_TOKEN),
    ("quality", "runs"): _Sums(names.RUN, by_latency=False),
}
"""Kinds of which rollups know; of others each event is looked at."""


# --- questions ----------------------------------------------------------------------------------------------------


async def judged(source: Rows, slo: Slo, since_ns: int, until_ns: int, *, to_the_hour: bool = False) -> Judgements:
    """See `reports.SloCounts`."""
    counter = EventCounter(slo)
    facts = facts_of(slo)
    rolled_up = _ROLLED_UP.get((slo.indicator, slo.of))
    if rolled_up is None:
        await _count_rows(source, counter, facts[0], since_ns, until_ns)
    else:
        if to_the_hour and until_ns - since_ns > _TO_THE_HOUR_NS and facts[0].rows is not run:
            since_ns = since_ns // HOUR_NS * HOUR_NS
        cover = await sums.covered(source, since_ns, until_ns)
        for part in cover.parts:
            await _count_rollups(source, counter, rolled_up, part)
        for start_ns, end_ns in cover.rests:
            await _count_rows(source, counter, facts[0], start_ns, end_ns)
        if not rolled_up.by_latency and rolled_up.kind == names.RUN:
            # Those that have not ended, or late, are in no rollup.
            await _count_rows(source, counter, facts[0], *cover.whole, is_open)
    for also in facts[1:]:
        await _count_rows(source, counter, also, since_ns, until_ns, bad_only=True)
    return _sane(counter.found[0])


async def judged_lately(
    source: Rows, slo: Slo, now_ns: int, windows_ns: Sequence[int], lost_after_ns: int
) -> Sequence[Judgements]:
    """See `reports.SloCounts`. Events that took longer than an hour, runs longer than a day, are not found."""
    counter = EventCounter(slo, len(windows_ns))
    for index, facts in enumerate(facts_of(slo, lost_after_ns)):
        known = counter.chosen.dimensions(facts.dimensions)
        columns: list[ColumnElement[Any]] = [facts.dimensions[name].label(name) for name in known]
        within = [facts.ended_ns > now_ns - window for window in windows_ns]
        counts: list[ColumnElement[int]] = []
        for at, each in enumerate(within):
            counts.append(func.count().filter(each).label(f"total{at}"))
            counts.append(func.count().filter(each, facts.bad).label(f"bad{at}"))
        longest = max(windows_ns) + facts.longest_ns
        where = [facts.judged, facts.started_ns > now_ns - longest, facts.ended_ns <= now_ns, or_(*within)]
        where += counter.chosen.narrowed(facts.dimensions)
        asked: Select[Any] = select(*columns, *counts).select_from(facts.rows).where(*where)
        for row in await source.rows(asked.group_by(*columns) if columns else asked):
            group = counter.chosen.group({name: row[name] for name in known})
            if group is not None:
                for at in range(len(windows_ns)):
                    total = 0 if index else row[f"total{at}"]
                    counter.add(group, Judgement(total, row[f"bad{at}"]), at)
    return [_sane(found) for found in counter.found]


async def _count_rows(
    source: Rows,
    counter: EventCounter,
    facts: Facts,
    since_ns: int,
    until_ns: int,
    also: Condition | None = None,
    *,
    bad_only: bool = False,
) -> None:
    known = counter.chosen.dimensions(facts.dimensions)
    columns: list[ColumnElement[Any]] = [facts.dimensions[name].label(name) for name in known]
    counts: list[ColumnElement[Any]] = [
        func.count().filter(facts.judged).label("total"),
        func.count().filter(facts.judged, facts.bad).label("bad"),
    ]
    where = [facts.started_ns >= since_ns, facts.started_ns < until_ns, *counter.chosen.narrowed(facts.dimensions)]
    if also is not None:
        where.append(also)
    if facts.rows is not run:  # of a graph that has only begun its runs it is told that none is judged yet
        where.append(facts.judged)
    asked: Select[Any] = select(*columns, *counts).select_from(facts.rows).where(*where)
    for row in await source.rows(asked.group_by(*columns) if columns else asked):
        said = Judgement(0 if bad_only else row["total"], row["bad"])
        _take(counter, {name: row[name] for name in known}, said)


async def _count_rollups(source: Rows, counter: EventCounter, of: _Sums, part: ranges.Part) -> None:
    table, slo = part.table, counter.slo
    columns: dict[str, ColumnElement[str]] = columns_of(table, "node", "provider", "model")
    if of.kind == names.TOOL:
        columns = {**columns_of(table, "node"), "tool": table.c.model}
    known = counter.chosen.dimensions(columns)
    wanted: list[ColumnElement[Any]] = [columns[name].label(name) for name in known]
    where = [
        table.c.kind == of.kind,
        table.c[0] >= part.first,
        table.c[0] < part.end,
        *counter.chosen.narrowed(columns),
    ]
    if of.by_latency:
        cells: list[ColumnElement[Any]] = [*wanted, table.c.latency]
        latencies: Select[Any] = select(*cells).where(*where)
        threshold_ns = round(slo.bound * names.NANO_PER_USD)
        for values, said in (await _above(await source.rows(latencies), threshold_ns, of.measure)).items():
            _take(counter, dict(zip(known, values, strict=True)), said)
        return
    bad = 0 if slo.indicator == "quality" else 1
    asked: Select[Any] = select(
        *wanted,
        func.coalesce(func.sum(table.c.ok + table.c.error), 0).label("total"),
        func.coalesce(func.sum(table.c.error), 0).label("bad"),
    ).where(*where)
    for row in await source.rows(asked.group_by(*wanted) if wanted else asked):
        said = Judgement(int(row["total"]), int(row["bad"]) * bad)
        _take(counter, {name: row[name] for name in known}, said)


async def _above(rows: Sequence[RowMapping], threshold_ns: int, measure: int) -> Mapping[tuple[str, ...], Judgement]:
    """Events by their dimensions. The database cannot look into histograms; this is one row for whatever rollups tell apart,
    and period.
    """
    found: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        for row in rows[first : first + _ROWS_AT_ONCE]:
            # By position: names would be looked up ten thousand times.
            cells: tuple[Any, ...] = tuple(row.values())
            total, over, unknown = histogram.above(cells[-1], threshold_ns, measure)
            added = found[cells[:-1]]
            added[0] += total
            added[1] += over
            added[2] += unknown
        await asyncio.sleep(0)
    return {values: Judgement(*added) for values, added in found.items()}


def _take(counter: EventCounter, values: Mapping[str, str], said: Judgement) -> None:
    group = counter.chosen.group(values)
    if group is not None:
        counter.add(group, said)


def _sane(found: Mapping[tuple[str, ...], Judgement]) -> Judgements:
    """Outcomes may be told twice, or of runs before: there are never more bad events than events."""
    return {group: said._replace(bad=min(said.bad, said.total)) for group, said in found.items()}
