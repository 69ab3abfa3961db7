"""Calls priced again: what counts is what today's prices say, in every view and budget, and what was billed stays."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.store.dump import dump, opened
from collector.store.test_budget_spend import KINDS, counted, rows
from graphmeter import names
from graphmeter_collector import repricing
from graphmeter_collector.errors import BadRequest, Busy, StoreUnavailable
from graphmeter_collector.ledger import Which
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.records import SpanRecord, TokenUsage
from graphmeter_collector.reports import BILLED, EFFECTIVE, Asked, CostRow, View
from graphmeter_collector.repricing import reprice
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import Store, facts, versions
from graphmeter_collector.store import budget_spend as spend
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.versions import PriceVersions
from graphmeter_config import Budget
from graphmeter_config.prices import Prices
from graphmeter_config.spend import COLUMNS
from support.records import SECOND, T0_NS, call, record

DAY = 86_400
ALL = (T0_NS - 40 * DAY * SECOND, T0_NS + 40 * DAY * SECOND)
EVERY = Which(*ALL)
CATALOGUE = Catalogue()
GROUPS = ["team", "graph", "model", "price_status", "user_id", "tag:plan", "day", "month"]


def book(*overrides: dict[str, Any]) -> PriceBook:
    return PriceBook([CATALOGUE], Prices(overrides=overrides))


def flat(model: str, usd: float, **how: Any) -> dict[str, Any]:
    return {"name": model.strip("*") + "-price", "model": model, "rates": {"input": usd, "output": usd * 4}, **how}


BOOKS = (
    book(),
    book(flat("mystery", 3)),
    book(flat("mystery", 2.5), flat("gpt-4o*", 0.07)),
    book({"name": "ours", "model": "mystery", "free": True}),
    book({"name": "box", "model": "mystery", "per_second": 0.001}, {"name": "web", "tool": "search", "per_call": 0.02}),
)


def some_call(chance: random.Random, number: int) -> SpanRecord:
    """A call that is not priced yet."""
    made = call(
        number,
        of=number % 17,
        at_s=-chance.randrange(30 * DAY),
        usage=TokenUsage(input=chance.randrange(10**5), output=chance.randrange(10**4)),
        model=chance.choice(["gpt-4o", "gpt-4o-mini", "mystery", "mystery"]),
        team=chance.choice(["cx", "ops", ""]),
        graph=chance.choice(["support", "sales"]),
        user_id=chance.choice(["u1", "u2", ""]),
        status=chance.choice([names.OK, names.OK, names.ERROR]),
        tags=chance.choice([{}, {"plan": "free"}, {"plan": "gold"}]),
        cache_hit=chance.random() < 0.1,
        cost=None,
    )
    made.request_model = made.model
    if chance.random() < 0.1:
        made.usage, made.usage_missing = TokenUsage(), made.status != names.ERROR
    return made


def some_calls(seed: int, count: int = 120) -> list[SpanRecord]:
    chance = random.Random(seed)
    found = [some_call(chance, number) for number in range(1, count)]
    return [*found, record(count, kind=names.TOOL, tool="search", operation=names.OP_TOOL)]


def billed(calls: Iterable[SpanRecord], by: PriceBook) -> list[SpanRecord]:
    """Copies, with their cost."""
    priced = [copy.copy(each) for each in calls]
    for each in priced:
        by.price(each)
    return priced


@pytest.fixture
async def table(database_url: str) -> AsyncIterator[PriceVersions]:
    made = PriceVersions(database_url)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "AT_ONCE", 25)


async def effective(url: str) -> list[dict[str, Any]]:
    """Rows of the ledger with what they count with, by hand."""
    tables = await dump(url)
    last = {(row["trace_id"], row["span_id"]): row for row in tables["ledger_price"] if row["effective"]}
    newest: dict[tuple[bytes, bytes], int] = defaultdict(int)
    for row in tables["ledger_price"]:
        key = (row["trace_id"], row["span_id"])
        newest[key] = max(newest[key], row["version"])
    assert newest == {key: row["version"] for key, row in last.items()}
    return [{**row, **last.get((row["trace_id"], row["span_id"]), {})} for row in tables["ledger"]]


async def recounted(url: str) -> dict[tuple[str, int, str], tuple[int, int, int]]:
    """Spend of budgets, from those rows."""
    definitions = spend.definitions(await rows(url, spend.DEFINITIONS))
    groups = []
    for row in await effective(url):
        if row["cache_hit"]:
            continue
        tags = json.loads(row["tags"]) if isinstance(row["tags"], str) else row["tags"]
        said = {name: row[column] for name, column in COLUMNS.items()} | {"tag:plan": tags.get("plan", "")}
        tokens = sum(row[f"{bucket}_tokens"] or 0 for bucket in names.TOKEN_TYPES)
        groups.append(spend.Group(row["start_ns"], said, row["cost_nano"], tokens, 1))
    return {tuple(change[:3]): tuple(change[3:]) for change in spend.changes(definitions, groups)}  # type: ignore[misc]


async def test_a_repaired_unpriced_model_counts_in_reports_and_budgets(
    store: Store, table: PriceVersions, database_url: str
) -> None:
    budgets = BudgetTable(database_url)
    await budgets.take([Budget(name="a", limit_usd="1")], T0_NS)
    usage = TokenUsage(input=1_000_000, output=100_000)
    await store.write(billed([call(1, model="mystery", request_model="", usage=usage)], BOOKS[0]))
    [before] = await store.reader.cost(["model"], *ALL)

    done = await reprice(table, BOOKS[1], EVERY, reason="the price came late")

    [after] = await store.reader.cost(["model"], *ALL)
    [as_billed] = await store.reader.cost(["model"], *ALL, view=BILLED)
    assert (0, 1, 4_200_000_000, 0) == (before.cost_nano, before.unpriced_calls, after.cost_nano, after.unpriced_calls)
    assert (0, 1, BILLED) == (as_billed.cost_nano, as_billed.unpriced_calls, as_billed.view)
    assert (0, EFFECTIVE) == (after.billed_nano, after.view)
    assert [repricing.ModelChange("openai", "mystery", 1, 1, 0, 4_200_000_000, 4_200_000_000)] == done.models
    key = Budget(name="a", limit_usd="1").key
    assert [4_200_000_000] == [each.nano for each in await budgets.spent([Asked(key, 0, 1 << 62, 0)])]
    [written] = (await dump(database_url))["repricing"]
    assert (1, "the price came late", 1, 0, 4_200_000_000) == tuple(
        written[name] for name in ("version", "reason", "calls", "before_nano", "after_nano")
    )
    await budgets.close()


async def test_what_was_billed_stays_as_it_was(store: Store, table: PriceVersions, database_url: str) -> None:
    await store.write(billed(some_calls(1), BOOKS[4]))
    before = await dump(database_url)
    for each in BOOKS[1:3]:
        await reprice(table, each, EVERY)
    after = await dump(database_url)
    assert {"ledger_price", "repricing"} == {name for name, rows_of in after.items() if rows_of != before[name]}


@pytest.mark.parametrize("which", [0, 2, 4])
async def test_unchanged_prices_write_nothing(
    store: Store, table: PriceVersions, which: int, database_url: str
) -> None:
    await store.write(billed(some_calls(which), BOOKS[which]))
    done = await reprice(table, BOOKS[which], EVERY, by_catalogue=True)
    assert (0, 0) == (done.repriced, done.version)
    assert [] == (await dump(database_url))["ledger_price"]


async def test_what_was_for_nothing_costs_what_the_view_says(store: Store, table: PriceVersions) -> None:
    usage = TokenUsage(input=1_000_000, output=100_000)
    calls = [
        call(number, model="mystery", request_model="", usage=usage, status=status)
        for number, status in ((1, names.OK), (2, names.ERROR))
    ]
    await store.write(billed(calls, BOOKS[0]))
    await reprice(table, BOOKS[1], EVERY)

    for by in (["model"], ["tag:plan"]):
        [effective] = await store.reader.cost(by, *ALL)
        [as_billed] = await store.reader.cost(by, *ALL, view=BILLED)
        assert (2 * 4_200_000_000, {names.ERROR: 4_200_000_000}) == (effective.cost_nano, effective.wasted_nano)
        assert (0, {names.ERROR: 0}, {names.ERROR: 1}) == (
            as_billed.cost_nano,
            as_billed.wasted_nano,
            as_billed.wasted_calls,
        )


async def test_doing_it_again_writes_nothing(store: Store, table: PriceVersions, database_url: str) -> None:
    await store.write(billed(some_calls(3), BOOKS[0]))
    first = await reprice(table, BOOKS[2], EVERY)
    before = await dump(database_url)
    again = await reprice(table, BOOKS[2], EVERY)
    assert (1, 0) == (first.version, again.version)
    assert before == await dump(database_url)
    assert [(row.calls, row.after_nano) for row in sorted(first.models, key=lambda row: row.model)] == [
        (row.calls, row.before_nano) for row in sorted(again.models, key=lambda row: row.model)
    ]


async def test_a_dry_run_says_the_same_and_stores_nothing(
    store: Store, table: PriceVersions, database_url: str
) -> None:
    await store.write(billed(some_calls(4), BOOKS[0]))
    before = await dump(database_url)
    tried = await reprice(table, BOOKS[2], EVERY, dry_run=True)
    assert before == await dump(database_url)
    done = await reprice(table, BOOKS[2], EVERY)
    assert (tried.models, tried.unpriced) == (done.models, done.unpriced)


async def test_what_is_priced_again_is_what_would_have_been_billed(
    store: Store, table: PriceVersions, database_url: str
) -> None:
    """Where both price books know a price; what has none any more keeps what it cost."""
    calls = some_calls(5)
    await store.write(billed(calls, BOOKS[1]))
    await reprice(table, BOOKS[2], EVERY)
    expected = {
        (each.trace_id, each.span_id): each.cost[:4]
        for each in billed(calls, BOOKS[2])
        if each.kind == names.MODEL and each.cost is not None
    }
    found = {
        (row["trace_id"], row["span_id"]): (
            row["cost_nano"],
            tuple(row[f"{bucket}_nano"] or 0 for bucket in names.TOKEN_TYPES),
            row["price_status"],
            row["saved_nano"],
        )
        for row in await effective(database_url)
    }
    assert expected == found
    done = await reprice(table, BOOKS[0], EVERY, by_catalogue=True)
    assert {repricing.NO_PRICE} <= {each.why for each in done.unpriced}
    assert not [row for row in done.models if row.model == "mystery" and row.repriced]


async def test_a_free_model_that_gets_a_price_by_tokens_is_not_free_where_it_said_none(
    store: Store, table: PriceVersions
) -> None:
    silent = call(1, model="mystery", usage=TokenUsage(), usage_missing=True)
    await store.write(billed([silent], BOOKS[3]))
    done = await reprice(table, BOOKS[1], EVERY)
    assert (0, ["its usage is not known"]) == (done.repriced, [each.why for each in done.unpriced])


async def test_prices_of_ones_own_are_not_forgotten_by_mistake(store: Store, table: PriceVersions) -> None:
    await store.write(billed([call(1)], BOOKS[2]))
    with pytest.raises(BadRequest, match=r"calls of gpt-4o were billed by graphmeter\.yaml"):
        await reprice(table, BOOKS[0], EVERY)
    assert 1 == (await reprice(table, BOOKS[0], EVERY, by_catalogue=True)).repriced


async def test_an_override_prices_the_calls_of_its_time(store: Store, table: PriceVersions) -> None:
    inside, outside = call(1, usage=TokenUsage(input=1_000)), call(2, at_s=DAY, usage=TokenUsage(input=1_000))
    await store.write(billed([inside, outside], BOOKS[0]))
    contract = flat("gpt-4o", 1, valid_from="2026-11-18", valid_to="2026-11-19")
    await reprice(table, book(contract), EVERY)
    found = await store.reader.cost(["day"], *ALL, detail=True)
    assert {"2026-11-18": 1_000_000, "2026-11-19": 2_500_000} == {row.group["day"]: row.cost_nano for row in found}


async def test_only_what_is_asked_for_is_priced_again(store: Store, table: PriceVersions) -> None:
    await store.write(billed(some_calls(6), BOOKS[1]))
    for where in ({"model": ["gpt-4o"]}, {"tag:plan": ["gold"], "team": ["", "ops"]}, {"price_status": ["unpriced"]}):
        found = await table.calls(Which(*ALL, where=where))
        asked = await store.reader.cost([], *ALL, where=where)
        done = await reprice(table, BOOKS[2], Which(*ALL, where=where), dry_run=True)
        assert sum(row.calls + row.cache_hits for row in asked) == done.calls
        assert bool(found) == bool(done.calls)
    assert 0 == (await reprice(table, BOOKS[2], Which(0, T0_NS - 90 * DAY * SECOND))).calls


async def test_one_at_a_time(table: PriceVersions, database_url: str) -> None:
    other = PriceVersions(database_url)
    async with table.exclusively():
        with pytest.raises(Busy, match="being priced again already"):
            async with other.exclusively():
                pass
    async with other.exclusively():
        pass
    await other.close()


class Interrupted(Exception):
    pass


async def test_what_was_interrupted_is_finished_by_doing_it_again(
    store: Store, table: PriceVersions, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = BudgetTable(database_url)
    await budgets.take(KINDS, T0_NS)
    await store.write(billed(some_calls(7), BOOKS[0]))
    whole, left = PriceVersions.write, 2

    async def twice(self: PriceVersions, *what: Any) -> None:
        nonlocal left
        if not left:
            raise Interrupted
        left -= 1
        await whole(self, *what)

    monkeypatch.setattr(PriceVersions, "write", twice)
    with pytest.raises(Interrupted):
        await reprice(table, BOOKS[2], EVERY)
    monkeypatch.undo()
    monkeypatch.setattr(versions, "AT_ONCE", 25)
    assert await recounted(database_url) == await counted(database_url)
    assert 0 < (await reprice(table, BOOKS[2], EVERY)).repriced < 100
    assert {1, 2} == {row["version"] for row in (await dump(database_url))["ledger_price"]}
    assert 0 == (await reprice(table, BOOKS[2], EVERY)).repriced
    assert await recounted(database_url) == await counted(database_url)
    await budgets.close()


async def test_versions_go_with_their_calls(store: Store, table: PriceVersions, database_url: str) -> None:
    await store.write(billed(some_calls(8), BOOKS[0]))
    await reprice(table, BOOKS[2], EVERY)
    cutoff = T0_NS - 10 * DAY * SECOND
    kept = Cutoffs(0, 0, ledger_ns=cutoff)
    due = await store.reader.due(kept)  # type: ignore[attr-defined]
    before = await dump(database_url)
    gone = await store.retain(kept)
    after = await dump(database_url)
    assert len(before["ledger_price"]) - len(after["ledger_price"]) == gone["ledger_price"] == due["ledger_price"] > 0
    keys = {(row["trace_id"], row["span_id"]) for row in after["ledger"]}
    assert {(row["trace_id"], row["span_id"]) for row in after["ledger_price"]} <= keys


def value(row: dict[str, Any], name: str) -> str:
    if name.startswith("tag:"):
        tags = json.loads(row["tags"]) if isinstance(row["tags"], str) else row["tags"]
        return str(tags.get(name.removeprefix("tag:"), ""))
    if name in ("day", "month"):
        return spend_day(row["start_ns"])[: 10 if name == "day" else 7]
    return str(row[name])


def spend_day(ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns // SECOND, UTC).date().isoformat()


def test_totals_of_any_grouping_agree_in_both_views(database_url: str) -> None:
    """With calls that were priced again once, twice and never, and rollups that know nothing of it."""

    async def filled() -> dict[View, list[dict[str, Any]]]:
        table = PriceVersions(database_url)
        async with opened(database_url) as store:
            await store.write(billed(some_calls(9, 200), BOOKS[4]))
            await reprice(table, BOOKS[1], Which(T0_NS - 20 * DAY * SECOND, ALL[1]))
            await reprice(table, BOOKS[2], Which(ALL[0], T0_NS - 10 * DAY * SECOND))
            await store.write(billed(some_calls(10, 320)[200:], BOOKS[2]))
        await table.close()
        return {EFFECTIVE: await effective(database_url), BILLED: (await dump(database_url))["ledger"]}

    tables = asyncio.run(filled())

    async def asked(*by: str, since_ns: int, until_ns: int, **how: Any) -> list[CostRow]:
        async with opened(database_url) as store:
            return await store.reader.cost(by, since_ns, until_ns, **how)

    @given(
        st.lists(st.sampled_from(GROUPS), max_size=3, unique=True),
        st.sampled_from([EFFECTIVE, BILLED]),
        st.booleans(),
        st.tuples(*[st.integers(-31 * DAY, DAY)] * 2).map(sorted),
    )
    @settings(max_examples=30)
    def agree(by: list[str], view: View, detail: bool, between: list[int]) -> None:
        since_ns, until_ns = (T0_NS + second * SECOND for second in between)
        found = asyncio.run(asked(*by, since_ns=since_ns, until_ns=until_ns, view=view, detail=detail))
        expected: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * 6)
        for row, before in zip(tables[view], tables[BILLED], strict=True):
            if since_ns <= row["start_ns"] < until_ns:
                sums = expected[tuple(value(row, name) for name in by)]
                counts = (row["price_status"] == "unpriced", row["price_status"] == "usage_missing")
                own = (row["cost_nano"], before["cost_nano"], row["saved_nano"], 1)
                sums[:] = [a + b for a, b in zip(sums, (*own, *counts), strict=True)]
        told = {
            tuple(row.group.values()): [
                row.cost_nano,
                row.billed_nano,
                row.saved_nano,
                row.calls + row.cache_hits + (row.tokens == dict.fromkeys(names.TOKEN_TYPES, 0) and not row.calls),
                row.unpriced_calls,
                row.usage_missing_calls,
            ]
            for row in found
        }
        # The one call of a tool counts in no number of calls.
        assert {key: sums[:3] + sums[4:] for key, sums in expected.items()} == {
            key: sums[:3] + sums[4:] for key, sums in told.items()
        }
        assert {view} >= {row.view for row in found}
        if detail:
            assert [row.cost_nano - sum((row.nano or {}).values()) for row in found] == [0] * len(found)

    agree()


async def test_units_and_outcomes_have_views_too(store: Store, table: PriceVersions) -> None:
    await store.write(billed(some_calls(11), BOOKS[0]))
    await reprice(table, BOOKS[2], EVERY)
    for view in (EFFECTIVE, BILLED):
        [total] = await store.reader.cost([], *ALL, view=view)
        [unit] = await store.reader.unit_cost("user", [], *ALL, view=view)
        assert (total.cost_nano, view) == (unit.cost_nano + unit.rest_nano, unit.view)


async def interleaved(database_url: str, seed: int) -> None:
    """Collectors bill, resend and price again for a common ledger, while budgets come and go."""
    chance = random.Random(seed)
    calls = some_calls(seed)
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(opened(database_url))
            for _ in range(1 if database_url.startswith("sqlite") else 2)
        ]
        budgets, tables = BudgetTable(database_url), [PriceVersions(database_url) for _ in range(2)]
        for each in (budgets, *tables):
            stack.push_async_callback(each.close)
        await budgets.take(KINDS[:2], T0_NS)

        async def writing(store: Store, given: Sequence[SpanRecord]) -> None:
            mine = random.Random(len(given))
            given = billed(given, mine.choice(BOOKS))
            while given:
                size = mine.randrange(1, 30)
                try:
                    await store.write(given[:size])
                except StoreUnavailable:  # SQLite was busy for too long, as a sender is told, who sends again
                    continue
                given = given[size:]
                await asyncio.sleep(mine.random() / 200)

        async def pricing(table: PriceVersions, number: int) -> None:
            mine = random.Random(seed + number)
            for _ in range(4):
                try:
                    await reprice(table, mine.choice(BOOKS), EVERY, by_catalogue=True)
                except (Busy, StoreUnavailable):
                    await asyncio.sleep(0.01)

        async def changing() -> None:
            for _ in range(5):
                with contextlib.suppress(StoreUnavailable):
                    await budgets.take(chance.sample(KINDS, chance.randrange(1, len(KINDS) + 1)), T0_NS)
                await asyncio.sleep(chance.random() / 100)

        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(writing(store, chance.sample(calls, 90)))
            for number, table in enumerate(tables):
                group.create_task(pricing(table, number))
            group.create_task(changing())
        assert await recounted(database_url) == await counted(database_url)
        before = await counted(database_url)
        await budgets.recount(T0_NS)
        assert before == await counted(database_url)


@pytest.mark.parametrize("seed", range(2))
async def test_spend_of_budgets_is_that_of_effective_prices_whatever_interleaves(database_url: str, seed: int) -> None:
    await interleaved(database_url, seed)


async def test_rollups_stay_as_billed(store: Store, table: PriceVersions, database_url: str) -> None:
    await store.write(billed(some_calls(12), BOOKS[0]))
    before = await dump(database_url)
    await reprice(table, BOOKS[2], EVERY)
    after = await dump(database_url)
    assert [before[name] for name in ("rollup_hour", "rollup_day", "run", "run_node")] == [
        after[name] for name in ("rollup_hour", "rollup_day", "run", "run_node")
    ]
    total = sum(row["cost_nano"] for row in after["rollup_day"] if row["kind"] in (names.MODEL, *facts.PIECES))
    assert [total] == [row.billed_nano for row in await store.reader.cost([], *ALL)]
