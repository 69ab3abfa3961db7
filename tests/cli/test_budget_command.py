"""`graphmeter budget` on a database: what is set is listed, shown, told with its spend, and removed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from cli.running import failure, json_of, run
from graphmeter_collector.reports import Ask
from graphmeter_collector.store import open_store
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.reservations import ReservationTable
from graphmeter_config import Budget, Config
from support.records import T0_NS, call


def test_a_budget_is_set_shown_and_removed(database_url: str) -> None:
    at = ("--database-url", database_url)
    said = run("budget", "set", "acme", "--limit-usd", "250", "--match", "tenant=acme", "--per", "user", "--hard", *at)
    assert (0, "Budget acme is in force, on every collector.\n") == (said.exit_code, said.stdout)
    said = run("budget", "set", "acme", "--limit-tokens", "5_000", "--rolling", "24h", "--match", "tenant=acme", *at)
    assert "Budget acme is in force, changed, on every collector.\n" == said.stdout

    [listed] = json_of("budget", "list", *at)
    expected = {"name": "acme", "limit_tokens": 5000, "rolling": "1d", "match": {"tenant": ["acme"]}}
    assert ("acme", "api", expected) == (listed["name"], listed["source"], listed["definition"])
    assert "5,000 tokens" in run("budget", "list", *at).stdout
    assert "limit_tokens: 5000\n" in run("budget", "show", "acme", *at).stdout
    [row] = json_of("budget", "status", "acme", *at)
    assert (0, 5000, 5000, "tokens") == (row["spent_tokens"], row["limit_tokens"], row["remaining"], row["unit"])
    assert "no call was counted" in run("budget", "status", *at).stdout

    assert 0 == run("budget", "remove", "acme", *at).exit_code
    assert [] == json_of("budget", "list", *at)
    assert "there is no budget 'acme'" in failure(1, "budget", "remove", "acme", *at)


def test_spend_in_doubt_is_counted_anew(database_url: str) -> None:
    at = ("--database-url", database_url)

    async def spend() -> None:
        store, table = await open_store(database_url), BudgetTable(database_url)
        now_ns = time.time_ns()
        for name, per in (("a", ()), ("b", ("team",))):
            await table.put(
                Budget.model_validate({"name": name, "limit_usd": "1", "rolling": "48h", "per": per}), now_ns
            )
        await store.write([call(1, nano=7, start_ns=now_ns), call(2, nano=5, start_ns=now_ns, team="ops")])
        for one in await table.in_force():  # what went wrong
            await table.expire({one.budget.key: 1 << 62})
        await store.close()
        await table.close()

    def spent() -> dict[str, int]:
        found: Counter[str] = Counter()
        for row in json_of("budget", "status", *at):
            found[row["budget"]] += row["spent_nano"]
        return dict(found)

    asyncio.run(spend())
    assert {"a": 0} == spent()
    assert {"budget": "b", "sums": 2} == json_of("budget", "recount", "b", *at)
    assert {"a": 0, "b": 12} == spent()
    said = run("budget", "recount", *at)
    assert (0, "All budgets were counted anew from the ledger: 3 sums.\n") == (said.exit_code, said.stdout)
    assert {"a": 12, "b": 12} == spent()
    assert "there is no budget 'c'" in failure(1, "budget", "recount", "c", *at)
    assert "summed on the database" in failure(2, "budget", "recount", "--url", "http://127.0.0.1:9")


def test_what_is_reserved_stands_beside_what_is_spent(database_url: str) -> None:
    at = ("--database-url", database_url)

    async def reserve() -> None:
        table = ReservationTable(database_url)
        await table.reserve([Ask("0123456789", "acme", {"user": "u1"}, 25 * 10**9, None, 900 * 10**9)], time.time_ns())
        await table.close()

    run("budget", "set", "acme", "--limit-usd", "250", "--per", "user", "--rolling", "24h", *at)
    assert "reserved" not in run("budget", "status", *at).stdout
    asyncio.run(reserve())
    [row] = json_of("budget", "status", *at)
    assert ("u1", 0, 25 * 10**9, 1) == (
        row["scope"]["user"],
        row["spent_nano"],
        row["reserved_nano"],
        row["reservations"],
    )
    shown = run("budget", "status", *at).stdout
    assert ("reserved" in shown, "25.00" in shown) == (True, True)


def test_a_budget_that_is_being_counted_says_so(database_url: str) -> None:
    at = ("--database-url", database_url)

    async def leave_uncounted() -> None:
        store, table, now_ns = await open_store(database_url), BudgetTable(database_url), time.time_ns()
        await store.write([call(1, nano=7, start_ns=now_ns)])
        await table.put(Budget.model_validate({"name": "a", "limit_usd": 1}), now_ns, count=False)
        await store.close()
        await table.close()

    asyncio.run(leave_uncounted())
    assert [{"budget": "a", "counted": False}] == json_of("budget", "status", *at)
    assert "a: counting; it is new" in run("budget", "status", *at).stdout
    assert [False] == [each["counted"] for each in json_of("budget", "list", *at)]
    run("budget", "set", "b", "--limit-usd", "2", *at)
    assert {"a": 7, "b": 7} == {row["budget"]: row["spent_nano"] for row in json_of("budget", "status", *at)}


def test_budgets_of_the_file_are_changed_there(database_url: str) -> None:
    async def take() -> None:
        table = BudgetTable(database_url)
        await table.take(Config.default().budgets, T0_NS)
        await table.close()

    asyncio.run(take())
    for command in (("set", "team-monthly", "--limit-usd", "1"), ("remove", "team-monthly")):
        said = failure(1, "budget", *command, "--database-url", database_url)
        assert "the budget 'team-monthly' is one of graphmeter.yaml" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--limit-usd", "-3"), "limit_usd: not above zero (write an amount in USD: 250 or 99.50)"),
        ((), "limit_usd: is missing (add `limit_usd:`)"),
        (("--limit-usd", "1", "--timezone", "Berlin"), "timezone: an unknown time zone"),
        (("--limit-usd", "1", "--match", "grph=a"), "match.grph: no attribution of spend (did you mean `graph`?)"),
        (("--limit-usd", "1", "--threshold", "80"), "thresholds[0]: not a percentage"),
    ],
)
def test_a_definition_that_makes_no_sense_is_explained(
    sqlite_url: str, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in failure(2, "budget", "set", "a", *arguments, "--database-url", sqlite_url)
