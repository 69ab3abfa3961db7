"""Old spans go, day by day; what money and history need stays."""

from __future__ import annotations

import pytest

from collector.store.dump import dump, opened
from graphmeter import names
from graphmeter_collector.records import Outcome, SpanRecord
from graphmeter_collector.reports import Decision, RunFilter
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import expiry, facts, partitions
from graphmeter_collector.store.read import open_reader
from support import postgres
from support.records import T0_NS, note, report, trace, whole_run

TODAY = T0_NS // facts.DAY_NS
DAY_S = 86_400
ALL_NS = (TODAY - 4) * facts.DAY_NS
"""Runs and calls from before it go where a test says so."""


def _runs() -> list[SpanRecord]:
    """One run on each of ten days, the last one today; a client that was heard of then, and one that is."""
    runs = [record for age in range(10) for record in whole_run(age + 1, at_s=-float(age * DAY_S))]
    return [*runs, report(1, of=1, at_s=-9.0 * DAY_S), report(1, of=2)]


async def test_spans_and_bodies_of_earlier_days_go_and_everything_else_stays(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(_runs(), destinations=["jaeger"])
        before = await dump(database_url)
        at = [(TODAY - age) * facts.DAY_NS for age in (3, 4)]
        await store.decide([Decision(trace(number), True, "share", "", ns) for number, ns in enumerate(at)], [], [])
        expired = await store.outbox_expire(TODAY - 2)
        gone = await store.retain(Cutoffs(TODAY - 5, TODAY - 2))
        assert 0 == gone.pop("outbox")
        after = await dump(database_url)

        assert {record["day"] for record in after["span"]} == set(range(TODAY - 5, TODAY + 1))
        assert {record["day"] for record in after["span_body"]} == set(range(TODAY - 2, TODAY + 1))
        assert await store.outbox_depth() == {"jaeger": len(after["span_body"])}
        assert {"jaeger": len(before["span_body"]) - len(after["span_body"])} == expired
        assert [trace(0)] == [row["trace_id"] for row in after["trace_decision"]]
        for table in ("run", "run_node", "ledger", "rollup_hour", "rollup_day"):
            assert after[table] == before[table]
        assert min(gone.values()) > 0
        assert ["2"] == [row["client_id"].lstrip("0") for row in after["client_report"]]
        assert len(await store.reader.runs(RunFilter())) == 10


async def test_what_would_go_is_counted_before(database_url: str) -> None:
    async with opened(database_url) as store, open_reader(database_url) as reader:
        await store.write(_runs(), destinations=["jaeger"])
        before = await dump(database_url)
        kept = Cutoffs(TODAY - 5, TODAY - 2, ALL_NS, ALL_NS, TODAY - 3)
        due = await reader.due(kept)
        assert before == await dump(database_url)

        await store.retain(kept)
        after = await dump(database_url)
        # One row for what was committed together of a trace.
        expired = {row["trace_id"] for row in before["span_body"]} - {row["trace_id"] for row in after["span_body"]}
        assert {"outbox": len(expired)} | {
            table: len(before[table]) - len(after[table]) for table in due.keys() & before
        } == due
        assert 0 < min(due[table] for table in ("span", "span_body", "run", "run_node", "ledger", "rollup_day"))


async def test_runs_ledger_and_rollups_go_when_they_are_told_to(database_url: str) -> None:
    async with opened(database_url) as store:
        told = [
            note(700 + run, names.OUTCOME, of=run, said=Outcome("resolved", True, None), at_s=-float((run - 1) * DAY_S))
            for run in (9, 1)
        ]
        await store.write([*_runs(), *told])
        await store.retain(Cutoffs(TODAY - 5, TODAY - 5, ALL_NS, ALL_NS, TODAY - 3))
        after = await dump(database_url)

    assert min(row["started_ns"] for row in after["run"]) >= ALL_NS
    assert {row["run_id"] for row in after["run_node"]} == {row["run_id"] for row in after["run"]}
    assert min(row["start_ns"] for row in after["ledger"]) >= ALL_NS
    assert TODAY - 3 == min(row["day"] for row in after["rollup_day"])
    assert (TODAY - 3) * 24 <= min(row["hour"] for row in after["rollup_hour"])
    assert 1 == len(after["outcome"])


async def test_more_rows_than_one_step_deletes_all_go(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "OLD_RUNS", expiry.OLD_RUNS.replace(str(expiry.AT_ONCE), "2"))
    monkeypatch.setattr(expiry, "AT_ONCE", 2)
    async with opened(database_url) as store:
        await store.write(_runs())
        gone = await store.retain(Cutoffs(TODAY + 1, TODAY + 1, (TODAY + 1) * facts.DAY_NS, (TODAY + 1) * facts.DAY_NS))
        after = await dump(database_url)

    assert 10 == gone["run"]
    assert [] == after["run"] == after["run_node"] == after["ledger"] == after["span"]


async def test_retention_twice_deletes_nothing_more(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(_runs(), destinations=["jaeger"])
        await store.retain(Cutoffs(TODAY - 5, TODAY - 2))

        assert {} == await store.outbox_expire(TODAY - 2)
        assert set((await store.retain(Cutoffs(TODAY - 5, TODAY - 2))).values()) == {0}


async def test_a_day_that_was_dropped_can_be_written_again(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(_runs())
        await store.retain(Cutoffs(TODAY + 1, TODAY + 1))
        late = whole_run(99)
        result = await store.write(late)

        assert len(result.new) == len(late)


async def test_only_partitions_of_our_making_are_dropped(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.write(_runs())
        for statement in (
            "CREATE TABLE span_attic PARTITION OF span FOR VALUES FROM (1) TO (2)",
            "CREATE TABLE span_p20200101 (note text)",
        ):
            postgres.execute(postgres_url, statement)
        await store.retain(Cutoffs(TODAY, TODAY))

        left = {row["relname"] for row in postgres.execute(postgres_url, "SELECT relname FROM pg_class")}
        assert {"span_attic", "span_p20200101", partitions.partition("span", TODAY)} <= left
        assert partitions.partition("span", TODAY - 1) not in left
