"""What reports say beside the runs themselves, on both databases: outcomes, late tags, who waited for whom, clients."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from collector.store.dump import fresh, opened
from graphmeter import names
from graphmeter_collector.reports import OutcomeRow, RunFilter, RunRow, WaitRow
from graphmeter_collector.store import Store, details
from support.records import SECOND, T0_NS, answered, note, record, report, topology, whole_run

ASKED, ANSWERED = (f"00000000-0000-0000-0000-{of:012d}" for of in (51, 52))
WAIT_NS = 10_800 * SECOND


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url) as opened_store:
        await opened_store.write(fresh([*whole_run(1), *answered()]))
        yield opened_store


async def of(store: Store, run_id: str) -> RunRow:
    found = await store.reader.run(run_id)
    assert found is not None
    return found


async def test_a_run_knows_its_outcomes_and_the_tags_that_came_late(store: Store) -> None:
    row = await of(store, ANSWERED)

    assert (
        OutcomeRow("resolved", True, None, T0_NS + 20_000 * SECOND),
        OutcomeRow("csat", None, 4.5, T0_NS + 20_001 * SECOND),
    ) == row.outcomes
    assert {"plan": "gold", "late": "yes"} == row.tags


@pytest.mark.parametrize("written_down", [False, True], ids=["before the job", "after the job"])
async def test_who_resumed_whom_is_known_at_once(store: Store, written_down: bool) -> None:
    if written_down:
        await store.end_waits(T0_NS + 86_400 * SECOND)
    asked, answer = await of(store, ASKED), await of(store, ANSWERED)

    assert WaitRow(T0_NS + 102 * SECOND, T0_NS + 10_902 * SECOND, ANSWERED, True) == asked.wait
    assert ("c1", ASKED, WAIT_NS, None) == (
        answer.resumed_from,
        answer.resumed_run_id,
        answer.resumed_after_ns,
        answer.wait,
    )


async def test_a_question_that_nobody_has_answered_waits(store: Store) -> None:
    root: dict[str, Any] = {"kind": names.RUN, "status": names.INTERRUPTED, "thread_id": "t9"}
    await store.write([record(1, of=9, **root)])
    row = await of(store, "00000000-0000-0000-0000-000000000009")
    assert WaitRow(T0_NS + SECOND, None, "", None) == row.wait

    # A run that has begun may be the answer.
    await store.write([note(9, names.START, of=8, at_s=60, thread_id="t9", status=names.RUNNING)])
    row = await of(store, "00000000-0000-0000-0000-000000000009")
    assert WaitRow(T0_NS + SECOND, T0_NS + 60 * SECOND, "00000000-0000-0000-0000-000000000008", None) == row.wait


async def test_what_the_client_says_it_resumes_wins_and_a_second_answer_names_the_same_run(store: Store) -> None:
    again: dict[str, Any] = {"kind": names.RUN, "thread_id": "chat-1", "resumed_from": "c1"}
    edited = {**again, "resumed_from": "c7", "resumed_run_id": ASKED}
    await store.write([record(1, of=53, at_s=30_000, **again), record(1, of=54, at_s=40_000, **edited)])

    for number, at_s in ((53, 30_000), (54, 40_000)):
        row = await of(store, f"00000000-0000-0000-0000-{number:012d}")
        assert (ASKED, (at_s - 102) * SECOND) == (row.resumed_run_id, row.resumed_after_ns)


async def test_lists_say_the_same_however_many_runs_they_hold(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = await store.reader.runs(RunFilter())
    monkeypatch.setattr(details, "_AT_ONCE", 1)

    assert [ANSWERED, ASKED] == [row.run_id for row in rows[:2]]
    assert [await of(store, row.run_id) for row in rows] == rows == await store.reader.runs(RunFilter())


async def test_shapes_of_a_graph_the_last_one_first(store: Store) -> None:
    await store.write(
        [note(7, names.TOPOLOGY, of=51, at_s=500, said=topology("__start__", "approve", "act", "__end__"))]
    )
    new, old = await store.reader.topologies("support")

    assert (4, 3) == (len(new.topology["nodes"]), len(old.topology["nodes"]))
    assert json.loads(topology("__start__", "approve", "__end__").json) == old.topology
    assert ("shop", T0_NS + 100 * SECOND) == (old.service, old.first_ns)
    assert [] == await store.reader.topologies("none")


async def test_clients_that_lose_most_come_first(store: Store) -> None:
    await store.write(
        [report(1, of=2, at_s=50, failed=9), report(1, of=3, at_s=50), report(1, of=4, at_s=-50, dropped=99)]
    )

    found = await store.reader.clients(T0_NS)
    assert [(2, 9), (1, 1), (3, 0)] == [(int(row.client_id, 16), row.dropped + row.failed) for row in found]
