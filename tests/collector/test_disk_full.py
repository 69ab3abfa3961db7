"""The disk below an embedded database is full, or another holds its file: senders are sent away, nothing is half stored."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from collector.served import served
from collector.store.dump import dump
from graphmeter import names
from graphmeter_collector.store import sqlite
from support import otlp
from support.full_disk import no_file_larger_than
from support.records import SECOND, trace


async def test_a_full_disk_below_sqlite_is_a_503_and_the_database_stays_whole(sqlite_url: str, tmp_path: Path) -> None:
    start_ns = time.time_ns() - 5 * SECOND
    log = Path(f"{sqlite_url.removeprefix('sqlite:///')}-wal")
    async with served(sqlite_url) as it:
        assert 200 == (await it.send(*otlp.run(1, start_ns=start_ns))).status_code
        with no_file_larger_than((await asyncio.to_thread(log.stat)).st_size + 5_000), capture_logs() as logged:
            refused = await it.send(*otlp.run(2, start_ns=start_ns))
        assert (503, "1") == (refused.status_code, refused.headers["retry-after"])
        assert "commit_failed" in [line["event"] for line in logged]
        assert 1 == it.collector.metrics.value(names.COLLECTOR_REQUESTS_REFUSED, "store_unavailable")
        assert {trace(1)} == {row["trace_id"] for row in (await dump(sqlite_url))["span"]}

        for number in (2, 3):
            assert 200 == (await it.send(*otlp.run(number, start_ns=start_ns))).status_code
    calm_url = f"sqlite:///{tmp_path / 'calm' / 'graphmeter.db'}"
    async with served(calm_url) as calm:
        for number in (1, 2, 3):
            await calm.send(*otlp.run(number, start_ns=start_ns))
    assert await dump(calm_url) == await dump(sqlite_url)


async def test_a_file_that_another_program_holds_is_a_503_until_it_is_free(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = [*(each for each in sqlite._PRAGMAS if "busy_timeout" not in each), "busy_timeout = 20"]
    monkeypatch.setattr(sqlite, "_PRAGMAS", impatient)
    start_ns = time.time_ns() - 5 * SECOND
    async with served(sqlite_url) as it:
        other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with capture_logs():
            refused = await it.send(*otlp.run(1, start_ns=start_ns))
        assert (503, "1", True) == (
            refused.status_code,
            refused.headers["retry-after"],
            b"database is locked" in refused.content,
        )
        other.execute("ROLLBACK")
        other.close()
        assert 200 == (await it.send(*otlp.run(1, start_ns=start_ns))).status_code
        assert 1 == len(await it.get("/api/runs"))
