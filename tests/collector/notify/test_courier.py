"""Receivers are told what they are owed: once, after failures again, across restarts, without a secret in any log."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from collector.notify.hook import Hook, hook
from collector.served import configured, served
from collector.waiting import until
from graphmeter import names
from graphmeter_collector import jobs
from graphmeter_collector.notify import courier as module
from graphmeter_collector.notify.courier import NS, Courier
from graphmeter_collector.notify.message import Message
from graphmeter_collector.store.notifications import NotificationTable
from graphmeter_collector.store.tables import notification
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config

HELLO = Message("report", "Hello", data={"n": 1})


class Telling:
    """A database, a webhook and the courier between them."""

    def __init__(self, url: str, hook: Hook) -> None:
        self.hook = hook
        self.table = NotificationTable(url)
        self.config = Config.model_validate(
            {
                "receivers": [
                    {"name": "bot", "url": hook.url, "headers": {"X-Key": "top-secret"}, "timeout": "60s"},
                    {"name": "chat", "kind": "slack", "url": hook.url},
                ]
            }
        )
        self.metrics = Metrics()
        self.courier = Courier(self.table, lambda: self.config, self.metrics)

    def counted(self, receiver: str = "bot") -> list[float]:
        """Delivered, failed, given up."""
        return [self.metrics.value(names.COLLECTOR_NOTIFICATIONS, receiver, each) for each in names.NOTIFY_RESULTS]

    async def hurry(self) -> None:
        """Make everything due that waits for its next attempt, and try."""
        async with self.table._transaction() as connection:
            await connection.execute(notification.update().values(due_ns=0))
        await self.courier.round()


@pytest.fixture
async def telling(database_url: str) -> AsyncIterator[Telling]:
    async with hook() as there:
        made = Telling(database_url, there)
        yield made
        await made.table.close()


async def test_each_receiver_is_told_once_in_its_own_words(telling: Telling) -> None:
    assert ["bot", "chat"] == await telling.courier.tell("report/a/2026-11", ["bot", "chat"], HELLO)
    assert [] == await telling.courier.tell("report/a/2026-11", ["bot", "chat"], HELLO)
    await telling.courier.round()
    await telling.courier.round()

    by_id = {headers["x-graphmeter-delivery"]: json.loads(body) for _, headers, body in telling.hook.posted}
    assert 2 == len(telling.hook.posted)
    assert {"n": 1} == by_id["report/a/2026-11/bot"]["data"]
    assert "header" == by_id["report/a/2026-11/chat"]["blocks"][0]["type"]
    assert "top-secret" == telling.hook.posted[0][1].get("x-key", telling.hook.posted[1][1].get("x-key"))
    assert ([1, 0, 0], [1, 0, 0]) == (telling.counted("bot"), telling.counted("chat"))


async def test_a_failure_is_tried_again_later_and_the_pause_grows(telling: Telling) -> None:
    telling.hook.answers = [web.Response(status=500, text="broken"), web.Response(status=404)]
    await telling.courier.tell("k", ["bot"], HELLO)
    await telling.courier.round()
    assert not await telling.courier.due()
    assert {"bot": 1} == await telling.table.waiting()
    await telling.hurry()
    await telling.hurry()
    assert (3, [1, 2, 0]) == (len(telling.hook.posted), telling.counted())
    assert {} == await telling.table.waiting()
    assert [True, True] == [5 <= module._pause_s(0, 0) <= 6.25, 1800 <= module._pause_s(99, 0) <= 2250]
    assert 3600 <= module._pause_s(0, 3600) <= 4500


async def test_what_the_receiver_blames_on_the_message_is_given_up(telling: Telling) -> None:
    telling.hook.answers = [web.Response(status=400, text="invalid_blocks")]
    await telling.courier.tell("k", ["bot"], HELLO)
    with capture_logs() as logged:
        await telling.courier.round()
    assert [("notify_given_up", "HTTP 400 invalid_blocks")] == [(line["event"], line["error"]) for line in logged]
    assert [0, 0, 1] == telling.counted()
    assert {} == await telling.table.waiting()


async def test_after_a_day_of_failures_nobody_tries_any_more(telling: Telling) -> None:
    telling.hook.answers = [web.Response(status=503)]
    await telling.courier.tell("k", ["bot"], HELLO, now_ns=time.time_ns() - 25 * 3600 * NS)
    await telling.courier.round()
    assert [0, 0, 1] == telling.counted()


async def test_a_receiver_that_is_slow_gone_or_unknown_harms_no_other(telling: Telling) -> None:
    telling.hook.takes_s = 0.5
    telling.config = Config.model_validate(
        {
            "receivers": [
                {"name": "slow", "url": telling.hook.url, "timeout": "100ms"},
                {"name": "gone", "url": "http://127.0.0.1:1/x"},
                {"name": "bot", "url": telling.hook.url},
            ]
        }
    )
    await telling.courier.tell("k", ["slow", "gone", "unknown", "bot"], HELLO)
    with capture_logs() as logged:
        await telling.courier.round()
    failed = {line["receiver"]: line["error"] for line in logged if line["event"] == "notify_failed"}
    assert {"slow", "gone", "unknown"} == set(failed)
    assert "no answer within 0.1 s" == failed["slow"]
    assert "no receiver of this name in the configuration" == failed["unknown"]
    assert [1, 0, 0] == telling.counted()


async def test_no_secret_is_logged_stored_or_shown(telling: Telling) -> None:
    echo = f"who are you? {telling.hook.url} top-secret"
    telling.hook.answers = [web.Response(status=401, text=echo), web.Response(status=307, headers={"Location": "/x"})]
    await telling.courier.tell("k", ["bot", "chat"], HELLO)
    with capture_logs() as logged:
        await telling.courier.round()
    assert 2 == len(telling.hook.posted)
    said = json.dumps(logged) + repr(telling.config) + json.dumps(telling.config.shown())
    assert ("notify_failed", False, False) == (logged[0]["event"], "s3cret" in said, "top-secret" in said)


async def test_names_of_any_script_travel_in_the_header(telling: Telling) -> None:
    await telling.courier.tell("budget/Müller\n/80%", ["bot"], HELLO)
    await telling.courier.round()
    assert "budget/M%C3%BCller%0A/80%25/bot" == telling.hook.posted[0][1]["x-graphmeter-delivery"]


async def test_finished_ones_are_forgotten_after_a_while_and_waiting_ones_are_not(telling: Telling) -> None:
    await telling.courier.tell("a", ["bot"], HELLO)
    await telling.courier.round()
    await telling.courier.tell("b", ["bot"], HELLO)
    assert 0 == await telling.table.forget(time.time_ns() - NS * 60)
    assert 1 == await telling.table.forget(time.time_ns() + NS * 60)
    assert {"b/bot"} == await telling.table.known(["a/bot", "b/bot"])


async def test_a_collector_delivers_what_another_one_owed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "NOTIFY_EVERY_S", 0.02)
    async with hook() as there:
        monkeypatch.setenv("HOOK", there.url)
        config = configured(tmp_path, "receivers: [{name: bot, url: '${HOOK}'}]")
        table = NotificationTable(database_url)
        await Courier(table, Config.default, Metrics()).tell("k", ["bot"], HELLO)
        await table.close()
        async with served(database_url, config=config) as it:
            await until(lambda: there.posted)

            def delivered() -> Any:
                return it.collector.metrics.value(names.COLLECTOR_NOTIFICATIONS, "bot", names.NOTIFIED)

            await until(delivered)
            await it.collector.courier.show()
            assert 0 == it.collector.metrics.value(names.COLLECTOR_NOTIFICATIONS_WAITING, "bot")
        assert 1 == len(there.posted)
