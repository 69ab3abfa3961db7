"""`graphmeter retention`: what would go, and what goes."""

from __future__ import annotations

import asyncio
import time

import pytest

from cli.running import failure, json_of, run
from collector.store.dump import dump, opened
from graphmeter_collector.store.facts import DAY_NS
from support.records import T0_NS, whole_run

AGE_S = (time.time_ns() - T0_NS) / 1e9
"""How long ago the tests' runs start."""


async def _fill(url: str) -> None:
    async with opened(url) as store:
        old = [record for age in (40, 20, 1) for record in whole_run(age, at_s=AGE_S - age * DAY_NS / 1e9)]
        await store.write(old)


@pytest.fixture
def filled(database_url: str) -> str:
    asyncio.run(_fill(database_url))
    return database_url


def test_a_dry_run_counts_and_deletes_nothing(filled: str) -> None:
    before = asyncio.run(dump(filled))
    spans, bodies = len(before["span"]), len(before["span_body"])

    printed = json_of("retention", "run", "--dry-run", "--database-url", filled)

    assert printed["dry_run"]
    assert (spans // 3, bodies * 2 // 3) == (printed["tables"]["span"], printed["tables"]["span_body"])
    assert before == asyncio.run(dump(filled))
    assert "would go" in run("retention", "run", "--dry-run", "--database-url", filled).stdout


def test_what_is_too_old_goes(filled: str) -> None:
    before = asyncio.run(dump(filled))
    spans, bodies = len(before["span"]), len(before["span_body"])

    assert "are gone" in run("retention", "run", "--database-url", filled).stdout

    after = asyncio.run(dump(filled))
    assert (spans * 2 // 3, bodies // 3) == (len(after["span"]), len(after["span_body"]))
    assert 3 == len(after["run"])
    assert {0} == set(json_of("retention", "run", "--dry-run", "--database-url", filled)["tables"].values())


def test_an_embedded_database_in_use_is_said(sqlite_url: str) -> None:
    async def in_use() -> str:
        async with opened(sqlite_url):
            return await asyncio.to_thread(failure, 1, "retention", "run", "--database-url", sqlite_url)

    assert "is held by process" in asyncio.run(in_use())
