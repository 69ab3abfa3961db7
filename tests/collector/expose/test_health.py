"""What machines ask: alive, able to acknowledge, and the exposition in the format they asked for."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from collector.served import served
from collector.waiting import until_true
from graphmeter import names
from graphmeter_collector.expose import health
from support import otlp, postgres
from support.records import SECOND

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


async def test_a_running_collector_is_alive_and_ready(database_url: str) -> None:
    async with served(database_url) as it:
        assert {"status": "alive"} == await it.get("/health")
        assert {"status": "ready"} == await it.get("/ready")


async def test_a_stopping_collector_is_alive_but_takes_nothing_more(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        await it.collector.pipeline.drain(1)
        ready = await it.http.get("/ready")
        refused = await it.send(otlp.own(1, names.NODE, start_ns=time.time_ns()))
        assert (503, {"status": "stopping"}) == (ready.status_code, ready.json())
        assert (503, "1") == (refused.status_code, refused.headers["retry-after"])
        assert {"status": "alive"} == await it.get("/health")


async def test_while_the_database_is_away_everything_says_so_and_works_again_when_it_is_back(
    postgres_server: postgres.Server, postgres_url: str
) -> None:
    database = make_url(postgres_url).database
    span = otlp.own(1, names.NODE, start_ns=time.time_ns() - SECOND)
    async with served(postgres_url, spool_max_bytes=0) as it:
        postgres_server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        postgres_server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

        ready, page, sent = await it.http.get("/ready"), await it.http.get("/"), await it.send(span)
        assert (503, "not ready") == (ready.status_code, ready.json()["status"])
        assert "not currently accepting connections" in ready.json()["reason"]
        assert (503, 503) == (sent.status_code, page.status_code)
        assert "cannot read the database" in page.text
        status, detail = await it.problem("/api/runs")
        assert (503, True) == (status, "cannot read the database" in detail)
        assert {"status": "alive"} == await it.get("/health")
        assert 200 == (await it.http.get("/metrics")).status_code

        postgres_server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
        assert 200 == (await it.send(span)).status_code
        assert {"status": "ready"} == await it.get("/ready")
        assert 1 == len(await it.get("/api/runs"))


async def test_a_database_that_hangs_is_not_ready(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, empty_sqlite_url: str
) -> None:
    monkeypatch.setattr(health, "READY_WITHIN_S", 0.1)
    async with served(sqlite_url) as it:
        other = sqlite3.connect(Path(make_url(sqlite_url).database or ""), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = await it.http.get("/ready")
        assert (503, "no answer within 0.1 s") == (answer.status_code, answer.json()["reason"])
        other.execute("ROLLBACK")
        other.close()

        async def ready() -> bool:
            return (await it.http.get("/ready")).status_code == 200

        await until_true(ready)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain; version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
    ],
)
async def test_the_exposition_has_the_format_asked_for_and_one_charset(
    sqlite_url: str, accept: str, expected: str
) -> None:
    async with served(sqlite_url) as it:
        answer = await it.http.get("/metrics", headers={"accept": accept})
        content_type = answer.headers["content-type"]
        assert (200, expected, 1) == (answer.status_code, content_type[: len(expected)], content_type.count("charset"))
        assert ("# EOF" in answer.text) == ("openmetrics" in expected)
        assert "graphmeter_collector_queue_spans 0" in answer.text
