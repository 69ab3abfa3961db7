"""Collector and database are killed under load: what was acknowledged is there, and sums are those of a calm day.

`make prove-kills` kills twenty times; the suite a few times. What "there" means is checked while everybody is dead; sums
(runs, nodes, ledger, rollups: every table) are compared with those of a collector that got the same runs in peace.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from acceptance.load import deliver_calmly, load
from acceptance.processes import Collector, collector, until
from collector.store.dump import dump
from graphmeter_collector.store.migrate import migrate
from support import postgres
from support.ports import free_port
from support.records import trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = int(os.environ.get("KILLS", "2"))


@pytest.fixture(scope="module")
def own_server() -> Iterator[postgres.Server]:
    """A server that tests may kill."""
    binaries = postgres.system_binaries() or postgres.embedded_binaries()
    assert binaries is not None, postgres.HOW_TO_GET_ONE
    with postgres.start(binaries) as server:
        yield server


@pytest.fixture
def own_url(own_server: postgres.Server) -> str:
    url = own_server.create()
    migrate(url)
    return url


def stored(database_url: str) -> set[bytes]:
    """Traces of which every span is there."""
    spans = asyncio.run(dump(database_url))["span"]
    counts: dict[bytes, int] = {}
    for span in spans:
        counts[span["trace_id"]] = counts.get(span["trace_id"], 0) + 1
    return {found for found, count in counts.items() if count == 4}


def replayed(running: Collector) -> bool:
    names = ("database_away", "spool_bytes", "replaying")
    return not any(running.metric(f"graphmeter_collector_{name}") for name in names)


def test_a_collector_killed_at_random_under_load_loses_and_doubles_nothing(database_url: str, tmp_path: Path) -> None:
    dice, port = random.Random(KILLS), free_port()
    with ExitStack() as life:
        running = life.enter_context(collector(tmp_path / "killed", database_url=database_url, port=port))
        with load(running) as sent:
            for _ in range(KILLS):
                sent.wait_for(dice.randrange(1, 60))
                running.stop(signal.SIGKILL)
                acknowledged = {trace(number) for number in list(sent.acknowledged)}
                assert set() == acknowledged - stored(database_url)
                life.close()
                running = life.enter_context(collector(tmp_path / "killed", database_url=database_url, port=port))
            sent.wait_for(20)
    calm_url = f"sqlite:///{tmp_path / 'calm.db'}"
    with collector(tmp_path / "calm", database_url=calm_url) as calm:
        deliver_calmly(calm, sent)

    expected = asyncio.run(dump(calm_url))
    assert expected == asyncio.run(dump(database_url))
    assert expected["ledger_waste"]


def test_a_postgres_stopped_and_crashed_under_load_is_not_noticed_by_senders(
    own_server: postgres.Server, own_url: str, tmp_path: Path
) -> None:
    dice = random.Random(KILLS)
    with collector(tmp_path / "bereft", database_url=own_url) as running:
        with load(running) as sent:
            for number in range(KILLS):
                sent.wait_for(dice.randrange(1, 60))
                (own_server.crash if number % 2 else own_server.stop)()
                sent.wait_for(dice.randrange(1, 60))
                own_server.restart()
            sent.wait_for(20)
        until("the replay", lambda: replayed(running))
    calm_url = f"sqlite:///{tmp_path / 'calm.db'}"
    with collector(tmp_path / "calm", database_url=calm_url) as calm:
        deliver_calmly(calm, sent)

    assert [] == sent.refused
    assert asyncio.run(dump(calm_url)) == asyncio.run(dump(own_url))


def test_a_collector_killed_during_an_outage_and_during_replay_loses_and_doubles_nothing(
    own_server: postgres.Server, own_url: str, tmp_path: Path
) -> None:
    port, arguments = free_port(), ("--allow-anonymous",)
    with ExitStack() as life:

        def start() -> Collector:
            life.close()
            return life.enter_context(collector(tmp_path / "killed", *arguments, database_url=own_url, port=port))

        running = start()
        with load(running) as sent:
            sent.wait_for(10)
            own_server.crash()
            sent.wait_for(40)
            running.stop(signal.SIGKILL)
            running = start()  # without its database
            sent.wait_for(40)
            own_server.restart()
            until("replay", lambda: running.metric("graphmeter_collector_spans_replayed_total"))
            running.stop(signal.SIGKILL)
            running = start()
        until("the rest of the replay", lambda: replayed(running))
        assert set() == {trace(number) for number in sent.acknowledged} - stored(own_url)
    calm_url = f"sqlite:///{tmp_path / 'calm.db'}"
    with collector(tmp_path / "calm", database_url=calm_url) as calm:
        deliver_calmly(calm, sent)

    assert [] == sent.refused
    assert asyncio.run(dump(calm_url)) == asyncio.run(dump(own_url))
