"""Spend of budgets: whatever appears when, in whatever order and on however many collectors, it is what the ledger says."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from graphmeter import names
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import Asked
from graphmeter_collector.store import Store, open_store
from graphmeter_collector.store import budget_spend as spend
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.engine import parse, schema_engine
from graphmeter_config import Budget
from graphmeter_config.spend import COLUMNS
from support.records import T0_NS, call, priced, record

HOUR_NS = 3_600_000_000_000
EVER = (0, 1 << 62, 0)


def budget(name: str = "a", **how: Any) -> Budget:
    return Budget(**{"name": name, "limit_usd": "1", **how})


async def rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    engine = schema_engine(parse(database_url))
    try:
        async with engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(query))]
    finally:
        await engine.dispose()


async def counted(database_url: str) -> dict[tuple[str, int, str], tuple[int, int, int]]:
    """What `budget_spend` says, by key, slice and scope."""
    query = "SELECT key, start_ns, scope, sum(nano), sum(tokens), sum(calls) FROM budget_spend GROUP BY 1, 2, 3"
    return {
        (key, start, scope): (int(a), int(b), int(c)) for key, start, scope, a, b, c in await rows(database_url, query)
    }


async def recounted(database_url: str) -> dict[tuple[str, int, str], tuple[int, int, int]]:
    """The same from the ledger, row by row."""
    definitions = spend.definitions(await rows(database_url, spend.DEFINITIONS))
    columns = [f"{bucket}_tokens" for bucket in names.TOKEN_TYPES]
    query = "SELECT * FROM ledger WHERE NOT cache_hit"
    engine = schema_engine(parse(database_url))
    try:
        async with engine.connect() as connection:
            found = [dict(row) for row in (await connection.execute(text(query))).mappings()]
    finally:
        await engine.dispose()
    groups = []
    for row in found:
        tags = json.loads(row["tags"]) if isinstance(row["tags"], str) else row["tags"]
        said = {name: row[column] for name, column in COLUMNS.items()}
        said |= {"tag:plan": tags.get("plan", "")}
        tokens = sum(row[column] or 0 for column in columns)
        groups.append(spend.Group(row["start_ns"], said, row["cost_nano"], tokens, 1))
    return {tuple(change[:3]): tuple(change[3:]) for change in spend.changes(definitions, groups)}  # type: ignore[misc]


@pytest.fixture
async def table(database_url: str) -> AsyncIterator[BudgetTable]:
    made = BudgetTable(database_url)
    yield made
    await made.close()


async def test_calls_count_in_the_transaction_that_bills_them(store: Store, table: BudgetTable) -> None:
    one = budget(per=["team", "tag:plan"], match={"graph": "supp*"})
    await table.take([one], T0_NS)
    await store.write(
        [
            call(1, nano=700, tags={"plan": "free"}),
            call(2, nano=300, tags={"plan": "free"}),
            call(3, nano=50, team="ops"),
            call(4, nano=9_000, graph="other"),
            call(5, nano=0, cache_hit=True, response_id="answer-1-1", tags={"plan": "free"}),
        ]
    )
    found = {each.scope: (each.nano, each.tokens, each.calls) for each in await table.spent([Asked(one.key, *EVER)])}
    assert {("cx", "free"): (1_000, 220, 2), ("ops", ""): (50, 110, 1)} == found


async def test_a_tool_that_has_a_price_counts_under_its_name(store: Store, table: BudgetTable) -> None:
    one = budget(match={"model": ["tav*", "gpt*"]}, per=["model"])
    await table.take([one], T0_NS)
    free = record(1, kind=names.TOOL, tool="tavily")
    await store.write([free, record(2, kind=names.TOOL, tool="tavily", cost=priced(8_000)), call(3, nano=5)])
    found = {each.scope: each.nano for each in await table.spent([Asked(one.key, *EVER)])}
    assert {("tavily",): 8_000, ("gpt-4o",): 5} == found


async def test_a_call_that_is_sent_again_or_by_another_instrumentation_counts_once(
    store: Store, table: BudgetTable
) -> None:
    one = budget()
    await table.take([one], T0_NS)
    first = call(1, nano=700)
    for sent in ([first], [replace(first)], [call(2, nano=700, response_id=first.response_id), call(3, nano=1)]):
        await store.write(sent)
    assert [701] == [each.nano for each in await table.spent([Asked(one.key, *EVER)])]


async def test_a_budget_that_appears_counts_what_was_spent_in_its_period(store: Store, table: BudgetTable) -> None:
    await store.write([call(1, nano=5), call(2, nano=70, at_s=0, start_ns=T0_NS - 40 * 24 * HOUR_NS)][:1])
    await store.write([call(3, nano=600, node="plan")])
    month, node, day = budget("m"), budget("n", match={"node": "plan"}), budget("r", rolling="24h", per=["model"])
    await table.take([month, node, day], T0_NS)
    await store.write([call(4, nano=8_000, node="plan")])
    found = {
        one.name: [(each.scope, each.nano) for each in await table.spent([Asked(one.key, *EVER)])]
        for one in (month, node, day)
    }
    assert {"m": [((), 8_605)], "n": [((), 8_600)], "r": [(("gpt-4o",), 8_605)]} == found


async def test_spend_is_kept_in_slices_of_the_period(store: Store, table: BudgetTable) -> None:
    months, days = budget("m", timezone="Asia/Kathmandu"), budget("d", period="day", timezone="Asia/Kathmandu")
    await table.take([months, days], T0_NS)
    # Midnight there is at 18:15 UTC; T0 is 11:06:40 UTC.
    midnight = T0_NS // (24 * HOUR_NS) * 24 * HOUR_NS + 18 * HOUR_NS + 15 * 60 * 10**9
    await store.write([call(1, nano=1, start_ns=midnight - 1), call(2, nano=20, start_ns=midnight)])
    kept = sorted((start, nano) for (key, start, _), (nano, _, _) in (await counted(str(table._url))).items() if key)
    assert [
        (midnight - 24 * HOUR_NS, 1),
        (midnight - HOUR_NS, 1),
        (midnight, 20),
        (midnight, 20),
    ] == kept


async def test_what_is_taken_out_of_force_is_counted_no_more_and_anew_when_it_comes_back(
    store: Store, table: BudgetTable, database_url: str
) -> None:
    one = budget()
    await table.take([one], T0_NS)
    await store.write([call(1, nano=1)])
    await table.take([], T0_NS)
    assert {} == await counted(database_url)
    await store.write([call(2, nano=20)])
    await table.take([one], T0_NS)
    await store.write([call(3, nano=300)])
    assert [321] == [each.nano for each in await table.spent([Asked(one.key, *EVER)])]


async def test_budgets_that_count_the_same_share_what_is_counted(store: Store, table: BudgetTable) -> None:
    await table.take([budget("a"), budget("b", limit_usd="9", thresholds=["50%"])], T0_NS)
    await store.write([call(1, nano=7)])
    await table.take([budget("b")], T0_NS)
    assert [7] == [each.nano for each in await table.spent([Asked(budget().key, *EVER)])]


async def test_spend_can_be_counted_anew_from_the_ledger(store: Store, table: BudgetTable, database_url: str) -> None:
    await table.take([budget(), budget("b", per=["team"])], T0_NS)
    await store.write([call(1, nano=5), call(2, nano=70, team="ops")])
    before = await counted(database_url)
    await table.expire({budget().key: 1 << 62})
    assert before != await counted(database_url)
    assert 3 == await table.recount(T0_NS)
    await store.write([call(3, nano=600)])
    assert await recounted(database_url) == await counted(database_url) != before


KINDS = (
    budget("month"),
    budget("team", per=["team"]),
    budget("week", period="week", timezone="America/Sao_Paulo", match={"team": ["cx", "o*"]}),
    budget("day", period="day", timezone="Asia/Kathmandu", per=["tag:plan"]),
    budget("rolling", rolling="48h", per=["graph", "user"], match={"tag:plan": "f*"}),
)


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


async def interleaved(database_url: str, seed: int) -> None:
    """Two collectors write, resend and settle for a common ledger, while budgets come and go."""
    chance = random.Random(seed)
    calls = [some_call(chance, number) for number in range(1, 120)]
    async with AsyncExitStack() as stack:
        stores = [await open_store(database_url) for _ in range(1 if database_url.startswith("sqlite") else 2)]
        for each in stores:
            stack.push_async_callback(each.close)
        tables = [BudgetTable(database_url) for _ in range(2)]
        for table in tables:
            stack.push_async_callback(table.close)

        async def writing(store: Store, given: list[SpanRecord]) -> None:
            mine = random.Random(len(given))
            while given:
                size = mine.randrange(1, 9)
                batch, given = given[:size], given[size:]
                await store.write(batch)
                await asyncio.sleep(mine.random() / 200)

        async def changing(table: BudgetTable, source: int) -> None:
            mine = random.Random(seed + source)
            for _ in range(6):
                if source:
                    one = mine.choice(KINDS)
                    named = one.model_copy(update={"name": f"api-{one.name}"})
                    await (table.put(named, T0_NS) if mine.random() < 0.7 else table.remove(named.name, T0_NS))
                else:
                    await table.take(mine.sample(KINDS, mine.randrange(len(KINDS) + 1)), T0_NS)
                await asyncio.sleep(mine.random() / 100)

        shares = [chance.sample(calls, 90) for _ in stores]
        async with asyncio.TaskGroup() as group:
            for store, share in zip(stores, shares, strict=True):
                group.create_task(writing(store, [replace(each, tags=dict(each.tags)) for each in share]))
            for source, table in enumerate(tables):
                group.create_task(changing(table, source))
    assert await recounted(database_url) == await counted(database_url)


@pytest.mark.parametrize("seed", range(4))
async def test_spend_is_what_the_ledger_says_however_writes_and_changes_interleave(
    database_url: str, seed: int
) -> None:
    await interleaved(database_url, seed)


@given(st.lists(st.integers(min_value=0, max_value=10**7), min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_sums_are_the_same_in_any_grouping_and_order(offsets: list[int], chance: random.Random) -> None:
    definitions = [spend.Counted(one.key, 0, one) for one in KINDS]
    groups = [
        spend.Group(T0_NS - offset * 10**9, {"team": "cx", "tag:plan": "free"}, offset + 1, 3, 1) for offset in offsets
    ]

    def total(parts: Iterable[list[spend.Group]]) -> dict[tuple[str, int, str], int]:
        found: dict[tuple[str, int, str], int] = {}
        for part in parts:
            for change in spend.changes(definitions, part):
                found[change[:3]] = found.get(change[:3], 0) + change.nano
        return found

    shuffled = chance.sample(groups, len(groups))
    cut = chance.randrange(len(groups) + 1)
    assert total([groups]) == total([shuffled[:cut], shuffled[cut:]])
