"""What every store promises, on both databases: stored once, whatever is sent, how often, in which order, by whom."""

from __future__ import annotations

import asyncio
import copy
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from collector.store.dump import dump, fresh, opened
from graphmeter import names
from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.records import Cost, Envelope, SpanRecord
from graphmeter_collector.reports import OutboxItem, Unended
from graphmeter_collector.store import Store
from support import postgres
from support.records import T0_NS, call, priced, record, span_id, trace, whole_run

RUN_1 = "00000000-0000-0000-0000-000000000001"


def bodies(records: Sequence[SpanRecord]) -> list[bytes]:
    return [each.body for each in records]


async def test_a_whole_run_makes_one_run_with_its_nodes_calls_and_rollups(database_url: str) -> None:
    async with opened(database_url) as store:
        result = await store.write(fresh(whole_run()))

    [finished] = result.finished
    assert (9, 0, []) == (len(result.new), result.duplicates, result.rejected)
    assert (RUN_1, 1_701, 2) == (finished.record.run_id, finished.cost_nano, finished.steps)
    stored = await dump(database_url)
    expected_rows = {
        "span": 9,
        "span_body": 8,
        "span_envelope": 1,
        "run": 1,
        "run_node": 2,
        "ledger": 3,
        "ledger_waste": 1,
    }
    assert expected_rows == {name: len(rows) for name, rows in stored.items() if rows and not name.startswith("rollup")}
    [run] = stored["run"]
    expected = {
        "trace_id": trace(1),
        "run_id": RUN_1,
        "graph": "support",
        "team": "cx",
        "tenant": "acme",
        "thread_id": "thread-1",
        "tags": {"intent": "billing"},
        "status": "ok",
        "root_seen": True,
        "started_ns": T0_NS,
        "ended_ns": T0_NS + 2_700_000_000,
        "last_seen_ns": T0_NS + 2_700_000_000,
        "duration_ns": 2_700_000_000,
        "steps": 2,
        "spans": 8,
        "node_attempts": 3,
        "node_errors": 1,
        "model_calls": 2,
        "tool_calls": 1,
        "input_tokens": 200,
        "output_tokens": 20,
        "cost_nano": 1_701,
        "unpriced_calls": 0,
    }
    assert expected == {column: run[column] for column in expected}
    [answer, plan] = stored["run_node"]
    assert ("answer", 2, 1, 1_700_000_000, 1, 1_001) == (
        answer["node"],
        answer["attempts"],
        answer["errors"],
        answer["duration_ns"],
        answer["model_calls"],
        answer["cost_nano"],
    )
    assert ("plan", 1, 0, 700) == (plan["node"], plan["attempts"], plan["errors"], plan["cost_nano"])
    by_kind = {(row["kind"], row["node"]): row for row in stored["rollup_hour"]}
    node = by_kind["node", "answer"]
    assert (2, 1, 0, 1) == (node["count"], node["ok"], node["error"], node["retries"])
    calls = by_kind["model", "answer"]
    assert (2, 1, 1, 100, 1_001, 1_001) == (
        calls["count"],
        calls["ok"],
        calls["cache_hits"],
        calls["input_tokens"],
        calls["cost_nano"],
        calls["saved_nano"],
    )
    assert "search" == by_kind["tool", "answer"]["model"]


async def test_the_same_batch_three_times_changes_nothing(database_url: str) -> None:
    records = [each for of in range(5) for each in whole_run(of)]
    async with opened(database_url) as store:
        await store.write(fresh(records), destinations=["jaeger"])
        once = await dump(database_url)
        for _ in range(2):
            again = await store.write(fresh(records), destinations=["jaeger"])
            assert ([], 45, []) == (again.new, again.duplicates, again.finished)

        assert once == await dump(database_url)
        assert {"jaeger": 40} == await store.outbox_depth()


async def test_copies_within_a_batch_are_stored_once_and_the_first_counts(database_url: str) -> None:
    first, second = record(1, node="a"), record(1, node="b")
    async with opened(database_url) as store:
        result = await store.write([first, second, first, *fresh(whole_run(2))])

    assert [first] == [each for each in result.new if each.trace_id == trace(1)]
    assert (10, 2) == (len(result.new), result.duplicates)
    assert ["a"] == [row["node"] for row in (await dump(database_url))["span"] if row["trace_id"] == trace(1)]


async def test_new_spans_are_told_in_the_order_of_their_keys_also_when_some_are_not_new(database_url: str) -> None:
    records = [record(number, of=1) for number in (7, 3, 9, 1, 5)]
    async with opened(database_url) as store:
        await store.write(fresh(records[2:3]))
        result = await store.write(records)

    assert bodies([records[3], records[1], records[4], records[0]]) == bodies(result.new)
    assert 1 == result.duplicates


async def test_an_empty_batch_is_nothing(database_url: str) -> None:
    async with opened(database_url) as store:
        result = await store.write([])

    assert ([], 0, [], []) == (result.new, result.duplicates, result.finished, result.rejected)


@pytest.mark.parametrize("seed", range(3))
async def test_halves_of_traces_to_two_collectors_at_once_sum_exactly(
    seed: int, postgres_url: str, sqlite_url: str
) -> None:
    records = [each for of in range(40) for each in whole_run(of)]
    async with opened(sqlite_url) as alone:
        await alone.write(fresh(records))
    luck = random.Random(seed)
    luck.shuffle(records)
    both = len(records) // 3

    async def send(store: Store, part: Sequence[SpanRecord]) -> int:
        stored = 0
        for at in range(0, len(part), 17):
            stored += len((await store.write(fresh(part[at : at + 17]))).new)
        return stored

    async with opened(postgres_url) as left, opened(postgres_url) as right:
        # A third of the spans goes to both.
        counts = await asyncio.gather(send(left, records[: 2 * both]), send(right, records[both:]))

    assert len(records) == sum(counts)
    assert await dump(sqlite_url) == await dump(postgres_url)


POISONS: dict[str, dict[str, Any]] = {
    "a number too large": {"step": 1 << 70},
    "a time too late": {"start_ns": 1 << 63, "end_ns": 1 << 63},
    "half a surrogate pair": {"status_message": "\ud800"},
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
async def test_only_the_poisoned_span_is_rejected(database_url: str, poison: dict[str, Any]) -> None:
    good = [each for of in range(3) for each in whole_run(of)]
    poisoned = record(77, of=1, node="answer", **poison)
    async with opened(database_url) as store:
        result = await store.write([*good[:13], poisoned, *good[13:]])
        after = await store.write([record(78, of=1, node="answer")])

    assert sorted(bodies(good)) == sorted(bodies(result.new))
    [(rejected, reason)] = result.rejected
    assert rejected is poisoned
    assert "refused_by_database" == reason.reason
    assert poisoned.span_id.hex() in reason.message
    assert 3 == len(result.finished)
    assert 1 == len(after.new)


async def test_a_batch_of_poison_is_rejected_whole(database_url: str) -> None:
    async with opened(database_url) as store:
        result = await store.write([record(number, step=1 << 70) for number in range(5)])

    assert ([], 5) == (result.new, len(result.rejected))
    assert [] == (await dump(database_url))["span"]


async def test_nul_in_text_is_refused_by_postgres_alone(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        result = await store.write([record(1), record(2, name="a\0b"), record(3)])

    assert (2, 1) == (len(result.new), len(result.rejected))


async def test_one_call_seen_by_two_instrumentations_is_billed_once(database_url: str) -> None:
    records = whole_run()
    first = next(each for each in records if each.span_id == span_id(6))
    second = replace(first, span_id=span_id(66), run_id="", node="")
    async with opened(database_url) as store:
        await store.write(fresh(records))
        before = await dump(database_url)
        result = await store.write([second])
        again = await store.write([copy.copy(first), copy.copy(second)])

    [seen] = result.new
    assert Cost(0, (0,) * 10, "duplicate") == seen.cost
    assert 2 == again.duplicates
    after = await dump(database_url)
    assert before["ledger"] == after["ledger"]
    assert before["rollup_day"] == after["rollup_day"]
    assert before["run"] == after["run"]
    assert 0 == next(row["cost_nano"] for row in after["span"] if row["span_id"] == span_id(66))


async def test_two_spans_of_one_call_in_one_batch_are_billed_once_and_both_belong_to_the_run(database_url: str) -> None:
    twins = [call(1, response_id="same", nano=500), call(2, response_id="same", nano=500)]
    async with opened(database_url) as store:
        result = await store.write(twins)

    assert ["priced", "duplicate"] == [each.cost.status for each in result.new if each.cost]
    stored = await dump(database_url)
    [run] = stored["run"]
    assert (2, 1, 500, 100) == (run["spans"], run["model_calls"], run["cost_nano"], run["input_tokens"])
    assert [500] == [row["cost_nano"] for row in stored["ledger"]]
    assert [(1, 500)] == [(row["count"], row["cost_nano"]) for row in stored["rollup_hour"]]


async def test_calls_without_a_response_id_and_answers_from_a_cache_are_never_taken_for_one(database_url: str) -> None:
    hit: dict[str, Any] = {"response_id": "r", "cache_hit": True, "cost": priced(0, status="cached", saved_nano=9)}
    records = [
        call(1, response_id=""),
        call(2, response_id=""),
        call(3, response_id="r"),
        call(4, **hit),
        call(5, **hit),
    ]
    async with opened(database_url) as store:
        result = await store.write(records)

    assert ["priced", "priced", "priced", "cached", "cached"] == [each.cost.status for each in result.new if each.cost]
    assert [None, None, "r", None, None] == [row["response_id"] for row in (await dump(database_url))["ledger"]]


async def test_the_same_response_id_from_another_trace_or_provider_is_another_call(database_url: str) -> None:
    records = [
        call(1, response_id="r"),
        call(2, response_id="r", provider="anthropic"),
        call(1, of=2, response_id="r"),
    ]
    async with opened(database_url) as store:
        result = await store.write(records)

    assert ["priced"] * 3 == [each.cost.status for each in result.new if each.cost]


async def test_a_poisoned_neighbour_does_not_cost_a_call_its_bill(database_url: str) -> None:
    # The poisoned one comes first and would own the response id, were the group not written again without it.
    poisoned = call(1, response_id="same", step=1 << 70)
    good = call(2, response_id="same", nano=500)
    async with opened(database_url) as store:
        result = await store.write([poisoned, good])

    assert (1, 1) == (len(result.new), len(result.rejected))
    assert [("priced", 500)] == [
        (row["price_status"], row["cost_nano"]) for row in (await dump(database_url))["ledger"]
    ]


async def test_parts_of_every_ledger_row_sum_to_its_cost(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([call(n, nano=n * 7 + 1, response_id="") for n in range(1, 30)])

    rows = (await dump(database_url))["ledger"]
    assert 29 == len(rows)
    for row in rows:
        assert row["cost_nano"] == sum(row[f"{bucket}_nano"] or 0 for bucket in names.TOKEN_TYPES)
        assert 110 == sum(row[f"{bucket}_tokens"] or 0 for bucket in names.TOKEN_TYPES)


@pytest.mark.parametrize(
    ("cost", "status", "shown", "unpriced"),
    [
        (None, "unpriced", None, 1),
        (Cost(0, (0,) * 10, "unpriced"), "unpriced", None, 1),
        (Cost(0, (0,) * 10, "usage_missing"), "usage_missing", None, 0),
        (Cost(0, (0,) * 10, "free"), "free", 0, 0),
        (priced(12), "priced", 12, 0),
    ],
)
async def test_what_has_no_price_shows_no_cost_and_is_never_free(
    database_url: str, cost: Cost | None, status: str, shown: int | None, unpriced: int
) -> None:
    async with opened(database_url) as store:
        await store.write([call(1, cost=cost)])

    stored = await dump(database_url)
    assert [status] == [row["price_status"] for row in stored["ledger"]]
    assert [shown] == [row["cost_nano"] for row in stored["span"]]
    assert [unpriced] == [row["unpriced_calls"] for row in stored["run"]]
    assert [unpriced] == [row["unpriced"] for row in stored["rollup_hour"]]


async def test_spans_of_others_are_stored_and_only_their_calls_counted(database_url: str) -> None:
    foreign: dict[str, Any] = {"run_id": "", "graph": "", "node": ""}
    records = [
        record(1, kind=names.SPAN, **foreign),
        record(2, kind=names.TOOL, tool="search", **foreign),
        call(3, **foreign),
    ]
    async with opened(database_url) as store:
        result = await store.write(records)

    assert 3 == len(result.new)
    stored = await dump(database_url)
    assert (3, 3, 0, 0, 1) == tuple(len(stored[name]) for name in ("span", "span_body", "run", "run_node", "ledger"))
    assert ["model"] == [row["kind"] for row in stored["rollup_hour"]]


async def test_runs_of_one_trace_are_kept_apart(database_url: str) -> None:
    other = [
        replace(each, span_id=span_id(100 + number), run_id="another", response_id="")
        for number, each in enumerate(whole_run(1))
    ]
    async with opened(database_url) as store:
        result = await store.write([*whole_run(1), *other])

    assert [1_701, 1_701] == [totals.cost_nano for totals in result.finished]
    assert [RUN_1, "another"] == [row["run_id"] for row in (await dump(database_url))["run"]]


async def test_a_span_whose_clock_runs_backwards_lasts_no_time(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([record(1, node="a", s=-5), call(2, cost=priced(3))])

    stored = await dump(database_url)
    assert [0, 1_000_000_000] == [row["duration_ns"] for row in stored["span"]]
    assert T0_NS + 1_000_000_000 == stored["run"][0]["last_seen_ns"]


async def test_a_silent_run_is_lost_once_and_a_late_end_corrects_it(database_url: str) -> None:
    start, *rest = whole_run(status=names.ERROR)
    async with opened(database_url) as store:
        begun = await store.write([start])
        assert [] == begun.finished
        assert {("shop", "test", "support", "cx"): Unended(1, start.start_ns)} == await store.runs_in_progress()
        assert [] == await store.mark_lost(start.end_ns + 9, 9)

        [lost] = await store.mark_lost(start.end_ns + 10, 9)

        assert ("shop", "test", "support", "cx", RUN_1) == (
            lost.service,
            lost.environment,
            lost.graph,
            lost.team,
            lost.run_id,
        )
        assert [] == await store.mark_lost(start.end_ns + 10, 9)
        assert {} == await store.runs_in_progress()

        # A sign of life does not bring it back, and it is not lost again; its end says what became of it.
        await store.write(fresh(rest[:2]))
        assert [names.LOST] == [row["status"] for row in (await dump(database_url))["run"]]
        assert [] == await store.mark_lost(1 << 62, 0)
        late = await store.write(fresh(rest))

    [finished] = late.finished
    assert 1_701 == finished.cost_nano
    [run] = (await dump(database_url))["run"]
    assert (names.ERROR, 2_700_000_000, T0_NS) == (run["status"], run["duration_ns"], run["started_ns"])


async def test_the_end_of_a_run_says_what_it_cost_with_what_is_stored_so_far(database_url: str) -> None:
    *before, root = whole_run()
    late = before.pop(1)
    async with opened(database_url) as store:
        await store.write(fresh(before))
        result = await store.write([copy.copy(root)])
        after = await store.write([copy.copy(late)])

    assert [1_001] == [each.cost_nano for each in result.finished]
    assert [] == after.finished
    assert [1_701] == [row["cost_nano"] for row in (await dump(database_url))["run"]]


async def test_the_outbox_keeps_a_span_until_its_destination_has_it(database_url: str) -> None:
    envelope = Envelope(b"o" * 16, b"other resource", b"scope", "https://schema", "https://scope-schema")
    records = [*whole_run(), record(44, kind=names.TOOL, forwardable=False), record(45, of=3, envelope=envelope)]
    async with opened(database_url) as store:
        await store.write(fresh(records), destinations=["tempo", "jaeger"])
        assert {"jaeger": 9, "tempo": 9} == await store.outbox_depth()
        await store.write(fresh(whole_run(2)), destinations=["tempo"])

        items = await claimed(store, "tempo")
        assert 17 == len(items)
        assert {trace(2)} == {item.trace_id for item in items[9:]}
        [other] = [item for item in items if item.trace_id == trace(3)]
        assert (b"body 45", envelope) == (other.body, other.envelope)
        async with store.outbox_claim("tempo", 12, 1 << 20) as claim:
            # Spans of a trace that were committed together are given together.
            assert (items[:9], True) == (claim.items, claim.more)
            await claim.delete(claim.items)
        assert items[9:] == await claimed(store, "tempo")
        assert items[9:] == await claimed(store, "tempo", 2)
        async with store.outbox_claim("tempo", 12, 1 << 20) as claim:
            await claim.delete([items[9], items[12], items[13]])
            assert not claim.more
        assert [*items[10:12], *items[14:]] == await claimed(store, "tempo")
        assert {"jaeger": 9, "tempo": 5} == await store.outbox_depth()
        async with store.outbox_claim("nowhere", 5, 1 << 20) as claim:
            assert [] == claim.items
            await claim.delete([])
            await claim.delete(items)
        assert {"jaeger": 9, "tempo": 5} == await store.outbox_depth()


async def claimed(store: Store, destination: str, limit: int = 100) -> list[OutboxItem]:
    """What the next claim would give."""
    async with store.outbox_claim(destination, limit, 1 << 20) as claim:
        return list(claim.items)


async def test_a_job_is_held_by_one_at_a_time_and_its_failures_are_its_own(database_url: str) -> None:
    async with opened(database_url) as store:
        async with (
            store.job_lock("sweep") as first,
            store.job_lock("sweep") as second,
            store.job_lock("other") as other,
        ):
            assert (True, False, True) == (first, second, other)

        async def fail() -> None:
            async with store.job_lock("sweep") as again:
                assert again
                raise ConnectionRefusedError("not the database")

        with pytest.raises(ConnectionRefusedError, match="not the database"):
            await fail()
        async with store.job_lock("sweep") as after:
            assert after


async def test_a_job_is_held_by_one_collector_of_several(postgres_url: str) -> None:
    async with opened(postgres_url) as left, opened(postgres_url) as right:
        async with left.job_lock("sweep") as first, right.job_lock("sweep") as second:
            assert (True, False) == (first, second)
        async with right.job_lock("sweep") as second:
            assert second


async def test_writes_at_the_same_time_follow_one_another(database_url: str) -> None:
    async with opened(database_url) as store:
        results = await asyncio.gather(*(store.write(whole_run(of)) for of in range(10)))
        await store.ping()

    assert [9] * 10 == [len(result.new) for result in results]
    assert 10 == len((await dump(database_url))["run"])


async def test_what_is_acknowledged_is_on_disk_before_the_answer(sqlite_url: str, postgres_url: str) -> None:
    async with opened(sqlite_url) as store:
        # Another process may open the file at once, and sees all of it.
        await store.write(whole_run())
        with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as other:
            [journal] = other.execute("PRAGMA journal_mode").fetchone()
            [count] = other.execute("SELECT count(*) FROM span").fetchone()
        other.close()
        assert ("wal", 9) == (journal, count)
    name = postgres_url.rsplit("/", 1)[1]
    postgres.execute(postgres_url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    async with opened(postgres_url) as durable:
        await durable.write(whole_run())
        connection = durable._connection  # type: ignore[attr-defined]  # what the writer's session is set to
        assert "on" == await connection.fetchval("SHOW synchronous_commit")


async def test_a_closed_store_says_so(database_url: str) -> None:
    async with opened(database_url) as store:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.write(whole_run())
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ping()
