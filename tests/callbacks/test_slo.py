"""`graphmeter.slo.status()`: what the collector says, from memory; nothing waits in an event loop, and nothing raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import graphmeter
from acceptance.processes import until
from callbacks.fakes import State, chain_of
from graphmeter import meter
from graphmeter.budget import counts
from graphmeter.budget import desk as desks
from graphmeter.budget.desk import Desk
from graphmeter.testing import InMemorySpans, budgets, slos
from graphmeter_collector.objectives import told
from graphmeter_collector.reports import BurnRow, SloRow
from graphmeter_config import Config, Slo

pytestmark = pytest.mark.usefixtures("no_faults")
CONFIG = Config(
    slos=(
        Slo(name="runs", objective=Decimal("99.5")),
        Slo.model_validate({"name": "models", "of": "models", "objective": "99"}),
    )
)
BURN = BurnRow("page-fast", "page", 14.4, "5m", "1h", 9, 9, 200.0, 9, 9, 200.0, crossed=True)
SUPPORT = SloRow("runs", "support", "99.5", 2_592_000, 90, 10, 0.9, -19.0, {"graph": "support"}, burn=(BURN,))
RESEARCH = replace(SUPPORT, graph="research", good=100, bad=0, budget_remaining_ratio=1.0, burn=(), burn_rate=0.0)
RESEARCH = replace(RESEARCH, scope={"graph": "research"}, achieved_ratio=1.0)
ROWS = [
    SUPPORT,
    RESEARCH,
    *(
        replace(RESEARCH, slo="models", scope={"provider": "openai", "model": name}, budget_remaining_ratio=left)
        for name, left in (("gpt-4o", 0.5), ("gpt-5", 0.25))
    ),
]


class Fake(ThreadingHTTPServer):
    """Answers as a collector does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        """If-None-Match of each question."""
        self.hang = threading.Event()
        self.hang.set()
        self.refuse = False
        self.rows = ROWS


class _Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        assert "/api/slos/status" == self.path
        sent = self.headers.get("if-none-match", "")
        self.server.asked.append(sent)
        self.server.hang.wait(20)
        found = told(CONFIG, self.server.rows, time.time_ns())
        same = sent == f'"{found.etag}"'
        self.send_response(503 if self.server.refuse else 304 if same else 200)
        body = b"away" if self.server.refuse else b"" if same else found.body
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", f'"{found.etag}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """The process's own collector."""
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    counts.forget()
    desk = Desk(f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(desks, "_desks", {"": desk})
    yield server
    server.hang.set()
    monkeypatch.setattr(desks, "IDLE_S", -1.0)
    desk._bell.set()
    if desk._thread is not None:
        desk._thread.join(10)
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_worst_is_told_unless_it_is_said_which_one(fake: Fake) -> None:
    found = graphmeter.slo.status("runs")
    assert (True, True, -19.0, ("page-fast",), 99.5, {"graph": "support"}) == (
        found.known,
        found.reachable,
        found.remaining_ratio,
        found.burning,
        found.objective_percent,
        found.scope,
    )
    assert found.exhausted
    assert "SLO 'runs' (graph support): -1900.0% of the error budget is left" == str(found)
    assert 1.0 == graphmeter.slo.status("runs", graph="research").remaining_ratio
    # What never happened has all of it left.
    other = graphmeter.slo.status("runs", graph="other")
    assert (True, 1.0, None, {"graph": "other"}) == (
        other.known,
        other.remaining_ratio,
        other.achieved_ratio,
        other.scope,
    )
    assert 0.25 == graphmeter.slo.status("models").remaining_ratio
    assert 0.5 == graphmeter.slo.status("models", model="gpt-4o").remaining_ratio
    # One question answered all of that.
    assert [""] == fake.asked


def test_in_a_graph_it_is_that_graph(fake: Fake, spans: InMemorySpans) -> None:
    seen: list[float] = []

    def node(_: State) -> dict[str, Any]:
        seen.append(graphmeter.slo.status("runs").remaining_ratio)
        return {}

    for name in ("research", "support", "new"):
        meter(chain_of(("a", node)), name=name, handler=spans.handler()).invoke({})
    assert [1.0, -19.0, 1.0] == seen


def test_a_name_that_nobody_knows_is_said_once(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        found = graphmeter.slo.status("run")
        assert (False, True, 1.0) == (found.known, found.reachable, found.remaining_ratio)
    assert "did you mean 'runs'?" in found.why
    assert 1 == sum("did you mean" in record.message for record in caplog.records)


async def test_an_event_loop_waits_for_nothing(fake: Fake) -> None:
    fake.hang.clear()
    first = graphmeter.slo.status("runs")
    assert (False, True) == (first.known, first.reachable)
    assert "asking the collector" in first.why
    fake.hang.set()
    until("the answer, in the background", lambda: graphmeter.slo.status("runs").known)


def test_a_collector_that_is_away_is_said_and_what_it_said_before_stands(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphmeter.budget.desk.MAX_AGE_S", 0.2)
    fake.refuse = True
    found = graphmeter.slo.status("runs")
    assert (False, False, 1.0, False) == (found.known, found.reachable, found.remaining_ratio, found.exhausted)
    assert "does not answer: HTTP 503 away" in found.why
    assert "HTTP 503" in str(found)

    fake.refuse = False
    until("the collector is back", lambda: graphmeter.slo.status("runs").known)
    until("it is asked with the tag of its last answer", lambda: any(fake.asked))
    fake.refuse = True
    until("it is away again", lambda: not graphmeter.slo.status("runs").reachable)
    stale = graphmeter.slo.status("runs")
    assert (True, -19.0) == (stale.known, stale.remaining_ratio)
    assert "HTTP 503" in stale.why
    monkeypatch.setattr("graphmeter.slo._TOO_OLD_S", 0.0)
    assert not graphmeter.slo.status("runs").known


def test_applications_test_what_they_do_when_a_budget_runs_low(spans: InMemorySpans) -> None:
    with slos(**{"support-availability": {"remaining_ratio": 0.05, "exhausted_in_s": 60}}) as known:
        found = graphmeter.slo.status("support-availability")
        assert (0.05, True) == (found.remaining_ratio, 50 < (found.exhausted_in_s or 0) <= 60)
        known.say("support-availability", burning=["page-fast"], remaining_ratio=-0.5)
        assert graphmeter.slo.status("support-availability").exhausted
        # Beside budgets, whichever of the two is around the other.
        with budgets(b={"limit_usd": 1, "spent_usd": 2}):
            assert ("page-fast",) == graphmeter.slo.status("support-availability").burning
            with slos(other={"remaining_ratio": 0.5}):
                assert 0.5 == graphmeter.slo.status("other").remaining_ratio
                assert not graphmeter.slo.status("support-availability").known
                assert graphmeter.budget.status("b").exceeded
            assert graphmeter.budget.status("b").exceeded
        known.fail()
        away = graphmeter.slo.status("support-availability")
        assert (False, False, "graphmeter.testing: said to fail") == (away.known, away.reachable, away.why)
        known.fail(failing=False)
        assert graphmeter.slo.status("support-availability").known
    with pytest.raises(ValueError, match="remaining is none of achieved_ratio"), slos(a={"remaining": 1}):
        pass
