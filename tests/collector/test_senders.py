"""From another sender's request to the database: the same runs, nodes and bills as of our own handler's spans."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from collector.decode import senders
from collector.store.dump import dump, opened
from graphmeter import names
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.price.book import PriceBook

GRAPH = "support, with a subgraph"
MINUTE = 60_000_000_000


async def stored(message: Any, url: str) -> dict[str, Counter[tuple[Any, ...]]]:
    """What the database holds after the spans came in two halves, children first."""
    records = sorted(decode_request(message, Window(0, 2**63 - 1)).records, key=lambda record: -record.start_ns)
    book = PriceBook()
    for record in records:
        book.price(record)
    half = len(records) // 2
    async with opened(url) as store:
        await store.write(records[:half])
        await store.write(records[half:])
        await store.settle(time.time_ns(), MINUTE)
    rows = await dump(url)
    [run] = rows["run"]
    assert {run["run_id"]} == {row["run_id"] for row in rows["ledger"]}
    return {
        "runs": Counter([(run["graph"], run["status"], run["model_calls"], run["cost_nano"])]),
        "bills": Counter((row["graph"], row["node"], row["model"], row["cost_nano"]) for row in rows["ledger"]),
        "nodes": Counter(
            {
                (row["kind"], row["graph"], row["node"]): row["count"]
                for row in rows["rollup_hour"]
                if row["kind"] != names.MODEL
            }
        ),
    }


@pytest.mark.parametrize("sender", ["openinference", "openllmetry", "langfuse"])
async def test_a_graph_is_the_same_in_the_database_whoever_sends_it(
    sender: str, sqlite_url: str, postgres_url: str
) -> None:
    assert await stored(senders.ours(GRAPH), sqlite_url) == await stored(senders.sent(sender, GRAPH), postgres_url)
