"""What another model would have cost: exact where both costs are known, said where not; and nothing is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from collector.store.dump import dump, opened
from collector.store.test_versions import ALL, BOOKS, DAY, billed, book, some_calls
from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.ledger import CallKey, StoredCall, Which
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import Cost, SpanRecord, TokenUsage
from graphmeter_collector.reports import BILLED
from graphmeter_collector.repricing import reprice
from graphmeter_collector.simulating import Replacement, Simulation, replacements, simulate
from graphmeter_collector.store import Store, versions
from graphmeter_collector.store.versions import PriceVersions
from support.records import call

USAGE = TokenUsage(input=1_000_000, cache_read=1_000_000, output=100_000)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url) as made:
        yield made


async def simulated(store: Store, *texts: str, prices: PriceBook = BOOKS[0], **how: Any) -> Simulation:
    async def read(which: Which, after: CallKey | None) -> list[StoredCall]:
        return await versions.calls(store.reader, which, after)  # type: ignore[arg-type]

    return await simulate(store.reader, read, prices, Which(*ALL, **how), replacements(texts))


def cost(record: SpanRecord, by: PriceBook, **facts: Any) -> int:
    for name, value in facts.items():
        setattr(record, name, value)
    by.price(record)
    assert record.cost is not None
    return record.cost.total_nano


async def test_the_same_tokens_are_priced_by_every_bucket(store: Store, database_url: str) -> None:
    dated = call(1, node="classify", model="gpt-4o-2024-08-06", usage=USAGE)
    await store.write(billed([dated, call(2, node="answer", usage=USAGE)], BOOKS[0]))
    before = await dump(database_url)
    found = await simulated(store, "gpt-4o=gpt-4o-mini", where={"node": ["classify"]}, by=("node", "model"))
    [row] = found.rows
    # 2.50, 1.25 and 10 USD per million tokens; 0.15, 0.075 and 0.60.
    assert ({"node": "classify", "model": "gpt-4o-2024-08-06"}, "gpt-4o-mini", 1) == (
        row.group,
        row.replacement,
        row.calls,
    )
    assert (4_750_000_000, 285_000_000, -4_465_000_000) == (row.before_nano, row.after_nano, row.change_nano)
    assert -0.94 == row.change_ratio
    assert before == await dump(database_url)


async def test_sums_are_those_of_the_calls_in_any_grouping(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "AT_ONCE", 17)
    calls = some_calls(3, 150)
    await store.write(billed(calls, BOOKS[1]))
    replaced = [
        each
        for each in billed(calls, BOOKS[1])
        if each.model in ("gpt-4o", "mystery") and not each.cache_hit and not each.usage_missing
    ]
    instead = {"gpt-4o": "gpt-4.1-nano", "mystery": "gpt-4o"}
    expected = (
        len(replaced),
        sum(each.cost.total_nano for each in replaced if each.cost),
        sum(cost(each, BOOKS[1], model=instead[each.model], request_model="") for each in replaced),
    )
    for by in ((), ("team",), ("day", "tag:plan", "model"), ("user_id", "graph", "status")):
        found = await simulated(store, "gpt-4o=gpt-4.1-nano", "mystery=gpt-4o", by=by)
        sums = [sum(getattr(row, name) for row in found.rows) for name in ("calls", "before_nano", "after_nano")]
        assert expected == tuple(sums)
    assert {"what it cost is not known (usage missing)"} == {each.why for each in found.left_out}
    assert sum(each.usage_missing and each.model in instead and not each.cache_hit for each in calls) == sum(
        each.calls for each in found.left_out
    )


async def test_another_providers_model_is_found_by_its_name(store: Store) -> None:
    await store.write(billed([call(1, usage=USAGE)], BOOKS[0]))
    plain = await simulated(store, "gpt-4*=claude-haiku-4-5")
    named = await simulated(store, "GPT-4?=anthropic/claude-haiku-4-5")
    # 1, 0.10 and 5 USD per million tokens.
    assert [1_600_000_000] == [row.after_nano for row in plain.rows] == [row.after_nano for row in named.rows]


async def test_the_first_that_matches_applies(store: Store) -> None:
    await store.write(billed([call(1, usage=USAGE), call(2, model="gpt-4o-mini", request_model="")], BOOKS[0]))
    found = await simulated(store, "gpt-4o=gpt-4.1", "gpt-*=gpt-4.1-nano", by=("model",))
    assert {"gpt-4o": "gpt-4.1", "gpt-4o-mini": "gpt-4.1-nano"} == {
        row.group["model"]: row.replacement for row in found.rows
    }


async def test_what_cannot_be_priced_is_said_and_in_no_sum(store: Store) -> None:
    contract = book({"name": "new", "model": "next", "valid_from": "2026-11-19", "rates": {"input": 1, "output": 1}})
    unknown = call(3, usage=USAGE, cost=Cost(0, (0,) * len(names.TOKEN_TYPES), "unpriced"))
    await store.write([*billed([call(1, usage=USAGE), call(2, at_s=DAY, usage=USAGE)], BOOKS[0]), unknown])
    found = await simulated(store, "gpt-4o=next", prices=contract)
    assert [(1, 4_750_000_000, 2_100_000_000)] == [(row.calls, row.before_nano, row.after_nano) for row in found.rows]
    assert {("no price is known", 1), ("what it cost is not known (unpriced)", 1)} == {
        (each.why, each.calls) for each in found.left_out
    }
    words = await simulated(store, "gpt-4o=text-embedding-3-small")
    why = "the price openai/text-embedding-3-small has no rate for tokens of output"
    assert ([], 2) == (words.rows, {each.why: each.calls for each in words.left_out}[why])


async def test_before_is_what_counts_or_what_was_billed(store: Store, database_url: str) -> None:
    await store.write(billed([call(1, model="mystery", request_model="", usage=USAGE)], BOOKS[0]))
    table = PriceVersions(database_url)
    await reprice(table, BOOKS[1], Which(*ALL))
    await table.close()
    [row] = (await simulated(store, "mystery=gpt-4o-mini", by=())).rows
    assert 7_200_000_000 == row.before_nano
    as_billed = await simulated(store, "mystery=gpt-4o-mini", view=BILLED)
    assert ([], ["what it cost is not known (unpriced)"]) == (
        as_billed.rows,
        [each.why for each in as_billed.left_out],
    )


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["gpt-4o"], "'gpt-4o' replaces nothing: write gpt-4o=gpt-4o-mini"),
        (["=gpt-4o"], "replaces nothing"),
        (["a=b", "A=c"], "'A' is replaced twice"),
    ],
)
def test_what_is_no_replacement_is_explained(texts: list[str], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        replacements(texts)


def test_names_may_have_spaces_around_them() -> None:
    assert [Replacement("a", "b=c")] == replacements([" a = b=c "])


async def test_models_that_nobody_called_or_knows_are_named(store: Store) -> None:
    await store.write(billed([call(1, usage=USAGE)], BOOKS[0]))
    with pytest.raises(BadRequest, match=r"no call of 'gpt-5' is in that time and selection: called were gpt-4o$"):
        await simulated(store, "gpt-5=gpt-4o-mini")
    with pytest.raises(BadRequest, match="choose another time, or fewer conditions"):
        await simulated(store, "gpt-4o=gpt-4o-mini", where={"team": ["nobody"]})
    with pytest.raises(BadRequest, match=r"no price of 'gpt-4o-minni' is known: did you mean gpt-4o-mini"):
        await simulated(store, "gpt-4o=gpt-4o-minni")
