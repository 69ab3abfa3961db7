"""Asks of strict budgets in, what was decided out; and what is released where calls are billed.

A budget's scope has room for an ask if spend, what calls under way have reserved, and the ask stay within the limit. Who
decides holds a lock of that scope until its commit, and reads both sums in one statement: as a call's spend is added and its
reservation released in one transaction, it is seen in one of the two, and never in none. Ingest takes no such lock: it only
makes room, or moves what was reserved to what was spent.

Every statement may come late or twice. A released row stays until it would have expired, and a release of what was never
heard of leaves such a row, so that an ask that arrives afterwards reserves nothing.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from graphmeter_collector.errors import BadRequest, CollectorError, NoSuchBudget, NotCounted, Permanent
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import Ask, Held, Reserved
from graphmeter_collector.store.aside import Aside, calm
from graphmeter_collector.store.budget_spend import scope_text, scope_values
from graphmeter_collector.store.engine import is_sqlite
from graphmeter_collector.store.tables import budget, budget_reservation
from graphmeter_config import Budget

if TYPE_CHECKING:
    import asyncpg

LOCKS: Final = 0x6772_6D04
"""First key of the advisory locks that stand for scopes of budgets; the second is a hash of budget and scope."""
LATE_NS: Final = 3600_000_000_000
"""How long a release of what was never heard of is kept: an ask that is still on its way arrives by then."""
_MOST_EXPIRED_AT_ONCE: Final = 5_000

_COLUMNS: Final = "id, budget, scope, unit, units, created_ns, expires_ns, released_ns"
_LOCK: Final = text(
    f"SELECT pg_advisory_xact_lock({LOCKS}, wanted) "  # noqa: S608 - nothing of anybody's
    "FROM unnest(CAST(:wanted AS integer[])) AS wanted"
)
_INSERT: Final = text(
    f"INSERT INTO budget_reservation ({_COLUMNS}) "  # noqa: S608 - names of our own columns
    "VALUES (:id, :budget, :scope, :unit, :units, :created_ns, :expires_ns, 0) ON CONFLICT (id) DO NOTHING"
)
_RELEASED: Final = (
    "ON CONFLICT (id) DO UPDATE SET released_ns = excluded.released_ns WHERE budget_reservation.released_ns = 0"
)
_RELEASE_POSTGRES: Final = (
    f"INSERT INTO budget_reservation ({_COLUMNS}) "  # noqa: S608 - as above
    f"SELECT id, '', '', '', 0, $2::bigint, $3::bigint, $2::bigint FROM unnest($1::text[]) AS id {_RELEASED}"
)
_RELEASE_SQLITE: Final = f"INSERT INTO budget_reservation ({_COLUMNS}) VALUES (?, '', '', '', 0, ?, ?, ?) {_RELEASED}"  # noqa: S608 - as above
# One statement, so one snapshot.
_SUMS: Final = (
    "SELECT (SELECT coalesce(sum({column}), 0) FROM budget_spend WHERE key = :key AND scope = :scope "
    "AND start_ns >= :first AND start_ns < :last), "
    "(SELECT coalesce(sum(units), 0) FROM budget_reservation WHERE budget = :budget AND scope = :scope "
    "AND released_ns = 0 AND unit = :unit AND expires_ns > :now), "
    # Of a budget that is new, or was another one a moment ago, spend is not known.
    "(SELECT count(*) FROM budget WHERE name = :budget AND key = :key AND counted)"
)
_OPEN: Final = (
    "SELECT budget, scope, unit, sum(units), count(*) FROM budget_reservation WHERE released_ns = 0 "
    "AND expires_ns > :now{which} GROUP BY budget, scope, unit ORDER BY budget, scope, unit"
)
_RELEASE: Final = text(
    f"INSERT INTO budget_reservation ({_COLUMNS}) VALUES (:id, '', '', '', 0, :now, :until, :now) {_RELEASED}"  # noqa: S608
)
_EXPIRED: Final = "SELECT id FROM budget_reservation WHERE expires_ns < :before LIMIT :most"


# --- in the ledger's transaction ----------------------------------------------------------------------------------------


def held(records: Iterable[SpanRecord]) -> list[str]:
    """What was reserved for calls that are billed now, or were: sorted, the order in which rows are locked."""
    with_any = [record.reservations for record in records if record.reservations and not record.waits_for]
    return sorted({each for ids in with_any for each in ids}) if with_any else []


async def release(connection: asyncpg.Connection[asyncpg.Record], records: Iterable[SpanRecord]) -> None:
    """Release what was reserved for calls that this transaction of Postgres has billed."""
    if ids := held(records):
        now_ns = time.time_ns()
        await connection.execute(_RELEASE_POSTGRES, ids, now_ns, now_ns + LATE_NS)


def release_sqlite(db: sqlite3.Connection, records: Iterable[SpanRecord]) -> None:
    """The same in a transaction of SQLite."""
    if ids := held(records):
        now_ns = time.time_ns()
        db.executemany(_RELEASE_SQLITE, [(each, now_ns, now_ns + LATE_NS, now_ns) for each in ids])


async def held_now(connection: AsyncConnection, now_ns: int, name: str = "") -> list[Held]:
    """What calls under way have reserved of every budget, or of one, by scope."""
    which, values = (" AND budget = :budget", {"budget": name}) if name else ("", {})
    rows = (await connection.execute(text(_OPEN.format(which=which)), {"now": now_ns, **values})).all()
    return [Held(of, scope_values(scope), unit, int(units), int(calls)) for of, scope, unit, units, calls in rows]


# --- beside it ------------------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """One limit: that of a scope of a budget."""

    budget: str
    scope: str

    @property
    def lock(self) -> int:
        """32 bits with a sign, as Postgres takes them. Two places with one lock wait for each other, which does no harm."""
        found = zlib.crc32("\0".join(self).encode())
        return found - (1 << 32) if found >= 1 << 31 else found


class _Room:
    """What is known of one place while asks are decided."""

    def __init__(self, of: Budget, spent: int, reserved: int, *, known: bool) -> None:
        self.of = of
        self.spent = spent
        self.reserved = reserved
        self.known = known

    @property
    def left(self) -> int:
        return self.of.limit - self.spent - self.reserved


class ReservationTable(Aside):
    """Reservations of one database. Methods raise StoreUnavailable when it is away, or has no such tables."""

    about = "reservations of budgets"

    @calm
    async def reserve(self, asks: Sequence[Ask], now_ns: int) -> list[Reserved | CollectorError]:
        """Decide on several asks in one transaction, in the order given; each gets an answer or a reason.

        An id that is known gets the answer that it got, whatever is asked for now.
        """
        async with self._deciding() as connection:
            budgets = await _budgets(connection, {ask.budget for ask in asks})
            wanted = [_wanted(ask, budgets.get(ask.budget)) for ask in asks]
            places = sorted({each[0] for each in wanted if isinstance(each, tuple)})
            if places and not is_sqlite(self._url):
                await connection.execute(_LOCK, {"wanted": sorted({place.lock for place in places})})
            rooms = {place: await _room(connection, budgets[place.budget], place, now_ns) for place in places}
            known = await _known(connection, [ask.id for ask in asks])
            decided: list[Reserved | CollectorError] = []
            new: dict[str, dict[str, Any]] = {}
            for ask, found in zip(asks, wanted, strict=True):
                if not isinstance(found, tuple):
                    decided.append(found)
                    continue
                place, units = found
                if not rooms[place].known:
                    decided.append(_not_counted(place))
                    continue
                before = known.get(ask.id) or new.get(ask.id)
                if before is not None:
                    decided.append(_again(ask, place, rooms[place], before))
                    continue
                answer = _decide(ask, place, rooms[place], units, now_ns)
                decided.append(answer)
                if answer.granted:
                    new[ask.id] = _row(answer, place, now_ns)
            if new:
                # In the order in which ingest releases, so that the two wait for each other in a line.
                await connection.execute(_INSERT, [new[each] for each in sorted(new)])
        return decided

    @calm
    async def release(self, ids: Iterable[str], now_ns: int) -> None:
        """Give up what was reserved: the calls cost nothing. Of what is not known the release is remembered."""
        rows = [{"id": each, "now": now_ns, "until": now_ns + LATE_NS} for each in sorted(set(ids))]
        if rows:
            async with self._transaction() as connection:
                await connection.execute(_RELEASE, rows)

    @calm
    async def open(self, name: str, now_ns: int) -> list[Held]:
        """What calls under way have reserved of a budget, by scope."""
        async with self._question() as connection:
            return await held_now(connection, now_ns, name)

    @calm
    async def expire(self, before_ns: int) -> int:
        """Delete what had expired by then, released or not; returns how many rows went."""
        # What a transaction of ingest releases right now is left for the next time.
        expired = _EXPIRED if is_sqlite(self._url) else f"{_EXPIRED} FOR UPDATE SKIP LOCKED"
        statement = text(f"DELETE FROM budget_reservation WHERE id IN ({expired})")  # noqa: S608 - nothing of anybody's
        gone = 0
        while True:
            async with self._transaction() as connection:
                found = await connection.execute(statement, {"before": before_ns, "most": _MOST_EXPIRED_AT_ONCE})
            gone += found.rowcount
            if found.rowcount < _MOST_EXPIRED_AT_ONCE:
                return gone

    @asynccontextmanager
    async def _deciding(self) -> AsyncIterator[AsyncConnection]:
        """A transaction whose statements each see what was committed before them."""
        if is_sqlite(self._url):
            async with self._transaction() as connection:
                yield connection
            return
        # Whatever the server's default: with one snapshot for all statements it would be older than the lock.
        engine = self._writer().execution_options(isolation_level="READ COMMITTED")
        async with self._reachable(), engine.begin() as connection:
            yield connection


def _wanted(ask: Ask, of: Budget | None) -> tuple[_Place, int] | Reserved | Permanent:
    """Whose limit the ask is for, and how much of it; or the answer, if that needs no look at spend."""
    if of is None:
        return NoSuchBudget(f"there is no budget {ask.budget!r}: `graphmeter budget list` shows those in force")
    units = ask.nano if of.unit == "usd" else ask.tokens
    if units is None:
        field = "nano_usd" if of.unit == "usd" else "tokens"
        return BadRequest(f"the budget {of.name!r} is in {of.unit}: say what the call takes at most in {field!r}")
    if not of.matches(ask.attributions):
        return Reserved(ask.id, True, of.name, {}, of.unit, units, of.limit, 0, 0, of.limit, 0, counted=False)
    return _Place(of.name, scope_text(of.scope_of(ask.attributions))), units


def _not_counted(place: _Place) -> NotCounted:
    return NotCounted(f"the budget {place.budget!r} is new, and what it has spent is being counted: ask again soon")


def _decide(ask: Ask, place: _Place, room: _Room, units: int, now_ns: int) -> Reserved:
    granted = units <= room.left
    if granted:
        room.reserved += units
    return _answer(ask.id, granted, place, room, units, now_ns + ask.ttl_ns if granted else 0)


def _again(ask: Ask, place: _Place, room: _Room, before: Mapping[str, Any]) -> Reserved | Permanent:
    """The answer to an id that was granted, or released, before."""
    if before["budget"] and (before["budget"], before["scope"]) != place:
        return BadRequest(f"the id {ask.id!r} stands for another reservation: make a new one for each")
    return _answer(ask.id, True, place, room, before["units"], before["expires_ns"] if before["budget"] else 0)


def _answer(of: str, granted: bool, place: _Place, room: _Room, units: int, expires_ns: int) -> Reserved:
    return Reserved(
        id=of,
        granted=granted,
        budget=place.budget,
        scope=dict(zip(room.of.per, scope_values(place.scope), strict=True)),
        unit=room.of.unit,
        units=units,
        limit=room.of.limit,
        spent=room.spent,
        reserved=room.reserved,
        remaining=room.left,
        expires_ns=expires_ns,
    )


def _row(answer: Reserved, place: _Place, now_ns: int) -> dict[str, Any]:
    return {
        "id": answer.id,
        "budget": place.budget,
        "scope": place.scope,
        "unit": answer.unit,
        "units": answer.units,
        "created_ns": now_ns,
        "expires_ns": answer.expires_ns,
    }


async def _budgets(connection: AsyncConnection, names: Collection[str]) -> dict[str, Budget]:
    rows = await connection.execute(select(budget.c.name, budget.c.definition).where(budget.c.name.in_(sorted(names))))
    return {name: _parsed(definition) for name, definition in rows}


@lru_cache(maxsize=1024)
def _parsed(definition: str) -> Budget:
    return Budget.model_validate_json(definition)


async def _room(connection: AsyncConnection, of: Budget, place: _Place, now_ns: int) -> _Room:
    period = of.stretch_at(now_ns)
    values = {
        "key": of.key,
        "budget": of.name,
        "scope": place.scope,
        "unit": of.unit,
        "first": period.start_ns,
        "last": period.end_ns,
        "now": now_ns,
    }
    statement = text(_SUMS.format(column="nano" if of.unit == "usd" else "tokens"))
    spent, reserved, counted = (await connection.execute(statement, values)).one()
    return _Room(of, int(spent) + of.opening(period.start_ns), int(reserved), known=bool(counted))


async def _known(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    columns = budget_reservation.c
    query = select(columns.id, columns.budget, columns.scope, columns.units, columns.expires_ns)
    rows = await connection.execute(query.where(columns.id.in_(ids)))
    return {row["id"]: dict(row) for row in rows.mappings()}
