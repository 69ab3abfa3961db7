"""Questions on spend that rollups cannot answer (`sums` has the others): one statement over the ledger for each.

All of them are about the same rows (see `store.spent`), so that their totals agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    Text,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.engine import RowMapping

from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.ledger import CallKey, Which
from graphmeter_collector.reports import (
    COST_ALIASES,
    COST_UNITS,
    EFFECTIVE,
    EVERYTHING,
    OUTCOME_DIMENSIONS,
    CostRow,
    OutcomeCostRow,
    ReportedCostRow,
    UnitCostRow,
    View,
    Where,
)
from graphmeter_collector.store.spent import Rows, canonical, group_key, rows_of, summed
from graphmeter_collector.store.tables import column_names, ledger, outcome

_FAILED: Final = (names.ERROR, names.CANCELLED)


async def cost(
    reader: Rows,
    by: Sequence[str],
    since_ns: int,
    until_ns: int,
    *,
    where: Where = EVERYTHING,
    timezone: str = "UTC",
    limit: int = 0,
    view: View = EFFECTIVE,
) -> list[CostRow]:
    """See `graphmeter_collector.reports.Reader.cost`."""
    by = canonical(by)
    spent = await rows_of(reader, by, since_ns, until_ns, where, timezone, view)
    row = spent.table.c
    called = row.cache_hit.is_(False)
    # Of models: tools and retrievers that have a price bring money alone.
    asked = and_(called, row.operation.not_in(names.PIECE_OPERATIONS))
    failed = and_(called, row.status.in_(_FAILED))
    total = summed(row.cost_nano)
    query = (
        select(
            *spent.groups,
            func.count().filter(asked).label("calls"),
            func.count().filter(row.cache_hit.is_(True)).label("cache_hits"),
            func.count().filter(row.price_status == "unpriced").label("unpriced_calls"),
            func.count().filter(row.price_status == "usage_missing").label("usage_missing_calls"),
            # A cached answer's tokens were consumed by the call that filled the cache.
            *(summed(row[f"{bucket}_tokens"], called).label(f"{bucket}_tokens") for bucket in names.TOKEN_TYPES),
            *(summed(row[f"{bucket}_nano"]).label(f"{bucket}_nano") for bucket in names.TOKEN_TYPES),
            total.label("cost_nano"),
            summed(row.saved_nano).label("saved_nano"),
            summed(row.billed_nano).label("billed_nano"),
            func.count().filter(failed).label("failed_calls"),
            summed(row.cost_nano, failed).label("failed_nano"),
        )
        .select_from(spent.table)
        .group_by(*spent.groups)
        .having(func.count() > 0)
    )
    if limit:
        query = query.order_by(total.desc(), *spent.groups).limit(limit)
    found = [_cost_row(each, by, view) for each in await reader.rows(query)]
    spent_on = [each for each in found if each.calls or each.cache_hits or each.cost_nano]
    return sorted(spent_on, key=lambda row: (-row.cost_nano, tuple(row.group.values())))


async def with_waste(
    reader: Rows,
    rows: Sequence[CostRow],
    by: Sequence[str],
    since_ns: int,
    until_ns: int,
    *,
    where: Where = EVERYTHING,
    timezone: str = "UTC",
    view: View = EFFECTIVE,
) -> list[CostRow]:
    """The answer to the same question on spend, with what of it was for nothing.

    Apart from that answer, which may come from rollups: calls that were for nothing are few, and found by themselves.
    """
    if not rows:
        return []
    by = canonical(by)
    spent = await rows_of(reader, by, since_ns, until_ns, where, timezone, view, ("cost_nano",), wasted=True)
    row = spent.table.c
    query = select(
        *spent.groups, row.reason, func.count().label("calls"), summed(row.cost_nano).label("cost_nano")
    ).group_by(*spent.groups, row.reason)
    nano: dict[tuple[str, ...], dict[str, int]] = {}
    calls: dict[tuple[str, ...], dict[str, int]] = {}
    for each in sorted(await reader.rows(query), key=lambda found: names.WASTE_REASONS.index(found["reason"])):
        nano.setdefault(group_key(each, by), {})[each["reason"]] = int(each["cost_nano"])
        calls.setdefault(group_key(each, by), {})[each["reason"]] = each["calls"]
    keys = [tuple(row.group[name] for name in by) for row in rows]
    return [
        replace(row, wasted_nano=nano[key], wasted_calls=calls[key]) if key in nano else row
        for row, key in zip(rows, keys, strict=True)
    ]


async def per_unit(
    reader: Rows,
    unit: str,
    by: Sequence[str],
    since_ns: int,
    until_ns: int,
    *,
    where: Where = EVERYTHING,
    view: View = EFFECTIVE,
) -> list[UnitCostRow]:
    """See `graphmeter_collector.reports.Reader.unit_cost`."""
    by = canonical(by)
    unit = COST_ALIASES.get(unit, unit)
    if unit not in COST_UNITS:
        raise BadRequest(f"there is no cost per {unit!r}: choose from {', '.join(COST_UNITS)}", reason="unknown_unit")
    if unit in by:
        raise BadRequest(f"cannot group the cost per {unit} by {unit}", reason="unknown_dimension")
    spent = await rows_of(reader, (*by, unit), since_ns, until_ns, where, "UTC", view)
    *groups, which = spent.groups
    # What each unit cost, then each one's place among those of its group.
    each = (
        select(*groups, which.label("unit"), summed(spent.table.c.cost_nano).label("cost"))
        .where(which != "")
        .group_by(*groups, which)
        .subquery()
    )
    labels = [f"g{place}" for place in range(len(by))]
    keys = [each.c[label] for label in labels]
    place = func.row_number().over(partition_by=keys or None, order_by=each.c.cost)
    among = func.count().over(partition_by=keys or None)
    ranked = select(*keys, each.c.cost, place.label("place"), among.label("among")).subquery()
    cells = ranked.c
    query = select(
        *(cells[label] for label in labels),
        func.count().label("units"),
        summed(cells.cost).label("cost_nano"),
        func.max(cells.cost).label("max_nano"),
        func.max(case((cells.place == (cells.among + 1) // 2, cells.cost))).label("median_nano"),
        func.max(case((cells.place == (cells.among * 95 + 99) // 100, cells.cost))).label("p95_nano"),
    ).group_by(*(cells[label] for label in labels))
    if not groups:
        query = query.having(func.count() > 0)
    found = {group_key(row, by): row for row in await reader.rows(query)}
    rest = {
        tuple(row.group[name] for name in by): row.cost_nano
        for row in await cost(reader, by, since_ns, until_ns, where=_nameless(unit, where), view=view)
    }
    rows = [_unit_row(key, found.get(key), rest.get(key, 0), unit, by, view) for key in found | rest]
    return sorted(rows, key=lambda row: (-row.cost_nano, tuple(row.group.values())))


async def reported(
    reader: Rows,
    by: Sequence[str],
    since_ns: int,
    until_ns: int,
    *,
    where: Where = EVERYTHING,
    timezone: str = "UTC",
    view: View = EFFECTIVE,
) -> list[ReportedCostRow]:
    """See `graphmeter_collector.reports.Reader.reported_cost`."""
    by = canonical(by)
    wanted = ("cost_nano", "price_status", "reported_nano")
    spent = await rows_of(reader, by, since_ns, until_ns, where, timezone, view, wanted)
    row = spent.table.c
    query = (
        select(
            *spent.groups,
            func.count().label("calls"),
            summed(row.cost_nano).label("cost_nano"),
            summed(row.reported_nano).label("reported_nano"),
            func.count().filter(row.price_status == "unpriced").label("unpriced_calls"),
            func.count().filter(row.price_status == "usage_missing").label("usage_missing_calls"),
        )
        .where(row.reported_nano.is_not(None))
        .group_by(*spent.groups)
        .having(func.count() > 0)
    )
    rows = []
    for each in await reader.rows(query):
        ours, theirs = int(each["cost_nano"]), int(each["reported_nano"])
        group = dict(zip(by, group_key(each, by), strict=True))
        unknown = (each["unpriced_calls"], each["usage_missing_calls"])
        rows.append(ReportedCostRow(group, each["calls"], ours, theirs, ours - theirs, *unknown, view))
    return sorted(rows, key=lambda row: (-row.reported_nano, tuple(row.group.values())))


async def per_outcome(
    reader: Rows,
    by: Sequence[str],
    since_ns: int,
    until_ns: int,
    *,
    where: Where = EVERYTHING,
    view: View = EFFECTIVE,
) -> list[OutcomeCostRow]:
    """See `graphmeter_collector.reports.Reader.outcome_cost`."""
    by = canonical(by)
    for name in (*by, *where):
        if name not in OUTCOME_DIMENSIONS:
            known = ", ".join(OUTCOME_DIMENSIONS)
            raise BadRequest(f"outcomes do not say their {name}: choose from {known}", reason="unknown_dimension")
    groups = [outcome.c[name] for name in by]
    query = (
        select(
            *groups,
            outcome.c.kind,
            func.count().filter(outcome.c.good.is_(True)).label("good"),
            func.count().filter(outcome.c.good.is_(False)).label("bad"),
            func.count().filter(outcome.c.good.is_(None)).label("unjudged"),
        )
        .where(outcome.c.at_ns >= since_ns, outcome.c.at_ns < until_ns)
        .where(*(outcome.c[name].in_(values) for name, values in where.items()))
        .group_by(*groups, outcome.c.kind)
    )
    spent = {
        tuple(row.group.values()): row.cost_nano
        for row in await cost(reader, by, since_ns, until_ns, where=where, view=view)
    }
    rows = []
    for row in await reader.rows(query):
        group = {name: row[name] for name in by}
        nano = spent.get(tuple(group.values()), 0)
        per_good = nano // row["good"] if row["good"] else None
        judged = (row["good"], row["bad"], row["unjudged"])
        rows.append(OutcomeCostRow(group, row["kind"], *judged, nano, per_good, view))
    return sorted(rows, key=lambda row: (-row.cost_nano, tuple(row.group.values()), row.kind))


async def calls(reader: Rows, which: Which, after: CallKey | None, limit: int) -> Sequence[RowMapping]:
    """The next rows of the ledger, by `CallKey`: their groups (`g0`, `g1`, …), all columns, `version` and `billed_…`.

    Tags are told as JSON text: most calls have none, or are asked for something else.
    """
    since_ns = which.since_ns if after is None else after.start_ns
    by = canonical(which.by)
    wanted = (*column_names(ledger), "version", "billed_nano", "billed_status")
    spent = await rows_of(reader, by, since_ns, which.until_ns, which.where, which.timezone, which.view, wanted)
    row = spent.table.c
    key = (row.start_ns, row.trace_id, row.span_id)
    told = [column.cast(Text).label("tags") if column.name == "tags" else column for column in row]
    query = select(*told).order_by(*key).limit(limit)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*(literal(value) for value in after)))
    if which.models:
        names_of = (func.lower(row.model), func.lower(row.request_model))
        patterns = [_like(pattern) for pattern in which.models]
        query = query.where(or_(*(name.like(each, escape="\\") for name in names_of for each in patterns)))
    return await reader.rows(query)


def _like(pattern: str) -> str:
    """A pattern with `*` and `?` as SQL has it."""
    escaped = pattern.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _nameless(unit: str, where: Where) -> Where:
    """The same question on what names no unit."""
    wanted = where.get(unit)
    return {**where, unit: [""] if wanted is None or "" in wanted else []}


def _cost_row(row: Mapping[Any, Any], by: Sequence[str], view: View) -> CostRow:
    return CostRow(
        group=dict(zip(by, group_key(row, by), strict=True)),
        calls=row["calls"],
        cache_hits=row["cache_hits"],
        unpriced_calls=row["unpriced_calls"],
        usage_missing_calls=row["usage_missing_calls"],
        tokens={bucket: int(row[f"{bucket}_tokens"]) for bucket in names.TOKEN_TYPES},
        cost_nano=int(row["cost_nano"]),
        saved_nano=int(row["saved_nano"]),
        billed_nano=int(row["billed_nano"]),
        view=view,
        failed_calls=row["failed_calls"],
        failed_nano=int(row["failed_nano"]),
        nano={bucket: int(row[f"{bucket}_nano"]) for bucket in names.TOKEN_TYPES},
    )


def _unit_row(
    key: tuple[str, ...], row: Mapping[Any, Any] | None, rest: int, unit: str, by: Sequence[str], view: View
) -> UnitCostRow:
    group = dict(zip(by, key, strict=True))
    if row is None:
        return UnitCostRow(group, unit, 0, 0, 0, 0, 0, 0, rest, view)
    total, units = int(row["cost_nano"]), row["units"]
    return UnitCostRow(
        group,
        unit,
        units,
        total,
        total // units,
        int(row["median_nano"]),
        int(row["p95_nano"]),
        int(row["max_nano"]),
        rest,
        view,
    )
