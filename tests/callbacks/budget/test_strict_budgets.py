"""Strict budgets at the guard, with a real collector: 32 workers stay within the limit; nothing stays reserved for good."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import graphmeter
from acceptance.processes import Collector, collector, start_program, until
from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of
from graphmeter import BudgetExceeded, BudgetGuard, GraphMeterCallbackHandler, client, meter, stats
from graphmeter.budget import desk, strict
from graphmeter.budget.calls import OPEN

CALL = 15
"""Tokens of a call of the fake models."""
MOST = 20
"""What is reserved for one."""
CONFIG = """
budgets:
  - {name: tokens, limit_tokens: 600, per: [team], rolling: 24h}
  - {name: money, limit_usd: 0.01, per: [team], rolling: 24h, hard: true}
"""

pytestmark = pytest.mark.usefixtures("no_faults", "counted")


def options(folder: Path) -> tuple[str, str]:
    (folder / "graphmeter.yaml").write_text(CONFIG)
    return "--config", str(folder / "graphmeter.yaml")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One for tests that keep apart by team."""
    folder = tmp_path_factory.mktemp("collector")
    with collector(folder, *options(folder)) as found:
        yield found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test sends has left before its collector ends, and is none of another test's; nobody loses patience."""
    monkeypatch.setattr(client, "_pipelines", {})
    for module in (desk, strict):
        monkeypatch.setattr(module, "PATIENCE_S", 60.0)
    yield
    client.shutdown(5)


def metered(graph: Any, at: Collector, budget: str | list[str] = "tokens", *, team: str = "cx", **how: Any) -> Any:
    how = {"call_tokens": MOST, "max_age_s": 600, "fail": "closed", **how}
    guard = BudgetGuard(budget, mode="strict", endpoint=at.url, **how)
    return meter(graph, handler=GraphMeterCallbackHandler(endpoint=at.url), budget=guard, team=team)


def spent_and_reserved(at: Collector, budget: str = "tokens", team: str = "cx") -> tuple[int, int]:
    body = json.dumps({"attributes": {"team": team}, "tokens": 1 << 60, "nano_usd": 1 << 60}).encode()
    path = f"{at.url}/api/budgets/{budget}/reservations"
    request = urllib.request.Request(path, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        said = json.load(answer)
    return said["spent"], said["reserved"]


def settled(at: Collector, budget: str = "tokens", team: str = "cx") -> int:
    """Spend, once nothing is reserved any more."""
    graphmeter.flush(30)
    return int(until("nothing to be reserved", lambda: _spent_alone(at, budget, team), 30))


def _spent_alone(at: Collector, budget: str, team: str) -> int:
    spent, reserved = spent_and_reserved(at, budget, team)
    return 0 if reserved else spent


async def test_32_workers_stay_within_the_limit(tmp_path: Path, database_url: str, sent: None) -> None:
    with collector(tmp_path, *options(tmp_path), database_url=database_url) as running:
        await asyncio.to_thread(threads_stay_within_the_limit, running)
        await tasks_stay_within_the_limit(running)
        client.shutdown(5)


def threads_stay_within_the_limit(running: Collector) -> None:
    calls: list[None] = []  # appending is safe in threads, adding is not
    model = FakeChat(seen=lambda: calls.append(None))
    graph = metered(chain_of(("a", asking(model))), running)
    begin = threading.Barrier(32)

    def work() -> str:
        begin.wait()
        while True:
            try:
                graph.invoke({})
            except BudgetExceeded as stopped:
                return str(stopped)

    with ThreadPoolExecutor(32) as pool:
        said = [each.result() for each in [pool.submit(work) for _ in range(32)]]
    assert all("are reserved; the call may take 20" in each for each in said)
    assert (settled(running), {}) == (len(calls) * CALL, OPEN)
    assert 600 // MOST * CALL <= len(calls) * CALL <= 600
    assert {"stopped": 32} == stats().guarded


async def tasks_stay_within_the_limit(running: Collector) -> None:
    model = FakeChat()
    graph = metered(chain_of(("a", asking_async(model))), running, team="async")

    async def work() -> None:
        while True:
            try:
                await graph.ainvoke({})
            except BudgetExceeded:
                return

    await asyncio.gather(*(work() for _ in range(32)))
    assert await asyncio.to_thread(settled, running, team="async") == model.answers * CALL <= 600


def test_what_a_call_takes_at_most_is_its_prompt_and_what_it_may_answer(shared: Collector, sent: None) -> None:
    # gpt-4o-mini: 0.15 USD per million tokens in, 0.60 out. "hi" has at most 2 tokens, a message 16 more.
    reserved: list[tuple[int, int]] = []
    model = FakeChat(seen=lambda: reserved.append(spent_and_reserved(shared, "money")))

    def short(state: State) -> State:
        model.invoke("hi", max_tokens=1_000)
        return {"x": 1}

    metered(chain_of(("a", short)), shared, "money", call_tokens=None).invoke({})
    assert [(0, 18 * 150 + 1_000 * 600)] == reserved
    assert 10 * 150 + 5 * 600 == settled(shared, "money")


def test_a_call_that_fails_gives_back_what_was_reserved(shared: Collector, sent: None) -> None:
    model = FakeChat(failures=[ValueError("no")])
    graph = metered(chain_of(("a", asking(model))), shared, team="failing")
    with pytest.raises(ValueError, match="no"):
        graph.invoke({})
    graph.invoke({})
    assert CALL == settled(shared, team="failing")


def test_a_call_that_another_budget_stops_gives_back_what_was_reserved(shared: Collector, sent: None) -> None:
    model = FakeChat()
    graph = metered(chain_of(("a", asking(model))), shared, ["tokens", "money"], team="two", call_usd="0.02")
    with pytest.raises(
        BudgetExceeded, match=r"budget 'money' \(team two\): 0.00 of 0.01 USD are spent, 0.00 are reserved"
    ):
        graph.invoke({})
    until("the other one to be given up", lambda: spent_and_reserved(shared, team="two") == (0, 0))
    assert (0, {}) == (model.answers, OPEN)


DOOMED = """
import os, signal
from callbacks.fakes import FakeChat, asking, chain_of
from graphmeter import BudgetGuard, GraphMeterCallbackHandler, meter
from graphmeter.budget import strict
strict.TTL_S = TTL
model = FakeChat(seen=lambda: os.kill(os.getpid(), signal.SIGKILL))
guard = BudgetGuard("tokens", mode="strict", call_tokens=20)
meter(chain_of(("a", asking(model))), handler=GraphMeterCallbackHandler(), budget=guard, team="cx").invoke({})
"""


def test_reservations_outlive_a_killed_application_and_a_killed_collector_until_they_expire(
    tmp_path: Path, sqlite_url: str, sent: None
) -> None:
    model = FakeChat()
    tests = str(Path(__file__).parents[2])
    with collector(tmp_path, *options(tmp_path), database_url=sqlite_url) as first:
        for ttl_s in (strict.TTL_S, 0.5):
            program = DOOMED.replace("TTL_S = TTL", f"TTL_S = {ttl_s}")
            doomed = start_program(tmp_path, program, GRAPHMETER_ENDPOINT=first.url, PYTHONPATH=tests)
            assert -signal.SIGKILL == doomed.wait(120)
        until("the short one to expire", lambda: spent_and_reserved(first) == (0, MOST), 60)
        graphs = {
            fail: metered(chain_of(("a", asking(model))), first, team="away", fail=fail) for fail in ("open", "closed")
        }
        for each in graphs.values():
            each.invoke({})
        assert 2 * CALL == settled(first, team="away")
        first.stop(signal.SIGKILL)
    graphs["open"].invoke({})
    with pytest.raises(BudgetExceeded, match="nobody can tell"):
        graphs["closed"].invoke({})
    assert (3, {"failed_open": 1, "failed_closed": 1}) == (model.answers, stats().guarded)
    with collector(tmp_path, *options(tmp_path), database_url=sqlite_url, port=port_of(first)) as second:
        assert (0, MOST) == spent_and_reserved(second)
        # What was reserved in vain was released, or never made.
        assert 3 * CALL == settled(second, team="away")


def port_of(found: Collector) -> int:
    return int(found.url.rpartition(":")[2])
