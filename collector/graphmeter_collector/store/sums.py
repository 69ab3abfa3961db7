"""Spend, runs by status, and known series: sums over a range, exact to the nanosecond, that do not read every row of it.

Rollups hold the sums of the rows they were written with, in one transaction. So whole hours and days come from them; ragged
ends, and dimensions that rollups do not have, come from ledger and runs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Table, and_, func, or_, select
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.reports import COST_DIMENSIONS, EFFECTIVE, CostRow, RunCount, Series, View
from graphmeter_collector.store import effective, ranges
from graphmeter_collector.store.facts import HOUR_NS, HOURS_PER_DAY, ROLLUP_DIMENSIONS
from graphmeter_collector.store.nodes import Rows
from graphmeter_collector.store.tables import is_open, is_silent, ledger, ledger_price, rollup_day, rollup_hour, run

_TOKENS: Final = tuple(f"{bucket}_tokens" for bucket in names.TOKEN_TYPES)
_SPENT: Final = ("calls", "cache_hits", "unpriced", *_TOKENS, "cost_nano", "saved_nano")
_RUN: Final = ("service", "environment", "graph", "team")

Group = tuple[str, ...]


async def covered(source: Rows, since_ns: int, until_ns: int) -> ranges.Cover:
    """The range, as far as rollups go back: they may be kept for a shorter time than what they were made from."""
    oldest = select(
        select(func.min(rollup_hour.c.hour)).scalar_subquery().label("hour"),
        select(func.min(rollup_day.c.day)).scalar_subquery().label("day"),
    )
    [row] = await source.rows(oldest)
    if row["hour"] is None or row["day"] is None:
        return ranges.Cover([], (since_ns, since_ns), [(since_ns, until_ns)])
    return ranges.cover(since_ns, until_ns, max(row["hour"], row["day"] * HOURS_PER_DAY))


def _within(part: ranges.Part) -> ColumnElement[bool]:
    period = part.table.c[0]
    return and_(period >= part.first, period < part.end)


def _total(column: ColumnElement[Any], where: ColumnElement[bool] | None = None) -> ColumnElement[int]:
    total = func.sum(column)
    return func.coalesce(total.filter(where) if where is not None else total, 0)


# --- spend --------------------------------------------------------------------------------------------------------


async def cost(source: Rows, by: Sequence[str], since_ns: int, until_ns: int, view: View = EFFECTIVE) -> list[CostRow]:
    """See `reports.Reader.cost`. Rollups hold what calls cost as billed; what they cost now is that, corrected.

    Raises:
        BadRequest: `by` names what spend has not.
    """
    for dimension in by:
        if dimension not in COST_DIMENSIONS:
            known = ", ".join(COST_DIMENSIONS)
            raise BadRequest(f"cannot group spend by {dimension!r}: one of {known}", reason="unknown_dimension")
    cover = ranges.Cover([], (since_ns, since_ns), [(since_ns, until_ns)])
    if set(by) <= set(ROLLUP_DIMENSIONS):
        cover = await covered(source, since_ns, until_ns)
    spent: dict[Group, Counter[str]] = defaultdict(Counter)

    async def add(
        table: Table,
        sums: Sequence[ColumnElement[int]],
        where: ColumnElement[bool],
        rows: FromClause | None = None,
    ) -> None:
        groups = [table.c[dimension] for dimension in by]
        asked = select(*groups, *sums).select_from(table if rows is None else rows)
        for row in await source.rows(asked.where(where).group_by(*groups)):
            found = spent[tuple(row[dimension] for dimension in by)]
            found.update({column.name: int(row[column.name]) for column in sums})

    for part in cover.parts:
        await add(part.table, _spent_in_rollups(part.table), and_(_billed(part.table), _within(part)))
    for start, end in cover.rests:
        await add(ledger, _SPENT_IN_LEDGER, and_(ledger.c.start_ns >= start, ledger.c.start_ns < end))
    # Rollups do not count these, and there are few.
    silent = [func.count().label("usage_missing")]
    await add(ledger, silent, and_(is_silent, ledger.c.start_ns >= since_ns, ledger.c.start_ns < until_ns))
    billed = {group: found["cost_nano"] for group, found in spent.items()}
    if view == EFFECTIVE and await effective.any_version(source, since_ns, until_ns):
        within = and_(ledger_price.c.start_ns >= since_ns, ledger_price.c.start_ns < until_ns)
        await add(ledger, effective.corrections(), within, effective.REPRICED)
    rows = [
        CostRow(
            group=dict(zip(by, group, strict=True)),
            calls=found["calls"],
            cache_hits=found["cache_hits"],
            unpriced_calls=found["unpriced"],
            usage_missing_calls=found["usage_missing"],
            tokens={bucket: found[f"{bucket}_tokens"] for bucket in names.TOKEN_TYPES},
            cost_nano=found["cost_nano"],
            saved_nano=found["saved_nano"],
            billed_nano=billed.get(group, 0),
            view=view,
        )
        for group, found in spent.items()
        if found["calls"] or found["cache_hits"] or found["cost_nano"]
    ]
    return sorted(rows, key=lambda row: (-row.cost_nano, tuple(row.group.values())))


def _spent_in_rollups(table: Table) -> list[ColumnElement[int]]:
    columns = table.c
    same = [_total(columns[name]).label(name) for name in _SPENT if name != "calls"]
    return [_total(columns["count"] - columns.cache_hits, columns.kind == names.MODEL).label("calls"), *same]


def _billed(table: Table) -> ColumnElement[bool]:
    """Rows of what stands on the ledger: model calls, and tools and retrievers that have a price."""
    pieces = and_(table.c.kind.in_((names.TOOL, names.RETRIEVER)), table.c.cost_nano > 0)
    return or_(table.c.kind == names.MODEL, pieces)


_CALLED: Final = ledger.c.cache_hit.is_(False)
_SPENT_IN_LEDGER: Final[list[ColumnElement[int]]] = [
    # Of models: tools and retrievers that have a price bring money alone.
    func.count().filter(_CALLED, ledger.c.operation.not_in(names.PIECE_OPERATIONS)).label("calls"),
    func.count().filter(ledger.c.cache_hit.is_(True)).label("cache_hits"),
    func.count().filter(ledger.c.price_status == "unpriced").label("unpriced"),
    # A cached answer's tokens were consumed by the call that filled the cache.
    *(_total(ledger.c[name], _CALLED).label(name) for name in _TOKENS),
    _total(ledger.c.cost_nano).label("cost_nano"),
    _total(ledger.c.saved_nano).label("saved_nano"),
]


# --- runs ---------------------------------------------------------------------------------------------------------


async def run_counts(source: Rows, since_ns: int, until_ns: int) -> list[RunCount]:
    """See `reports.Reader.run_counts`."""
    cover = await covered(source, since_ns, until_ns)
    counts: Counter[tuple[str, str, str, str, str]] = Counter()
    for part in cover.parts:
        keys = [part.table.c[name] for name in _RUN]
        sums = [_total(part.table.c[status]).label(status) for status in names.SPAN_STATUSES]
        ended = select(*keys, *sums).where(part.table.c.kind == names.RUN, _within(part)).group_by(*keys)
        for row in await source.rows(ended):
            for status in names.SPAN_STATUSES:
                counts[(*_key(row), status)] += int(row[status])
    # Those that have not ended are in no rollup.
    for (start, end), which in [(cover.whole, is_open), *((rest, None) for rest in cover.rests)]:
        keys = [run.c[name] for name in (*_RUN, "status")]
        where = [run.c.started_ns >= start, run.c.started_ns < end, *([] if which is None else [which])]
        for row in await source.rows(select(*keys, func.count().label("count")).where(*where).group_by(*keys)):
            counts[(*_key(row), row["status"])] += row["count"]
    return [RunCount(*key, count) for key, count in sorted(counts.items()) if count]


def _key(row: RowMapping) -> tuple[str, str, str, str]:
    return (row["service"], row["environment"], row["graph"], row["team"])


# --- series -------------------------------------------------------------------------------------------------------


async def series(source: Rows, since_ns: int) -> list[Series]:
    """Combinations of dimensions seen since then, to the hour; from days where that can be."""
    hour = since_ns // HOUR_NS
    day = -(-hour // HOURS_PER_DAY)
    within = (rollup_hour.c.hour >= hour) & (rollup_hour.c.hour < day * HOURS_PER_DAY)
    found: set[tuple[Any, ...]] = set()
    for table, where in ((rollup_hour, within), (rollup_day, rollup_day.c.day >= day)):
        seen = select(*[table.c[name] for name in ROLLUP_DIMENSIONS]).where(where).distinct()
        found |= {tuple(row.values()) for row in await source.rows(seen)}
    return [Series(*combination) for combination in sorted(found)]
