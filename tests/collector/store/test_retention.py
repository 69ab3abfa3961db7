"""Old spans go, day by day; what money and history need stays."""

from __future__ import annotations

from collector.store.dump import dump, opened
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import RunFilter
from graphmeter_collector.store import facts, partitions
from support import postgres
from support.records import T0_NS, report, whole_run

TODAY = T0_NS // facts.DAY_NS
DAY_S = 86_400


def _runs() -> list[SpanRecord]:
    """One run on each of ten days, the last one today; a client that was heard of then, and one that is."""
    runs = [record for age in range(10) for record in whole_run(age + 1, at_s=-float(age * DAY_S))]
    return [*runs, report(1, of=1, at_s=-9.0 * DAY_S), report(1, of=2)]


async def test_spans_and_bodies_of_earlier_days_go_and_everything_else_stays(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(_runs(), destinations=["jaeger"])
        before = await dump(database_url)
        gone = await store.retain(TODAY - 5, TODAY - 2)
        after = await dump(database_url)

        assert {record["day"] for record in after["span"]} == set(range(TODAY - 5, TODAY + 1))
        assert {record["day"] for record in after["span_body"]} == set(range(TODAY - 2, TODAY + 1))
        assert await store.outbox_depth() == {"jaeger": len(after["span_body"])}
        for table in ("run", "run_node", "ledger", "rollup_hour", "rollup_day"):
            assert after[table] == before[table]
        assert min(gone.values()) > 0
        assert ["2"] == [row["client_id"].lstrip("0") for row in after["client_report"]]
        assert len(await store.reader.runs(RunFilter())) == 10


async def test_retention_twice_deletes_nothing_more(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(_runs())
        await store.retain(TODAY - 5, TODAY - 2)

        assert set((await store.retain(TODAY - 5, TODAY - 2)).values()) == {0}


async def test_a_day_that_was_dropped_can_be_written_again(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(_runs())
        await store.retain(TODAY + 1, TODAY + 1)
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
        await store.retain(TODAY, TODAY)

        left = {row["relname"] for row in postgres.execute(postgres_url, "SELECT relname FROM pg_class")}
        assert {"span_attic", "span_p20200101", partitions.partition("span", TODAY)} <= left
        assert partitions.partition("span", TODAY - 1) not in left
