"""What was for nothing: one row per call, whoever comes first, however often, at whichever collector."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from collector.store.dump import Dump, dump, fresh, opened
from collector.store.test_order import template
from collector.waiting import until_true
from graphmeter import names
from graphmeter_collector.records import NO_USAGE, Cost, SpanRecord, Wasted
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import Store, waste
from graphmeter_collector.store.engine import parse, schema_engine
from graphmeter_collector.store.facts import DAY_NS
from support import postgres
from support.foreign import foreign
from support.records import T0_NS, call, record, span_id, trace

OK, ERROR, CANCELLED, RETRY = names.OK, names.ERROR, names.CANCELLED, names.RETRY
REFUSED: dict[str, Any] = {"usage": NO_USAGE, "cost": Cost(0, (0,) * 10, "priced")}


def attempt(number: int, status: str = OK, *, final: bool = True, of: int = 1, **facts: Any) -> SpanRecord:
    return record(number, of=of, node="answer", status=status, attempt_final=final, **facts)


def inside(number: int, of_attempt: int, status: str = OK, **facts: Any) -> SpanRecord:
    return call(number, status=status, attempt_span=span_id(of_attempt), parent_id=span_id(of_attempt), **facts)


def spans() -> list[SpanRecord]:
    """Attempts of every end with calls of every end; calls of no attempt, of one that never comes, of others' spans."""
    ends = [(status, final) for status in (OK, ERROR, CANCELLED, names.INTERRUPTED) for final in (True, False)]
    own = [attempt(number, status, final=final) for number, (status, final) in enumerate(ends, start=1)]
    for number in range(1, len(ends) + 1):
        own += [inside(100 + 10 * number + n, number, status) for n, status in enumerate((OK, ERROR, CANCELLED))]
    own += [
        # Another run, begun the day before, that failed; and calls of its attempt that used nothing, or without a price.
        attempt(1, ERROR, of=2, at_s=-50_000, s=50_100),
        inside(2, 1, of=2, nano=7),
        inside(3, 1, of=2, **REFUSED),
        inside(5, 1, ERROR, of=2, **REFUSED),
        inside(6, 1, CANCELLED, of=2, **REFUSED),
        inside(7, 1, of=2, **{**REFUSED, "images": 2}),
        inside(8, 1, of=2, cost=Cost(0, (0,) * 10, "unpriced")),
        inside(4, 1, of=2, cache_hit=True, response_id="", cost=Cost(0, (0,) * 10, "cached", 1_000)),
        # The same span id in another trace is another attempt, and a tool that has a price is a call.
        attempt(1, of=3),
        inside(2, 1, of=3),
        record(3, of=3, kind=names.TOOL, tool="search", status=ERROR, attempt_span=span_id(1), cost=paid(300)),
        record(4, of=3, kind=names.TOOL, tool="search", attempt_span=span_id(1)),
        # Attempts that never come, and none at all.
        inside(5, 99, CANCELLED, of=3),
        inside(6, 99, of=3),
        inside(7, 99, ERROR, of=3),
        call(8, of=3, status=CANCELLED, run_id=""),
        call(9, of=3, status=ERROR, run_id="", attempt_span=span_id(1)),
        call(10, of=3, status=CANCELLED),
        call(11, of=3, run_id=""),
    ]
    others = [
        foreign(1, names.RUN, of=4, graph="agent"),
        foreign(2, names.NODE, of=4, parent=1, node="plan", status=ERROR),
        foreign(3, names.SPAN, of=4, parent=2),
        foreign(4, names.MODEL, of=4, parent=3, nano=41),
        foreign(5, names.NODE, of=4, parent=1, node="act"),
        foreign(6, names.MODEL, of=4, parent=5, nano=43, status=CANCELLED),
        foreign(7, names.MODEL, of=4, parent=5, nano=47),
        # Below a failed attempt of ours, and below a tool of such a one; a record of ours by somebody else is no attempt.
        foreign(12, names.MODEL, of=2, parent=1, nano=53),
        record(13, of=2, kind=names.TOOL, tool="search", parent_id=span_id(1)),
        foreign(14, names.MODEL, of=2, parent=13, nano=59),
        foreign(15, names.NODE, of=2, parent=1, node="answer", status=CANCELLED),
        foreign(16, names.MODEL, of=2, parent=15, nano=61),
    ]
    return own + others


def paid(nano: int) -> Cost:
    return Cost(nano, (0,) * 10, "priced", 0, "graphmeter.yaml", "search")


SPANS = spans()
assert len(SPANS) == len({each.key for each in SPANS})


def recounted(stored: Dump) -> dict[tuple[bytes, bytes], str]:
    """Which calls were for nothing, by the words of docs/cost.md, from ledger and spans."""
    attempts = {
        (row["trace_id"], row["span_id"], row["run_id"]): row
        for row in stored["span"]
        if row["kind"] == names.NODE and row["settled"]
    }
    found = {}
    for row in stored["ledger"]:
        used = row["cost_nano"] or row["images"] or any(row[f"{bucket}_tokens"] for bucket in names.TOKEN_TYPES)
        if row["cache_hit"] or not used:
            continue
        key = row["trace_id"], row["span_id"]
        around = attempts.get((row["trace_id"], row["attempt_span"], row["run_id"]))
        unknown = bool(row["attempt_span"] and row["run_id"]) and around is None
        if row["status"] == ERROR or (around and around["attempt_final"] and around["status"] == ERROR):
            found[key] = ERROR
        elif around and not around["attempt_final"]:
            found[key] = RETRY
        elif (row["status"] == CANCELLED and not unknown) or (around and around["status"] == CANCELLED):
            found[key] = CANCELLED
    return found


def kept(stored: Dump) -> dict[tuple[bytes, bytes], str]:
    """What the table says, which must be about calls on the ledger, and no more than was spent."""
    starts = {(row["trace_id"], row["span_id"]): row["start_ns"] for row in stored["ledger"]}
    for row in stored["ledger_waste"]:
        assert row["start_ns"] == starts[row["trace_id"], row["span_id"]]
    return {(row["trace_id"], row["span_id"]): row["reason"] for row in stored["ledger_waste"]}


def told(wasted: Sequence[Wasted]) -> dict[tuple[bytes, bytes], str]:
    """What was told to be counted: nothing twice."""
    assert len(wasted) == len({each[:2] for each in wasted})
    return {each[:2]: each.reason for each in wasted}


async def settle(store: Store) -> list[Wasted]:
    found: list[Wasted] = []
    while (result := (await store.settle(0, 0)).result).settled:
        found += result.wasted
    return found


@pytest.mark.parametrize(
    ("call_ended", "attempt_ended", "expected"),
    [
        (OK, None, ""),
        (ERROR, None, ERROR),
        (CANCELLED, None, CANCELLED),
        (OK, (OK, True), ""),
        (OK, (names.INTERRUPTED, True), ""),
        (OK, (ERROR, True), ERROR),
        (OK, (ERROR, False), RETRY),
        (OK, (CANCELLED, True), CANCELLED),
        (OK, (CANCELLED, False), RETRY),
        (ERROR, (OK, True), ERROR),
        (ERROR, (ERROR, False), ERROR),
        (ERROR, (CANCELLED, True), ERROR),
        (CANCELLED, (OK, True), CANCELLED),
        (CANCELLED, (ERROR, True), ERROR),
        (CANCELLED, (ERROR, False), RETRY),
    ],
)
def test_an_error_outranks_a_retry_and_that_a_cancellation(
    call_ended: str, attempt_ended: tuple[str, bool] | None, expected: str
) -> None:
    assert expected == waste.reason(call_ended, None if attempt_ended is None else waste.Attempt(*attempt_ended))


async def test_calls_and_attempts_at_once_are_judged_and_told_with_what_they_cost(database_url: str) -> None:
    async with opened(database_url) as store:
        result = await store.write(fresh(SPANS))
    stored = await dump(database_url)

    assert told(result.wasted) == kept(stored) == recounted(stored)
    assert {ERROR, RETRY, CANCELLED} == set(kept(stored).values())
    costs = {(row["trace_id"], row["span_id"]): row["cost_nano"] for row in stored["ledger"]}
    assert [costs[each[:2]] for each in result.wasted] == [each.nano for each in result.wasted]
    [lost] = [each for each in result.wasted if each[:2] == (trace(2), span_id(2))]
    assert ("shop", "test", "support", "cx", "answer", 7, ERROR) == lost[4:]


async def test_calls_that_others_saw_belong_to_the_attempt_above_them(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(fresh(each for each in SPANS if not each.foreign))
        before = kept(await dump(database_url))
        await store.write(fresh(each for each in SPANS if each.foreign))
        await settle(store)
    found = {key: why for key, why in kept(await dump(database_url)).items() if key not in before}

    assert found == {
        (trace(4), span_id(4)): ERROR,
        (trace(4), span_id(6)): CANCELLED,
        (trace(2), span_id(12)): ERROR,
        (trace(2), span_id(14)): ERROR,
    }


@pytest.mark.parametrize("first", ["call", "attempt"])
async def test_whichever_is_stored_later_finds_the_other(database_url: str, first: str) -> None:
    both = [inside(2, 1, nano=5), attempt(1, ERROR, final=False)]
    async with opened(database_url) as store:
        before = await store.write(both[:1] if first == "call" else both[1:])
        after = await store.write(both[1:] if first == "call" else both[:1])
        again = await store.write(fresh(both))

    assert [[], [(RETRY, 5)], []] == [
        [(each.reason, each.nano) for each in result.wasted] for result in (before, after, again)
    ]


async def test_a_cancelled_call_waits_for_its_attempt_for_a_retry_outranks_it(database_url: str) -> None:
    async with opened(database_url) as store:
        alone = await store.write([inside(2, 1, CANCELLED), inside(4, 3, CANCELLED)])
        retried = await store.write([attempt(1, ERROR, final=False)])
        went_well = await store.write([attempt(3)])

    assert [[], [RETRY], [CANCELLED]] == [
        [each.reason for each in result.wasted] for result in (alone, retried, went_well)
    ]


async def test_calls_of_runs_without_a_failure_are_not_looked_at(database_url: str) -> None:
    async with opened(database_url) as store:
        result = await store.write([inside(2, 1), attempt(1), inside(3, 1, names.INTERRUPTED)])
    stored = await dump(database_url)

    assert ([], []) == (result.wasted, stored["ledger_waste"])
    assert [(0, 0)] == [(row["bad_attempts"], row["cancelled_calls"]) for row in stored["run"]]


async def test_waste_goes_with_its_ledger(database_url: str) -> None:
    old = fresh([inside(2, 1), attempt(1, ERROR), inside(4, 3, at_s=200_000), attempt(3, ERROR, at_s=200_000)])
    async with opened(database_url) as store:
        await store.write(old)
        await store.retain(Cutoffs(0, 0, None, T0_NS + DAY_NS, None))
    stored = await dump(database_url)

    assert {(trace(1), span_id(4)): ERROR} == kept(stored)
    assert 1 == len(stored["ledger"])


orders = st.tuples(
    st.permutations(range(len(SPANS))),
    st.lists(st.integers(0, len(SPANS) - 1), max_size=15),
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


@cache
def expected() -> dict[tuple[bytes, bytes], str]:
    """What was for nothing, when all is settled by its ancestors."""

    async def at_once(url: str) -> Dump:
        async with opened(url) as store:
            await store.write(fresh(SPANS))
        return await dump(url)

    with tempfile.TemporaryDirectory() as folder:
        return recounted(asyncio.run(at_once(f"sqlite:///{shutil.copy(template(), folder)}")))


async def arrive(url: str, how: How) -> None:
    found: list[Wasted] = []
    async with opened(url) as store:
        for piece, pause in pieces(how):
            found += (await store.write(piece)).wasted
            # By ancestors alone: nobody is given up, so where a call belongs does not depend on the moment.
            if pause:
                found += (await store.settle(0, 1 << 62)).result.wasted
        found += await settle(store)
    stored = await dump(url)

    assert told(found) == kept(stored) == recounted(stored)
    assert expected() == kept(stored)
    assert sum(each.nano for each in found) <= sum(row["cost_nano"] for row in stored["ledger"])


@settings(max_examples=20, deadline=None)
@given(orders)
def test_sqlite_finds_the_same_in_any_order(how: How) -> None:
    expected()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(arrive(f"sqlite:///{shutil.copy(template(), folder)}", how))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders)
def test_postgres_finds_the_same_in_any_order(postgres_url: str, how: How) -> None:
    expected()
    [names_of] = postgres.execute(
        postgres_url,
        "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN "
        "('alembic_version', 'budget_set')",
    )
    postgres.execute(postgres_url, f"TRUNCATE {names_of[0]}")

    asyncio.run(arrive(postgres_url, how))


async def test_a_call_and_its_attempt_that_are_committed_at_once_find_each_other(postgres_url: str) -> None:
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'run'::regclass "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    engine = schema_engine(parse(postgres_url))
    async with opened(postgres_url) as first, opened(postgres_url) as second, engine.connect() as other:
        await other.execute(text("LOCK TABLE run IN EXCLUSIVE MODE"))
        writes = [
            asyncio.create_task(store.write([span]))
            for store, span in ((first, inside(2, 1)), (second, attempt(1, ERROR)))
        ]
        # Both have written their span and the ledger, and neither sees the other's.

        async def both_wait() -> bool:
            return bool(await other.scalar(text(waiting)) == 2)

        await until_true(both_wait, 30)
        await other.rollback()
        results = await asyncio.gather(*writes)
    await engine.dispose()

    assert [ERROR] == [each.reason for result in results for each in result.wasted]


@pytest.mark.parametrize("seed", range(2))
async def test_collectors_that_write_the_same_runs_at_once_miss_nothing_and_tell_it_once(
    seed: int, postgres_url: str
) -> None:
    luck = random.Random(seed)

    async def send(share: list[int]) -> list[Wasted]:
        found: list[Wasted] = []
        async with opened(postgres_url) as store:
            while share:
                found += (await store.write(fresh(SPANS[index] for index in share[:3]))).wasted
                del share[:3]
                found += (await store.settle(0, 1 << 62)).result.wasted
        return found

    shares: list[list[int]] = [[], [], []]
    for index in luck.sample(range(len(SPANS)), len(SPANS)):
        # Some spans come twice, to different collectors.
        for share in luck.sample(shares, luck.choice((1, 1, 2))):
            share.append(index)
    found = [each for part in await asyncio.gather(*map(send, shares)) for each in part]
    async with opened(postgres_url) as store:
        found += await settle(store)
    stored = await dump(postgres_url)

    assert told(found) == kept(stored) == recounted(stored)
    assert await asyncio.to_thread(expected) == kept(stored)
