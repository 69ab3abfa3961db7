"""How much room tables take: every table of ours, its indexes and days; and how much of it a run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace

import pytest
from sqlalchemy import RowMapping, TextualSelect, text

from collector.store.dump import opened
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import facts, sizes, tables
from graphmeter_collector.store.engine import parse, sqlite_path
from graphmeter_collector.store.read import open_reader
from support import postgres
from support.records import T0_NS, whole_run

TODAY = T0_NS // facts.DAY_NS
DAY_S = 86_400


async def test_every_table_has_a_size_and_days_belong_to_their_table(database_url: str) -> None:
    async with opened(database_url) as store:
        empty = await store.table_bytes()
        await store.write([record for age in range(3) for record in whole_run(age + 1, at_s=-float(age * DAY_S))])
        filled = await store.table_bytes()
    assert set(tables.metadata.tables) <= set(filled)
    assert not [name for name in filled if "_p20" in name]
    assert filled["span"] > empty["span"] or "sqlite" in database_url  # there a page may have room


async def test_ended_runs_are_counted_by_the_day_of_their_start(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(
            [record for number, age in enumerate((0, 0, 2), 1) for record in whole_run(number, at_s=-age * DAY_S)]
        )
        assert {TODAY: 2, TODAY - 2: 1} == await store.ended_runs()


async def test_on_sqlite_they_add_up_to_the_file(sqlite_url: str) -> None:
    async with opened(sqlite_url) as store:
        await store.write(whole_run(1))
    # Closed, so that nothing is left in the write-ahead log.
    async with opened(sqlite_url) as store:
        size = sqlite_path(parse(sqlite_url)).stat().st_size
        assert size == sum((await store.table_bytes()).values())
    async with open_reader(sqlite_url) as reader:

        async def rows(statement: TextualSelect) -> Sequence[RowMapping]:
            # As a SQLite answers that was built without what tells sizes of tables.
            return await reader.rows(text("SELECT 0 AS can").columns() if "dbstat" in str(statement) else statement)

        assert {sizes.WHOLE: size} == await sizes.of_sqlite(rows)


async def test_sqlite_is_asked_for_one_tree_after_another_with_a_rest_after_each(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    clock = count()
    monkeypatch.setattr(sizes, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(sizes, "asyncio", SimpleNamespace(sleep=rest))
    async with opened(sqlite_url) as store:
        await store.table_bytes(7.0)
    assert {7.0} == set(rests)
    assert len(rests) > len(tables.metadata.tables)  # indexes have rests of their own


async def test_on_postgres_they_are_what_the_server_says(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.write(whole_run(1))
        found = await store.table_bytes()
    parts = "SELECT sum(pg_total_relation_size(relid)) AS bytes FROM pg_partition_tree('span')"
    assert postgres.execute(postgres_url, parts)[0]["bytes"] == found["span"]
    assert postgres.execute(postgres_url, "SELECT pg_total_relation_size('run') AS bytes")[0]["bytes"] == found["run"]


def test_a_run_is_charged_to_the_tables_that_still_hold_something_of_it() -> None:
    runs = {TODAY: 10, TODAY - 5: 20, TODAY - 100: 70}
    table_bytes = {"span": 3000, "span_body": 1000, "run": 1000, "ledger": 60, "api_key": 5}
    kept = Cutoffs(spans_day=TODAY - 31, bodies_day=TODAY - 1, ledger_ns=(TODAY - 50) * facts.DAY_NS)
    assert {"span": 100.0, "span_body": 100.0, "run": 10.0, "ledger": 2.0} == sizes.per_run(table_bytes, runs, kept)
    assert {} == sizes.per_run(table_bytes, {}, kept)
