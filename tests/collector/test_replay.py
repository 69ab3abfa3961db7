"""A whole collector whose Postgres goes away and comes back: acknowledged from disk, replayed, no false alarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from collector.served import Served, configured, served
from collector.store.dump import dump
from collector.waiting import until, until_true
from graphmeter import names
from graphmeter_collector import pipeline, replay
from graphmeter_collector.errors import DatabaseAway, StartupError, StoreUnavailable
from graphmeter_collector.records import Caller
from graphmeter_collector.store.batch import delivered
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.postgres import PostgresStore
from support import otlp, postgres
from support.full_disk import no_file_larger_than
from support.records import SECOND, span_id, trace

DAY = 86_400 * SECOND


@pytest.fixture(scope="module")
def own_server() -> Iterator[postgres.Server]:
    """A server that tests may stop."""
    binaries = postgres.system_binaries() or postgres.embedded_binaries()
    assert binaries is not None, postgres.HOW_TO_GET_ONE
    with postgres.start(binaries) as server:
        yield server


@pytest.fixture
def url(own_server: postgres.Server) -> Iterator[str]:
    """A fresh, migrated database on it."""
    own_server.restart()
    url = own_server.create()
    migrate(url)
    yield url
    own_server.restart()
    own_server.drop(url)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ASK_EVERY_S", 0.05)


@asynccontextmanager
async def collecting(url: str, folder: Path, **settings: Any) -> AsyncIterator[Served]:
    async with served(url, data_dir=folder, **{"allow_anonymous": True, **settings}) as it:
        yield it


def run(number: int) -> list[Any]:
    return otlp.run(number, start_ns=time.time_ns() - 5 * SECOND)


async def send(it: Served, *numbers: int) -> list[int]:
    answers = await asyncio.gather(*(it.send(*run(number)) for number in numbers))
    return [answer.status_code for answer in answers]


def waits(it: Served) -> bool:
    """Whether the outage is not over yet for this collector."""
    assert it.collector.spool is not None
    assert it.collector.replay is not None
    return not it.collector.spool.empty or it.collector.pipeline.away or it.collector.replay.replaying


async def test_senders_hear_nothing_of_an_outage_and_every_span_is_there_once_afterwards(
    own_server: postgres.Server, url: str, tmp_path: Path, sqlite_url: str
) -> None:
    requests = [otlp.request(*run(number)).SerializeToString() for number in range(1, 61)]

    async def deliver(to: Served, bodies: list[bytes]) -> set[int]:
        how = {"content-type": otlp.PROTOBUF}
        answers = await asyncio.gather(*(to.http.post("/v1/traces", content=body, headers=how) for body in bodies))
        return {answer.status_code for answer in answers}

    async with collecting(url, tmp_path) as it:
        assert {200} == await deliver(it, requests[:20])
        under_load = asyncio.create_task(deliver(it, requests[10:30]))
        await asyncio.to_thread(own_server.stop)
        assert {200} == await under_load
        assert {200} == await deliver(it, requests[30:50])
        shown = await it.scrape()
        assert (200, 1) == ((await it.http.get("/ready")).status_code, shown["graphmeter_collector_database_away"])
        assert shown["graphmeter_collector_spool_bytes"] > 0
        assert shown["graphmeter_collector_spool_oldest_seconds"] > 0

        await asyncio.to_thread(own_server.restart)
        assert {200} == await deliver(it, requests[50:])
        await until(lambda: not waits(it))
        shown = await it.scrape()
        assert (0, 0, 0) == tuple(
            shown[f"graphmeter_collector_{name}"] for name in ("database_away", "spool_bytes", "replaying")
        )
        assert 60 == it.collector.metrics.value(names.RUNS, "shop", "test", "support", "cx", names.OK)
    async with served(sqlite_url) as calm:
        assert {200} == await deliver(calm, requests)

    assert await dump(sqlite_url) == await dump(url)


async def test_a_database_that_hangs_counts_as_away(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "SPOOL_AFTER_S", 0.2)
    async with collecting(url, tmp_path) as it:
        holder = await asyncpg.connect(url)
        try:
            await holder.execute("BEGIN")
            await holder.execute("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")
            assert [200, 200] == await send(it, 1, 2)
            assert it.collector.pipeline.away
        finally:
            await holder.close()
        await until(lambda: not waits(it))
        assert 2 == len(await it.get("/api/runs"))


async def test_replay_judges_and_prices_as_of_then(
    own_server: postgres.Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was just within retention when it came is not too old when it is replayed."""
    then = time.time_ns() - 10 * DAY
    almost_too_old = otlp.run(1, start_ns=then - 30 * DAY)
    async with collecting(url, tmp_path) as it:
        await asyncio.to_thread(own_server.stop)
        with monkeypatch.context() as past:
            past.setattr(time, "time_ns", lambda: then)
            answer = await it.send(*almost_too_old)
            assert (200, b"") == (answer.status_code, answer.content)
        await asyncio.to_thread(own_server.restart)
        await until(lambda: not waits(it))
        rejected = it.collector.metrics.value(names.COLLECTOR_REJECTED, "too_old")
        assert (0, 4) == (rejected, it.collector.metrics.value(names.COLLECTOR_REPLAYED))


async def test_the_team_of_a_key_is_that_of_what_is_replayed(
    own_server: postgres.Server, url: str, tmp_path: Path
) -> None:
    async with collecting(url, tmp_path) as it:
        await asyncio.to_thread(own_server.stop)
        await it.collector.pipeline.accept(otlp.request(*run(1)), Caller("key", "bound"))
        await asyncio.to_thread(own_server.restart)
        await until(lambda: not waits(it))
        assert ["bound"] == [each["team"] for each in await it.get("/api/runs")]


async def test_nobody_is_called_lost_whose_end_may_be_on_disk(
    own_server: postgres.Server, url: str, tmp_path: Path
) -> None:
    start, *rest = otlp.run(1, start_ns=time.time_ns() - 3 * 3600 * SECOND)
    async with collecting(url, tmp_path) as it:
        await it.send(start)
        await asyncio.to_thread(own_server.stop)
        await it.send(*rest)
        await asyncio.to_thread(own_server.restart)
        await it.collector.jobs.sweep()
        await until(lambda: not waits(it))
        await it.collector.jobs.sweep()
        assert [names.OK] == [each["status"] for each in await it.get("/api/runs?since=7d")]
        assert 0 == it.collector.metrics.value(names.RUNS, "shop", "test", "support", "cx", names.LOST)


async def test_calls_of_others_find_the_node_that_was_on_disk(
    own_server: postgres.Server, url: str, tmp_path: Path
) -> None:
    call = {names.OPERATION: names.OP_CHAT, names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-4o"}
    usage = {names.USAGE_INPUT: 1_000, names.USAGE_OUTPUT: 100}

    def sdk_call(number: int) -> Any:
        start_ns = time.time_ns() - 4 * SECOND
        return otlp.span(number, {**call, **usage}, start_ns=start_ns, parent=span_id(2))

    # They wait for their node for a moment only, and the outage is longer.
    config = configured(tmp_path, "runs: {settle_after: 100ms}")
    async with collecting(url, tmp_path, config=config) as it:
        await asyncio.to_thread(own_server.stop)
        scope = "opentelemetry.instrumentation.openai.v1"
        assert 200 == (await it.send(sdk_call(30), scope=scope)).status_code
        assert [200] == await send(it, 1)
        assert 200 == (await it.send(sdk_call(31), scope=scope)).status_code
        await asyncio.sleep(0.2)
        await asyncio.to_thread(own_server.restart)
        await until(lambda: not waits(it))

        async def counted() -> bool:
            rows = await it.collector.store.reader.cost(("graph", "node"), 0, 1 << 62)
            return [(row.group["node"], row.cost_nano) for row in rows] == [("answer", 10_500_000)]

        await until_true(counted)
        assert 0 == it.collector.metrics.value(names.COLLECTOR_SETTLED, "timeout")


async def test_a_full_spool_sends_senders_away_until_the_database_is_back(
    own_server: postgres.Server, url: str, tmp_path: Path
) -> None:
    async with collecting(url, tmp_path, spool_max_bytes=4_000) as it:
        await asyncio.to_thread(own_server.stop)
        statuses = [(await send(it, number))[0] for number in range(1, 6)]
        assert (200, 503) == (statuses[0], statuses[-1])
        refused = await it.send(*run(6))
        assert (503, "10") == (refused.status_code, refused.headers["retry-after"])
        assert b"the spool holds its limit of 4000 bytes" in refused.content
        assert it.collector.metrics.value(names.COLLECTOR_REQUESTS_REFUSED, "spool_full") >= 2
        await asyncio.to_thread(own_server.restart)
        await until(lambda: not waits(it))
        assert [200] == await send(it, 6)
        assert statuses.count(200) + 1 == len(await it.get("/api/runs"))


async def test_a_full_disk_sends_senders_away_and_keeps_what_was_acknowledged(
    own_server: postgres.Server, url: str, tmp_path: Path
) -> None:
    async with collecting(url, tmp_path) as it:
        await asyncio.to_thread(own_server.stop)
        assert [200] == await send(it, 1)
        with no_file_larger_than(1_000), capture_logs() as logged:
            refused = await it.send(*run(2))
            assert [503, 503] == await send(it, 3, 4)
        assert (503, "10") == (refused.status_code, refused.headers["retry-after"])
        assert "spool_write_failed" in [line["event"] for line in logged]
        assert [200] == await send(it, 5)  # there is room again
        await asyncio.to_thread(own_server.restart)
        await until(lambda: not waits(it))
        assert [200] == await send(it, 2)
        kept = {row["run_id"] for row in await it.get("/api/runs")}
    assert {f"00000000-0000-0000-0000-{number:012d}" for number in (1, 2, 5)} == kept


async def test_a_postgres_whose_disk_is_full_is_away_until_there_is_room(url: str, tmp_path: Path) -> None:
    # What Postgres says itself then, at the first row that needs a page.
    full = "CREATE FUNCTION full_disk() RETURNS trigger AS $$ BEGIN RAISE 'no space' USING ERRCODE = '53100'; END $$ "
    async with collecting(url, tmp_path) as it:
        database = await asyncpg.connect(url)
        await database.execute(f"{full} LANGUAGE plpgsql")
        await database.execute("CREATE TRIGGER full_disk BEFORE INSERT ON run EXECUTE FUNCTION full_disk()")
        assert [200, 200] == await send(it, 1, 2)
        assert (True, []) == (waits(it), await it.get("/api/runs"))
        await database.execute("DROP TRIGGER full_disk ON run")
        await database.close()
        await until(lambda: not waits(it))
        assert 2 == len(await it.get("/api/runs"))


async def test_a_full_spool_is_not_ready(own_server: postgres.Server, url: str, tmp_path: Path) -> None:
    async with collecting(url, tmp_path, spool_max_bytes=1) as it:
        assert 200 == (await it.http.get("/ready")).status_code
        await asyncio.to_thread(own_server.stop)
        assert ([503], 503) == (await send(it, 1), (await it.http.get("/ready")).status_code)


async def test_a_fault_of_ours_is_not_an_outage(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with collecting(url, tmp_path) as it:
        monkeypatch.setattr(it.collector.store, "write", broken)
        with capture_logs():
            assert [503] == await send(it, 1)
        assert not waits(it)


async def test_a_request_that_fails_alone_does_not_hold_up_the_others(
    own_server: postgres.Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = PostgresStore.write
    bad = {"fails": True}

    async def picky(store: PostgresStore, given: Any, **how: Any) -> Any:
        if bad["fails"] and any(each.trace_id == trace(2) for delivery in delivered(given) for each in delivery.given):
            raise StoreUnavailable("not this one")
        return await write(store, given, **how)

    async with collecting(url, tmp_path) as it:
        await asyncio.to_thread(own_server.stop)
        assert [200] * 3 == await send(it, 1, 2, 3)
        monkeypatch.setattr(PostgresStore, "write", picky)
        await asyncio.to_thread(own_server.restart)
        await until(lambda: not it.collector.pipeline.away)
        assert [200] == await send(it, 4)
        assert 3 == len(await it.get("/api/runs"))
        bad["fails"] = False
        await until(lambda: not waits(it))
        assert 4 == len(await it.get("/api/runs"))


async def test_a_collector_starts_without_a_database_that_it_knows(own_server: postgres.Server, tmp_path: Path) -> None:
    own_server.restart()
    url = own_server.create()
    own_server.stop()
    with pytest.raises(DatabaseAway, match="cannot use the database"):
        async with collecting(url, tmp_path):
            pass
    # Unless somebody answers for its being there.
    async with collecting(url, tmp_path / "new", assume_database=True) as it:
        assert [200] == await send(it, 3)
        assert 200 == (await it.http.get("/ready")).status_code
    own_server.restart()
    async with collecting(url, tmp_path):
        pass
    own_server.stop()
    async with collecting(url, tmp_path) as it:
        assert [200] == await send(it, 1)
        assert 200 == (await it.http.get("/ready")).status_code
        assert 503 == (await it.http.get("/api/runs")).status_code
        assert not it.collector.opened.is_set()
    # And once more: what was left on disk is adopted, and replayed as soon as the schema is known to be right.
    async with collecting(url, tmp_path) as it:
        assert [200] == await send(it, 2)
        await asyncio.to_thread(own_server.restart)
        await until(lambda: not waits(it))
        assert it.collector.opened.is_set()
        assert 2 == len(await it.get("/api/runs"))
    own_server.drop(url)


async def test_a_database_that_refuses_us_is_no_outage(own_server: postgres.Server, url: str, tmp_path: Path) -> None:
    async with collecting(url, tmp_path):
        pass
    unknown = url.replace(url.rsplit("/", 1)[1], "no_such")
    with pytest.raises(StartupError, match="no_such") as refused:
        async with collecting(unknown, tmp_path):
            pass
    assert not isinstance(refused.value, DatabaseAway)


async def test_a_spool_that_cannot_be_written_is_a_fault_only_where_it_was_asked_for(url: str, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("not a folder")
    with capture_logs() as logged:
        async with collecting(url, tmp_path) as it:
            assert it.collector.spool is None
    assert "no_spool" in [line["event"] for line in logged]
    with pytest.raises(StartupError, match="choose another --spool-dir"):
        async with collecting(url, tmp_path, spool_dir=tmp_path / "spool"):
            pass


async def test_an_embedded_database_has_no_spool(sqlite_url: str, tmp_path: Path) -> None:
    async with collecting(sqlite_url, tmp_path) as it:
        assert it.collector.spool is None
    assert not (tmp_path / "spool").exists()
