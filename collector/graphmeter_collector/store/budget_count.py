"""Budgets that are new in: what their spend lacks out, as changes to add. Nobody who writes the ledger waits for it.

Ledger and spend change in one transaction (see `budget_spend`). So in any snapshot of both, once every writer knows of a
budget, its spend lacks what the ledger had before they knew: always the same, whatever is written meanwhile. One snapshot
tells how much, and that is added afterwards, in as many transactions as it takes. Should that end in the middle, the next
snapshot tells what is still lacking. The same finds what is wrong with spend that is in doubt.

What has to hold: one counter at a time, and nothing is added to a budget that was taken out of force since the snapshot,
though it may be back (`Incarnation`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, func, literal, literal_column, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from graphmeter import names
from graphmeter_collector.store import budget_spend as spend
from graphmeter_collector.store import effective
from graphmeter_collector.store.tables import budget, budget_set, budget_spend, ledger, ledger_price
from graphmeter_config.slices import HOUR_NS, Stretch
from graphmeter_config.spend import COLUMNS, TAG

LOCK: Final = 0x6772_6D06
"""Advisory lock of who counts, for as long as it takes."""
AT_ONCE: Final = 5_000
"""Rows per transaction: on SQLite ingest waits for each, some 0.02 s."""
_GROUPS_AT_ONCE: Final = 1_000
_SNAPSHOT_POSTGRES: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    # As for reports: indexes are read from end to end.
    "SET LOCAL random_page_cost = 1.1",
)
_ADD: Final = text(
    "INSERT INTO budget_spend (key, start_ns, scope, nano, tokens, calls, writer) "  # noqa: S608 - nothing of anybody's
    f"VALUES (:key, :start_ns, :scope, :nano, :tokens, :calls, {spend.BACKFILLED}) {spend.ADDED}"
)
_SWEEP: Final = (
    "DELETE FROM budget_spend WHERE {row} IN (SELECT {row} FROM budget_spend "  # noqa: S608 - nothing of anybody's
    f"WHERE key NOT IN (SELECT key FROM budget) LIMIT {AT_ONCE})"
)

Incarnation = tuple[str, int]
"""A key, and the version of the set of budgets that it came with."""


class ToCount(NamedTuple):
    """What is counted from when on, and which budget in force that was."""

    what: spend.Counted
    taken: int

    @property
    def incarnation(self) -> Incarnation:
        return self.what.key, self.taken


async def begin(connection: AsyncConnection, *, sqlite: bool) -> None:
    """Begin a transaction whose statements all see one moment."""
    for statement in ("BEGIN",) if sqlite else _SNAPSHOT_POSTGRES:
        await connection.exec_driver_sql(statement)


async def lacking(
    connection: AsyncConnection, wanted: Sequence[ToCount], going_on: Callable[[], None], *, sqlite: bool
) -> list[spend.Change]:
    """By how much the spend of each differs from what is on the ledger, in the connection's snapshot, sorted by key.

    Hour by hour: no statement may run into the time limit for one, however long the ledger is. `going_on` is asked between
    them, and raises to end it.
    """
    counted = [each.what for each in wanted]
    sums = {key: [-had for had in amounts] for key, amounts in (await _had(connection, counted)).items()}
    since_ns = min(each.since_ns for each in counted)
    span = select(func.min(ledger.c.start_ns), func.max(ledger.c.start_ns)).where(ledger.c.start_ns >= since_ns)
    oldest_ns, newest_ns = (await connection.execute(span)).one()
    known: spend.Known = {}
    attributions = spend.needed(counted)
    for hour in () if oldest_ns is None else range(oldest_ns // HOUR_NS, newest_ns // HOUR_NS + 1):
        going_on()
        within = Stretch(max(hour * HOUR_NS, since_ns), (hour + 1) * HOUR_NS)
        async for groups in _groups(connection, sqlite, attributions, within):
            for change in spend.changes(counted, groups, known):
                found = sums.setdefault(change[:3], [0, 0, 0])
                found[:] = [found[0] + change.nano, found[1] + change.tokens, found[2] + change.calls]
    return [spend.Change(*key, *sums[key]) for key in sorted(sums) if any(sums[key])]


async def add(
    connection: AsyncConnection, changes: Sequence[spend.Change], wanted: Sequence[ToCount], *, last: bool, sqlite: bool
) -> None:
    """Add some of what is lacking, but to what is still in force; with `last` that is counted now, and told."""
    if not sqlite:
        # Like any other writer: while it is held, the set stays as it is.
        await connection.execute(text(spend.LOCK_SHARED))
    known = {(key, taken) for key, taken in await connection.execute(select(budget.c.key, budget.c.taken))}
    keys = {each.what.key for each in wanted if each.incarnation in known}
    rows = [change._asdict() for change in changes if change.key in keys]
    if rows:
        await connection.execute(_ADD, rows)
    if last and keys:
        new = update(budget).where(budget.c.key.in_(sorted(keys)), budget.c.counted.is_(False))
        if (await connection.execute(new.values(counted=True))).rowcount:
            await connection.execute(update(budget_set).values(version=budget_set.c.version + 1))


async def sweep(connection: AsyncConnection, *, sqlite: bool) -> bool:
    """Delete some of the spend of budgets that are not in force any more; whether there may be more."""
    if not sqlite:
        await connection.execute(text(spend.LOCK_SHARED))
    gone = (await connection.execute(text(_SWEEP.format(row="rowid" if sqlite else "ctid")))).rowcount
    return gone >= AT_ONCE


async def _had(
    connection: AsyncConnection, counted: Sequence[spend.Counted]
) -> dict[tuple[str, int, str], tuple[int, int, int]]:
    """The spend that is written down."""
    columns, since = budget_spend.c, {each.key: each.since_ns for each in counted}
    sums = [func.sum(columns[name]) for name in ("nano", "tokens", "calls")]
    place = (columns.key, columns.start_ns, columns.scope)
    query = select(*place, *sums).where(columns.key.in_(sorted(since))).group_by(*place)
    rows = await connection.execute(query)
    return {
        (key, start_ns, scope): (int(nano), int(tokens), int(calls))
        for key, start_ns, scope, nano, tokens, calls in rows
        if start_ns >= since[key]
    }


async def _groups(
    connection: AsyncConnection, sqlite: bool, wanted: Sequence[str], within: Stretch
) -> AsyncIterator[list[spend.Group]]:
    """What is on the ledger of that time, added up by quarters of an hour and the wanted attributions.

    What calls cost as billed comes first, then by how much that changed for those that were priced again.
    """
    plain = [name for name in wanted if not name.startswith(TAG)]
    tags = [name for name in wanted if name.startswith(TAG)]
    quarter: ColumnElement[int] = literal_column(f"ledger.start_ns / {spend.QUARTER_NS}")
    keys: list[ColumnElement[Any]] = [ledger.c[COLUMNS[name]] for name in plain]
    if tags:
        # JSON of Postgres cannot be grouped by.
        keys.append(literal_column("ledger.tags" if sqlite else "ledger.tags::text").label("tags_text"))
    buckets = [func.coalesce(func.sum(ledger.c[f"{bucket}_tokens"]), 0) for bucket in names.TOKEN_TYPES]
    tokens: ColumnElement[Any] = buckets[0]
    for bucket in buckets[1:]:
        tokens = tokens + bucket
    billed = select(quarter, func.sum(ledger.c.cost_nano), tokens, func.count(), *keys)
    more = func.sum(ledger_price.c.cost_nano - ledger.c.cost_nano)
    repriced = select(quarter, more, literal(0), literal(0), *keys).select_from(effective.REPRICED)
    for query in (billed, repriced.where(_of(ledger_price.c.start_ns, within))):
        counts = query.where(_of(ledger.c.start_ns, within), ledger.c.cache_hit.is_(False))
        result = await connection.stream(counts.group_by(quarter, *keys))
        async for rows in result.partitions(_GROUPS_AT_ONCE):
            yield [_group(tuple(row), plain, tags) for row in rows]


def _of(start_ns: ColumnElement[int], within: Stretch) -> ColumnElement[bool]:
    return and_(start_ns >= within.start_ns, start_ns < within.end_ns)


def _group(row: tuple[Any, ...], plain: Sequence[str], tags: Sequence[str]) -> spend.Group:
    quarter, nano, tokens, calls, *values = row
    attributions = dict(zip(plain, values, strict=False))
    if tags:
        said = json.loads(values[-1])
        attributions |= {name: str(said.get(name.removeprefix(TAG), "")) for name in tags}
    return spend.Group(quarter * spend.QUARTER_NS, attributions, int(nano), int(tokens), int(calls))
