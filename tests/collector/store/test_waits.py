"""Human waits, on both databases: which run of a thread ended which wait, in whatever order the two were stored."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from collector.store.dump import dump, fresh, opened
from graphmeter import names
from graphmeter_collector.records import SpanRecord, Waited
from graphmeter_collector.reports import Unended
from graphmeter_collector.store import Store, waits
from support.records import SECOND, T0_NS, note, record, trace

NOW = T0_NS + 86_400 * SECOND
BASE = ("shop", "test", "support", "cx")


def run_id(of: int) -> str:
    return f"00000000-0000-0000-0000-{of:012d}"


def root(of: int, at_s: float, s: float = 2.0, *, paused: str = "", resumes: str = "", **facts: Any) -> SpanRecord:
    """Run `of` of thread t1; `paused` and `resumes` are checkpoints."""
    status = names.INTERRUPTED if paused else names.OK
    said: dict[str, Any] = {"thread_id": "t1", "status": status, "checkpoint_id": paused, "resumed_from": resumes}
    return record(1, of=of, kind=names.RUN, at_s=at_s, s=s, **{**said, **facts})


def begun(of: int, at_s: float, **facts: Any) -> SpanRecord:
    return note(9, names.START, of=of, at_s=at_s, **{"thread_id": "t1", "status": names.RUNNING, **facts})


async def ends(url: str) -> list[tuple[str, int | None, str, bool | None]]:
    """Waits by run: since when it is over (seconds into the test), by which run, and whether that resumed it."""
    rows = sorted((await dump(url))["wait"], key=lambda row: str(row["run_id"]))
    return [
        (
            row["run_id"][-1],
            None if row["until_ns"] is None else (row["until_ns"] - T0_NS) // SECOND,
            row["next_run_id"][-1:],
            row["resumed"],
        )
        for row in rows
    ]


def seconds(answers: Sequence[Waited]) -> list[int]:
    return sorted(answer.wait_ns // SECOND for answer in answers)


async def test_a_wait_is_open_until_somebody_resumes_the_run(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([begun(1, 0), root(1, 0, paused="c1")])
        assert [] == await store.end_waits(NOW)
        assert {BASE: Unended(1, T0_NS + 2 * SECOND)} == await store.runs_waiting(NOW)
        [row] = (await dump(database_url))["wait"]
        expected = {"trace_id": trace(1), "thread_id": "t1", "checkpoint_id": "c1", "since_ns": T0_NS + 2 * SECOND}
        assert expected == {name: row[name] for name in expected}

        # Who has begun to go on is not waited for, though only the end will say from where.
        await store.write([begun(2, 10_802)])
        assert [] == await store.end_waits(NOW)
        assert {} == await store.runs_waiting(NOW)
        await store.write([root(2, 10_802, resumes="c1")])
        assert [Waited(*BASE, 10_800 * SECOND)] == await store.end_waits(NOW)
        assert [] == await store.end_waits(NOW)

    assert [("1", 10_802, "2", True)] == await ends(database_url)


async def test_a_resume_that_is_stored_before_the_interrupted_run(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([begun(2, 60), root(2, 60, resumes="c1", service="worker")])
        assert [] == await store.end_waits(NOW)
        await store.write([root(1, 0, paused="c1")])
        assert [58] == seconds(await store.end_waits(NOW))

    assert [("1", 60, "2", True)] == await ends(database_url)


async def test_new_input_leaves_the_question_and_is_no_answer(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([root(1, 0, paused="c1"), root(2, 10), root(3, 20, resumes="c1")])
        assert [] == await store.end_waits(NOW)
        assert {} == await store.runs_waiting(NOW)

    assert [("1", 10, "2", False)] == await ends(database_url)


async def test_questions_of_one_checkpoint_that_are_answered_one_by_one(database_url: str) -> None:
    orders = list(itertools.permutations(range(4)))
    async with opened(database_url) as store:
        for number, order in enumerate(orders):
            thread: dict[str, Any] = {"thread_id": f"t{number}"}
            asked = [
                root(number * 10 + 1, 0, paused="c1", **thread),
                root(number * 10 + 2, 10, paused="c1", resumes="c1", **thread),
                root(number * 10 + 3, 100, resumes="c1", **thread),
                # Answered again, later: it waited only for the first answer.
                root(number * 10 + 4, 500, resumes="c1", **thread),
            ]
            for index in order:
                await store.write([asked[index]])
        assert sorted([8, 88] * len(orders)) == seconds(await store.end_waits(NOW))

    assert {("1", 10, "2", True), ("2", 100, "3", True)} == set(await ends(database_url))


async def test_other_threads_graphs_and_environments_are_other_waits(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(
            [
                root(1, 0, paused="c1"),
                root(2, 10, resumes="c9", thread_id="t2"),
                root(3, 10, resumes="c9", graph="other"),
                root(4, 10, resumes="c9", environment="other"),
                root(5, 10, resumes="c9", thread_id=""),
                root(6, 0, paused="c2", thread_id=""),
                record(7, of=7, at_s=5, thread_id="t1", graph="other"),
            ]
        )
        assert [] == await store.end_waits(NOW)
        assert {BASE: Unended(1, T0_NS + 2 * SECOND)} == await store.runs_waiting(NOW)

    assert [("1", None, "", None)] == await ends(database_url)


async def test_an_edited_state_and_a_langgraph_that_tells_nothing_are_resumes_all_the_same(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write([root(1, 0, paused="c1"), root(2, 10, resumes="c2", thread_id="t1")])
        silent: dict[str, Any] = {"thread_id": "t2"}
        await store.write(
            [
                root(3, 0, paused="", status=names.INTERRUPTED, **silent),
                root(4, 20, resumes=names.LATEST_CHECKPOINT, **silent),
            ]
        )
        assert [8, 18] == seconds(await store.end_waits(NOW))


async def test_who_was_asked_a_month_ago_is_not_waited_for(database_url: str) -> None:
    late = T0_NS + 2 * SECOND + waits.LONGEST_NS
    async with opened(database_url) as store:
        await store.write([root(1, 0, paused="c1")])
        assert {BASE: Unended(1, T0_NS + 2 * SECOND)} == await store.runs_waiting(late)
        assert {} == await store.runs_waiting(late + 1)


async def test_an_answer_is_counted_by_one_of_two_collectors(postgres_url: str) -> None:
    async with opened(postgres_url) as left, opened(postgres_url) as right:
        await left.write([root(1, 0, paused="c1")])
        await right.write([root(2, 60, resumes="c1")])
        both = await asyncio.gather(left.end_waits(NOW), right.end_waits(NOW))

    assert [58] == seconds([answer for answers in both for answer in answers])


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_and_grouping_gives_the_same_waits(database_url: str, seed: int) -> None:
    luck = random.Random(seed)
    spans = [
        *(begun(of, at_s) for of, at_s in ((1, 0), (2, 10), (3, 20), (4, 30))),
        root(1, 0, paused="c1"),
        root(2, 10, paused="c2", resumes="c1"),
        root(3, 20, paused="c3"),
        root(4, 30, resumes="c3"),
        record(5, of=2, at_s=11, thread_id="t1"),
    ]
    luck.shuffle(spans)

    async def send(store: Store, given: list[SpanRecord]) -> None:
        while given:
            size = luck.randint(1, 4)
            await store.write(fresh(given[:size]))
            given = given[size:]

    async with opened(database_url) as store:
        await send(store, [*spans, *luck.sample(spans, 4)])
        assert [8, 8] == seconds(await store.end_waits(NOW))

    assert [("1", 10, "2", True), ("2", 20, "3", False), ("3", 30, "4", True)] == await ends(database_url)
