"""Budgets of running collectors: states, changes and keys over HTTP; crossed thresholds told once, to receivers too."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from collector.served import Served, configured, served
from collector.waiting import until_true
from graphmeter import names
from graphmeter_collector import budgets
from graphmeter_collector.keys import make, scopes_of
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.keys import KeyTable
from graphmeter_config import Budget
from support import otlp

HOUR_NS = 3_600_000_000_000


@pytest.fixture(autouse=True)
def _look_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectors look at thresholds when a test asks them to, and not by themselves as well."""
    monkeypatch.setattr(budgets, "LOOK_EVERY_S", 3600.0)


def ago(seconds: float) -> int:
    return time.time_ns() - round(seconds * 1e9)


async def spend(it: Served, *of: int, **attributes: Any) -> None:
    """Runs of 0.0035 USD each."""
    for each in of:
        await it.send(*otlp.run(each, start_ns=ago(2), **attributes))


async def post(it: Served, said: Any, **how: Any) -> tuple[int, Any]:
    answer = await it.http.post("/api/budgets", json=said, **how)
    return answer.status_code, answer.json()


async def test_a_budget_of_the_api_is_counted_changed_and_removed(database_url: str) -> None:
    async with served(database_url) as it:
        await spend(it, 1)
        status, said = await post(it, {"name": "acme", "limit_usd": 0.01, "period": "day", "per": ["graph"]})
        assert (201, "api") == (status, said["source"])
        await spend(it, 2)
        rows = [row for row in await it.get("/api/budgets") if row["budget"] == "acme"]
        assert [({"graph": "support"}, 7_000_000, 0.7)] == [
            (row["scope"], row["spent_nano"], row["used_ratio"]) for row in rows
        ]
        status, said = await post(it, {"name": "acme", "limit_tokens": 10})
        assert (200, {"name": "acme", "limit_tokens": 10}) == (status, said["definition"])
        assert 204 == (await it.http.delete("/api/budgets/acme")).status_code
        assert 404 == (await it.http.delete("/api/budgets/acme")).status_code
        assert ["team-monthly"] == [each["name"] for each in await it.get("/api/budgets/definitions")]


async def test_a_budget_that_is_being_counted_is_told_by_nobody_until_it_is(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "COUNTED_AT_ONCE_S", 0.01)
    table = BudgetTable(database_url)
    async with served(database_url, config=configured(tmp_path, "budgets: [{name: old, limit_usd: 1}]")) as it:
        await spend(it, 1)

        async def told() -> dict[str, int]:
            return {row["budget"]: row["spent_nano"] for row in await it.get("/api/budgets")}

        async with table._counting() as nobody_else:
            assert nobody_else is not None
            status, said = await post(it, {"name": "new", "limit_usd": 0.001, "hard": True, "rolling": "24h"})
            assert (201, False) == (status, said["counted"])
            await spend(it, 2)
            assert {"old": 7_000_000} == await told()
            assert [] == await it.collector.budgets.check()
            await it.collector.jobs.refresh_gauges()
            assert not any("budget_spent" in series and "new" in series for series in await it.scrape())
            known = (await it.get("/api/budgets/status?budget=new"))["definitions"]
            assert [("new", False)] == [(each["budget"], each["counted"]) for each in known]
            asked = await it.http.post("/api/budgets/new/reservations", json={"nano_usd": 5})
            assert (503, True) == (asked.status_code, "is being counted: ask again" in asked.text)
            assert 201 == (await it.http.post("/api/budgets/old/reservations", json={"nano_usd": 5})).status_code

        async def counted() -> bool:
            return await told() == {"old": 7_000_000, "new": 7_000_000}

        await until_true(counted)
        assert 200 == (await it.http.post("/api/budgets/new/reservations", json={"nano_usd": 5})).status_code
        assert {"80%", "100%"} == {event.threshold for event in await it.collector.budgets.check()}
    await table.close()


async def test_what_another_collector_left_uncounted_is_counted(sqlite_url: str, tmp_path: Path) -> None:
    config = configured(tmp_path, "budgets: [{name: old, limit_usd: 1}]")
    async with served(sqlite_url, config=config) as it:
        await spend(it, 1)
        assert ["old"] == [row["budget"] for row in await it.get("/api/budgets")]
    table = BudgetTable(sqlite_url)
    await table.put(
        Budget.model_validate({"name": "new", "limit_usd": 1, "rolling": "24h"}), time.time_ns(), count=False
    )
    await table.close()
    async with served(sqlite_url, config=config) as it:
        assert ["old"] == [row["budget"] for row in await it.get("/api/budgets")]
        # What it does within a quarter of a minute by itself.
        it.collector.budgets._rest_s = 0
        it.collector.budgets._bell.set()
        await it.collector.budgets.look()
        rows = await it.get("/api/budgets")
        assert {"old": 3_500_000, "new": 3_500_000} == {row["budget"]: row["spent_nano"] for row in rows}


async def test_what_the_file_says_is_not_changed_by_the_api(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        status, said = await post(it, {"name": "team-monthly", "limit_usd": 1})
        assert (409, True) == (status, "is one of graphmeter.yaml" in said["detail"])
        assert 409 == (await it.http.delete("/api/budgets/team-monthly")).status_code
        for wrong, sentence in [
            ({"name": "a", "limit_usd": -1}, "limit_usd: not above zero"),
            ({"name": "a", "limit_usd": 1, "limt": 2}, "limt: unknown key"),
            ({"name": "a", "limit_usd": 1, "receivers": ["nobody"]}, "there is none named 'nobody'"),
        ]:
            status, said = await post(it, wrong)
            assert (422, True) == (status, sentence in said["detail"]), said


async def test_status_has_an_etag_that_changes_with_what_was_spent(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        first = await it.http.get("/api/budgets/status")
        tag = first.headers["etag"]
        same = await it.http.get("/api/budgets/status", headers={"if-none-match": tag})
        assert (304, b"") == (same.status_code, same.content)
        await spend(it, 1)
        await it.collector.budgets.states()
        second = await it.http.get(
            "/api/budgets/status?budget=team-monthly&scope=team:cx", headers={"if-none-match": tag}
        )
        assert 200 == second.status_code
        assert [("cx", 3_500_000)] == [(row["team"], row["spent_nano"]) for row in second.json()["budgets"]]
        assert second.json()["as_of_ns"] <= time.time_ns()


async def test_changing_budgets_needs_a_key_that_may(sqlite_url: str) -> None:
    keys = KeyTable(sqlite_url)
    made = {scope: make(scopes_of(scope), now_ns=time.time_ns()) for scope in ("ingest", "read", "read+admin")}
    for new in made.values():
        await keys.add(new.key)
    await keys.close()
    async with served(sqlite_url) as it:
        found = {}
        for scope, new in made.items():
            headers = {"authorization": f"Bearer {new.token}"}
            status, _ = await post(it, {"name": "a", "limit_usd": 1}, headers=headers)
            found[scope] = (status, (await it.http.delete("/api/budgets/a", headers=headers)).status_code)
        assert {"ingest": (403, 403), "read": (403, 403), "read+admin": (201, 204)} == found
        assert 401 == (await post(it, {"name": "a", "limit_usd": 1}))[0]
    async with served(sqlite_url, allow_anonymous=True) as it:
        assert (401, 200) == (
            (await post(it, {"name": "a", "limit_usd": 1}))[0],
            (await it.http.get("/api/budgets")).status_code,
        )


async def test_each_threshold_is_one_event_whichever_collector_sees_it_and_however_often(
    postgres_url: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, "budgets: [{name: b, limit_usd: 0.01, per: [team], thresholds: [30%, 100%]}]")
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(served(postgres_url, config=config)) for _ in range(2)]
        await spend(one, 1)
        raised = [*await one.collector.budgets.check(), *await two.collector.budgets.check()]
        await spend(two, 2, 3)
        raised += [*await two.collector.budgets.check(), *await one.collector.budgets.check()]
        assert ["30%", "100%"] == [event.threshold for event in raised]
        events = await one.get("/api/budgets/events")
    assert [("b", ["cx"], "100%"), ("b", ["cx"], "30%")] == [
        (event["budget"], event["scope"], event["threshold"]) for event in events
    ]
    async with served(postgres_url, config=config) as again:
        assert [] == await again.collector.budgets.check()


async def test_receivers_are_told_once_of_each_event(sqlite_url: str, tmp_path: Path) -> None:
    text = (
        "receivers: [{name: finops, url: 'http://127.0.0.1:9/hook'}]\n"
        "budgets: [{name: b, limit_usd: 0.003, receivers: [finops], hard: true}]"
    )
    async with served(sqlite_url, config=configured(tmp_path, text)) as it:
        await spend(it, 1)
        await it.collector.budgets.check()
        await it.collector.budgets.check()
        await it.collector.courier.show()
        shown = await it.scrape()
    assert 2.0 == shown['graphmeter_collector_notifications_waiting{receiver="finops"}']
    assert 1.0 == it.collector.metrics.value(names.COLLECTOR_BUDGET_EVENTS, "b", "80%")


async def test_a_new_limit_has_thresholds_of_its_own(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        await spend(it, 1)
        found = []
        for limit in (0.003, 0.003, 0.0035):
            await post(it, {"name": "b", "limit_usd": limit, "thresholds": ["100%"]})
            found.append([event.limit_units for event in await it.collector.budgets.check() if event.budget == "b"])
    assert [[3_000_000], [], [3_500_000]] == found


async def test_a_rolling_budget_is_told_once_in_the_length_of_its_window(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        await post(it, {"name": "b", "limit_usd": 0.003, "rolling": "48h", "thresholds": ["100%"]})
        await spend(it, 1)
        now_ns = time.time_ns()
        next_ns = (now_ns // (48 * HOUR_NS) + 1) * 48 * HOUR_NS
        found = [len(await it.collector.budgets.check(at_ns)) for at_ns in (now_ns, now_ns + 1, next_ns, next_ns + 1)]
    assert [1, 0, 1, 0] == found
