"""What only Postgres can do to us: end sessions, lose a race for a day's partition, run out of writer slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from collector.store.dump import dump, fresh, opened
from graphmeter_collector.errors import StartupError, StoreUnavailable
from graphmeter_collector.records import SpanRecord, WriteResult
from graphmeter_collector.store import Store, facts, open_store, partitions
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.postgres import WRITER_LOCKS, WRITER_SLOTS
from support import postgres
from support.records import SECOND, T0_NS, call, record, trace, whole_run

DAY = T0_NS // facts.DAY_NS


@asynccontextmanager
async def session(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def end_all_others(url: str) -> None:
    async with session(url) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def wait_for_lock(url: str) -> None:
    """Until some session waits for a lock."""
    async with session(url) as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        for _ in range(1_000):
            if await connection.fetchval(waiting):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("nobody waits for a lock")


async def test_a_lost_connection_is_said_and_the_next_write_heals_it(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.write(whole_run(1))
        await end_all_others(postgres_url)

        with pytest.raises(StoreUnavailable, match="lost the connection"):
            await store.write(whole_run(2))

        assert 9 == len((await store.write(whole_run(2))).new)
        assert 2 == len((await dump(postgres_url))["run"])


async def test_a_session_ended_in_mid_transaction_leaves_nothing_half_stored(postgres_url: str) -> None:
    async with opened(postgres_url) as store, session(postgres_url) as blocker:
        await store.write(fresh(whole_run(1)))
        before = await dump(postgres_url)
        # The transaction stands still at its last table but one, everything else written.
        await blocker.execute("BEGIN; LOCK TABLE rollup_day")
        writing = asyncio.create_task(store.write(fresh(whole_run(2))))
        await wait_for_lock(postgres_url)
        await blocker.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database()"
        )
        with pytest.raises(StoreUnavailable):
            await writing
        await blocker.execute("ROLLBACK")

        assert before == await dump(postgres_url)
        assert 9 == len((await store.write(fresh(whole_run(2)))).new)


async def test_every_question_heals_after_a_lost_connection(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.write(whole_run(1))
        assert 1 == len(await store.reader.run_counts(0, 1 << 62))
        await end_all_others(postgres_url)

        assert 1 == len(await store.reader.run_counts(0, 1 << 62))
        await store.ping()


async def test_a_server_that_goes_away_and_comes_back(tmp_path: object) -> None:
    binaries = postgres.system_binaries() or postgres.embedded_binaries()
    assert binaries is not None, postgres.HOW_TO_GET_ONE
    with postgres.start(binaries) as server:
        await asyncio.to_thread(migrate, server.url)
        store = await open_store(server.url)
        await store.write(whole_run(1))
        server.stop()
        for attempt in (
            lambda: store.write(whole_run(2)),
            store.ping,
            lambda: store.reader.series(0),
            store.outbox_depth,
        ):
            with pytest.raises(StoreUnavailable):
                await attempt()
        server.restart()

        assert 9 == len((await store.write(whole_run(2))).new)
        assert 1 == len(await store.reader.run_counts(0, 1 << 62))
        await store.close()


async def test_a_deadlock_is_tried_again_and_nobody_hears_of_it(postgres_url: str) -> None:
    async with opened(postgres_url) as store, session(postgres_url) as other:
        await store.write(fresh(whole_run(1)))
        await other.execute("SET deadlock_timeout = '10s'")
        await other.execute("BEGIN")
        await other.execute("LOCK TABLE rollup_hour IN SHARE ROW EXCLUSIVE MODE")
        late = record(40, node="late", at_s=1)
        writing = asyncio.create_task(store.write([late]))
        await wait_for_lock(postgres_url)
        # The writer holds its row of `run` and waits for us; now we wait for its row: it notices first, and gives way.
        await other.execute("UPDATE run SET spans = spans")
        await other.execute("COMMIT")

        assert [late] == (await writing).new
        [run] = (await dump(postgres_url))["run"]
        assert 9 == run["spans"]


async def test_a_partition_that_retention_took_away_is_made_again(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.write(whole_run(1))
        for table in partitions.PARTITIONED:
            postgres.execute(postgres_url, f"DROP TABLE {partitions.partition(table, DAY)}")

        assert 9 == len((await store.write(whole_run(2))).new)


async def test_each_day_has_a_partition_and_readers_do_not_hold_a_new_one_up(postgres_url: str) -> None:
    spans = [record(n, at_s=n * 86_400.0) for n in range(3)]
    async with opened(postgres_url) as store, session(postgres_url) as reader:
        await store.write(spans[:1])
        await reader.execute("BEGIN; SELECT count(*) FROM span")

        await asyncio.wait_for(store.write(spans[1:]), 60)

        await reader.execute("ROLLBACK")
        found = await reader.fetch("SELECT tableoid::regclass::text AS partition FROM span ORDER BY day")
        bodies = await reader.fetch("SELECT tableoid::regclass::text AS partition FROM span_body ORDER BY day")
    assert ["span_p20261118", "span_p20261119", "span_p20261120"] == [row["partition"] for row in found]
    assert ["span_body_p20261118", "span_body_p20261119", "span_body_p20261120"] == [row["partition"] for row in bodies]


async def test_partitions_have_the_keys_and_indexes_of_their_table(postgres_url: str) -> None:
    async with opened(postgres_url) as store, session(postgres_url) as connection:
        await store.write([record(1)])
        indexes = await connection.fetch(
            "SELECT am.amname, i.indisprimary FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_am am ON am.oid = c.relam WHERE i.indrelid = 'span_p20261118'::regclass "
            "AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) ORDER BY 1"
        )
    assert [("brin", False), ("btree", True)] == [tuple(row) for row in indexes]


async def test_many_collectors_that_meet_a_new_day_at_once_agree(postgres_url: str) -> None:
    stores = [await open_store(postgres_url) for _ in range(4)]
    try:
        results = await asyncio.gather(*(store.write([record(n, of=n)]) for n, store in enumerate(stores)))
        assert [1, 1, 1, 1] == [len(result.new) for result in results]
    finally:
        for store in stores:
            await store.close()


async def test_collectors_lease_different_slots_and_give_them_back(postgres_url: str) -> None:
    async def slots() -> list[int]:
        query = "SELECT objid::int FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 ORDER BY 1"
        async with session(postgres_url) as connection:
            database = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            rows = await connection.fetch(query.replace("ORDER", f"AND {database} ORDER"), WRITER_LOCKS)
        return [row[0] for row in rows]

    async with opened(postgres_url) as left:
        async with opened(postgres_url) as right:
            assert [0, 1] == await slots()
            await asyncio.gather(left.write([record(1, node="a")]), right.write([record(2, node="a")]))
        assert [0] == await slots()
        async with session(postgres_url) as connection:
            rows = await connection.fetch("SELECT writer, count FROM rollup_hour ORDER BY writer")
        assert [(0, 1), (1, 1)] == [tuple(row) for row in rows]


async def test_no_slot_left_is_said(postgres_url: str) -> None:
    async with session(postgres_url) as greedy:
        await greedy.execute(
            f"SELECT pg_advisory_lock({WRITER_LOCKS}, n) FROM generate_series(0, {WRITER_SLOTS - 1}) n"
        )
        with pytest.raises(StartupError, match="256 collectors"):
            await open_store(postgres_url)


async def test_an_envelope_that_was_rolled_back_is_written_with_the_next_batch(postgres_url: str) -> None:
    async with opened(postgres_url) as store, session(postgres_url) as blocker:
        await blocker.execute("BEGIN; LOCK TABLE rollup_day")
        writing = asyncio.create_task(store.write(fresh(whole_run(1))))
        await wait_for_lock(postgres_url)
        await end_all_others_but(blocker)
        with pytest.raises(StoreUnavailable):
            await writing
        await blocker.execute("ROLLBACK")

        await store.write(fresh(whole_run(1)), destinations=["jaeger"])

        async with store.outbox_claim("jaeger", 100, 1 << 20) as claim:
            assert 8 == len(claim.items)


async def end_all_others_but(connection: asyncpg.Connection[Any]) -> None:
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_a_cancelled_write_does_not_spoil_the_next(postgres_url: str) -> None:
    async with opened(postgres_url) as store, session(postgres_url) as blocker:
        await blocker.execute("BEGIN; LOCK TABLE rollup_day")
        writing = asyncio.create_task(store.write(fresh(whole_run(1))))
        await wait_for_lock(postgres_url)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await blocker.execute("ROLLBACK")

        # The session may have been lost with it; then the second try has a new one.
        assert 9 == len((await _until_stored(store, fresh(whole_run(1)))).new)


async def _until_stored(store: Store, records: list[SpanRecord]) -> WriteResult:
    try:
        return await store.write(records)
    except StoreUnavailable:
        return await store.write(records)


async def test_two_collectors_bill_a_call_once_also_at_the_same_time(postgres_url: str) -> None:
    def twins(side: int) -> list[SpanRecord]:
        return [call(side * 100 + n, response_id=f"r{n}", nano=10) for n in range(50)]

    async with opened(postgres_url) as left, opened(postgres_url) as right:
        results = await asyncio.gather(left.write(twins(1)), right.write(twins(2)))

    told = [each.cost.status for result in results for each in result.new if each.cost]
    assert (50, 50) == (told.count("priced"), told.count("duplicate"))
    stored = await dump(postgres_url)
    assert 500 == sum(row["cost_nano"] for row in stored["ledger"])
    assert [(500, 50)] == [(row["cost_nano"], row["model_calls"]) for row in stored["run"]]
    assert [(500, 50)] == [(row["cost_nano"], row["count"]) for row in stored["rollup_day"]]
    assert 500 == sum(row["cost_nano"] for row in stored["span"])


async def test_an_unmigrated_database_is_refused_with_the_remedy(empty_postgres_url: str) -> None:
    with pytest.raises(StartupError, match="has no tables yet: run `graphmeter migrate`"):
        await open_store(empty_postgres_url)


async def test_times_survive_exactly(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.write([record(1, start_ns=T0_NS + 1, end_ns=T0_NS + 3 * SECOND + 7)])
        [row] = await store.reader.spans(trace(1).hex())

    assert (T0_NS + 1, 3 * SECOND + 6) == (row.start_ns, row.duration_ns)
