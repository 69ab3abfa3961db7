"""Foreign spans on both databases: stored at once, counted once, when it is known where they belong."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from collector.store.dump import Dump, dump, fresh, opened
from graphmeter import names
from graphmeter_collector.records import SpanRecord, TokenUsage
from graphmeter_collector.store import Store, bisect, facts, unsettled
from support import postgres
from support.foreign import foreign, foreign_run, sdk_calls
from support.records import SECOND, T0_NS, priced, record, span_id, trace, whole_run

MINUTE = 60 * SECOND
FOR_EVER = 1 << 62
COUNTED = ("ledger", "run", "run_node", "rollup_hour", "rollup_day")


async def settle(store: Store, now_ns: int = 0) -> list[SpanRecord]:
    """Look until nothing more can be settled, at a time when nothing is due or, `FOR_EVER` later, all is."""
    found: list[SpanRecord] = []
    while settled := (await store.settle(now_ns, 0)).result.settled:
        found += settled
    return found


def counted(stored: Dump) -> Dump:
    return {table: stored[table] for table in COUNTED}


async def test_a_span_whose_parents_have_not_come_is_stored_and_nothing_follows_from_it(database_url: str) -> None:
    parts = foreign_run()[3:]
    async with opened(database_url) as store:
        written = await store.write(fresh(parts))
        stored = await dump(database_url)

        assert ([], len(parts)) == (written.finished, len(written.new))
        assert (0, 2) == ((await store.settle(0, 0)).given_up, len([e for e in written.new if e.settled]))
        assert {table: [] for table in COUNTED} == counted(stored)
        assert len(parts) - 2 == sum(not row["settled"] for row in stored["span"])
        assert (len(parts) - 2, True) == ((await store.unsettled())[0], (await store.unsettled())[1] > T0_NS)
        [first, *_] = [row for row in await store.reader.spans(trace(1).hex()) if row.kind == names.NODE]
        assert not first.settled
        assert [] == await store.reader.nodes(T0_NS - SECOND, T0_NS + MINUTE)


async def test_when_the_ancestors_come_it_counts_as_if_all_had_come_at_once(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(fresh(foreign_run()[3:]))
        await store.write(fresh(foreign_run()[:3]))
        settled = await settle(store)
        pieces = await dump(database_url)
        assert [] == await settle(store)

        assert 9 == len(settled)
        assert [] == pieces["unsettled"]
        [run] = pieces["run"]
        assert ("ok", 10, 2, 4, 1, 1_791) == (
            run["status"],
            run["spans"],
            run["node_attempts"],
            run["model_calls"],
            run["tool_calls"],
            run["cost_nano"],
        )
        assert [700, 1_001, 0, 90] == [
            row["cost_nano"] for row in sorted(pieces["ledger"], key=lambda row: row["start_ns"])
        ]
        # All at once: the same.
        again = foreign_run(2)
        await store.write(fresh(again))
        whole = await dump(database_url)
    assert [(row["settled"], row["kind"], row["node"]) for row in whole["span"] if row["trace_id"] == trace(1)] == [
        (row["settled"], row["kind"], row["node"]) for row in whole["span"] if row["trace_id"] == trace(2)
    ]
    [first, second] = whole["run"]
    assert {**first, "trace_id": b""} == {**second, "trace_id": b""}


async def test_a_run_that_is_settled_is_told_as_finished_with_its_totals(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(fresh(foreign_run()[1:]))
        await store.write(fresh(foreign_run()[:1]))
        result = (await store.settle(0, 0)).result

    [finished] = result.finished
    assert (1_791, "support", span_id(2).hex()) == (finished.cost_nano, finished.record.graph, finished.record.run_id)
    assert ([], 0) == (result.new, result.duplicates)


async def test_a_call_in_our_node_that_our_client_did_not_see_is_billed_to_it(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(sdk_calls(1))
        await store.write(whole_run(1))
        await settle(store)
        stored = await dump(database_url)

    [run] = stored["run"]
    assert (4, 1_701 + 50 + 60) == (run["model_calls"], run["cost_nano"])
    assert {"plan": 750, "answer": 1_061} == {row["node"]: row["cost_nano"] for row in stored["run_node"]}
    assert [("gateway", "", 5)] == [
        (row["service"], row["run_id"], row["cost_nano"]) for row in stored["ledger"] if row["service"] == "gateway"
    ]
    assert 6 == len(stored["ledger"])
    assert ["thread-1"] * 2 == [
        row["thread_id"] for row in stored["ledger"] if row["span_id"] > span_id(30) and row["node"]
    ]


async def test_after_a_while_it_counts_without_its_ancestors_and_they_change_nothing(database_url: str) -> None:
    late = [foreign(2, names.RUN, parent=1, graph="support"), foreign(3, names.NODE, parent=2, node="plan")]
    async with opened(database_url) as store:
        await store.write([foreign(4, names.MODEL, parent=3, nano=9)])
        assert [] == await settle(store)
        settling = await store.settle(FOR_EVER, 0)
        assert (1, 1, False) == (settling.given_up, len(settling.result.settled), settling.waiting)
        before = counted(await dump(database_url))
        await store.write([foreign(1, names.SPAN), *late])
        await store.write([foreign(4, names.MODEL, parent=3, nano=9)])
        await settle(store)
        after = await dump(database_url)

    assert [("", names.UNATTRIBUTED, 9)] == [(row["run_id"], row["node"], row["cost_nano"]) for row in before["ledger"]]
    assert before["ledger"] == after["ledger"]
    [run] = after["run"]
    assert (0, 2) == (run["cost_nano"], run["spans"])
    assert 9 == sum(row["cost_nano"] for row in after["rollup_day"])


async def test_a_call_whose_node_never_came_belongs_to_the_only_run_of_its_trace(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([foreign(30, names.MODEL, parent=29, nano=9), *whole_run(1)[:1]])
        [settled] = await settle(store, FOR_EVER)

    assert ("00000000-0000-0000-0000-000000000001", "support", names.UNATTRIBUTED, "cx") == (
        settled.run_id,
        settled.graph,
        settled.node,
        settled.team,
    )


async def test_a_call_that_is_on_the_ledger_already_is_not_billed_when_it_is_settled(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([foreign(30, names.MODEL, parent=2, nano=700, response_id="answer-1-5")])
        await store.write(whole_run(1))
        [settled] = await settle(store)
        stored = await dump(database_url)

    assert facts.DUPLICATE == (settled.cost.status if settled.cost else None)
    assert 1_701 == sum(row["cost_nano"] for row in stored["ledger"])
    assert [0] == [row["cost_nano"] for row in stored["span"] if row["span_id"] == span_id(30)]


async def test_what_the_database_refuses_to_count_does_not_keep_the_others_waiting(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bisect, "SETTLED_AT_ONCE", 32)
    # Together they are more than a rollup can hold.
    at: dict[str, Any] = {"node": names.UNATTRIBUTED, "nano": 1}
    poison = foreign(20, names.MODEL, parent=19, usage=TokenUsage(input=2**62), **at)
    good = [foreign(number, names.MODEL, parent=19, **at) for number in range(21, 30)]
    async with opened(database_url) as store:
        await store.write([foreign(18, names.MODEL, usage=TokenUsage(input=2**62 + 5), **at)])
        await store.write([poison, *good])
        results = [await store.settle(FOR_EVER, 0)]
        while results[-1].waiting:
            results.append(await store.settle(FOR_EVER, 0))
        stored = await dump(database_url)

    [(refused, rejection)] = [each for settling in results for each in settling.result.rejected]
    assert (span_id(20), "refused_when_settled") == (refused.span_id, rejection.reason)
    assert 9 == sum(len(each.result.settled) for each in results)
    assert [10] == [row["count"] for row in stored["rollup_day"]]
    assert all(row["settled"] for row in stored["span"])


def test_what_is_kept_comes_back_as_it_was() -> None:
    for each in (
        *foreign_run(),
        foreign(1, names.MODEL, tags={"a": "ü"}, cost=None, attempt_final=False, attempt_span=b"12345678", twin=True),
        foreign(
            1, names.MODEL, cost=priced(7, status="cached", saved_nano=3), cache_hit=True, ttft_ns=5, team_bound=True
        ),
    ):
        back = unsettled.thaw(unsettled.freeze(each))
        back.envelope, back.body = each.envelope, each.body
        assert each == back


def test_what_a_later_version_keeps_besides_is_left_out() -> None:
    text = unsettled.freeze(foreign(1, names.TOOL)).replace("{", '{"later":1,', 1)

    assert names.TOOL == unsettled.thaw(text).kind


async def test_two_collectors_settle_each_span_once_and_neither_waits_for_the_other(postgres_url: str) -> None:
    async with opened(postgres_url) as left, opened(postgres_url) as right:
        for of in range(40):
            await left.write(fresh(foreign_run(of)[1:]))
        await right.write([foreign_run(of)[0] for of in range(40)])
        found = await asyncio.gather(settle(left), settle(right))
        stored = await dump(postgres_url)

    assert Counter({10: 40}) == Counter(Counter(each.trace_id for part in found for each in part).values())
    assert 40 * 1_791 == sum(row["cost_nano"] for row in stored["ledger"])
    assert 40 * 1_791 == sum(row["cost_nano"] for row in stored["run"])
    assert 40 * 1_791 == sum(row["cost_nano"] for row in stored["rollup_hour"])


async def test_rows_that_another_collector_holds_are_left_to_it(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.write(fresh(foreign_run()[1:]))
        await store.write(fresh(foreign_run()[:1]))
        other = await asyncpg.connect(postgres_url)
        try:
            await other.execute("BEGIN; SELECT FROM unsettled FOR UPDATE")
            settling = await asyncio.wait_for(store.settle(0, 0), 60)
            assert ([], True) == (settling.result.settled, settling.waiting)
        finally:
            await other.close()
        assert 10 == len(await settle(store))


@pytest.mark.parametrize("seed", range(2))
async def test_two_collectors_under_load_with_halves_of_every_trace_have_exact_sums(
    seed: int, postgres_url: str
) -> None:
    luck = random.Random(seed)
    everything = [
        each for of in range(1, 41) for each in (foreign_run(of) if of % 2 else [*whole_run(of), *sdk_calls(of)])
    ]
    luck.shuffle(everything)
    halves = [[each for at, each in enumerate(everything) if at % 2 == side] for side in range(2)]

    async def collector(mine: Sequence[SpanRecord]) -> int:
        settled = 0
        async with opened(postgres_url) as store:
            for at in range(0, len(mine), 23):
                # Some come twice.
                await store.write(fresh([*mine[at : at + 23], *luck.sample(mine, 3)]))
                settled += len((await store.settle(0, 0)).result.settled)
        return settled

    await asyncio.gather(*map(collector, halves))
    async with opened(postgres_url) as store:
        await settle(store)
        assert (0, 0) == await store.unsettled()

    stored = await dump(postgres_url)
    money = 20 * 1_791 + 20 * (1_701 + 50 + 60 + 5)
    assert [money] * 3 == [sum(row["cost_nano"] for row in stored[table]) for table in ("ledger", *COUNTED[3:])]
    assert money - 20 * 5 == sum(row["cost_nano"] for row in stored["run"])
    assert money == sum(row["cost_nano"] or 0 for row in stored["span"])
    assert 40 == len(stored["run"]) == sum(row["root_seen"] for row in stored["run"])
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert [(0,)] == [tuple(row) for row in postgres.execute(postgres_url, deadlocks)]


async def test_spans_of_our_own_alone_leave_nothing_to_settle(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([*whole_run(1), record(77, of=5, parent_id=span_id(1))])
        settling = await store.settle(FOR_EVER, 0)

    assert ([], 0, False) == (settling.result.settled, settling.given_up, settling.waiting)


async def test_an_ancestor_of_days_ago_is_found_when_time_is_up_if_not_before(database_url: str) -> None:
    parts = foreign_run()
    graph = foreign(2, names.RUN, graph="support", at_s=-3 * 86_400.0, s=3 * 86_400.0)
    async with opened(database_url) as store:
        await store.write(fresh([each for each in parts if each.span_id not in (span_id(1), span_id(2))]))
        await store.write(fresh([graph]))
        await settle(store)
        await settle(store, FOR_EVER)
        stored = await dump(database_url)

        assert [] == stored["unsettled"]
        assert {"support"} == {row["graph"] for row in stored["ledger"]}
        assert names.UNATTRIBUTED not in {row["node"] for row in stored["ledger"]}


async def test_no_question_of_settling_reads_a_whole_partition(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        waiting = [foreign(2, names.MODEL, parent=1, of=of) for of in range(1, 201)]
        await store.write(fresh([*waiting, *(each for of in range(1_001, 1_201) for each in whole_run(of))]))
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute("ANALYZE")
        for query, arguments in (
            (unsettled.READY_POSTGRES, "1000"),
            (unsettled.DUE_POSTGRES, "0, 1000"),
            (unsettled.ANCESTORS_POSTGRES, f"'{{}}'::bytea[], '{{}}'::bytea[], 0, {1 << 30}"),
        ):
            await connection.execute(f"PREPARE asked AS {query}")
            plan = await connection.fetch(f"EXPLAIN EXECUTE asked({arguments})")
            await connection.execute("DEALLOCATE asked")
            found = "\n".join(row[0] for row in plan)
            empty = [f"Seq Scan on {row[0]}" for row in await connection.fetch(_EMPTY)]
            assert "Seq Scan on span" not in re.sub("|".join(empty) or "$^", "", found), found
    finally:
        await connection.close()


_EMPTY = (
    "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
    "WHERE inhparent = 'span'::regclass AND c.reltuples <= 0"
)
