"""Budgets that come into force while calls are written: told only when counted, and then what the ledger says."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from graphmeter import names
from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import Asked
from graphmeter_collector.store import Store, budget_count, open_store
from graphmeter_collector.store import budget_spend as spend
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.engine import is_sqlite, parse, read_engine
from graphmeter_config import Budget
from graphmeter_config.spend import COLUMNS
from support.records import T0_NS, call

HOUR_NS = 3_600_000_000_000
EVER = (0, 1 << 62, 0)
Sums = dict[tuple[str, int, str], tuple[int, int, int]]


def budget(name: str = "a", **how: Any) -> Budget:
    return Budget(**{"name": name, "limit_usd": "1", **how})


KINDS = (
    budget("month"),
    budget("team", per=["team"], hard=True),
    budget("week", period="week", timezone="America/Sao_Paulo", match={"team": ["cx", "o*"]}),
    budget("day", period="day", timezone="Asia/Kathmandu", per=["tag:plan"]),
    budget("rolling", rolling="48h", per=["graph", "user"], match={"tag:plan": "f*"}),
)


@pytest.fixture
async def table(database_url: str) -> AsyncIterator[BudgetTable]:
    made = BudgetTable(database_url)
    yield made
    await made.close()


@asynccontextmanager
async def one_moment(database_url: str) -> AsyncIterator[AsyncConnection]:
    url = parse(database_url)
    engine = read_engine(url)
    try:
        async with engine.connect() as connection:
            await budget_count.begin(connection, sqlite=is_sqlite(url))
            yield connection
            await connection.rollback()
    finally:
        await engine.dispose()


async def told_and_true(database_url: str) -> tuple[Sums, Sums, int]:
    """What counted budgets have spent, what they have by the ledger, row by row, and how many are not counted yet."""
    async with one_moment(database_url) as connection:
        known = (await connection.execute(text("SELECT key, since_ns, definition, counted FROM budget"))).all()
        rows = (await connection.execute(text("SELECT * FROM ledger WHERE NOT cache_hit"))).mappings().all()
        sums = "SELECT key, start_ns, scope, sum(nano), sum(tokens), sum(calls) FROM budget_spend GROUP BY 1, 2, 3"
        had = (await connection.execute(text(sums))).all()
    counted = spend.definitions([row[:3] for row in known if row[3]])
    keys = {one.key for one in counted}
    groups = []
    for row in rows:
        tags = json.loads(row["tags"]) if isinstance(row["tags"], str) else row["tags"]
        said = {name: row[column] for name, column in COLUMNS.items()} | {"tag:plan": tags.get("plan", "")}
        tokens = sum(row[f"{bucket}_tokens"] or 0 for bucket in names.TOKEN_TYPES)
        groups.append(spend.Group(row["start_ns"], said, row["cost_nano"], tokens, 1))
    told = {(key, start, scope): (int(a), int(b), int(c)) for key, start, scope, a, b, c in had if key in keys}
    true: Sums = {change[:3]: change[3:] for change in spend.changes(counted, groups)}
    return {place: of for place, of in told.items() if any(of)}, true, sum(1 for row in known if not row[3])


def some_call(chance: random.Random, number: int) -> SpanRecord:
    return call(
        number,
        of=number % 7,
        nano=chance.randrange(1, 10**6),
        start_ns=T0_NS - chance.randrange(60 * 24) * HOUR_NS // 60,
        team=chance.choice(["cx", "ops", ""]),
        graph=chance.choice(["support", "sales"]),
        user_id=chance.choice(["u1", "u2", ""]),
        tags=chance.choice([{}, {"plan": "free"}, {"plan": "gold"}]),
        cache_hit=chance.random() < 0.1,
    )


async def test_calls_are_written_while_a_budget_is_counted_and_it_is_told_when_it_is(
    store: Store, table: BudgetTable, database_url: str
) -> None:
    old, new = budget("old", per=["team"]), budget("new")
    await table.take([old], T0_NS)
    await store.write([call(1, nano=5)])
    async with table._counting() as nobody_else:
        assert nobody_else is not None
        await table.take([old, new], T0_NS, count=False)
        await store.write([call(2, nano=70)])
        assert {"old": True, "new": False} == {one.budget.name: one.counted for one in await table.in_force()}
        assert not await table.catch_up()
        assert [75] == [each.nano for each in await table.spent([Asked(old.key, *EVER)])]
        version = await table.version()
    await table.counted()
    assert await table.version() > version
    assert all(one.counted for one in await table.in_force())
    assert [75] == [each.nano for each in await table.spent([Asked(new.key, *EVER)])]


async def test_what_is_written_after_the_look_is_not_counted_twice(
    store: Store, table: BudgetTable, database_url: str
) -> None:
    chance = random.Random(3)
    calls = [some_call(chance, number) for number in range(1, 60)]
    await store.write(calls[:20])
    async with table._counting() as connection:
        assert connection is not None
        await table.take(KINDS, T0_NS, count=False)
        await store.write(calls[20:40])
        wanted, sqlite = await table._to_count(), is_sqlite(parse(database_url))
        async with one_moment(database_url) as moment:
            found = await budget_count.lacking(moment, wanted, lambda: None, sqlite=sqlite)
            await store.write(calls[40:])
        half = len(found) // 2
        async with connection.begin():
            await budget_count.add(connection, found[:half], wanted, last=False, sqlite=sqlite)
    # Whoever did that is gone; the next one finds what is lacking still.
    assert ({}, {}, 5) == await told_and_true(database_url)
    await table.counted()
    told, true, left = await told_and_true(database_url)
    assert true == told
    assert (0, True) == (left, len(told) > 20)


async def test_nothing_is_added_to_a_budget_that_went_and_came_back_meanwhile(
    store: Store, table: BudgetTable, database_url: str
) -> None:
    await store.write([call(1, nano=5)])
    sqlite = is_sqlite(parse(database_url))
    async with table._counting() as connection:
        assert connection is not None
        await table.put(budget(), T0_NS, count=False)
        wanted = await table._to_count()
        async with one_moment(database_url) as moment:
            found = await budget_count.lacking(moment, wanted, lambda: None, sqlite=sqlite)
        assert [5] == [each.nano for each in found]
        await table.remove("a", T0_NS, count=False)
        await store.write([call(2, nano=70)])
        await table.put(budget(), T0_NS, count=False)
        async with connection.begin():
            await budget_count.add(connection, found, wanted, last=True, sqlite=sqlite)
        assert [False] == [one.counted for one in await table.in_force()]
    await table.counted()
    assert [75] == [each.nano for each in await table.spent([Asked(budget().key, *EVER)])]


async def test_where_there_is_nothing_to_count_a_budget_is_counted_at_once(table: BudgetTable) -> None:
    async with table._counting():
        await table.put(budget(), T0_NS, count=False)
        assert [True] == [one.counted for one in await table.in_force()]


async def test_spend_of_what_is_out_of_force_is_forgotten_in_pieces(
    store: Store, table: BudgetTable, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_count, "AT_ONCE", 2)
    await table.take([budget(per=["user"]), budget("b")], T0_NS)
    await store.write([call(number, user_id=f"u{number}") for number in range(1, 8)])
    await table.take([budget("b")], T0_NS)
    async with one_moment(database_url) as moment:
        left = (await moment.execute(text("SELECT DISTINCT key FROM budget_spend"))).scalars().all()
    assert [budget("b").key] == left


@pytest.mark.parametrize("seed", range(3))
async def test_counted_spend_is_what_the_ledger_says_at_every_moment(
    database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two collectors write; budgets come and go; who counts is stopped in the middle, again and again."""
    monkeypatch.setattr(budget_count, "AT_ONCE", 2)
    chance = random.Random(seed)
    calls = [some_call(chance, number) for number in range(1, 160)]
    looks, done = 0, asyncio.Event()
    async with AsyncExitStack() as stack:
        stores = [await open_store(database_url) for _ in range(1 if database_url.startswith("sqlite") else 2)]
        for each in stores:
            stack.push_async_callback(each.close)
        await stores[0].write([replace(each, tags=dict(each.tags)) for each in calls[:60]])

        async def writing(store: Store, given: list[SpanRecord]) -> None:
            mine = random.Random(len(given))
            while given:
                size = mine.randrange(1, 9)
                batch, given = given[:size], given[size:]
                await store.write(batch)
                await asyncio.sleep(mine.random() / 100)

        async def changing(number: int) -> None:
            mine = random.Random(seed * 10 + number)
            for _ in range(6):
                table = BudgetTable(database_url)
                if number:
                    one = mine.choice(KINDS)
                    named = one.model_copy(update={"name": f"api-{one.name}"})
                    if mine.random() < 0.7:
                        await table.put(named, T0_NS, count=False)
                    else:
                        await table.remove(named.name, T0_NS, count=False)
                else:
                    await table.take(mine.sample(KINDS, mine.randrange(1, len(KINDS) + 1)), T0_NS, count=False)
                counting = asyncio.create_task(table.catch_up())
                await asyncio.sleep(mine.random() / 50)
                await table.close()
                with suppress(StoreUnavailable):
                    await counting

        async def watching() -> None:
            nonlocal looks
            while not done.is_set():
                told, true, _ = await told_and_true(database_url)
                assert true == told
                looks += 1
                await asyncio.sleep(0.005)

        shares = [chance.sample(calls, 120) for _ in stores]
        async with asyncio.TaskGroup() as group:
            group.create_task(watching())
            async with asyncio.TaskGroup() as work:
                for store, share in zip(stores, shares, strict=True):
                    work.create_task(writing(store, [replace(each, tags=dict(each.tags)) for each in share]))
                for number in range(2):
                    work.create_task(changing(number))
            # Not cancelled: the driver would leave a connection behind on which it asks the server to stop.
            done.set()
        last = BudgetTable(database_url)
        stack.push_async_callback(last.close)
        await last.take(KINDS, T0_NS)
        told, true, left = await told_and_true(database_url)
    assert true == told
    assert (0, True, True) == (left, len(told) > 20, looks > 0)
