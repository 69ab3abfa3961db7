"""Budgets in the database: definitions in, those in force and their spend out. See `store.budget_spend` for who counts.

Connections of its own, opened when they are needed: commands use it beside a running collector. A change of the set locks
writers out for as long as its definitions take to write. What is new in it has no spend to be told until its period's calls
are counted, which nobody waits for but who wants to (see `store.budget_count`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

from sqlalchemy import bindparam, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from graphmeter_collector.errors import NoSuchBudget, Owned, StartupError, StoreUnavailable
from graphmeter_collector.reports import Asked, BudgetEvent, Held, InForce, Spent
from graphmeter_collector.store import budget_count as counting
from graphmeter_collector.store import budget_spend as spend
from graphmeter_collector.store.aside import Aside, calm
from graphmeter_collector.store.calm import Calm
from graphmeter_collector.store.engine import is_sqlite, sqlite_path
from graphmeter_collector.store.lock import FileLock
from graphmeter_collector.store.reservations import held_now
from graphmeter_collector.store.tables import budget, budget_event, budget_set, budget_spend, ledger
from graphmeter_config import Budget

_Answer = TypeVar("_Answer")

YAML: Final = "yaml"
API: Final = "api"

_AGAIN_S: Final = 0.1
"""How soon it is looked again whether somebody else has counted."""
_EVENT_COLUMNS: Final = tuple(column.name for column in budget_event.columns)
_RAISE: Final = (
    f"INSERT INTO budget_event ({', '.join(_EVENT_COLUMNS)}) "  # noqa: S608 - names of our own columns
    f"VALUES ({', '.join(f':{name}' for name in _EVENT_COLUMNS)}) ON CONFLICT DO NOTHING"
)


class BudgetTable(Aside):
    """The budgets of one database. Methods raise StoreUnavailable when it is away, or has no such tables."""

    about = "budgets"

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        # Nobody who stops waiting ends it: others wait for the same.
        self._counts = Calm(needed=True)
        self._closing = False

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
    async def take(self, budgets: Sequence[Budget], now_ns: int, *, count: bool = True) -> list[str]:
        """Make the budgets of a configuration those in force, beside what came through the API.

        A name that was the API's until now is the configuration's. Returns such names. With `count` when what is new is
        counted; else `catch_up` is the caller's to call.
        """
        taken = await self._take(budgets, now_ns)
        if count:
            await self.counted()
        return taken

    async def _take(self, budgets: Sequence[Budget], now_ns: int) -> list[str]:
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
            await _replace(connection, {**others, **wanted}, sources, now_ns)
        return taken

    @calm
    async def put(self, one: Budget, now_ns: int, *, count: bool = True) -> bool:
        """Put a budget of the API into force, or change it; whether it is new. For `count` see `take`.

        Raises:
            Owned: the name is that of a budget of graphmeter.yaml.
        """
        new = await self._put(one, now_ns)
        if count:
            await self.counted()
        return new

    async def _put(self, one: Budget, now_ns: int) -> bool:
        async with self._changing() as connection:
            known, sources = await self._known(connection, one.name)
            new = one.name not in known
            await _replace(connection, {**known, one.name: one}, {**sources, one.name: API}, now_ns)
        return new

    @calm
    async def remove(self, name: str, now_ns: int, *, count: bool = True) -> bool:
        """Take a budget of the API out of force; whether there was one. With `count` when its spend is forgotten, too.

        Raises:
            Owned: the name is that of a budget of graphmeter.yaml.
        """
        gone = await self._remove(name, now_ns)
        if count:
            await self.counted()
        return gone

    async def _remove(self, name: str, now_ns: int) -> bool:
        async with self._changing() as connection:
            known, sources = await self._known(connection, name)
            if name not in known:
                return False
            del known[name]
            await _replace(connection, known, sources, now_ns)
        return True

    # --- counting ---------------------------------------------------------------------------------------------------

    @calm
    async def counted(self) -> None:
        """Return when every budget in force is counted, whoever does it."""
        while True:
            if await self.catch_up():
                return
            self._going_on()
            await asyncio.sleep(_AGAIN_S)

    @calm
    async def catch_up(self) -> bool:
        """Count what is new, and forget what is not in force any more; False: somebody else is at it."""
        return await self._counts.ask(self._catch_up())

    async def _catch_up(self) -> bool:
        async with self._counting() as connection:
            if connection is None:
                return False
            while await self._piece(connection, partial(counting.sweep, sqlite=self._sqlite)):
                self._going_on()
            while wanted := await self._to_count():
                await self._count(connection, wanted)
        return True

    @calm
    async def recount(self, now_ns: int, name: str = "") -> int:
        """Set right the spend of one budget, or of every one, by the ledger; returns how many sums there are.

        Current periods only. Budgets that count the same share their sums, and are counted with it.

        Raises:
            NoSuchBudget: there is none of that name.
        """
        await self.counted()
        known = {one.budget.name: one.budget for one in await self.in_force()}
        if name and name not in known:
            raise NoSuchBudget(f"there is no budget {name!r}: `graphmeter budget list` shows those in force")
        keys = [known[name].key] if name else [one.key for one in known.values()]
        while True:
            if await self._counts.ask(self._recount(keys, now_ns)):
                break
            self._going_on()
            await asyncio.sleep(_AGAIN_S)
        columns = budget_spend.c
        sums = select(columns.key, columns.start_ns, columns.scope).where(columns.key.in_(keys)).distinct()
        async with self._question() as connection:
            return int((await connection.execute(select(func.count()).select_from(sums.subquery()))).scalar_one())

    async def _recount(self, keys: Sequence[str], now_ns: int) -> bool:
        async with self._counting() as connection:
            if connection is None:
                return False
            if wanted := await self._to_count(keys, now_ns):
                await self._count(connection, wanted)
        return True

    async def _count(self, connection: AsyncConnection, wanted: Sequence[counting.ToCount]) -> None:
        """Look in one snapshot, then add what is lacking."""
        async with self._looking(connection) as snapshot:
            await counting.begin(snapshot, sqlite=self._sqlite)
            found = await counting.lacking(snapshot, wanted, self._going_on, sqlite=self._sqlite)
            await snapshot.rollback()
        for first in range(0, max(len(found), 1), counting.AT_ONCE):
            self._going_on()
            some, last = found[first : first + counting.AT_ONCE], first + counting.AT_ONCE >= len(found)
            add = partial(counting.add, changes=some, wanted=wanted, last=last, sqlite=self._sqlite)
            await self._piece(connection, add)

    async def _to_count(self, keys: Sequence[str] = (), now_ns: int = 0) -> list[counting.ToCount]:
        """What is not counted yet; or these keys, in their current periods."""
        found: dict[str, counting.ToCount] = {}
        async with self._question() as connection:
            for row in await _rows(connection):
                if row.key not in keys if keys else row.counted:
                    continue
                by = _in_force(row).budget
                since_ns = max(row.since_ns, by.stretch_at(now_ns).start_ns) if keys else row.since_ns
                found[row.key] = counting.ToCount(spend.Counted(row.key, since_ns, by), row.taken)
        return list(found.values())

    @asynccontextmanager
    async def _counting(self) -> AsyncIterator[AsyncConnection | None]:
        """The connection of the only one who counts; None: somebody else does."""
        async with self._reachable():
            if self._sqlite:
                lock = FileLock(sqlite_path(self._url), "budgets", "wait until it is done")
                try:
                    lock.acquire()
                except StartupError:
                    yield None
                    return
                try:
                    async with self._writer().connect() as connection:
                        yield connection
                finally:
                    lock.release()
                return
            async with self._writer().connect() as connection:
                # The lock is this session's: who has lost it has lost the connection, and can add nothing any more.
                locked = (await connection.execute(text(f"SELECT pg_try_advisory_lock({counting.LOCK})"))).scalar_one()
                await connection.commit()
                try:
                    yield connection if locked else None
                    if locked:
                        await connection.execute(text(f"SELECT pg_advisory_unlock({counting.LOCK})"))
                        await connection.commit()
                except BaseException:
                    await connection.invalidate()
                    raise

    @asynccontextmanager
    async def _looking(self, connection: AsyncConnection) -> AsyncIterator[AsyncConnection]:
        """Where to look at the ledger; on SQLite the one that writes would keep everybody else from it."""
        if not self._sqlite:
            yield connection
            return
        async with self._reading.connect() as other:
            yield other

    @staticmethod
    async def _piece(connection: AsyncConnection, work: Callable[[AsyncConnection], Awaitable[_Answer]]) -> _Answer:
        async with connection.begin():
            return await work(connection)

    def _going_on(self) -> None:
        if self._closing:
            raise StoreUnavailable("the budgets are not counted to the end: the collector is shutting down")

    async def close(self) -> None:
        """Counting ends where it is, and is begun again by whoever finds budgets that are not counted."""
        self._closing = True
        await self._counts.rest()
        await super().close()

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
    return InForce(
        Budget.model_validate_json(row.definition), row.source, row.since_ns, row.changed_ns, bool(row.counted)
    )


async def _rows(connection: AsyncConnection) -> Sequence[Any]:
    return (await connection.execute(select(budget).order_by(budget.c.name))).all()


async def _replace(
    connection: AsyncConnection,
    wanted: Mapping[str, Budget],
    sources: Mapping[str, str],
    now_ns: int,
) -> None:
    """Make `wanted` the budgets in force. What is new is counted from the commit on; what the ledger has already, later."""
    known = {row.name: row for row in await _rows(connection)}
    keys = {row.key: (row.since_ns, row.taken, row.counted) for row in known.values()}
    new = {each.key: each.stretch_at(now_ns).start_ns for each in wanted.values() if each.key not in keys}
    if new:
        version = (await connection.execute(select(budget_set.c.version))).scalar_one() + 1
        # What may be left of the last time that it was in force.
        await connection.execute(budget_spend.delete().where(budget_spend.c.key.in_(sorted(new))))
        any_call = select(ledger.c.start_ns).where(ledger.c.start_ns >= min(new.values())).limit(1)
        counted = (await connection.execute(any_call)).first() is None
        keys |= {key: (since_ns, version, counted) for key, since_ns in new.items()}
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
                "since_ns": keys[each.key][0],
                "taken": keys[each.key][1],
                "counted": keys[each.key][2],
                "changed_ns": before.changed_ns if same and before is not None else now_ns,
            }
        )
    await connection.execute(budget.delete())
    if rows:
        await connection.execute(insert(budget), rows)


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
