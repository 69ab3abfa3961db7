"""Foreign spans in any order, any batches, any number of times, settled at any moment: the tables end up the same."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.dump import Dump, dump, fresh, opened
from collector.store.test_order import template
from graphmeter import names
from graphmeter_collector.records import NO_USAGE, SpanRecord
from graphmeter_collector.store import Store, unsettled
from support import postgres
from support.foreign import foreign, foreign_run, sdk_calls
from support.records import span_id, whole_run


def told_by_each(records: list[SpanRecord]) -> list[SpanRecord]:
    """Spans of ours as the client sends them: each says all of its attribution."""
    for each in records:
        each.tenant, each.release, each.thread_id = "acme", "1.4.0", "thread-2"
    return records


REMOTE: dict[str, Any] = {"service": "billing", "of": 2}
SPANS = [
    *foreign_run(1),
    *told_by_each(whole_run(2)),
    *sdk_calls(2),
    # Another service's graph, called from our node; and what another instrumentation saw of our own graph.
    foreign(40, names.SPAN, parent=2, of=2),
    foreign(41, names.SPAN, parent=40, **REMOTE),
    foreign(42, names.RUN, parent=41, graph="bills", team="fin", **REMOTE),
    foreign(43, names.NODE, parent=42, node="charge", **REMOTE),
    foreign(44, names.MODEL, parent=43, nano=11, **REMOTE),
    foreign(45, names.RUN, parent=2, of=2, graph="plan"),
    foreign(46, names.NODE, parent=45, of=2, node="plan"),
    foreign(47, names.MODEL, parent=46, of=2, nano=13, response_id=""),
    # A call within a call within a call, of which the middle one says nothing; and a circle.
    foreign(1, names.MODEL, of=3, nano=17, response_id=""),
    foreign(2, names.MODEL, of=3, parent=1, usage=NO_USAGE, nano=0, usage_missing=True, response_id=""),
    foreign(3, names.MODEL, of=3, parent=2, nano=17, response_id=""),
    foreign(4, names.TOOL, of=3, parent=3, tool="t"),
    foreign(5, names.MODEL, of=3, parent=4, nano=19, response_id=""),
    foreign(8, names.MODEL, of=4, parent=9, nano=23),
    foreign(9, names.TOOL, of=4, parent=8, tool="t", team="x"),
]
orders = st.tuples(
    st.permutations(range(len(SPANS))),
    st.lists(st.integers(0, len(SPANS) - 1), max_size=9),
    st.lists(st.integers(1, 12), min_size=1, max_size=9),
    st.lists(st.booleans(), min_size=1, max_size=7),
)
How = tuple[list[int], list[int], list[int], list[bool]]


def pieces(how: How) -> Iterator[tuple[list[SpanRecord], bool]]:
    """Batches, and whether to settle after each."""
    order, repeated, sizes, pauses = how
    rest, at = [*order, *repeated], 0
    while rest:
        size = sizes[at % len(sizes)]
        yield fresh(SPANS[index] for index in rest[:size]), pauses[at % len(pauses)]
        rest, at = rest[size:], at + 1


async def settle(store: Store) -> None:
    while (await store.settle(0, 0)).result.settled:
        pass


async def arrive(url: str, how: How, *, settle_at_end: bool = True) -> None:
    async with opened(url) as store:
        for piece, pause in pieces(how):
            await store.write(piece)
            if pause:
                await settle(store)
        if settle_at_end:
            await settle(store)


@cache
def expected() -> Dump:
    """What the tables hold when everything came at once."""

    async def at_once(url: str) -> Dump:
        async with opened(url) as store:
            await store.write(fresh(SPANS))
        return await dump(url)

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(at_once(f"sqlite:///{shutil.copy(template(), folder)}"))


def recounted(stored: Dump) -> None:
    """Rollups and runs are what the ledger and the spans say."""
    bill = sum(row["cost_nano"] for row in stored["ledger"])
    assert [bill, bill] == [sum(row["cost_nano"] for row in stored[name]) for name in ("rollup_hour", "rollup_day")]
    for run in stored["run"]:
        mine = [row for row in stored["ledger"] if (row["trace_id"], row["run_id"]) == (run["trace_id"], run["run_id"])]
        assert run["cost_nano"] == sum(row["cost_nano"] for row in mine)
        assert run["node_attempts"] == sum(
            (row["trace_id"], row["run_id"], row["kind"]) == (run["trace_id"], run["run_id"], names.NODE)
            for row in stored["span"]
        )


def test_everything_at_once_waits_for_nothing_and_adds_up() -> None:
    stored = expected()
    recounted(stored)

    assert len(SPANS) == len({each.key for each in SPANS})
    assert [] == stored["unsettled"]
    ours = "00000000-0000-0000-0000-000000000002"
    assert {span_id(2).hex(): 1_791, ours: 1_701 + 50 + 60 + 13, span_id(42).hex(): 11} == {
        row["run_id"]: row["cost_nano"] for row in stored["run"]
    }
    # Of the calls within calls the outermost; below the tool there is another one; the circle's has no run.
    assert 17 + 19 + 23 + 5 == sum(row["cost_nano"] for row in stored["ledger"] if not row["run_id"])


@settings(max_examples=40, deadline=None)
@given(orders)
def test_sqlite_is_the_same_after_any_order_of_arrival(how: How) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{shutil.copy(template(), folder)}"
        asyncio.run(arrive(url, how))
        assert expected() == asyncio.run(dump(url))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders, orders)
def test_two_collectors_give_the_same_after_any_split_and_order_of_arrival(
    postgres_url: str, left: How, right: How
) -> None:
    postgres.execute(postgres_url, f"TRUNCATE {', '.join(expected())}")

    async def both() -> Dump:
        # Each gets a half in an order of its own, and some of the other's spans again.
        half = (left[0][::2], left[1], left[2], left[3])
        other = (left[0][1::2], right[1], right[2], right[3])
        await asyncio.gather(*(arrive(postgres_url, how, settle_at_end=False) for how in (half, other)))
        async with opened(postgres_url) as store:
            await settle(store)
        return await dump(postgres_url)

    assert expected() == asyncio.run(both())


@pytest.mark.parametrize("seed", range(2))
async def test_postgres_is_the_same_in_pieces_of_one(seed: int, postgres_url: str) -> None:
    order = random.Random(seed).sample(range(len(SPANS)), len(SPANS))
    await arrive(postgres_url, (order, [], [1], [True]))

    stored = await dump(postgres_url)
    recounted(stored)
    assert await asyncio.to_thread(expected) == stored
    assert not [row for row in stored["span"] if not row["settled"]]
    assert unsettled.NO_ENVELOPE.id not in {row["envelope_id"] for row in stored["span_envelope"]}
