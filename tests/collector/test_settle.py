"""Settling in a running collector: by itself, soon after the last span of a trace, and to be seen from outside."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.served import Served, configured, served
from collector.store.dump import opened
from collector.waiting import end, until, until_true
from graphmeter import names
from graphmeter_collector import settle as module
from graphmeter_collector.store.engine import parse
from graphmeter_collector.store.sqlite import SqliteStore
from graphmeter_collector.telemetry import Metrics
from support import otlp
from support.foreign import foreign
from support.records import SECOND, span_id, trace

SDK = "opentelemetry.instrumentation.openai.v1"
CALL = {
    names.OPERATION: names.OP_CHAT,
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-4o",
    names.USAGE_INPUT: 1_000,
    names.USAGE_OUTPUT: 100,
}
IN_OUR_NODE = ("shop", "test", "support", "cx", "answer", "openai", "gpt-4o")


def sdk_call(number: int = 30, *, parent: int = 2) -> Span:
    """A call of gpt-4o that an SDK's instrumentation recorded: 3,500,000 nano-USD."""
    return otlp.span(number, CALL, start_ns=time.time_ns() - 2 * SECOND, parent=span_id(parent))


async def spend(it: Served) -> list[tuple[str, str, int]]:
    """Graph, node and nano-USD of what is on the ledger."""
    rows = await it.collector.store.reader.cost(("graph", "node"), 0, 1 << 62)
    return [(row.group["graph"], row.group["node"], row.cost_nano) for row in rows]


async def settled(*collectors: Served) -> None:
    """Return when one of them has settled a span, and counted it: after the commit that others may see already."""

    def so() -> bool:
        metrics = [it.collector.metrics for it in collectors]
        return any(each.value(names.COLLECTOR_SETTLED, by) for each in metrics for by in ("ancestors", "timeout"))

    await until(so)


async def shown(it: Served, unsettled: int) -> None:
    """Return when the gauge has the value; it may just be refreshed from what was read before."""

    async def so() -> bool:
        await it.collector.jobs.refresh_gauges()
        return it.collector.metrics.value(names.COLLECTOR_UNSETTLED) == unsettled

    await until_true(so)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.01)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)


async def test_a_call_in_our_node_counts_for_it_as_soon_as_the_node_has_come(database_url: str) -> None:
    async with served(database_url) as it:
        await it.send(sdk_call(), scope=SDK)
        assert [] == await spend(it)
        assert 0 == it.collector.metrics.value(names.LLM_CALLS, *IN_OUR_NODE, "ok")
        assert [False] == [row.settled for row in await it.collector.store.reader.spans(trace(1).hex())]
        metrics = it.collector.metrics
        await shown(it, 1)
        await it.send(*otlp.run(1, start_ns=time.time_ns() - 3 * SECOND))

        await settled(it)
        assert [("support", "answer", 7_000_000)] == await spend(it)
        assert 2 == metrics.value(names.LLM_CALLS, *IN_OUR_NODE, "ok")
        assert 1 == metrics.value(names.COLLECTOR_SETTLED, "ancestors")
        assert 7_000_000 == (await it.get(f"/api/runs/{trace(1).hex()}"))["cost_nano"]
        assert {True} == {row["settled"] for row in await it.get(f"/api/runs/{trace(1).hex()}/trace")}
        await shown(it, 0)
        assert 0 == metrics.value(names.COLLECTOR_UNSETTLED_AGE)


async def test_the_configuration_says_how_long_ancestors_are_waited_for(sqlite_url: str, tmp_path: Path) -> None:
    config = configured(tmp_path, "runs: {settle_after: 200ms}")
    async with served(sqlite_url, config=config) as it:
        await it.send(sdk_call(), scope=SDK)
        await settled(it)
        assert [("", names.UNATTRIBUTED, 3_500_000)] == await spend(it)
        assert 1 == it.collector.metrics.value(names.COLLECTOR_SETTLED, "timeout")


async def test_a_collector_finds_what_one_before_it_left_unsettled(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        await it.send(sdk_call(), scope=SDK)
    async with served(sqlite_url) as it:
        assert [] == await spend(it)
        await it.send(*otlp.run(1, start_ns=time.time_ns() - 3 * SECOND))
        await settled(it)
        assert [("support", "answer", 7_000_000)] == await spend(it)


async def test_two_collectors_get_child_and_parent_at_the_same_time(postgres_url: str) -> None:
    async with served(postgres_url) as left, served(postgres_url) as right:
        await left.send(sdk_call(), scope=SDK)
        await right.send(*otlp.run(1, start_ns=time.time_ns() - 3 * SECOND))

        await settled(left, right)
        assert [("support", "answer", 7_000_000)] == await spend(left)
        told = sum(it.collector.metrics.value(names.LLM_CALLS, *IN_OUR_NODE, "ok") for it in (left, right))
        assert 2 == told


async def test_a_database_that_is_away_is_a_failure_of_the_job_and_the_next_look_comes(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AFTER_FAILURE_S", 0.01)
    store, metrics = SqliteStore(parse(sqlite_url)), Metrics()
    settler = module.Settler(store, metrics, lambda _: None, lambda: 0.0)
    running = asyncio.create_task(settler.run())
    await until(lambda: metrics.value(names.COLLECTOR_JOB_FAILURES, "settle") > 1)
    await store.open()
    settler.notice(await store.write([foreign(2, names.MODEL, parent=1)]))

    await until(lambda: metrics.value(names.COLLECTOR_SETTLED, "timeout") == 1)

    await end(running)
    await store.close()


async def test_nobody_is_given_up_whose_ancestors_may_be_on_disk(database_url: str) -> None:
    on_disk, metrics = {"here": True}, Metrics()
    async with opened(database_url) as store:
        settler = module.Settler(store, metrics, lambda _: None, lambda: 0.0, lambda: not on_disk["here"])
        await store.write([foreign(2, names.MODEL, parent=1)])
        assert [0, 0] == [await settler.settle(), await settler.settle()]
        on_disk["here"] = False
        async with store.job_lock("settle") as another_replays:
            assert (True, 0) == (another_replays, await settler.settle())
        assert 1 == await settler.settle()
    assert 1 == metrics.value(names.COLLECTOR_SETTLED, "timeout")
