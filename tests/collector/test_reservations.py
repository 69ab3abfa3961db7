"""Strict budgets of running collectors: 32 workers stay within the limit; who may ask, for whom, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from collector.served import Served, configured, served
from collector.waiting import until_true
from graphmeter import names
from graphmeter_collector.errors import NoSuchBudget, StoreUnavailable
from graphmeter_collector.reports import Ask
from graphmeter_collector.reservations import Reservations
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.reservations import ReservationTable
from graphmeter_collector.telemetry import Metrics
from support import otlp

WORKERS = 32
CONFIG = "budgets: [{name: strict, limit_usd: 0.05, per: [team], rolling: 24h, hard: true}]\n"
NANO_PER_TOKEN = 10_000
"""Of gpt-4o's output."""


async def reserve(it: Served, said: Any, budget: str = "strict", **how: Any) -> tuple[int, Any]:
    answer = await it.http.post(f"/api/budgets/{budget}/reservations", json=said, **how)
    return answer.status_code, answer.json()


async def bill(it: Served, number: int, output_tokens: int, *reservations: str, **how: Any) -> None:
    """A model call that takes so many tokens."""
    said = {
        names.PROVIDER: "openai",
        names.RESPONSE_MODEL: "gpt-4o",
        names.USAGE_INPUT: 0,
        names.USAGE_OUTPUT: output_tokens,
        names.RESERVATION: " ".join(reservations),
    }
    span = otlp.own(number, names.MODEL, said, of=number, start_ns=time.time_ns() - 10**9, s=0.5)
    assert 200 == (await it.send(span, **how)).status_code


async def state(it: Served, team: str = "cx") -> tuple[int, int]:
    """Spent and reserved now."""
    _, said = await reserve(it, {"attributes": {"team": team}, "nano_usd": 1 << 60})
    return said["spent"], said["reserved"]


async def work(collectors: list[Served], worker: int, over: dict[int, int]) -> int:
    """Ask, call, send, until there is no more room; what calls have cost more than was reserved goes into `over`."""
    chance, number, spent = random.Random(worker), worker * 1000, 0
    while True:
        number += 1
        tokens = chance.randrange(1, 100)
        it = chance.choice(collectors)
        status, said = await reserve(it, {"attributes": {"team": "cx"}, "nano_usd": tokens * NANO_PER_TOKEN})
        if status == 200:
            return spent
        if chance.random() < 0.1:
            assert 204 == (await it.http.delete(f"/api/budgets/strict/reservations/{said['id']}")).status_code
            continue
        taken = tokens + (chance.randrange(20) if chance.random() < 0.2 else -chance.randrange(tokens))
        over[number] = max(taken - tokens, 0) * NANO_PER_TOKEN
        spent += taken * NANO_PER_TOKEN
        for _ in range(chance.randrange(1, 3)):
            await bill(chance.choice(collectors), number, taken, said["id"])


async def test_32_workers_stay_within_the_limit_but_for_what_calls_cost_beyond_their_reservation(
    database_url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        count = 1 if database_url.startswith("sqlite") else 2
        config = configured(tmp_path, CONFIG)
        collectors = [await stack.enter_async_context(served(database_url, config=config)) for _ in range(count)]
        over: dict[int, int] = {}
        spent = sum(await asyncio.gather(*(work(collectors, worker, over) for worker in range(1, WORKERS + 1))))
        assert (spent, 0) == await state(collectors[0])
        assert spent <= 50_000_000 + sum(over.values())
        assert spent > 50_000_000 - 100 * NANO_PER_TOKEN * WORKERS
        decided = [
            it.collector.metrics.value(names.COLLECTOR_RESERVATIONS, "strict", names.REFUSED) for it in collectors
        ]
        assert WORKERS + 1 == sum(decided)


async def test_an_ask_takes_the_key_that_applications_send_with_and_its_team(sqlite_url: str, tmp_path: Path) -> None:
    send, look, team = ("send" * 5, "look" * 5, "team" * 5)
    keys = f"ingest:{send},read:{look},ingest:finance:{team}"
    said = {"attributes": {"team": "cx"}, "nano_usd": 5}
    async with served(sqlite_url, config=configured(tmp_path, CONFIG), api_keys=keys) as it:
        found = {}
        for key in ("", look, send, team):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            status, told = await reserve(it, said, headers=headers)
            path = f"/api/budgets/strict/reservations/{told.get('id', 'x' * 32)}"
            found[key] = (status, told.get("scope"), (await it.http.delete(path, headers=headers)).status_code)
            assert bool(told.get("detail")) == (status >= 400)
    assert {
        "": (401, None, 401),
        look: (403, None, 403),
        send: (201, {"team": "cx"}, 204),
        team: (201, {"team": "finance"}, 204),
    } == found


async def test_what_makes_no_sense_is_refused_with_a_sentence(sqlite_url: str, tmp_path: Path) -> None:
    async with served(sqlite_url, config=configured(tmp_path, CONFIG)) as it:
        for said, status, sentence in [
            ({"nano_usd": -1}, 422, "nano_usd"),
            ({"nano_usd": 1 << 62}, 422, "nano_usd"),
            ({"nano_usd": 1.5}, 422, "nano_usd"),
            ({"nano_usd": True}, 422, "nano_usd"),
            ({"tokens": 5}, 400, "'nano_usd'"),
            ({"nano_usd": 5, "attributes": {"teem": "cx"}}, 422, "no attribution of spend"),
            ({"nano_usd": 5, "attributes": {"team": "a\x00b"}}, 422, "NUL"),
            ({"nano_usd": 5, "ttl_s": 0}, 422, "ttl_s"),
            ({"nano_usd": 5, "id": "a b"}, 422, "id"),
            ({"nano_usd": 5, "amount": 7}, 422, "amount"),
        ]:
            found, told = await reserve(it, said)
            assert (status, True) == (found, sentence in told["detail"]), told
        assert 404 == (await reserve(it, {"nano_usd": 5}, budget="nope"))[0]
        for content, content_type in [
            (b'{"nano_usd": 5, "attributes": {"team": "\\ud800"}}', "application/json"),
            (b'{"nano_usd": 5}', "text/plain"),  # what another site in a browser could send
        ]:
            answer = await it.http.post(
                "/api/budgets/strict/reservations", content=content, headers={"content-type": content_type}
            )
            assert answer.status_code in (415, 422)
        assert 422 == (await it.http.delete("/api/budgets/strict/reservations/x")).status_code
        assert (0, 0) == await state(it)


async def test_a_span_names_what_was_reserved_for_it(sqlite_url: str, tmp_path: Path) -> None:
    async with served(sqlite_url, config=configured(tmp_path, CONFIG)) as it:
        ids = [
            (await reserve(it, {"attributes": {"team": "cx"}, "nano_usd": 1_000_000, "id": f"{n:032x}"}))[1]["id"]
            for n in range(3)
        ]
        assert (0, 3_000_000) == await state(it)
        held = {"budget": "strict", "scope": ["cx"], "unit": "usd", "units": 3_000_000, "calls": 3}
        assert [held] == await it.get("/api/budgets/strict/reservations")
        assert [] == await it.get("/api/budgets/other/reservations")
        await bill(it, 1, 10, *ids[:2], "not!one", "short")
        assert (100_000, 1_000_000) == await state(it)
        assert 1.0 == it.collector.metrics.value(names.COLLECTOR_REPAIRED, "bad_reservation")


async def test_what_is_reserved_stands_in_states_and_metrics_beside_spend(database_url: str, tmp_path: Path) -> None:
    config = configured(tmp_path, CONFIG.replace("]\n", ", {name: words, limit_tokens: 1000, rolling: 24h}]\n"))
    async with served(database_url, config=config) as it:
        before = (await it.http.get("/api/budgets/status")).headers["etag"]
        for budget, team, of in (
            ("strict", "cx", 7_000_000),
            ("strict", "ops", 1_000_000),
            ("strict", "cx", 2_000_000),
        ):
            assert 201 == (await reserve(it, {"attributes": {"team": team}, "nano_usd": of}, budget))[0]
        assert 201 == (await reserve(it, {"tokens": 40}, "words"))[0]
        await bill(it, 1, 10)

        async def told() -> list[tuple[Any, ...]]:
            said = await it.http.get("/api/budgets/status")
            assert (before != said.headers["etag"]) == (len(said.json()["budgets"]) > 1)
            columns = ("budget", "team", "spent_nano", "reserved_nano", "reserved_tokens", "reservations", "remaining")
            return [tuple(row[name] for name in columns) for row in said.json()["budgets"]]

        expected = [
            ("strict", "cx", 100_000, 9_000_000, 0, 2, 49_900_000),
            ("strict", "ops", 0, 1_000_000, 0, 1, 50_000_000),
            ("words", "", 100_000, 0, 40, 1, 990),
        ]

        async def reached() -> bool:  # answers are kept for a second
            return await told() == expected

        await until_true(reached)

        async def shown() -> bool:
            """The job by itself may just be writing down what it read before."""
            await it.collector.jobs.refresh_gauges()
            return {
                'graphmeter_budget_reserved_usd{budget="strict",scope="",team="cx"}': 0.009,
                'graphmeter_budget_reserved_usd{budget="strict",scope="",team="ops"}': 0.001,
                'graphmeter_budget_reserved_tokens{budget="words",scope="",team=""}': 40.0,
            } == {series: value for series, value in (await it.scrape()).items() if "budget_reserved" in series}

        await until_true(shown)


async def test_where_there_are_no_tables_yet_everybody_who_asks_is_told_to_come_again(empty_database_url: str) -> None:
    table = ReservationTable(empty_database_url)
    reservations = Reservations(table, Metrics())
    asks = [Ask(f"reservation-{n}", "strict", {}, 5, 5, 10**9) for n in range(3)]
    try:
        found = await asyncio.gather(*map(reservations.reserve, asks), return_exceptions=True)
        assert [StoreUnavailable] * 3 == [type(each) for each in found]
        await asyncio.to_thread(migrate, empty_database_url)
        with pytest.raises(NoSuchBudget):
            await reservations.reserve(asks[0])
    finally:
        await table.close()


async def test_what_has_expired_is_deleted_by_the_job(sqlite_url: str, tmp_path: Path) -> None:
    async with served(sqlite_url, config=configured(tmp_path, CONFIG)) as it:
        await reserve(it, {"nano_usd": 5, "ttl_s": 0.001})
        await reserve(it, {"nano_usd": 5})
        await asyncio.sleep(0.002)
        await it.collector.reservations.expire()
        with contextlib.closing(sqlite3.connect(make_url(sqlite_url).database or "")) as db:
            assert [(1,)] == db.execute("SELECT count(*) FROM budget_reservation").fetchall()
