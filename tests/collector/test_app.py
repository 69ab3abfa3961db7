"""The composition: what a new process shows of the past, how it is configured again, why it would not start."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sqlite3
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from acceptance import processes
from cli.running import failure
from collector.served import configured, samples, served
from graphmeter import names
from graphmeter_collector.app import running
from graphmeter_collector.errors import StartupError
from graphmeter_collector.exposure import listen
from graphmeter_collector.settings import Settings
from support import otlp
from support.records import SECOND

BASE = {"service": "shop", "environment": "test", "graph": "support", "team": "cx"}
NODE = {**BASE, "node": "answer"}
CALL = {**NODE, "provider": "openai", "model": "gpt-4o"}


def series(name: str, labels: dict[str, str], **more: str) -> str:
    """A series as the exposition writes it: labels in alphabetical order."""
    written = ",".join(f'{label}="{value}"' for label, value in sorted({**labels, **more}.items()))
    return f"graphmeter_{name}{{{written}}}"


async def test_a_new_process_shows_what_the_database_knows_at_zero_on_its_first_scrape(database_url: str) -> None:
    async with served(database_url) as it:
        await it.send(*otlp.run(1, start_ns=time.time_ns() - 5 * SECOND))
        assert 1 == it.collector.metrics.value(names.RUNS, "shop", "test", "support", "cx", names.OK)

    async with served(database_url) as it:
        first = await it.scrape()
        expected = [
            *(series("runs_total", BASE, status=status) for status in (names.OK, names.ERROR, names.LOST)),
            series("runs_started_total", BASE),
            series("run_duration_seconds_count", BASE),
            series("node_runs_total", NODE, status=names.OK),
            series("llm_calls_total", CALL, status=names.OK),
            series("cost_usd_total", CALL),
            series("budget_cost_usd_total", {"budget": "team-monthly", "scope": "", "team": "cx"}),
        ]
        assert dict.fromkeys(expected, 0.0) == {each: first.get(each) for each in expected}

        await it.send(*otlp.run(2, start_ns=time.time_ns() - 5 * SECOND))
        second = await it.scrape()
        assert (1.0, 0.0035) == (second[expected[0]], second[expected[-1]])


async def test_the_queue_and_the_version_are_shown(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        shown = await it.scrape()
        assert 0.0 == shown["graphmeter_collector_queue_spans"]
        assert 1.0 == shown[f'graphmeter_collector_config_info{{hash="{it.collector.config.hash}"}}']
        assert 1.0 == shown[f'graphmeter_collector_rules_info{{hash="{it.collector.config.rules_hash}"}}']
        assert [1.0] == [value for name, value in shown.items() if name.startswith("graphmeter_collector_build_")]


async def test_spans_are_counted_on_their_way(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        spans = otlp.run(1, start_ns=time.time_ns() - 5 * SECOND)
        await it.send(*spans)
        await it.send(*spans, otlp.span(7, start_ns=1))
        value = it.collector.metrics.value
        assert (9, 4, 4, 1, 2) == (
            value(names.COLLECTOR_RECEIVED),
            value(names.COLLECTOR_STORED),
            value(names.COLLECTOR_DUPLICATE),
            value(names.COLLECTOR_REJECTED, "too_old"),
            value(names.COLLECTOR_COMMIT),
        )


async def test_limits_of_the_settings_hold(sqlite_url: str) -> None:
    async with served(sqlite_url, max_body_bytes=3_000, max_spans_per_request=3) as it:
        spans = otlp.run(1, start_ns=time.time_ns() - 5 * SECOND)
        assert [413, 413, 200] == [
            (await it.send(*given)).status_code
            for given in (spans, [otlp.span(1, name="x" * 3_000, start_ns=time.time_ns())], spans[:1])
        ]


async def test_a_reload_takes_effect_and_a_bad_file_keeps_what_was(sqlite_url: str, tmp_path: Path) -> None:
    config = configured(tmp_path, "budgets: [{name: first, limit_usd: 1}]\nretention: {spans: 30d}")
    ten_days_old = otlp.own(1, names.NODE, start_ns=time.time_ns() - 10 * 86_400 * SECOND)

    async def budgets() -> list[str]:
        return [row["budget"] for row in await it.get("/api/budgets")]

    async with served(sqlite_url, config=config) as it:
        assert ["first"] == await budgets()
        assert b"" == (await it.send(ten_days_old)).content

        configured(tmp_path, "budgets: [{name: second, limit_usd: 1}]\nretention: {spans: 7d, bodies: 1d}")
        with capture_logs() as logged:
            it.collector.reload()
        assert ["config_reloaded"] == [line["event"] for line in logged]
        assert ["second"] == await budgets()
        assert b"" != (await it.send(ten_days_old)).content

        in_force = it.collector.config.hash
        configured(tmp_path, "budgets: [{name: third, limit_usd: minus one}]")
        with capture_logs() as logged:
            it.collector.reload()
        assert [("config_rejected", "error")] == [(line["event"], line["log_level"]) for line in logged]
        assert "graphmeter.yaml:1" in logged[0]["error"]
        assert (["second"], in_force) == (await budgets(), it.collector.config.hash)
        assert [f'graphmeter_collector_config_info{{hash="{in_force}"}}'] == [
            name for name in await it.scrape() if "config_info" in name
        ]


async def test_a_reload_says_what_only_a_restart_changes(sqlite_url: str, tmp_path: Path) -> None:
    config = configured(tmp_path, "version: 1")
    async with served(sqlite_url, config=config) as it:
        configured(tmp_path, "forward: {destinations: [{name: jaeger, endpoint: 'http://127.0.0.1:9'}]}")
        with capture_logs() as logged:
            it.collector.reload()
        assert ["restart_needed", "config_reloaded"] == [line["event"] for line in logged]
        assert [] == list(it.collector.destinations)


async def test_destinations_of_file_and_flags_are_named_and_the_same_flag_twice_is_one(
    sqlite_url: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, "forward: {destinations: [{name: jaeger, endpoint: 'http://127.0.0.1:9'}]}")
    flags = ["http://user:secret@127.0.0.1:9/a", "http://127.0.0.1:9/b", "http://127.0.0.1:9/b"]
    async with served(sqlite_url, config=config, forward=flags) as it:
        assert ["jaeger", "127.0.0.1:9/a", "127.0.0.1:9/b"] == [each.name for each in it.collector.destinations]
        assert ["jaeger", "127.0.0.1:9/a", "127.0.0.1:9/b"] == [name for name, _ in it.collector.forwarders]


async def test_two_destinations_of_one_name_do_not_start(sqlite_url: str, tmp_path: Path) -> None:
    config = configured(tmp_path, "forward: {destinations: [{name: jaeger, endpoint: 'http://127.0.0.1:9'}]}")
    settings = Settings(database_url=sqlite_url, config=config, forward=["http://jaeger"])
    with pytest.raises(StartupError, match="two forward destinations are named 'jaeger'"):
        async with running(settings):
            raise AssertionError("it started")
    # Nothing is left behind that would hold the database.
    async with served(sqlite_url) as it:
        assert {"status": "ready"} == await it.get("/ready")


async def test_ending_waits_for_what_was_accepted(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        answer = await it.send(*otlp.run(1, start_ns=time.time_ns() - 5 * SECOND))
        assert 200 == answer.status_code
    assert 0 == it.collector.pipeline.queued_spans
    assert not it.collector.pipeline.accepting


# --- what does not start -------------------------------------------------------------------------------------------


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """`serve` configures the logging of its process, which is here that of the tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@pytest.mark.usefixtures("logging_as_before")
class TestWhatDoesNotStart:
    """Exit code 1 and one sentence that says what to change."""

    def test_a_port_in_use(self, taken: int, tmp_path: Path) -> None:
        expected = (
            f"cannot listen on 127.0.0.1:{taken}: Address already in use; "
            "stop what listens there, or choose another --port"
        )
        assert expected == failure(1, "serve", "--port", str(taken), "--data-dir", str(tmp_path))

    def test_a_host_that_does_not_exist(self, tmp_path: Path) -> None:
        said = failure(1, "serve", "--host", "127.0.0.256", "--allow-anonymous", "--data-dir", str(tmp_path))
        assert said.startswith("cannot listen on 127.0.0.256:4318")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "collector.example"])
    def test_an_address_that_others_reach_without_saying_so(self, host: str, tmp_path: Path) -> None:
        said = failure(1, "serve", "--host", host, "--data-dir", str(tmp_path))
        assert (True, True) == (said.startswith(f"--host {host} would let everybody"), "--allow-anonymous" in said)
        assert [] == list(tmp_path.iterdir())

    def test_a_data_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        said = failure(1, "serve", "--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
        assert (True, True) == (
            said.startswith("cannot write beside the database: "),
            said.endswith("choose another --data-dir"),
        )

    def test_a_configuration_with_faults(self, tmp_path: Path) -> None:
        config = configured(tmp_path, "version: 1\nslos: [{name: s, objective: 110%}]\nbudgts: []\n")
        said = failure(1, "serve", "--port", "0", "--data-dir", str(tmp_path), "--config", config)
        assert (True, True) == ("graphmeter.yaml:2" in said, "did you mean `budgets`?" in said)

    def test_a_database_that_nobody_serves(self, tmp_path: Path) -> None:
        url = "postgresql://someone:hunter2@127.0.0.1:9/graphmeter"
        said = failure(1, "serve", "--port", "0", "--database-url", url)
        assert (True, False) == (
            "cannot use the database postgresql://someone:***@127.0.0.1:9" in said,
            "hunter2" in said,
        )

    async def test_a_second_collector_on_one_file(self, sqlite_url: str) -> None:
        async with served(sqlite_url):
            with pytest.raises(StartupError, match="one collector per SQLite file; stop that one"):
                async with running(Settings(database_url=sqlite_url)):
                    raise AssertionError("it started")


# --- a process of its own ------------------------------------------------------------------------------------------


def events(it: processes.Collector, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in it.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def wait_for(condition: Callable[[], Any]) -> Any:
    return processes.until("the collector", condition)


def test_sighup_loads_the_configuration_again_and_sigterm_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    config = configured(tmp_path, "budgets: [{name: first, limit_usd: 1}]")
    with processes.collector(tmp_path, "--config", config) as it:
        configured(tmp_path, "budgets: [{name: second, limit_usd: 1}]")
        it.process.send_signal(signal.SIGHUP)
        [reloaded] = wait_for(lambda: events(it, "config_reloaded"))
        assert ["second"] == [row["budget"] for row in it.get("/api/budgets")]

        configured(tmp_path, "budgets: nonsense")
        it.process.send_signal(signal.SIGHUP)
        wait_for(lambda: events(it, "config_rejected"))
        assert ["second"] == [row["budget"] for row in it.get("/api/budgets")]
        assert f'graphmeter_collector_config_info{{hash="{reloaded["hash"]}"}}' in samples(it.text("/metrics"))

        acknowledged, senders = _send_until_refused(it)
        wait_for(lambda: len(acknowledged) > 20)
        # A second signal while it ends changes nothing.
        it.process.send_signal(signal.SIGTERM)
        it.process.send_signal(signal.SIGTERM)
        assert 0 == it.process.wait(60)
        for sender in senders:
            sender.join(60)
        assert 1 == len(events(it, "stopped"))

    database = sqlite3.connect(tmp_path / "graphmeter.db")
    stored = {trace_id for (trace_id,) in database.execute("SELECT trace_id FROM span")}
    database.close()
    assert set() == set(acknowledged) - stored


def _send_until_refused(it: processes.Collector) -> tuple[list[bytes], list[threading.Thread]]:
    """Several senders of spans that nobody else sends; what they send stays in doubt only after the last answer."""
    acknowledged: list[bytes] = []

    def send(sender: int) -> None:
        for number in range(1_000_000):
            span = otlp.own(1, names.NODE, of=sender * 1_000_000 + number, start_ns=time.time_ns())
            try:
                status, body = it.post(otlp.request(span).SerializeToString())
            except (OSError, urllib.error.URLError):
                return
            if (status, body) != (200, b""):
                return
            acknowledged.append(span.trace_id)

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(1, 5)]
    for sender in senders:
        sender.start()
    return acknowledged, senders


def test_ready_is_said_once_with_what_is_in_force_and_no_option_of_the_database(
    tmp_path: Path, postgres_url: str
) -> None:
    began = time.monotonic()
    with processes.collector(tmp_path, database_url=f"{postgres_url}?application_name=hunter2") as it:
        [ready] = events(it, "ready")
        assert (it.url, [], "info", False) == (
            ready["url"],
            ready["forward"],
            ready["level"],
            "hunter2" in it.log.read_text(),
        )
        assert 0 < ready["seconds"] < time.monotonic() - began


def test_an_answer_is_sent_at_once_and_not_when_its_head_was_received() -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
