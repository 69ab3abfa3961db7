"""Who comes in: every path asked without a key, with the wrong one and with the right one; teams; revocation."""

from __future__ import annotations

import base64
import contextlib
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from structlog.testing import capture_logs

from collector.served import Served, served
from collector.waiting import until, until_true
from graphmeter import names
from graphmeter_collector.door import keyring
from graphmeter_collector.door.keyring import Keyring, token_of
from graphmeter_collector.errors import StoreUnavailable, Unauthenticated
from graphmeter_collector.keys import INGEST, BadKeys, Key, configured, make
from graphmeter_collector.records import ANONYMOUS
from graphmeter_collector.store.keys import KeyTable
from graphmeter_collector.telemetry import Metrics
from support import otlp
from support.records import SECOND

SEND, LOOK, BOTH, TEAM = ("send" * 5, "look" * 5, "both" * 5, "team" * 5)
KEYS = f"ingest:{SEND},read:{LOOK},ingest+read:{BOTH},ingest:finance:{TEAM}"
READING = ("/", "/api/runs", "/api/nowhere", "/metrics", "/docs", "/openapi.json", "/nowhere", "/v1", "//v1/traces")
SENDING = ("/v1/traces", "/v1/logs", "/v1/metrics", "/v1/nowhere")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def batch() -> bytes:
    return otlp.request(*otlp.run(1, start_ns=time.time_ns() - 5 * SECOND)).SerializeToString()


async def send(it: Served, key: str = "", body: bytes | None = None) -> httpx.Response:
    headers = {"content-type": otlp.PROTOBUF, **(bearer(key) if key else {})}
    return await it.http.post("/v1/traces", content=batch() if body is None else body, headers=headers)


@pytest.fixture
async def guarded(sqlite_url: str) -> AsyncIterator[Served]:
    async with served(sqlite_url, api_keys=KEYS) as it:
        yield it


def refused(it: Served, reason: str) -> float:
    return it.collector.metrics.value(names.COLLECTOR_REQUESTS_REFUSED, reason)


@pytest.mark.parametrize("path", READING)
async def test_reading_needs_a_key_that_may_read(guarded: Served, path: str) -> None:
    answers = [await guarded.http.get(path, headers=headers) for headers in ({}, bearer("x" * 20), bearer(SEND))]
    assert [401, 401, 403] == [answer.status_code for answer in answers]
    assert (1, 1, 1) == tuple(refused(guarded, reason) for reason in ("no_key", "unknown_key", "wrong_scope"))
    for said, answer in zip(("scope read is needed", "not known here", "has not the scope read"), answers, strict=True):
        assert said in answer.json()["detail"]
    for key in (LOOK, BOTH):
        assert (await guarded.http.get(path, headers=bearer(key))).status_code not in (401, 403)


def told(answer: httpx.Response) -> tuple[int, int, str]:
    """HTTP status, gRPC status and sentence of a refused delivery."""
    if answer.headers["content-type"] == otlp.JSON:
        return answer.status_code, answer.json()["code"], answer.json()["message"]
    status = Status.FromString(answer.content)
    return answer.status_code, status.code, status.message


@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON])
@pytest.mark.parametrize("path", SENDING)
async def test_sending_needs_a_key_that_may_ingest(guarded: Served, path: str, content_type: str) -> None:
    async def post(key: str) -> httpx.Response:
        headers = {"content-type": content_type, **(bearer(key) if key else {})}
        return await guarded.http.post(path, content=b"", headers=headers)

    (*nobody, said), (*reader, _) = told(await post("")), told(await post(LOOK))
    assert ([401, 16], [403, 7], True) == (nobody, reader, "graphmeter keys create --scope ingest" in said)
    for key in (SEND, BOTH):
        assert (await post(key)).status_code not in (401, 403)


async def test_health_is_open_and_metrics_only_where_told(guarded: Served, tmp_path: Path) -> None:
    assert [200, 200, 401] == [(await guarded.http.get(path)).status_code for path in ("/health", "/ready", "/metrics")]
    async with served(f"sqlite:///{tmp_path}/open.db", api_keys=KEYS, open_metrics=True) as it:
        assert [200, 401] == [(await it.http.get(path)).status_code for path in ("/metrics", "/")]


async def test_a_browser_asks_for_the_key_as_a_password(guarded: Served) -> None:
    challenge = (await guarded.http.get("/")).headers["www-authenticate"]
    assert 'Basic realm="graphmeter"' in challenge
    for headers in (basic("anybody", LOOK), basic(LOOK, "")):
        assert 200 == (await guarded.http.get("/", headers=headers)).status_code
    assert 401 == (await guarded.http.get("/", headers=basic(LOOK, "wrong"))).status_code


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Digest a=b", LOOK, "Basic", "Basic %%%", "Basic " + base64.b64encode(b"\xff").decode()],
)
def test_other_headers_hold_no_key(header: str) -> None:
    assert "" == token_of(header)


def test_schemes_are_read_whatever_their_case_and_spaces() -> None:
    assert ["k", "k", "p:w"] == [
        token_of(each) for each in ("bearer k", " BEARER  k ", "bAsIc " + base64.b64encode(b"u:p:w").decode())
    ]


async def test_the_team_of_a_key_is_that_of_every_row_and_series(guarded: Served) -> None:
    assert 200 == (await send(guarded, TEAM)).status_code
    headers = bearer(LOOK)
    [run] = (await guarded.http.get("/api/runs", headers=headers)).json()
    [spent] = (await guarded.http.get("/api/cost?by=team", headers=headers)).json()
    [node] = (await guarded.http.get("/api/nodes?team=finance", headers=headers)).json()
    assert ("finance", "finance", "answer") == (run["team"], spent["group"]["team"], node["node"])
    assert [] == (await guarded.http.get("/api/runs?team=cx", headers=headers)).json()


async def test_nobody_is_asked_where_there_are_no_keys(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        assert [200, 200] == [(await send(it)).status_code, (await send(it, "whatever")).status_code]


async def test_allow_anonymous_lets_in_who_shows_no_key_and_still_judges_keys(sqlite_url: str) -> None:
    async with served(sqlite_url, api_keys=KEYS, allow_anonymous=True) as it:
        assert [200, 401, 200] == [(await send(it, key)).status_code for key in ("", "x" * 20, TEAM)]


async def test_with_keys_a_collector_answers_by_any_name(sqlite_url: str) -> None:
    host = {"host": "collector.example.com"}
    async with served(sqlite_url) as it:
        assert 421 == (await it.http.get("/api/runs", headers=host)).status_code
    async with served(sqlite_url, api_keys=KEYS) as it:
        answers = [await it.http.get("/api/runs", headers={**host, **key}) for key in ({}, bearer(LOOK))]
        assert [401, 200] == [answer.status_code for answer in answers]


async def test_keys_of_the_database_open_and_close_every_collector_within_moments(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "REFRESH_EVERY_S", 0.02)
    table, now_ns = KeyTable(database_url), time.time_ns()
    token, key = make(frozenset({INGEST}), now_ns=now_ns)
    old, old_key = make(frozenset({INGEST}), now_ns=now_ns, expires_ns=now_ns - 1)
    async with contextlib.AsyncExitStack() as stack:
        collectors = [
            await stack.enter_async_context(served(database_url))
            for _ in range(1 if database_url.startswith("sqlite") else 2)
        ]
        assert [200] * len(collectors) == [(await send(it)).status_code for it in collectors]
        for each in (old_key, key):
            await table.add(each)
        for it in collectors:
            await until_true(partial(_answers, it, token, [401, 401, 200], old))
            assert 1 <= refused(it, "expired_key")
        await until_true(partial(_was_used, table, key.id))

        await table.revoke(key.id, time.time_ns())
        for it in collectors:
            await until_true(partial(_answers, it, token, [401, 401, 401], old))
            assert 1 <= refused(it, "revoked_key")
    await table.close()


async def _answers(it: Served, token: str, expected: list[int], old: str) -> bool:
    return expected == [(await send(it, each)).status_code for each in ("", old, token)]


async def _was_used(table: KeyTable, key_id: str) -> bool:
    return any(key.used_ns for key in await table.all() if key.id == key_id)


async def test_while_the_database_is_away_the_keys_known_before_stay_in_force(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "REFRESH_EVERY_S", 0.02)
    async with served(sqlite_url, api_keys=KEYS) as it:
        database = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=60)
        with capture_logs() as logged:
            database.execute("ALTER TABLE api_key RENAME TO gone")
            await until(lambda: it.collector.metrics.value(names.COLLECTOR_JOB_FAILURES, "keys") >= 3)
            assert [401, 200] == [(await send(it, key)).status_code for key in ("", SEND)]
            database.execute("ALTER TABLE gone RENAME TO api_key")
            await until(lambda: any(line["event"] == "keys_refreshed" for line in logged))
        database.close()
    assert ["keys_not_refreshed", "keys_refreshed"] == [line["event"] for line in logged if "keys" in line["event"]]


async def test_a_file_of_keys_is_read_again_and_a_bad_one_changes_nothing(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"ingest:{SEND}\n")
    async with served(sqlite_url, api_keys_file=file) as it:
        assert [200, 401] == [(await send(it, key)).status_code for key in (SEND, BOTH)]
        file.write_text(f"ingest:{SEND}  # until Friday\ningest:{BOTH}\n")
        await it.collector.keyring.refresh()
        assert [200, 200] == [(await send(it, key)).status_code for key in (SEND, BOTH)]
        for text in ("", "ingest:short"):
            file.write_text(text)
            with pytest.raises(BadKeys, match=re.escape(str(file))):
                await it.collector.keyring.refresh()
            assert 200 == (await send(it, SEND)).status_code


class _Away:
    """A database that is away."""

    async def all(self) -> list[Key]:
        raise StoreUnavailable("away")

    async def used(self, at_ns: dict[str, int]) -> None:
        raise StoreUnavailable("away")


@pytest.mark.parametrize("written", [f"ingest:{SEND}", ""])
async def test_before_the_database_was_ever_reached_nobody_is_let_in_by_mistake(written: str) -> None:
    metrics = Metrics()
    ring = Keyring(_Away(), lambda: configured(written, "KEYS"), metrics)
    with pytest.raises(StoreUnavailable, match="away"):
        await ring.refresh()
    with pytest.raises(Unauthenticated if written else StoreUnavailable):
        ring.admit("", INGEST)
    with pytest.raises(StoreUnavailable, match="in the database, which is away: send again later"):
        ring.admit("Bearer " + BOTH, INGEST)
    if written:
        assert "KEYS#1" == ring.admit("Bearer " + SEND, INGEST).key
    assert 1 <= metrics.value(names.COLLECTOR_REQUESTS_REFUSED, "store_unavailable")
    assert ANONYMOUS == Keyring(_Away(), list, metrics, allow_anonymous=True).admit("", INGEST)
