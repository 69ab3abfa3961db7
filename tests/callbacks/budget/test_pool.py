"""Requests that calls wait for: connections stay open, closed ones are replaced, forked children open their own."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from graphmeter.budget.pool import MOST_IDLE, Pool
from graphmeter.budget.source import Silent


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.met: list[tuple[str, str, bytes]] = []
        self.connections = 0
        self.closing = False
        self.status = 200
        self.body = b'{"said": 1}'
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.met.append((self.command, self.path, body))
        self.server.gate.wait(10)
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)
        # As a collector does with what is idle for long: without a word.
        self.close_connection = self.server.closing

    do_DELETE = do_POST  # noqa: N815 - as the standard library names it

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        found.gate.set()
        found.shutdown()
        thread.join()


def test_a_connection_serves_one_request_after_the_other(server: Server) -> None:
    pool = Pool(server.url + "/base", {"authorization": "Bearer x"})
    assert [(200, {"said": 1})] * 3 == [pool.ask("POST", "/api", {"n": n}, 5) for n in range(3)]
    assert ("POST", "/base/api", b'{"n": 2}') == server.met[-1]
    assert 1 == server.connections
    server.body, server.status = b"", 204
    assert (204, None) == pool.ask("DELETE", "/api/x", None, 5)
    assert 1 == server.connections


def test_what_was_closed_meanwhile_is_replaced(server: Server) -> None:
    pool = Pool(server.url, {})
    server.closing = True
    for _ in range(3):
        assert 200 == pool.ask("POST", "/api", {}, 5)[0]
    assert (3, 3) == (len(server.met), server.connections)


def test_threads_take_one_each_and_few_stay_open(server: Server) -> None:
    pool = Pool(server.url, {})
    server.gate.clear()
    threads = [threading.Thread(target=pool.ask, args=("POST", "/api", {}, 30)) for _ in range(MOST_IDLE + 4)]
    for each in threads:
        each.start()
    while len(server.met) < len(threads):
        time.sleep(0.001)
    server.gate.set()
    for each in threads:
        each.join()
    assert (len(threads), MOST_IDLE) == (server.connections, len(pool._idle))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"later", "HTTP 503 later"),
        (403, b"no", "HTTP 403 no; the client's key needs the scope `ingest`"),
        (200, b"<html>", "its answer is no JSON"),
    ],
)
def test_a_refusal_says_why(server: Server, status: int, body: bytes, said: str) -> None:
    server.status, server.body = status, body
    with pytest.raises(Silent, match=said):
        Pool(server.url, {}).ask("POST", "/api", {}, 5)


def test_nobody_there_and_nobody_answering(server: Server) -> None:
    with pytest.raises(Silent, match="refused"):
        Pool("http://127.0.0.1:9", {}).ask("POST", "/api", {}, 5)
    server.gate.clear()
    with pytest.raises(Silent, match=r"no answer within 0\.05 s"):
        Pool(server.url, {}).ask("POST", "/api", {}, 0.05)


def test_a_forked_child_opens_its_own(server: Server) -> None:
    pool = Pool(server.url, {})
    pool.ask("POST", "/api", {"who": "parent"}, 5)
    child = os.fork()
    if child == 0:  # pragma: no cover - in another process
        try:
            os._exit(0 if pool.ask("POST", "/api", {"who": "child"}, 5)[0] == 200 else 1)
        finally:
            os._exit(2)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    pool.ask("POST", "/api", {"who": "parent"}, 5)
    assert (["parent", "child", "parent"], 2) == (
        [json.loads(body)["who"] for *_, body in server.met],
        server.connections,
    )


def test_behind_a_proxy_requests_go_through_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    pool = Pool("http://collector.example:4318", {})
    assert (200, {"said": 1}) == pool.ask("POST", "/api", {"n": 1}, 5)
    assert ("POST", "http://collector.example:4318/api", b'{"n": 1}') == server.met[-1]
    server.status, server.body = 403, b"no"
    with pytest.raises(Silent, match="HTTP 403 no"):
        pool.ask("DELETE", "/api", None, 5)
