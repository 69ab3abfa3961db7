"""Guards against a real collector: they count what its ledger bills, and what goes beyond a shared budget is bounded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graphmeter
from acceptance.processes import READY_WITHIN_S, Collector, collector, start_program, until
from callbacks.fakes import FakeChat, State, asking, chain_of
from graphmeter import BudgetExceeded, BudgetGuard, GraphMeterCallbackHandler, client, meter
from graphmeter.budget import counts, desk
from graphmeter.budget.states import COLLECTOR_LAG_S, MARGIN_S
from support.measured import alone

CONFIG = """
prices:
  overrides:
    - {name: mine, model: "gpt-4o-mini*", rates: {input: 3, cache_read: 0.7, output: 11, reasoning: 13}, currency: EUR}
    - name: tiers
      provider: anthropic
      model: "claude*"
      rates: {input: 2, output: 8}
      tiers: [{above: 100, rates: {input: 5}}]
    - {name: asked, deployment: our-own, rates: {input: 1, output: 1}, service_tiers: {flex: 50%}, discount: 10%}
    - {name: fee, model: "each*", per_call: 0.001}
  discounts:
    - {name: contract, provider: openai, percent: 12.5%}
  currencies:
    - {currency: EUR, rates: [{from: 2026-01-01, usd_per_unit: "1.0837"}]}
budgets:
  - {name: shared, limit_usd: 0.6, match: {team: shared}, hard: true}
  - {name: teams, limit_usd: 0.002, per: [team], period: day}
"""
LIMIT_NANO = 600_000_000
CALL_NANO = 1_000_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("collector")
    (folder / "graphmeter.yaml").write_text(CONFIG)
    with collector(folder, "--config", str(folder / "graphmeter.yaml")) as started:
        yield started


@pytest.fixture(autouse=True)
def application(running: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with alone(monkeypatch):
        counts.forget()
        # A flush is of all that a process has: what other tests left behind for collectors that are gone is none of these.
        monkeypatch.setattr(client, "_pipelines", {})
        monkeypatch.setattr(desk, "_desks", {})
        # A busy machine may take a while to answer.
        monkeypatch.setattr(desk, "PATIENCE_S", 60.0)
        monkeypatch.setattr(desk, "LEAST_PATIENCE_S", 60.0)
        yield
        client.shutdown(5)


def billed(running: Collector, team: str) -> tuple[int, int]:
    """Calls and nano-USD on the ledger."""
    rows = [row for row in running.get("/api/cost?by=team") if row["group"]["team"] == team]
    return sum(row["calls"] for row in rows), sum(row["cost_nano"] for row in rows)


def of(provider: str, model: str, said: int, answer: int, **details: Any) -> FakeChat:
    usage = {"input_tokens": said, "output_tokens": answer, "total_tokens": said + answer, **details}
    # Ids of answers of its own: one id is one call, whoever else reports it.
    return FakeChat(provider=provider, model=model, usage=usage, answers=1_000 * said)


MODELS = [
    of("openai", "gpt-4o-mini", 10, 5),
    of(
        "openai",
        "gpt-4o-mini",
        1001,
        77,
        input_token_details={"cache_read": 999},
        output_token_details={"reasoning": 33},
    ),
    of("openai", "gpt-4o", 1234, 567, input_token_details={"cache_read": 1000, "audio": 100}),
    of("anthropic", "claude-sonnet-4-5", 100, 1),
    of(
        "anthropic",
        "claude-sonnet-4-5",
        101,
        1,
        input_token_details={"cache_creation": 7, "ephemeral_1h_input_tokens": 50},
    ),
    of("azure", "our-own", 7, 3),
    of("openai", "each-and-every", 3, 3),
    of("google_genai", "gemini-2.5-pro", 250_000, 9),
]


def test_the_cap_of_a_run_counts_to_the_nano_what_the_ledger_bills(running: Collector) -> None:
    seen: list[int] = []

    def look(state: State) -> State:
        seen.append(graphmeter.budget.status("run").spent_units)
        return {"x": 1}

    nodes = [(f"n{number}", asking(model)) for number, model in enumerate(MODELS)]
    handler = GraphMeterCallbackHandler(endpoint=running.url)
    guard = BudgetGuard(per_run_usd=100, endpoint=running.url)
    graph = meter(chain_of(*nodes, ("look", look)), handler=handler, budget=guard, team="exact")
    for _ in range(2):
        graph.invoke({})
    assert graphmeter.flush(READY_WITHIN_S)
    calls, nano = billed(running, "exact")
    assert (2 * len(MODELS), [nano // 2] * 2) == (calls, seen)
    assert 0 < nano == sum(seen)
    assert {} == graphmeter.stats().guarded


def test_wildcard_budgets_are_matched_as_the_collector_does(running: Collector) -> None:
    model = of("openai", "each", 1, 1)
    handler = GraphMeterCallbackHandler(endpoint=running.url)
    guard = BudgetGuard("teams", max_age_s=600, fail="closed", endpoint=running.url)
    graph = meter(chain_of(("a", asking(model))), handler=handler, budget=guard)

    def run(team: str) -> None:
        graph.invoke({}, {"metadata": {"graphmeter_team": team}})

    for team in ("red", "blue", ""):
        for _ in range(2):
            run(team)
        with pytest.raises(BudgetExceeded, match=team or "unattributed"):
            run(team)
    assert 6 == model.answers - 1_000
    # What the collector says takes the place of what this process knew by itself.
    assert graphmeter.flush(READY_WITHIN_S)
    known = desk.desk_of(running.url)

    def told() -> bool:
        known.states.asked_at = float("-inf")  # as if it was long ago: a guard asks again
        with pytest.raises(BudgetExceeded):
            run("red")
        return not known.states._sums

    until("local spend to be told by the collector", told)
    with pytest.raises(BudgetExceeded, match=r"team red\): 0.002 of 0.002 USD"):
        run("red")
    run("green")
    with pytest.raises(ValueError, match=r"budget 'taems' is not known to the collector at .*; did you mean 'teams'?"):
        BudgetGuard("taems", endpoint=running.url)


WORKER = """
import json, threading, time
from callbacks.fakes import FakeChat, asking, chain_of
from graphmeter import BudgetExceeded, BudgetGuard, flush, meter, stats
from graphmeter.budget import desk

desk.PATIENCE_S = desk.LEAST_PATIENCE_S = 60.0
calls = []  # appending is safe in threads, adding is not
model = FakeChat(model="each", delay_s=0.25, seen=lambda: calls.append(None))
guard = BudgetGuard("shared", max_age_s=1.0, fail="closed")
graph = meter(chain_of(("a", asking(model))), team="shared", budget=guard)

def work():
    while True:
        try:
            graph.invoke({})
        except BudgetExceeded as stop:
            assert stop.budget == "shared", stop
            return

began = time.monotonic()
threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took = time.monotonic() - began
began = time.monotonic()
assert flush(60)
sent = time.monotonic() - began
print(json.dumps({"calls": len(calls), "took": took, "sent": sent, "stopped": stats().guarded["stopped"]}))
"""


def test_thirty_two_workers_exceed_a_cached_budget_by_no_more_than_the_documented_bound(
    running: Collector, tmp_path: Path
) -> None:
    environment = {"GRAPHMETER_ENDPOINT": running.url, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1])])}
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    workers = [start_program(folder, WORKER, **environment) for folder in folders]
    assert [0, 0] == [worker.wait(180) for worker in workers], [
        (folder / "program.log").read_text() for folder in folders
    ]
    told = [json.loads((folder / "program.log").read_text().splitlines()[-1]) for folder in folders]
    calls, nano = billed(running, "shared")
    assert (sum(each["calls"] for each in told), calls * CALL_NANO) == (calls, nano)
    assert [16, 16] == [each["stopped"] for each in told]
    # Rate of the other process times how old its spend may be here, and what was in flight. On a busy machine sending and
    # storing take the time that they take.
    age_s = 1.0 + COLLECTOR_LAG_S + 2 * (0.5 + MARGIN_S + max(each["sent"] for each in told))
    bound = max(each["calls"] / each["took"] for each in told) * age_s * CALL_NANO + 32 * CALL_NANO
    # Below the limit by what each process counted twice until the collector's answer was sure to contain it.
    assert LIMIT_NANO / 4 < nano <= LIMIT_NANO + bound
