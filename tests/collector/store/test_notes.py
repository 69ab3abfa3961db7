"""What clients say besides spans, on both databases: kept where it belongs, once, whatever is sent, nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from collector.store.dump import dump, fresh, opened
from graphmeter import names
from graphmeter_collector.records import ClientChange, Outcome, SpanRecord
from support.records import SECOND, T0_NS, note, record, report, span_id, topology, trace, whole_run

RUN_1 = "00000000-0000-0000-0000-000000000001"
LOST_AFTER = 600 * SECOND


def outcome(number: int, kind: str = "resolved", good: bool | None = True, **facts: Any) -> SpanRecord:
    return note(number, names.OUTCOME, said=Outcome(kind, good, 4.5), **facts)


def notes() -> list[SpanRecord]:
    return [
        note(100, names.HEARTBEAT, at_s=1.0),
        outcome(101, at_s=7_200.0),
        note(102, names.TAGS, at_s=7_200.0, tags={"intent": "refund", "late": "yes"}),
        note(103, names.TOPOLOGY, said=topology("__start__", "plan", "answer", "__end__")),
        report(1, exported=9),
    ]


async def test_notes_are_kept_in_tables_of_their_own_and_nowhere_else(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(fresh(whole_run()), destinations=["jaeger"])
        before = await dump(database_url)
        depth = await store.outbox_depth()
        result = await store.write(notes(), destinations=["jaeger"])

        assert depth == await store.outbox_depth()
        assert len(await store.reader.spans(trace(1).hex())) == 8
    after = await dump(database_url)
    changed = {table for table in after if after[table] != before[table]}
    assert {"outcome", "run_tag", "graph_topology", "client_report"} == changed
    # Of the notes only the outcome is told from its copies, and counted.
    assert ([names.OUTCOME], 4, 0) == ([each.kind for each in result.new], result.merged, result.duplicates)
    assert [ClientChange("shop", "test", 9, 0, 0)] == result.clients
    [said] = after["outcome"]
    expected = {
        "trace_id": trace(1),
        "span_id": span_id(101),
        "run_id": RUN_1,
        "kind": "resolved",
        "good": True,
        "value": 4.5,
        "at_ns": T0_NS + 7_200 * SECOND,
        "service": "shop",
        "environment": "test",
        "graph": "support",
        "team": "cx",
    }
    assert expected == said
    assert [("intent", "refund"), ("late", "yes")] == [(row["name"], row["value"]) for row in after["run_tag"]]


async def test_notes_that_come_again_change_nothing_and_are_not_counted_again(database_url: str) -> None:
    everything = [*whole_run(), *notes()]
    async with opened(database_url) as store:
        await store.write(fresh(everything))
        once = await dump(database_url)
        again = await store.write(fresh([*everything, *everything]))

    assert ([], [], []) == (again.new, again.clients, again.finished)
    assert (20, 8) == (again.duplicates, again.merged)
    assert once == await dump(database_url)


async def test_notes_alone_make_no_run_but_a_heartbeat_does(database_url: str) -> None:
    heartbeat, *others = notes()
    async with opened(database_url) as store:
        await store.write(others)
        assert [] == (await dump(database_url))["run"]
        await store.write([heartbeat])

    [run] = (await dump(database_url))["run"]
    assert (names.RUNNING, 0, T0_NS + SECOND) == (run["status"], run["spans"], run["last_seen_ns"])
    assert [] == (await dump(database_url))["span"]


@pytest.mark.parametrize("backwards", [False, True])
async def test_the_tag_said_last_stands(database_url: str, backwards: bool) -> None:
    said = [
        note(1, names.TAGS, at_s=1.0, tags={"plan": "gold", "a": "1"}),
        note(2, names.TAGS, at_s=3.0, tags={"plan": "Zinc"}),
        note(3, names.TAGS, at_s=3.0, tags={"plan": "iron"}),
        note(4, names.TAGS, at_s=2.0, tags={"plan": "tin"}),
    ]
    async with opened(database_url) as store:
        for each in reversed(said) if backwards else said:
            await store.write([each])

    assert [("a", "1"), ("plan", "iron")] == [
        (row["name"], row["value"]) for row in (await dump(database_url))["run_tag"]
    ]


async def test_an_outcome_told_by_another_process_is_counted_for_the_graph_of_its_run(database_url: str) -> None:
    elsewhere: dict[str, Any] = {"service": "feedback", "environment": "", "graph": "", "team": ""}
    async with opened(database_url) as store:
        await store.write(fresh(whole_run()))
        result = await store.write([outcome(101, **elsewhere), outcome(102, of=77, **elsewhere)])

    [known] = [each for each in result.new if each.trace_id == trace(1)]
    [unknown] = [each for each in result.new if each.trace_id == trace(77)]
    assert ("shop", "test", "support", "cx") == (known.service, known.environment, known.graph, known.team)
    assert ("feedback", "") == (unknown.service, unknown.graph)
    # What was said stays as it was said.
    assert {"feedback"} == {row["service"] for row in (await dump(database_url))["outcome"]}


async def test_an_outcome_counts_for_the_team_of_its_callers_key_whoever_owns_the_run(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(fresh(whole_run()))
        told = outcome(101, graph="", team="finance", team_bound=True)
        [counted] = (await store.write([told])).new
    assert ("support", "finance") == (counted.graph, counted.team)


async def test_the_newest_report_of_a_client_stands_and_only_what_it_adds_is_counted(database_url: str) -> None:
    def counts(changes: Sequence[ClientChange]) -> list[tuple[int, int, int]]:
        return [change[2:] for change in changes]

    first, second, third = (
        report(1, exported=10),
        report(2, exported=15, dropped=3),
        report(3, exported=20, dropped=3, failed=1, queued=4, faults=2, open_runs=1),
    )
    async with opened(database_url) as store:
        assert [(10, 0, 0)] == counts((await store.write([first])).clients)
        assert [(10, 3, 1)] == counts((await store.write([third, second])).clients)
        assert [] == (await store.write([second, first, third])).clients
    # Another collector, or this one after a restart, counts from what is stored.
    async with opened(database_url) as store:
        assert [(5, 0, 0)] == counts((await store.write([report(4, exported=25, dropped=1, failed=1)])).clients)
        assert [(7, 0, 0)] == counts((await store.write([report(1, of=2, exported=7)])).clients)

    client, other = (await dump(database_url))["client_report"]
    assert (4, 25, 1, 1, 0) == tuple(client[name] for name in ("sequence", "exported", "dropped", "failed", "queued"))
    assert 7 == other["exported"]


async def test_a_topology_is_one_row_per_shape_with_the_first_and_last_time(database_url: str) -> None:
    old, new = topology("__start__", "plan", "__end__"), topology("__start__", "plan", "act", "__end__")
    said = [(3.0, old), (1.0, old), (9.0, new), (2.0, old)]
    async with opened(database_url) as store:
        for number, (at_s, shape) in enumerate(said):
            await store.write([note(number, names.TOPOLOGY, of=number, at_s=at_s, said=shape)])

    found = {row["json"]: row for row in (await dump(database_url))["graph_topology"]}
    assert {old.json: (1, 3), new.json: (9, 9)} == {
        text: tuple((row[name] - T0_NS) // SECOND for name in ("first_ns", "last_ns")) for text, row in found.items()
    }


async def test_a_run_that_promised_heartbeats_is_lost_after_ten_of_them(database_url: str) -> None:
    promised = note(1, names.START, status=names.RUNNING, heartbeat_ns=SECOND)
    silent = note(1, names.START, of=2, status=names.RUNNING)
    slow = note(1, names.START, of=3, status=names.RUNNING, heartbeat_ns=100 * SECOND)
    async with opened(database_url) as store:
        await store.write([promised, silent, slow])
        await store.write([note(2, names.HEARTBEAT, at_s=5.0), record(3, at_s=5.0, s=2.0)])

        assert [] == await store.mark_lost(T0_NS + 17 * SECOND, LOST_AFTER)
        assert [RUN_1] == [lost.run_id for lost in await store.mark_lost(T0_NS + 17 * SECOND + 1, LOST_AFTER)]
        assert 2 == len(await store.mark_lost(T0_NS + LOST_AFTER + 1, LOST_AFTER))


async def test_an_outcome_is_no_sign_of_life(database_url: str) -> None:
    start = note(1, names.START, status=names.RUNNING)
    async with opened(database_url) as store:
        await store.write([start])
        await store.write(fresh(notes()[1:]))

        assert 1 == len(await store.mark_lost(T0_NS + LOST_AFTER + 1, LOST_AFTER))


async def test_a_note_that_the_database_refuses_is_rejected_alone(database_url: str) -> None:
    bad = outcome(105, kind="\ud800")
    async with opened(database_url) as store:
        result = await store.write([*notes(), bad, *whole_run()])

    assert [bad] == [refused for refused, _ in result.rejected]
    assert (10, 4) == (len(result.new), result.merged)
