"""Sampling as the configuration in force has it: switched on and off while running, and what exemplars may name."""

from __future__ import annotations

import time
from pathlib import Path

from collector.forward.backend import backend, eventually
from collector.served import Served, configured, served
from graphmeter import names
from graphmeter_collector.store.decisions import UNDECIDED
from support import otlp
from support.records import trace

RULES = "sampling:\n  rules:\n  - {name: all, keep: 0%, expensive_usd: 0.003}\n"


async def exemplars(it: Served) -> str:
    """The metrics with their exemplars, of children that were scraped before."""
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    await it.http.get("/metrics", headers=accept)
    return (await it.http.get("/metrics", headers=accept)).text


async def test_rules_hold_from_the_reload_on_and_no_longer_than_to_the_next(sqlite_url: str, tmp_path: Path) -> None:
    config = configured(tmp_path, "")
    async with backend() as to, served(sqlite_url, config=config, forward=[to.endpoint]) as it:
        await it.send(*otlp.run(1, start_ns=time.time_ns()))
        await eventually(lambda: len(to.accepted) == 3)

        configured(tmp_path, RULES)
        it.collector.reload()
        await it.send(*otlp.run(2, start_ns=time.time_ns()))
        assert 3 == (await it.collector.store.outbox_depth())[UNDECIDED]

        configured(tmp_path, "")
        it.collector.reload()
        assert it.collector.sampler is not None
        await it.collector.sampler.judge(time.time_ns())
        await it.send(*otlp.run(3, start_ns=time.time_ns()))
        await eventually(lambda: len(to.accepted) == 9)


async def test_where_everybody_gets_all_nothing_waits_for_a_decision(sqlite_url: str, tmp_path: Path) -> None:
    async with backend() as to:
        destination = f"forward:\n  destinations:\n  - {{name: all, endpoint: '{to.endpoint}', sampled: false}}\n"
        async with served(sqlite_url, config=configured(tmp_path, destination + RULES)) as it:
            await it.send(*otlp.run(1, start_ns=time.time_ns()))
            await eventually(lambda: len(to.accepted) == 3)
            assert trace(1).hex() in await exemplars(it)


async def test_exemplars_name_only_traces_that_are_kept_for_certain(sqlite_url: str, tmp_path: Path) -> None:
    async with served(sqlite_url, config=configured(tmp_path, RULES), forward=["http://127.0.0.1:9"]) as it:
        await it.send(*otlp.run(1, start_ns=time.time_ns())[:2])
        await it.send(*otlp.run(2, start_ns=time.time_ns(), status=names.ERROR))
        # Each run costs 0.0035 USD: what the root and the call tell is enough.
        await it.send(*otlp.run(3, start_ns=time.time_ns()))
        shown = await exemplars(it)
    assert (False, True, True) == tuple(trace(of).hex() in shown for of in (1, 2, 3))
