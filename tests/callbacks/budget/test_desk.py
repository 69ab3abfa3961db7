"""How a process asks its collector: once for all its guards, in the background, never in a call's path while it knows."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from acceptance.processes import until
from callbacks.fakes import FakeChat, asking, asking_async, chain_of
from graphmeter import BudgetExceeded, BudgetGuard, meter, names, stats
from graphmeter.budget import desk as desks
from graphmeter.budget.desk import Desk
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults", "counted")


class Fake(ThreadingHTTPServer):
    """Answers as a collector does, and notes what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, str]] = []
        """Path, If-None-Match, Authorization; in order."""
        self.refuse = 0
        self.hang = threading.Event()
        self.hang.set()
        self.spent = 0
        self.garbage = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, path: str) -> int:
        return sum(each[0].startswith(path) for each in self.asked)


class _Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        path, sent = self.path.partition("?")[0], self.headers.get("if-none-match", "")
        self.server.asked.append((path, sent, self.headers.get("authorization", "")))
        self.server.hang.wait(20)
        if self.server.refuse:
            self._answer(self.server.refuse, b'{"detail": "no"}')
            return
        said: Any = [1, 2] if self.server.garbage else self._budgets() if "budgets" in path else _PRICES
        etag = f'"{hash(json.dumps(said))}"'
        if sent == etag:
            self._answer(304, b"", etag)
        else:
            self._answer(200, json.dumps(said).encode(), etag)

    def _budgets(self) -> dict[str, Any]:
        row = {"budget": "b", "scope": {}, "unit": "tokens", "spent_tokens": self.server.spent, "rolling": True}
        one = {"budget": "b", "unit": "tokens", "limit": 100, "hard": True, "match": {}, "per": []}
        return {"budgets": [row], "definitions": [one]}

    def _answer(self, status: int, body: bytes, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if etag:
            self.send_header("etag", etag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


_PRICES = {
    "models": [
        {
            "provider": "openai",
            "model": "gpt-4o-mini-2026-01-01",
            "request_model": "gpt-4o-mini",
            "server": "",
            "price": {
                "bill_failed": False,
                "tariffs": [
                    {
                        "from_time_ns": 0,
                        "tiers": [{"above": None, "per_token": [7] * len(names.TOKEN_TYPES), "scale": 1}],
                    }
                ],
            },
            "service_tiers": {},
        }
    ],
    "until_ns": 2**62,
}


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.hang.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def threads_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads of desks end when they look up next."""
    yield
    monkeypatch.setattr(desks, "IDLE_S", -1.0)
    for each in desks.IN_USE:
        each.prices.wanted.clear()
        each._bell.set()
        if each._thread is not None:
            each._thread.join(10)


def graph_of(model: FakeChat, spans: InMemorySpans, guard: BudgetGuard) -> Any:
    return meter(chain_of(("a", asking(model))), handler=spans.handler(), budget=guard)


def test_one_request_serves_all_guards_and_threads(fake: Fake, spans: InMemorySpans) -> None:
    model = FakeChat()
    guards = [BudgetGuard("b", max_age_s=60, endpoint=fake.url) for _ in range(3)]
    graphs = [graph_of(model, spans, guard) for guard in guards]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda graph: graph.invoke({}), graphs * 2))
    assert 1 == fake.count("/api/budgets")
    assert {} == stats().guarded


def test_news_arrive_in_the_background_and_unchanged_answers_are_not_sent_again(
    fake: Fake, spans: InMemorySpans
) -> None:
    model = FakeChat(usage={"input_tokens": 0, "output_tokens": 1, "total_tokens": 1})
    graph = graph_of(model, spans, BudgetGuard("b", max_age_s=2.0, endpoint=fake.url))
    graph.invoke({})
    until("a question with the tag of the last answer", lambda: any(sent for _, sent, _ in fake.asked))
    fake.spent = 100
    # Nobody calls, and nobody waits: the next call is stopped by what is known by then.
    until("the news", lambda: desks.desk_of(fake.url).states.snapshot.rows["b", ()].spent == 100)  # type: ignore[union-attr]
    with pytest.raises(BudgetExceeded, match="of 100 tokens are used"):
        graph.invoke({})
    assert 1 == model.answers


def test_a_refused_key_is_told_with_its_remedy(
    fake: Fake, spans: InMemorySpans, caplog: pytest.LogCaptureFixture
) -> None:
    fake.refuse = 403
    model = FakeChat()
    graph = graph_of(model, spans, BudgetGuard("b", endpoint=fake.url))
    graph.invoke({})
    graph.invoke({})
    assert (2, {"failed_open": 2}) == (model.answers, stats().guarded)
    [said] = [record.message for record in caplog.records if "cannot learn budgets" in record.message]
    assert "HTTP 403" in said
    assert "needs the scope `read`" in said


def test_an_answer_that_is_none_is_a_failure_and_no_fault(fake: Fake, spans: InMemorySpans) -> None:
    fake.garbage = True
    model = FakeChat()
    graph_of(model, spans, BudgetGuard("b", per_run_usd=1, endpoint=fake.url)).invoke({})
    assert (1, {"failed_open": 1}) == (model.answers, stats().guarded)


async def test_a_collector_that_hangs_holds_up_no_event_loop(
    fake: Fake, spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeChat()
    guard = BudgetGuard("b", max_age_s=0.4, endpoint=fake.url)
    graph = meter(chain_of(("a", asking_async(model))), handler=spans.handler(), budget=guard)
    # As after a fork, or long idle: nothing is known that may be used.
    found = desks.desk_of(fake.url)
    monkeypatch.setattr(found.states, "asked_at", float("-inf"))
    monkeypatch.setattr(found, "start", lambda: None)
    found._thread = None
    fake.hang.clear()
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while model.answers == 0:
            turns += 1
            await asyncio.sleep(0.001)

    await asyncio.gather(graph.ainvoke({}), turn())
    assert turns > 5  # the loop went on while the guard waited
    assert {"failed_open": 1} == stats().guarded


def test_a_model_is_priced_at_its_first_call_and_the_next_one_is_held_against_it(
    fake: Fake, spans: InMemorySpans
) -> None:
    model = FakeChat()
    guard = BudgetGuard(per_run_usd="0.000000105", endpoint=fake.url)
    graph = meter(chain_of(("a", asking(model)), ("b", asking(model))), handler=spans.handler(), budget=guard)
    with pytest.raises(BudgetExceeded, match=r"0\.000000105 of 0\.000000105 USD"):
        graph.invoke({})
    with pytest.raises(BudgetExceeded):
        graph.invoke({})
    assert (2, 1, 0) == (model.answers, fake.count("/api/prices"), fake.count("/api/budgets"))


def test_a_forked_child_asks_for_itself(fake: Fake, spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = graph_of(model, spans, BudgetGuard("b", max_age_s=60, endpoint=fake.url))
    graph.invoke({})
    found = desks.desk_of(fake.url)
    with found._starting, found._asking["budgets"], found.states._lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        child = os.fork()  # as if the thread held the locks
        if child == 0:
            try:
                thread = found._thread
                found.states.asked_at = float("-inf")
                graph.invoke({})
                good = thread is None and stats().guarded == {} and found.states.age_s < 60
                os._exit(0 if good else 1)
            except BaseException:
                os._exit(2)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 2 == fake.count("/api/budgets")


def test_the_thread_ends_when_nobody_asks_and_begins_again(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "IDLE_S", 0.01)
    found = Desk(fake.url)
    found.max_age_s = 2.0
    found.look()
    until("the end of the thread", lambda: found._thread is None)
    asked = fake.count("/api/budgets")
    until("what is known to be too old", lambda: not found.fresh())
    assert not found.failing
    found.look()
    assert fake.count("/api/budgets") > asked


def test_prices_are_kept_up_to_date_while_calls_are_made(
    fake: Fake, spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "IDLE_S", 0.01)
    monkeypatch.setattr(desks, "PRICES_S", 0.02)
    graph = graph_of(FakeChat(), spans, BudgetGuard(per_run_usd=1, endpoint=fake.url))
    graph.invoke({})
    found = desks.desk_of(fake.url)
    until("the end of the thread", lambda: found._thread is None)
    monkeypatch.setattr(desks, "IDLE_S", 300.0)
    asked = fake.count("/api/prices")

    def asked_again() -> bool:
        graph.invoke({})
        return fake.count("/api/prices") > asked

    until("another question for prices", asked_again)
    assert fake.asked[-1][1]  # with the tag of the last answer


def test_nothing_of_a_guard_is_loaded_where_none_is_made() -> None:
    program = "import sys, graphmeter.attach; print([each for each in sys.modules if 'graphmeter.budget' in each])"
    assert "[]\n" == subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
