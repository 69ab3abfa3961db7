"""Reports and doctor against a real collector process: over HTTP they say what the database says."""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.running import failure, json_of, run
from graphmeter import names
from graphmeter_cli.api import HttpReader
from graphmeter_cli.demo import collector
from graphmeter_cli.doctor import checks, probe
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import RunFilter
from graphmeter_collector.store import open_store
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.read import open_reader
from support.ports import free_port
from support.records import T0_NS, answered, call, whole_run

UNTIL_NS = T0_NS + 4 * 3600 * 1_000_000_000


async def _write(url: str, records: Sequence[SpanRecord]) -> None:
    store = await open_store(url)
    await store.write(records)
    await store.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with two runs, one of them failed, two of a thread that waited in between, and all that is said beside."""
    url = f"sqlite:///{tmp_path_factory.mktemp('data') / 'graphmeter.db'}"
    migrate(url)
    dear = call(31, nano=1_000, reported_nano=1_500)
    asyncio.run(_write(url, [*whole_run(1), *whole_run(2, at_s=10, status=names.ERROR), *answered(), dear]))
    return url


@pytest.fixture(scope="module")
def url(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A collector on that database."""
    port, folder = free_port(), tmp_path_factory.mktemp("collector")
    with collector.running(port, folder, ["--database-url", database]) as running:
        yield running.url


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"],
        ["runs", "--status", "error", "--min-duration", "1s", "--since", "2026-11-01"],
        ["trace", "00000000-0000-0000-0000-000000000001"],
        ["trace", "00000000-0000-0000-0000-000000000051"],
        ["trace", "00000000-0000-0000-0000-000000000052"],
        ["nodes", "--since", "2026-11-01", "--team", "cx"],
        ["cost", "--month", "2026-11"],
        ["slo", "report", "--from", "2026-11-01", "--to", "2026-11-20", "--defaults"],
        ["cost", "--by", "graph,node", "--since", "2026-11-01"],
        ["cost", "--by", "", "--since", "1970-01-01"],
        [
            "cost",
            "--by",
            "tag:plan,day",
            "--month",
            "2026-11",
            "--timezone",
            "Europe/Berlin",
            "--team",
            "cx",
            "--team",
            "",
        ],
        ["cost", "movers", "--month", "2026-11"],
        ["cost", "reported", "--month", "2026-11"],
        ["cost", "runs", "--month", "2026-11", "--top", "1"],
        ["cost", "per", "run", "--by", "graph", "--month", "2026-11"],
    ],
    ids=" ".join,
)
def test_a_report_over_http_is_that_of_the_database(database: str, url: str, arguments: list[str]) -> None:
    over_http = json_of(*arguments, "--url", url)

    assert over_http
    assert json_of(*arguments, "--database-url", database) == over_http


async def test_every_question_has_the_same_answer_over_http(database: str, url: str) -> None:
    async with open_reader(database) as direct, HttpReader(url) as over_http:
        for reader in (direct, over_http):
            assert 4 == len(await reader.runs(RunFilter(until_ns=UNTIL_NS)))
        assert await direct.run_counts(T0_NS, UNTIL_NS) == await over_http.run_counts(T0_NS, UNTIL_NS)
        assert await direct.topologies("support") == await over_http.topologies("support") != []
        assert await direct.clients(T0_NS) == await over_http.clients(T0_NS) != []
        assert [] == await over_http.topologies("none")
        assert await direct.series(T0_NS) == await over_http.series(T0_NS)
        assert await over_http.run("deadbeef") is None
        assert ["team-monthly"] == [row.budget for row in await over_http.budgets()]
        assert ["runs-availability"] == [row.slo for row in await over_http.slos()]


def test_an_unknown_run_is_answered_as_from_a_database(url: str) -> None:
    assert "no run 'deadbeef': `graphmeter runs` lists them" == failure(1, "trace", "deadbeef", "--url", url)


def test_an_ambiguous_run_is_answered_with_the_collectors_sentence(url: str) -> None:
    assert "give more characters" in failure(1, "trace", "00000000-0000", "--url", url)


@contextmanager
def impostor(status: int, body: bytes, content_type: str) -> Iterator[str]:
    """A web server that is no collector: it answers every question the same."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "content_type", "expected"),
    [
        pytest.param(200, b"<html>", "text/html", "does not answer as a Graphmeter collector does", id="a page"),
        pytest.param(
            200, b'{"a": 1}', "application/json", "does not answer as a Graphmeter collector", id="another API"
        ),
        pytest.param(200, b"[{}]", "application/json", "speaks another version", id="another version"),
        pytest.param(503, b'{"detail": "away"}', "application/json", "answers 503: away", id="its database is away"),
        pytest.param(502, b"bad gateway", "text/plain", "answers 502: bad gateway", id="a proxy"),
    ],
)
def test_what_is_no_collector_is_said(status: int, body: bytes, content_type: str, expected: str) -> None:
    with impostor(status, body, content_type) as url:
        assert expected in failure(1, "runs", "--url", url)


def test_doctor_sends_a_run_and_reads_it_back(url: str) -> None:
    found = {check["name"]: check for check in json_of("doctor", "--endpoint", url)}

    assert ["reachable", "ready", "clock", "version", "forward", "clients", "a run"] == list(found)
    assert all(check["ok"] and not check["remedy"] for check in found.values())
    run_id = found["a run"]["found"].split()[0]
    trace = json_of("trace", run_id, "--url", url)
    assert (probe.SERVICE, probe.GRAPH, 0) == (
        trace["run"]["service"],
        trace["run"]["graph"],
        trace["run"]["cost_nano"],
    )
    assert probe.NODE in {span["node"] for span in trace["spans"]}


def test_doctor_warns_of_clients_that_lose_spans(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one that reported did so when the tests' runs were.
    monkeypatch.setattr(checks, "HEARD_OF_WITHIN_NS", 10**18)
    result = run("doctor", "--endpoint", url, "--json")

    [found] = [check for check in json.loads(result.stdout) if check["name"] == "clients"]
    assert (1, False) == (result.exit_code, found["ok"])
    assert "lost spans: 1 span dropped, 0 failed; most by service 'shop'" in found["found"]
    assert "GRAPHMETER_QUEUE_SPANS" in found["remedy"]


def test_doctor_without_langgraph_sends_bare_spans(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langgraph.graph", None)
    result = run("doctor", "--endpoint", url)

    assert 0 == result.exit_code, result.stdout
    assert "bare OTLP spans (LangGraph is not installed here) and read back" in result.stdout


def test_doctor_says_where_spans_go_next(url: str, tmp_path: Path) -> None:
    with collector.running(free_port(), tmp_path, ["--forward", url]) as running:
        [forward] = [check for check in json_of("doctor", "--endpoint", running.url) if check["name"] == "forward"]

    name = url.partition("://")[2]
    assert f"{name}: 0 spans sent, 0 waiting, 0 failures" == forward["found"]


SAMPLES = """
# TYPE graphmeter_collector_spans_forwarded counter
graphmeter_collector_spans_forwarded_total{destination="jaeger"} 0.0
# TYPE graphmeter_collector_forward_failures counter
graphmeter_collector_forward_failures_total{destination="jaeger"} 3.0
# TYPE graphmeter_collector_outbox_spans gauge
graphmeter_collector_outbox_spans{destination="jaeger"} 12.0
"""


def test_doctor_finds_a_destination_that_takes_nothing() -> None:
    with impostor(200, SAMPLES.encode(), "text/plain") as url:
        command = [sys.executable, "-m", "graphmeter_cli", "doctor", "--endpoint", url]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert 1 == result.returncode
    assert "✗ forward    jaeger: 0 spans sent, 12 waiting, 3 failures" in result.stdout
    assert "→ jaeger takes nothing: does it run" in result.stdout


def test_doctor_says_how_to_get_a_collector() -> None:
    result = run("doctor", "--endpoint", "http://127.0.0.1:1")

    assert 1 == result.exit_code
    assert "✗ reachable" in result.stdout
    assert "→ start a collector with `graphmeter serve`" in result.stdout


def test_doctor_finds_out_an_impostor() -> None:
    with impostor(404, b"not here", "text/plain") as url:
        # In a process of its own: the client goes on trying to deliver.
        command = [sys.executable, "-m", "graphmeter_cli", "doctor", "--endpoint", url, "--json"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    failed = {check["name"]: check for check in json.loads(result.stdout) if not check["ok"]}
    assert 1 == result.returncode
    assert {"reachable", "ready", "version", "a run"} == failed.keys()
    assert all(check["remedy"] for check in failed.values())
