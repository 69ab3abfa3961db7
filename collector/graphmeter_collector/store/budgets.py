"""Budgets in the database: definitions in, those in force and their spend out. See `store.budget_spend` for who counts.

Connections of its own, opened when they are needed: commands use it beside a running collector. A change of the set locks
every writer out for as long as the ledger is summed for what is new in it: the current period of a budget, by an index.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, literal, literal_column, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from graphmeter import names
from graphmeter_collector.errors import NoSuchBudget, Owned
from graphmeter_collector.reports import Asked, BudgetEvent, Held, InForce, Spent
from graphmeter_collector.store import budget_spend as spend
from graphmeter_collector.store import effective
from graphmeter_collector.store.aside import Aside, calm
from graphmeter_collector.store.engine import is_sqlite
from graphmeter_collector.store.reservations import held_now
from graphmeter_collector.store.tables import budget, budget_event, budget_set, budget_spend, ledger, ledger_price
from graphmeter_config import Budget
from graphmeter_config.slices import HOUR_NS, Stretch
from graphmeter_config.spend import COLUMNS, TAG

YAML: Final = "yaml"
API: Final = "api"

_ROWS_AT_ONCE: Final = 10_000
_EVENT_COLUMNS: Final = tuple(column.name for column in budget_event.columns)
_RAISE: Final = (
    f"INSERT INTO budget_event ({', '.join(_EVENT_COLUMNS)}) "  # noqa: S608 - names of our own columns
    f"VALUES ({', '.join(f':{name}' for name in _EVENT_COLUMNS)}) ON CONFLICT DO NOTHING"
)


class BudgetTable(Aside):
    """The budgets of one database. Methods raise StoreUnavailable when it is away, or has no such tables."""

    about = "budgets"

    # --- definitions ------------------------------------------------------------------------------------------------

    @calm
    async def version(self) -> int:
        """Grows with each change of the budgets in force."""
        async with self._question() as connection:
            return int((await connection.execute(select(budget_set.c.version))).scalar_one())

    @calm
    async def in_force(self) -> list[InForce]:
        """Every budget, by name."""
        async with self._question() as connection:
            return [_in_force(row) for row in await _rows(connection)]

    @calm
    async def take(self, budgets: Sequence[Budget], now_ns: int) -> list[str]:
        """Make the budgets of a configuration those in force, beside what came through the API.

        A name that was the API's until now is the configuration's. Returns such names.
        """
        wanted = {each.name: each for each in budgets}
        async with self._question() as connection:
            # Most starts change nothing, and need no lock.
            known = {row.name: row for row in await _rows(connection)}
            ours = {name: row.definition for name, row in known.items() if row.source == YAML}
            if ours == {name: _definition(each) for name, each in wanted.items()}:
                return []
        async with self._changing() as connection:
            known = {row.name: row for row in await _rows(connection)}
            kept = {name: _in_force(row).budget for name, row in known.items() if row.source == API}
            taken = sorted(kept.keys() & wanted.keys())
            others = {name: each for name, each in kept.items() if name not in wanted}
            sources = dict.fromkeys(others, API) | dict.fromkeys(wanted, YAML)
            await _replace(connection, self._sqlite, {**others, **wanted}, sources, now_ns)
        return taken

    @calm
    async def put(self, one: Budget, now_ns: int) -> bool:
        """Put a budget of the API into force, or change it; whether it is new.

        Raises:
            Owned: the name is that of a budget of graphmeter.yaml.
        """
        async with self._changing() as connection:
            known, sources = await self._known(connection, one.name)
            new = one.name not in known
            await _replace(connection, self._sqlite, {**known, one.name: one}, {**sources, one.name: API}, now_ns)
        return new

    @calm
    async def remove(self, name: str, now_ns: int) -> bool:
        """Take a budget of the API out of force; whether there was one.

        Raises:
            Owned: the name is that of a budget of graphmeter.yaml.
        """
        async with self._changing() as connection:
            known, sources = await self._known(connection, name)
            if name not in known:
                return False
            del known[name]
            await _replace(connection, self._sqlite, known, sources, now_ns)
        return True

    @calm
    async def recount(self, now_ns: int, name: str = "") -> int:
        """Sum the ledger anew for one budget, or for every one, current periods only; returns how many sums there are.

        Budgets that count the same share their sums, and are counted with it.

        Raises:
            NoSuchBudget: there is none of that name.
        """
        async with self._changing() as connection:
            rows = await _rows(connection)
            known = {row.name: _in_force(row).budget for row in rows}
            if name and name not in known:
                raise NoSuchBudget(f"there is no budget {name!r}: `graphmeter budget list` shows those in force")
            sources = {row.name: row.source for row in rows}
            keys = [known[name].key] if name else [one.key for one in known.values()]
            # Of a key that no budget has all sums go, and are made anew.
            await connection.execute(budget.delete().where(budget.c.key.in_(keys)))
            await _replace(connection, self._sqlite, known, sources, now_ns)
            sums = select(func.count()).select_from(budget_spend).where(budget_spend.c.key.in_(keys))
            return int((await connection.execute(sums)).scalar_one())

    async def _known(self, connection: AsyncConnection, name: str) -> tuple[dict[str, Budget], dict[str, str]]:
        rows = await _rows(connection)
        sources = {row.name: row.source for row in rows}
        if sources.get(name) == YAML:
            raise Owned(
                f"the budget {name!r} is one of graphmeter.yaml: change it there and send the collectors SIGHUP"
            )
        return {row.name: _in_force(row).budget for row in rows}, sources

    # --- spend ------------------------------------------------------------------------------------------------------

    @calm
    async def spent(self, asked: Sequence[Asked], scope: tuple[str, ...] | None = None) -> list[Spent]:
        """What each scope has spent, or this one; scopes that spent nothing are left out."""
        if not asked:
            return []
        values = {} if scope is None else {"scope": spend.scope_text(scope)}
        query = text(_spent_query(tuple(dict.fromkeys(asked)), one_scope=scope is not None))
        async with self._question() as connection:
            rows = (await connection.execute(query, values)).all()
        return [Spent(key, _values(found), *sums) for key, found, *sums in rows]

    @calm
    async def reserved(self, now_ns: int) -> list[Held]:
        """What calls under way have reserved of strict budgets, by budget and scope."""
        async with self._question() as connection:
            return await held_now(connection, now_ns)

    # --- events -----------------------------------------------------------------------------------------------------

    @calm
    async def raise_(self, events: Sequence[BudgetEvent]) -> list[BudgetEvent]:
        """Write events down, each once, whoever says so and how often; returns those that are news."""
        new = []
        async with self._transaction() as connection:
            # In one order, so that two collectors wait for each other in a line.
            for event in sorted(events, key=lambda each: each[:5]):
                done = await connection.execute(
                    text(_RAISE), event._asdict() | {"scope": spend.scope_text(event.scope)}
                )
                if done.rowcount:
                    new.append(event)
        return new

    @calm
    async def events(self, since_ns: int = 0, *, untold: bool = False, limit: int = 1000) -> list[BudgetEvent]:
        """Events since then, the newest first; with `untold` those nobody has been told of, the oldest first."""
        columns = budget_event.c
        query = select(budget_event).where(columns.at_ns >= since_ns).order_by(columns.at_ns.desc()).limit(limit)
        if untold:
            query = select(budget_event).where(columns.told_ns == 0).order_by(columns.at_ns).limit(limit)
        async with self._question() as connection:
            found = (await connection.execute(query)).mappings()
            return [BudgetEvent(**{**row, "scope": spend.scope_values(row["scope"])}) for row in found]

    @calm
    async def told(self, event: BudgetEvent, now_ns: int) -> None:
        """Note that an event was handed to those who deliver it."""
        key = {name: getattr(event, name) for name in ("budget", "period_ns", "threshold", "limit_units")}
        same = [budget_event.c[name] == value for name, value in key.items()]
        same.append(budget_event.c.scope == spend.scope_text(event.scope))
        async with self._transaction() as connection:
            await connection.execute(update(budget_event).where(*same).values(told_ns=now_ns))

    @calm
    async def expire_events(self, before_ns: int) -> int:
        """Delete events from before then."""
        async with self._transaction() as connection:
            return (await connection.execute(budget_event.delete().where(budget_event.c.at_ns < before_ns))).rowcount

    @calm
    async def expire(self, before: Mapping[str, int]) -> int:
        """Delete slices that began before a time, by key; returns how many rows went."""
        columns = budget_spend.c
        statement = budget_spend.delete().where(columns.key == bindparam("of"), columns.start_ns < bindparam("before"))
        gone = 0
        for key, before_ns in sorted(before.items()):
            async with self._transaction() as connection:
                gone += (await connection.execute(statement, {"of": key, "before": before_ns})).rowcount
        return gone

    # --- connections ------------------------------------------------------------------------------------------------

    @property
    def _sqlite(self) -> bool:
        return is_sqlite(self._url)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes the set: while it lasts, nobody writes the ledger."""
        async with self._transaction() as connection:
            if not self._sqlite:
                await connection.execute(text(spend.LOCK_EXCLUSIVE))
            yield connection
            await connection.execute(update(budget_set).values(version=budget_set.c.version + 1))


def _definition(one: Budget) -> str:
    return json.dumps(one.definition(), sort_keys=True, ensure_ascii=False)


def _in_force(row: Any) -> InForce:
    return InForce(Budget.model_validate_json(row.definition), row.source, row.since_ns, row.changed_ns)


async def _rows(connection: AsyncConnection) -> Sequence[Any]:
    return (await connection.execute(select(budget).order_by(budget.c.name))).all()


async def _replace(
    connection: AsyncConnection,
    sqlite: bool,
    wanted: Mapping[str, Budget],
    sources: Mapping[str, str],
    now_ns: int,
) -> None:
    """Make `wanted` the budgets in force: what is counted no more is deleted, what is new summed from the ledger."""
    known = {row.name: row for row in await _rows(connection)}
    since = {row.key: row.since_ns for row in known.values()}
    keys = {each.key: each for each in wanted.values()}
    new = [spend.Counted(key, each.stretch_at(now_ns).start_ns, each) for key, each in keys.items() if key not in since]
    since.update({each.key: each.since_ns for each in new})
    await connection.execute(
        budget_spend.delete().where(budget_spend.c.key.not_in([key for key in keys if key in since]))
    )
    if new:
        await connection.execute(budget_spend.delete().where(budget_spend.c.key.in_([each.key for each in new])))
        await _backfill(connection, sqlite, new)
    rows = []
    for name, each in sorted(wanted.items()):
        definition, before = _definition(each), known.get(name)
        same = before is not None and (before.definition, before.source) == (definition, sources[name])
        rows.append(
            {
                "name": name,
                "source": sources[name],
                "key": each.key,
                "definition": definition,
                "since_ns": since[each.key],
                "changed_ns": before.changed_ns if same and before is not None else now_ns,
            }
        )
    await connection.execute(budget.delete())
    if rows:
        await connection.execute(insert(budget), rows)


async def _backfill(connection: AsyncConnection, sqlite: bool, new: Sequence[spend.Counted]) -> None:
    """Sum the ledger by what the new ones look at, and write down what they make of it.

    Hour by hour: no statement may run into the time limit for one, however long the ledger is.
    """
    since_ns = min(each.since_ns for each in new)
    span = select(func.min(ledger.c.start_ns), func.max(ledger.c.start_ns)).where(ledger.c.start_ns >= since_ns)
    oldest_ns, newest_ns = (await connection.execute(span)).one()
    if oldest_ns is None:
        return
    sums: dict[tuple[str, int, str], list[int]] = {}
    wanted = spend.needed(new)
    known: spend.Known = {}
    for hour in range(oldest_ns // HOUR_NS, newest_ns // HOUR_NS + 1):
        within = Stretch(max(hour * HOUR_NS, since_ns), (hour + 1) * HOUR_NS)
        async for groups in _groups(connection, sqlite, wanted, within):
            for change in spend.changes(new, groups, known):
                found = sums.setdefault((change.key, change.start_ns, change.scope), [0, 0, 0])
                found[:] = [found[0] + change.nano, found[1] + change.tokens, found[2] + change.calls]
    columns = ("key", "start_ns", "scope", "nano", "tokens", "calls")
    rows = [dict(zip(columns, (*key, *sums[key]), strict=True)) | {"writer": spend.BACKFILLED} for key in sorted(sums)]
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        await connection.execute(insert(budget_spend), rows[first : first + _ROWS_AT_ONCE])


async def _groups(
    connection: AsyncConnection, sqlite: bool, wanted: Sequence[str], within: Stretch
) -> AsyncIterator[list[spend.Group]]:
    """What is on the ledger of that time, added up by quarters of an hour and the wanted attributions.

    What calls cost as billed comes first, then by how much that changed for those that were priced again.
    """
    plain = [name for name in wanted if not name.startswith(TAG)]
    tags = [name for name in wanted if name.startswith(TAG)]
    quarter = _quarter()
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
        async for rows in result.partitions(_ROWS_AT_ONCE):
            yield [_group(tuple(row), plain, tags) for row in rows]


def _of(start_ns: ColumnElement[int], within: Stretch) -> ColumnElement[bool]:
    return and_(start_ns >= within.start_ns, start_ns < within.end_ns)


def _quarter() -> ColumnElement[int]:
    return literal_column(f"ledger.start_ns / {spend.QUARTER_NS}")


def _group(row: tuple[Any, ...], plain: Sequence[str], tags: Sequence[str]) -> spend.Group:
    quarter, nano, tokens, calls, *values = row
    attributions = dict(zip(plain, values, strict=False))
    if tags:
        said = json.loads(values[-1])
        attributions |= {name: str(said.get(name.removeprefix(TAG), "")) for name in tags}
    return spend.Group(quarter * spend.QUARTER_NS, attributions, int(nano), int(tokens), int(calls))


_values = lru_cache(maxsize=65_536)(spend.scope_values)
"""The same scopes come every second."""


def _spent_query(asked: Iterable[Asked], *, one_scope: bool) -> str:
    """One question for all of them. Keys are our own hashes, all else integers: there is nothing to quote."""
    wanted = " UNION ALL ".join(
        f"SELECT '{one.key}' AS key, {one.first_ns} AS first, {one.last_ns} AS last, {one.recent_ns} AS recent"
        for one in asked
    )
    recent = "CASE WHEN s.start_ns >= w.recent THEN s.{} ELSE 0 END"
    # Sums of Postgres are numerics, which Python would make decimals of, one by one.
    sums = ", ".join(
        f"CAST(sum({each}) AS bigint)"
        for each in ("s.nano", "s.tokens", "s.calls", recent.format("nano"), recent.format("tokens"))
    )
    return (
        f"SELECT s.key, s.scope, {sums} FROM ({wanted}) AS w JOIN budget_spend s "  # noqa: S608
        f"ON s.key = w.key AND s.start_ns >= w.first AND s.start_ns < w.last{' AND s.scope = :scope' if one_scope else ''} "
        "GROUP BY s.key, s.scope"
    )
