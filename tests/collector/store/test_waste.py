"""What was for nothing: one row per call, whoever comes first, however often, at whichever collector."""

from __future__ import annotations

import asyncio
import itertools
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
from graphmeter_collector.store.waste import Attempt, Call, Flags
from support import postgres
from support.foreign import foreign
from support.records import T0_NS, call, record, span_id, trace

OK, ERROR, CANCELLED, RETRY = names.OK, names.ERROR, names.CANCELLED, names.RETRY
RUN_1 = record(of=1).run_id
NEVER = 1 << 62
REFUSED: dict[str, Any] = {"usage": NO_USAGE, "cost": Cost(0, (0,) * 10, "priced")}


def attempt(number: int, status: str = OK, *, final: bool = True, of: int = 1, **facts: Any) -> SpanRecord:
    return record(number, of=of, node="answer", status=status, attempt_final=final, **facts)


def inside(number: int, of_attempt: int, status: str = OK, **facts: Any) -> SpanRecord:
    return call(number, status=status, attempt_span=span_id(of_attempt), parent_id=span_id(of_attempt), **facts)


def root(of: int, status: str = OK, **facts: Any) -> SpanRecord:
    return record(90, of=of, kind=names.RUN, status=status, **facts)


def within(number: int, *attempts: int, **facts: Any) -> SpanRecord:
    """A call, and the attempts around it, the nearest first."""
    nearest, *outer = attempts
    return inside(number, nearest, outer_attempts=b"".join(map(span_id, outer)), **facts)


def nested(of: int, ends: Sequence[tuple[str, bool]], inner: str = OK, **facts: Any) -> list[SpanRecord]:
    """Attempts 1, 2 … of a node that end so; a node of its subgraph each time (11, 12 …), with a call (21, 22 …)."""
    found = []
    for number, (status, final) in enumerate(ends, start=1):
        found += [
            within(20 + number, 10 + number, number, of=of, **facts),
            attempt(10 + number, inner, of=of, outer_attempts=span_id(number), **facts),
            attempt(number, status, final=final, of=of, **facts),
        ]
    return found


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
    own += [
        # A subgraph that ran again; one that failed for good, of a thread and of none; and two graphs deep.
        *nested(5, [(ERROR, False), (CANCELLED, False), (OK, True)]),
        *nested(6, [(ERROR, False), (ERROR, True)]),
        root(6, ERROR),
        *nested(7, [(ERROR, False), (ERROR, True)], thread_id="t"),
        root(7, ERROR, thread_id="t"),
        *nested(8, [(CANCELLED, True)]),
        *nested(9, [(ERROR, True)], CANCELLED, thread_id="t"),
        attempt(3, OK, of=9, outer_attempts=span_id(2) + span_id(4)),
        attempt(2, OK, of=9, outer_attempts=span_id(4)),
        attempt(4, ERROR, of=9),
        within(5, 3, 2, 4, of=9),
        within(6, 3, 2, 4, of=9, status=CANCELLED, thread_id="t"),
        # Runs that have ended, though some attempts never come; and runs that never end.
        root(10, thread_id="t"),
        inside(5, 98, CANCELLED, of=10),
        inside(6, 98, of=10),
        attempt(7, of=10, outer_attempts=span_id(97)),
        within(8, 7, 97, of=10),
        within(9, 96, 97, of=11, status=CANCELLED),
        within(10, 96, 97, of=11),
        attempt(7, of=11, outer_attempts=span_id(97)),
        within(8, 7, 97, of=11),
        within(12, 7, 97, of=11, thread_id="t"),
        within(13, 96, 97, of=11, thread_id="t"),
        within(14, 7, 15, of=11),
        attempt(15, ERROR, final=False, of=11),
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
        # Below a node of a subgraph of ours, and in a subgraph of theirs.
        foreign(31, names.MODEL, of=5, parent=11, nano=67),
        record(32, of=5, kind=names.TOOL, tool="search", parent_id=span_id(11), outer_attempts=span_id(1)),
        foreign(33, names.MODEL, of=5, parent=32, nano=71),
        foreign(21, names.NODE, of=4, parent=20, node="plan.look"),
        foreign(20, names.RUN, of=4, parent=2, graph="inner"),
        foreign(22, names.SPAN, of=4, parent=21),
        foreign(23, names.MODEL, of=4, parent=22, nano=73),
        foreign(24, names.RUN, of=4, parent=21, graph="deep"),
        foreign(25, names.NODE, of=4, parent=24, node="plan.look.close"),
        foreign(26, names.MODEL, of=4, parent=25, nano=79),
        foreign(27, names.TOOL, of=4, parent=25, tool="search"),
        foreign(28, names.MODEL, of=4, parent=27, nano=83),
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
    runs = {(row["trace_id"], row["run_id"]): row for row in stored["run"]}
    found = {}
    for row in stored["ledger"]:
        used = row["cost_nano"] or row["images"] or any(row[f"{bucket}_tokens"] for bucket in names.TOKEN_TYPES)
        if row["cache_hit"] or not used:
            continue
        ends = {row["status"]}
        nearest, *outer = [row["attempt_span"] if row["run_id"] else None, *ids(row["outer_attempts"])]
        if nearest:
            run = runs[row["trace_id"], row["run_id"]]
            for each in (nearest, *outer):
                around = attempts.get((row["trace_id"], each, row["run_id"]))
                kept_by_a_thread = each in outer and row["thread_id"]
                if around is not None and not around["attempt_final"]:
                    ends.add(RETRY)
                elif around is not None and not kept_by_a_thread:
                    ends.add(around["status"])
                elif around is None and not kept_by_a_thread and run["status"] == names.LOST:
                    ends.add(CANCELLED)
                elif around is None and each is nearest and not run["root_seen"] and run["status"] != names.LOST:
                    ends.discard(CANCELLED)
        if why := [each for each in (ERROR, RETRY, CANCELLED) if each in ends]:
            found[row["trace_id"], row["span_id"]] = why[0]
    return found


def ids(found: bytes | None) -> list[bytes]:
    return [found[at : at + 8] for at in range(0, len(found), 8)] if found else []


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
    key = (trace(1), span_id(1), RUN_1)
    made = Call(
        Wasted._make((trace(1), span_id(2), T0_NS, RUN_1, *[""] * 5, 1, "")),
        call_ended,
        [key] * bool(attempt_ended),
        False,
    )
    known = {key: Attempt(*attempt_ended)} if attempt_ended else {}

    assert expected == waste.reason(made, known, Flags())


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
        (trace(5), span_id(31)): RETRY,
        (trace(5), span_id(33)): RETRY,
        (trace(4), span_id(23)): ERROR,
        (trace(4), span_id(26)): ERROR,
        (trace(4), span_id(28)): ERROR,
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


async def test_a_call_of_a_subgraph_goes_the_way_of_the_node_around_it_unless_a_checkpoint_keeps_it(
    database_url: str,
) -> None:
    ways = [
        ((OK, True), "", ""),
        ((names.INTERRUPTED, True), "t", ""),
        ((ERROR, False), "", RETRY),
        ((ERROR, False), "t", RETRY),
        ((CANCELLED, False), "t", RETRY),
        ((ERROR, True), "", ERROR),
        ((ERROR, True), "t", ""),
        ((CANCELLED, True), "", CANCELLED),
        ((CANCELLED, True), "t", ""),
    ]
    cases = list(enumerate(itertools.product(ways, [(0, 1, 2), (2, 1, 0), (1, 2, 0)])))
    wholes = [nested(of, [outer], thread_id=thread) for of, ((outer, thread, _), _) in cases]
    async with opened(database_url) as store:
        results = [
            await store.write([wholes[of][order[turn]] for of, (_, order) in cases]) for turn in range(len(wholes[0]))
        ]
    expected = {(trace(of), span_id(21)): why for of, ((_, _, why), _) in cases if why}

    assert expected == told([each for result in results for each in result.wasted])
    assert expected == kept(await dump(database_url))


async def test_a_worse_end_that_comes_later_corrects_the_reason_and_is_not_told_again(database_url: str) -> None:
    cancelled, again, failed = within(5, 1, 2, nano=9), attempt(1, CANCELLED), attempt(2, ERROR, final=False)
    async with opened(database_url) as store:
        results = [await store.write(fresh([each])) for each in (cancelled, again, failed)]
        reasons = kept(await dump(database_url))

    assert [[], [CANCELLED], []] == [[each.reason for each in result.wasted] for result in results]
    assert {(trace(1), span_id(5)): RETRY} == reasons


async def test_calls_of_a_run_that_is_given_up_go_with_the_attempts_that_never_ended(database_url: str) -> None:
    ended = [inside(2, 1), attempt(1), inside(4, 3, ERROR), call(9)]
    async with opened(database_url) as store:
        before = await store.write([*ended, inside(6, 5, nano=7), inside(8, 5, CANCELLED), within(10, 1, 5)])
        [lost] = await store.mark_lost(NEVER, 0)
        late = await store.write([inside(12, 11, nano=8)])
        again = await store.mark_lost(NEVER, 0)
    stored = await dump(database_url)

    assert [(span_id(4), ERROR)] == [(each.span_id, each.reason) for each in before.wasted]
    assert [(6, CANCELLED), (8, CANCELLED), (10, CANCELLED)] == [
        (int.from_bytes(each.span_id, "big"), each.reason) for each in lost.wasted
    ]
    assert [(8, CANCELLED)] == [(each.nano, each.reason) for each in late.wasted]
    assert [] == again
    assert kept(stored) == recounted(stored)


async def test_an_end_that_comes_after_all_corrects_what_was_judged_without_it(database_url: str) -> None:
    cases = list(enumerate(itertools.product([OK, ERROR], [[[0], [1]], [[1], [0]], [[0, 1], []]])))
    ends = [[attempt(1, status, of=of), root(of, status)] for of, (status, _) in cases]
    async with opened(database_url) as store:
        await store.write([inside(2, 1, of=of) for of, _ in cases])
        lost = await give_up(store)
        judged = kept(await dump(database_url))
        for turn in range(2):
            part = [ends[of][index] for of, (_, turns) in cases for index in turns[turn]]
            await store.write(fresh(part))
            again = await store.write(fresh(part))
            assert [] == again.wasted
        assert [] == await store.mark_lost(NEVER, 0)
    stored = await dump(database_url)

    assert {(trace(of), span_id(2)): CANCELLED for of, _ in cases} == judged == told(lost)
    assert {(trace(of), span_id(2)): ERROR for of, (status, _) in cases if status == ERROR} == kept(stored)
    assert recounted(stored) == kept(stored)


async def test_a_cancelled_call_of_a_run_that_has_ended_waits_no_longer_for_its_attempt(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([inside(2, 1, CANCELLED)])
        ended = await store.write([root(1)])
        late = await store.write([inside(4, 3, CANCELLED)])
        await store.write([attempt(1, ERROR, final=False)])

    assert [[CANCELLED], [CANCELLED]] == [[each.reason for each in result.wasted] for result in (ended, late)]
    assert {(trace(1), span_id(2)): RETRY, (trace(1), span_id(4)): CANCELLED} == kept(await dump(database_url))


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
    st.sets(st.integers(0, 20), max_size=3),
)
How = tuple[list[int], list[int], list[int], list[bool], set[int]]


def pieces(how: How) -> Iterator[tuple[list[SpanRecord], bool, bool]]:
    """Batches, whether to settle after each, and whether to give up on all runs then."""
    order, repeated, sizes, pauses, sweeps = how
    rest, at = [*order, *repeated], 0
    while rest:
        size = sizes[at % len(sizes)]
        yield fresh(SPANS[index] for index in rest[:size]), pauses[at % len(pauses)], at in sweeps
        rest, at = rest[size:], at + 1


@cache
def expected() -> dict[tuple[bytes, bytes], str]:
    """What was for nothing, when all is settled by its ancestors, and runs that have not ended by then are given up."""

    async def at_once(url: str) -> Dump:
        async with opened(url) as store:
            await store.write(fresh(SPANS))
            await store.mark_lost(NEVER, 0)
        return await dump(url)

    with tempfile.TemporaryDirectory() as folder:
        return recounted(asyncio.run(at_once(f"sqlite:///{shutil.copy(template(), folder)}")))


async def arrive(url: str, how: How) -> None:
    found: list[Wasted] = []
    async with opened(url) as store:
        for piece, pause, sweep in pieces(how):
            found += (await store.write(piece)).wasted
            # By ancestors alone: nobody is given up, so where a call belongs does not depend on the moment.
            if pause:
                found += (await store.settle(0, 1 << 62)).result.wasted
            if sweep:
                found += await give_up(store)
        found += await settle(store)
        before = await dump(url)
        found += await give_up(store)
    stored = await dump(url)

    assert kept(before) == recounted(before)
    assert expected() == kept(stored) == recounted(stored)
    assert {each[:2] for each in found} >= kept(stored).keys()
    if not how[-1]:
        # Nothing turned out to be otherwise: each call was told once.
        assert told(found).keys() == kept(stored).keys()
        assert sum(each.nano for each in found) <= sum(row["cost_nano"] for row in stored["ledger"])


async def give_up(store: Store) -> list[Wasted]:
    """On all runs that have not ended."""
    return [call for run in await store.mark_lost(NEVER, 0) for call in run.wasted]


@settings(max_examples=12, deadline=None)
@given(orders)
def test_sqlite_finds_the_same_in_any_order(how: How) -> None:
    expected()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(arrive(f"sqlite:///{shutil.copy(template(), folder)}", how))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize(("seed", "sweeps"), [(0, False), (1, True), (2, True)])
async def test_collectors_that_write_the_same_runs_at_once_miss_nothing_and_tell_it_once(
    seed: int, sweeps: bool, postgres_url: str
) -> None:
    luck = random.Random(seed)

    async def send(share: list[int]) -> list[Wasted]:
        found: list[Wasted] = []
        async with opened(postgres_url) as store:
            while share:
                found += (await store.write(fresh(SPANS[index] for index in share[:3]))).wasted
                del share[:3]
                found += (await store.settle(0, 1 << 62)).result.wasted
                if sweeps and len(share) % 4 == 0:
                    found += await give_up(store)
        return found

    shares: list[list[int]] = [[], [], []]
    for index in luck.sample(range(len(SPANS)), len(SPANS)):
        # Some spans come twice, to different collectors.
        for share in luck.sample(shares, luck.choice((1, 1, 2))):
            share.append(index)
    found = [each for part in await asyncio.gather(*map(send, shares)) for each in part]
    async with opened(postgres_url) as store:
        found += await settle(store)
        found += await give_up(store)
    stored = await dump(postgres_url)

    assert await asyncio.to_thread(expected) == kept(stored) == recounted(stored)
    assert {each[:2] for each in found} >= kept(stored).keys()
    if not sweeps:
        assert told(found).keys() == kept(stored).keys()
