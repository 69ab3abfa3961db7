"""Budgets of running collectors: states, changes and keys over HTTP; crossed thresholds told once, to receivers too."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from collector.served import Served, configured, served
from graphmeter import names
from graphmeter_collector import budgets
from graphmeter_collector.keys import make, scopes_of
from graphmeter_collector.store.keys import KeyTable
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
