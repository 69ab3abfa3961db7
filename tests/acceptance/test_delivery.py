"""What real clients send, delivered again, out of order and in halves to two collectors: the database stays the same."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from acceptance.processes import Collector, collector, run_program
from acceptance.programs import EXAMPLES
from acceptance.recording import recorder
from collector.store.dump import Dump, dump, opened
from graphmeter import names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Real input: every span of a workload over the example graphs, one request each."""
    folder = tmp_path_factory.mktemp("sent")
    with recorder() as record:
        run_program(folder, EXAMPLES, GRAPHMETER_ENDPOINT=record.url, OTEL_SERVICE_NAME="shop", RUNS="20")
    bodies = record.single_span_requests()
    assert len(bodies) > 150
    return bodies


def deliver(to: Collector, bodies: list[bytes]) -> None:
    """Send all, several at a time, and see each accepted in full."""
    with ThreadPoolExecutor(4) as senders:
        for status, answer in senders.map(to.post, bodies):
            assert (200, b"") == (status, answer)


def settled(database_url: str) -> Dump:
    """All rows, once the job has been round that ends waits: every ten seconds a collector would."""

    async def rows() -> Dump:
        async with opened(database_url) as store:
            await store.end_waits(time.time_ns())
        return await dump(database_url)

    return asyncio.run(rows())


def at_once(database_url: str) -> Dump:
    """All rows but those that a job writes, too, whenever it comes round."""
    rows = asyncio.run(dump(database_url))
    del rows["wait"]
    return rows


def test_the_same_requests_three_times_change_nothing(sent: list[bytes], database_url: str, tmp_path: Path) -> None:
    with collector(tmp_path, database_url=database_url) as running:
        deliver(running, sent)
        once = at_once(database_url)
        counted = once_counted(running)
        for _ in range(2):
            deliver(running, sent)

        assert once == at_once(database_url)
        assert counted == once_counted(running)


def test_any_order_gives_the_same_rows(sent: list[bytes], sqlite_url: str, postgres_url: str, tmp_path: Path) -> None:
    with collector(tmp_path / "a", database_url=sqlite_url) as running:
        deliver(running, sent)
    shuffled = sent.copy()
    random.Random(5).shuffle(shuffled)
    with collector(tmp_path / "b", database_url=postgres_url) as running:
        deliver(running, shuffled)

    assert settled(sqlite_url) == settled(postgres_url)


def test_halves_to_two_collectors_on_one_postgres_add_up(
    sent: list[bytes], sqlite_url: str, postgres_url: str, tmp_path: Path
) -> None:
    with collector(tmp_path / "alone", database_url=sqlite_url) as running:
        deliver(running, sent)
    shuffled = sent.copy()
    random.Random(6).shuffle(shuffled)
    third = len(shuffled) // 3
    with (
        collector(tmp_path / "left", database_url=postgres_url) as left,
        collector(tmp_path / "right", database_url=postgres_url) as right,
        ThreadPoolExecutor(2) as both,
    ):
        # The middle third goes to both, at the same time.
        list(both.map(deliver, (left, right), (shuffled[: 2 * third], shuffled[third:])))

    assert settled(sqlite_url) == settled(postgres_url)


def test_what_was_acknowledged_survives_a_killed_collector(
    sent: list[bytes], database_url: str, tmp_path: Path
) -> None:
    acknowledged = sent[: len(sent) // 2]
    with collector(tmp_path, database_url=database_url) as running:
        deliver(running, acknowledged)
        running.stop(signal.SIGKILL)
    after = asyncio.run(dump(database_url))
    assert len(kept(acknowledged)) == len(after["span"])
    with collector(tmp_path, database_url=database_url) as running:
        deliver(running, sent)
    assert len(kept(sent)) == len(asyncio.run(dump(database_url))["span"])


def kept(bodies: list[bytes]) -> list[bytes]:
    """Requests of one span that make a row in `span`: other notes than start records are kept elsewhere."""
    elsewhere = {names.NOTE_NAMES[kind] for kind in names.NOTES} - {names.OP_START}
    requests = [(body, ExportTraceServiceRequest.FromString(body)) for body in bodies]
    return [body for body, each in requests if each.resource_spans[0].scope_spans[0].spans[0].name not in elsewhere]


def once_counted(running: Collector) -> dict[str, Any]:
    """Counters of facts; the collector's own ones, which count duplicates too, left out."""
    counters = {}
    for line in running.text("/metrics").splitlines():
        if line.startswith("graphmeter_") and not line.startswith("graphmeter_collector_") and "_total" in line:
            series, _, value = line.rpartition(" ")
            counters[series] = float(value)
    assert counters
    return counters


def test_the_collector_stores_what_the_examples_did(database_url: str, tmp_path: Path) -> None:
    with collector(tmp_path, database_url=database_url) as running:
        printed = run_program(tmp_path, EXAMPLES, GRAPHMETER_ENDPOINT=running.url, OTEL_SERVICE_NAME="shop", RUNS="60")
        truth = json.loads(printed.splitlines()[-1])
        runs = running.get("/api/runs?limit=1000")
        nodes = running.get("/api/nodes?since=1h")
        [total] = running.get("/api/cost?by=&since=1h")

        assert truth == {
            "runs": len(runs),
            "attempts": sum(node["attempts"] for node in nodes),
            "executions": sum(node["runs"] for node in nodes),
            "model_calls": total["calls"],
            "tool_calls": sum(run["tool_calls"] for run in runs),
            "cost_nano": total["cost_nano"],
        }
        assert set() == {run["status"] for run in runs} & {"running", "lost"}
