"""`graphmeter budget` on a database: what is set is listed, shown, told with its spend, and removed."""

from __future__ import annotations

import asyncio

import pytest

from cli.running import failure, json_of, run
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_config import Config
from support.records import T0_NS


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
