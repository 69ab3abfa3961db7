"""Strict budgets: what is spent and what is reserved stay within the limit, whatever comes when, how often and from whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphmeter_collector.errors import BadRequest, NoSuchBudget
from graphmeter_collector.reports import Ask, Asked, Reserved
from graphmeter_collector.store import Store, open_store
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.reservations import ReservationTable
from graphmeter_config import Budget
from support.records import SECOND, T0_NS, call

TTL_NS = 60 * SECOND
EVER = (0, 1 << 62, 0)


def budget(name: str = "strict", **how: Any) -> Budget:
    return Budget(**{"name": name, "limit_usd": "0.000001", "per": ["team"], **how})


def ask(number: int, nano: int | None = 400, *, budget: str = "strict", team: str = "cx", **how: Any) -> Ask:
    said = {"attributions": {"team": team, "graph": "support"}, "tokens": None, "ttl_ns": TTL_NS, **how}
    return Ask(id=named(number), budget=budget, nano=nano, **said)


def named(number: int) -> str:
    return f"reservation-{number}"


@pytest.fixture
async def budgets(database_url: str) -> AsyncIterator[BudgetTable]:
    made = BudgetTable(database_url)
    await made.take([budget()], T0_NS)
    yield made
    await made.close()


@pytest.fixture
async def table(database_url: str, budgets: BudgetTable) -> AsyncIterator[ReservationTable]:
    made = ReservationTable(database_url)
    yield made
    await made.close()


async def decide(table: ReservationTable, *asks: Ask, at_s: int = 0) -> list[Reserved]:
    found = await table.reserve(asks, T0_NS + at_s * SECOND)
    assert all(isinstance(each, Reserved) for each in found), found
    return [each for each in found if isinstance(each, Reserved)]


async def room(table: ReservationTable, *, team: str = "cx", at_s: int = 0) -> tuple[int, int]:
    """Spent and reserved."""
    [found] = await decide(table, ask(0, 1 << 60, team=team), at_s=at_s)
    assert not found.granted
    return found.spent, found.reserved


async def test_asks_are_granted_while_there_is_room_each_scope_for_itself(table: ReservationTable) -> None:
    found = await decide(table, ask(1), ask(2), ask(3), ask(4, 200), ask(5, team="ops"), ask(6, 1_000, team="ops"))
    assert [True, True, False, True, True, False] == [each.granted for each in found]
    assert [600, 200, 200, 0, 600, 600] == [each.remaining for each in found]
    assert [(0, 1_000), (0, 400)] == [await room(table, team=team) for team in ("cx", "ops")]
    [refused] = await decide(table, ask(7, 1))
    assert ({"team": "cx"}, 1_000, 0, 1_000, 0, 0) == (
        refused.scope,
        refused.limit,
        refused.spent,
        refused.reserved,
        refused.remaining,
        refused.expires_ns,
    )


async def test_what_was_reserved_is_released_where_the_call_is_billed(table: ReservationTable, store: Store) -> None:
    await decide(table, ask(1), ask(2))
    await store.write([call(1, nano=150, reservations=(named(1),)), call(2, nano=7, team="ops")])
    assert (150, 400) == await room(table)
    await store.write([call(3, nano=0, cache_hit=True, reservations=(named(2),))])
    assert (150, 0) == await room(table)


async def test_a_call_that_is_sent_again_releases_nothing_else(table: ReservationTable, store: Store) -> None:
    await decide(table, ask(1), ask(2))
    first = call(1, nano=150, reservations=(named(1),))
    for sent in ([first], [replace(first)], [replace(first), call(2, nano=5)]):
        await store.write(sent)
    assert (155, 400) == await room(table)


async def test_asking_again_changes_nothing(table: ReservationTable, store: Store) -> None:
    first = await decide(table, ask(1), ask(1))
    assert first == await decide(table, ask(1, 999), ask(1))
    assert (0, 400) == await room(table)
    await store.write([call(1, nano=150, reservations=(named(1),))])
    [late] = await decide(table, ask(1))
    assert (True, 0) == (late.granted, (await room(table))[1])


async def test_an_ask_that_comes_after_its_end_reserves_nothing(table: ReservationTable, store: Store) -> None:
    await store.write([call(1, nano=150, reservations=(named(1), named(2)))])
    await table.release([named(3)], T0_NS)
    found = await decide(table, ask(1), ask(2), ask(3))
    assert [(True, 0)] * 3 == [(each.granted, each.expires_ns) for each in found]
    assert (150, 0) == await room(table)


async def test_what_is_given_up_is_free_again(table: ReservationTable) -> None:
    await decide(table, ask(1), ask(2))
    await table.release([named(1), named(1)], T0_NS)
    await table.release([named(1)], T0_NS)
    assert (0, 400) == await room(table)


async def test_what_nobody_hears_of_expires(table: ReservationTable) -> None:
    await decide(table, ask(1), ask(2, ttl_ns=TTL_NS // 2))
    assert [(0, 800), (0, 400), (0, 0)] == [await room(table, at_s=at_s) for at_s in (29, 30, 60)]
    assert [0, 1, 1, 0] == [await table.expire(T0_NS + at_s * SECOND) for at_s in (30, 31, 61, 61)]


async def test_a_budget_counts_what_it_would_have_counted(
    table: ReservationTable, budgets: BudgetTable, store: Store
) -> None:
    plan = budget("free", limit_usd=None, limit_tokens=1_000, per=[], match={"tag:plan": "free"}, rolling="24h")
    await budgets.take([budget(), plan], T0_NS)
    await store.write([call(1, nano=5, tags={"plan": "free"}), call(2, nano=5, tags={"plan": "gold"})])
    free, gold = ({"team": "cx", "tag:plan": each} for each in ("free", "gold"))
    found = await decide(
        table,
        ask(1, None, budget="free", attributions=free, tokens=891),
        ask(2, None, budget="free", attributions=free, tokens=890),
        ask(3, None, budget="free", attributions=gold, tokens=5_000),
    )
    assert [(False, 890, True), (True, 0, True), (True, 1_000, False)] == [
        (each.granted, each.remaining, each.counted) for each in found
    ]
    assert [("free", (), "tokens", 890, 1)] == await table.open("free", T0_NS)
    assert [] == await table.open("free", T0_NS + TTL_NS)


async def test_opening_spend_is_spent(table: ReservationTable, budgets: BudgetTable) -> None:
    await budgets.take([budget(per=[], opening_spend="0.0000009", opening_in="2026-11")], T0_NS)
    assert [(False, 900, 100), (True, 900, 0)] == [
        (each.granted, each.spent, each.remaining) for each in await decide(table, ask(1, 101), ask(2, 100))
    ]


async def test_an_ask_that_makes_no_sense_does_no_harm_to_others(table: ReservationTable, budgets: BudgetTable) -> None:
    await budgets.take([budget(), budget("other")], T0_NS)
    await decide(table, ask(1))
    found = await table.reserve([ask(2, budget="none"), ask(3, None), ask(1, budget="other"), ask(4, 1)], T0_NS)
    assert [NoSuchBudget, BadRequest, BadRequest, Reserved] == [type(each) for each in found]
    assert ["there is no budget 'none'", "in usd: say what", "stands for another reservation"] == [
        part
        for part, each in zip(
            ["there is no budget 'none'", "in usd: say what", "stands for another reservation"], found, strict=False
        )
        if part in str(each)
    ]


async def racing(database_url: str, seed: int) -> None:
    """Two collectors decide, bill, bill again and give up for one limit; a call costs at most what was reserved for it."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        stores = [await open_store(database_url) for _ in range(1 if database_url.startswith("sqlite") else 2)]
        tables = [ReservationTable(database_url) for _ in range(2)]
        for close in (*(each.close for each in stores), *(each.close for each in tables)):
            stack.push_async_callback(close)
        granted: dict[int, int] = {}

        async def working(worker: int) -> None:
            mine = random.Random(seed * 100 + worker)
            for number in range(worker * 100, worker * 100 + 5):
                nano = mine.randrange(1, 120)
                [found] = await decide(mine.choice(tables), ask(number, nano))
                assert found.spent + found.reserved <= found.limit
                if not found.granted:
                    continue
                if mine.random() < 0.2:
                    await mine.choice(tables).release([named(number)], T0_NS)
                    continue
                granted[number] = mine.randrange(nano + 1)
                one = call(number, nano=granted[number], reservations=(named(number),))
                for _ in range(mine.randrange(1, 3)):
                    await mine.choice(stores).write([replace(one)])
                [again] = await decide(mine.choice(tables), ask(number, nano))
                assert again.granted

        async with asyncio.TaskGroup() as group:
            for worker in range(1, 9):
                group.create_task(working(worker))
        assert (sum(granted.values()), 0) == await room(chance.choice(tables))
        assert sum(granted.values()) <= 1_000


@pytest.mark.parametrize("seed", range(2))
async def test_the_limit_holds_however_many_ask_at_once(database_url: str, budgets: BudgetTable, seed: int) -> None:
    await racing(database_url, seed)


async def test_of_several_who_ask_for_the_last_room_one_gets_it(database_url: str, budgets: BudgetTable) -> None:
    async with AsyncExitStack() as stack:
        tables = [ReservationTable(database_url) for _ in range(4)]
        for each in tables:
            stack.push_async_callback(each.close)
            await decide(each, ask(1, 1, team="warm"))  # opens the connection: from here on they are equally quick
        won = []
        for first in range(10, 60, 5):
            asks = [ask(first + nth, 700, team=f"team-{first}") for nth in range(len(tables))]
            found = await asyncio.gather(*(decide(table, one) for table, one in zip(tables, asks, strict=True)))
            won.append([granted.granted for [granted] in found].count(True))
    assert [1] * 10 == won


CALLS = 4
_EVENTS = st.lists(
    st.tuples(st.sampled_from(["ask", "bill", "give up"]), st.integers(0, CALLS - 1)), min_size=1, max_size=16
)


class Examples:
    """Plays one example after the other on one database, each with a team and calls of its own."""

    def __init__(self, database_url: str) -> None:
        self._runner = asyncio.Runner()
        self._url = database_url
        self._first = 0

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._close())
        self._runner.close()

    async def _open(self) -> None:
        self._table, self._budgets = ReservationTable(self._url), BudgetTable(self._url)
        await self._budgets.take([budget()], T0_NS)
        self._store = await open_store(self._url)

    async def _close(self) -> None:
        for each in (self._table, self._budgets, self._store):
            await each.close()

    def play(self, events: Iterable[tuple[str, int]]) -> tuple[int, int]:
        """Spent and reserved afterwards."""
        self._first += CALLS
        return self._runner.run(self._play(events, self._first, f"team-{self._first}"))

    async def _play(self, events: Iterable[tuple[str, int]], first: int, team: str) -> tuple[int, int]:
        for what, which in events:
            number = first + which
            if what == "ask":
                await decide(self._table, ask(number, 100, team=team))
            elif what == "give up":
                await self._table.release([named(number)], T0_NS)
            else:
                ids = (named(number), named(number))
                await self._store.write([call(number, of=number, nano=10**which, team=team, reservations=ids)])
        return await room(self._table, team=team)


@pytest.fixture
def examples(database_url: str) -> Iterator[Examples]:
    with Examples(database_url) as found:
        yield found


@given(_EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_in_any_order_and_however_often_nothing_stays_reserved_and_spend_is_right(
    examples: Examples, events: list[tuple[str, int]], chance: random.Random
) -> None:
    # Every call ends, billed or given up, at some time: before its ask, if need be.
    ends = [("bill" if chance.random() < 0.7 else "give up", number) for number in range(CALLS)]
    order = chance.sample([*events, *ends], len(events) + len(ends))
    billed = {which for what, which in order if what == "bill"}
    assert (sum(10**which for which in billed), 0) == examples.play(order)


async def test_spend_and_reservations_of_the_same_call_are_never_both_missing(
    database_url: str, table: ReservationTable, budgets: BudgetTable, store: Store
) -> None:
    await decide(table, *(ask(number, 50) for number in range(1, 21)))
    seen: list[tuple[int, int]] = []

    async def watching() -> None:
        while len(seen) < 200 and (not seen or seen[-1][1]):
            seen.append(await room(table))

    async def billing() -> None:
        for number in range(1, 21):
            await store.write([call(number, nano=50, reservations=(named(number),))])

    await asyncio.gather(watching(), billing())
    assert {1_000} == {spent + reserved for spent, reserved in seen}
    assert [1_000] == [each.nano for each in await budgets.spent([Asked(budget().key, *EVER)])]
