"""The process that `graphmeter serve` is, seen from outside: what its ready line promises, how it ends, what it refuses."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from fastapi import APIRouter

from collector.waiting import until
from graphmeter_collector.errors import StartupError
from graphmeter_collector.lookout import lookout
from support import otlp
from support.ports import free_port

SENDERS = 8
WITHIN_S = 90.0
"""A start is two seconds of work; on a machine where many others work it is theirs, too."""


@contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a collector on SQLite in `folder`; its log comes as JSON lines on stderr."""
    command = [sys.executable, "-m", "graphmeter_cli", "serve", "--data-dir", str(folder), "--log-format", "json"]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The ready line, as soon as it is there."""
    assert process.stderr is not None
    for line in process.stderr:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "ready":
            return event
    raise AssertionError("the collector ended without being ready")


def test_whoever_waits_for_the_ready_line_can_connect_at_once(tmp_path: Path) -> None:
    with serve(tmp_path, "--port", "0") as process:
        url = httpx.URL(ready(process)["url"])
        with socket.create_connection((url.host, url.port), timeout=60):
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_ready_line_is_a_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path, "--port", "0") as process:
        ready(process)
        process.send_signal(number)
        assert process.wait(WITHIN_S) == 0


async def test_sigterm_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[bytes] = []
    numbers = itertools.count(1)

    async def send(http: httpx.AsyncClient) -> None:
        while True:
            spans = [otlp.span(next(numbers), start_ns=time.time_ns()) for _ in range(10)]
            body = otlp.request(*spans).SerializeToString()
            try:
                answer = await http.post("/v1/traces", content=body, headers={"content-type": otlp.PROTOBUF})
            except httpx.TransportError:
                return
            if answer.status_code != 200:
                return
            acknowledged.extend(span.span_id for span in spans)

    with serve(tmp_path, "--port", "0") as process:
        url = await asyncio.to_thread(lambda: ready(process)["url"])
        async with httpx.AsyncClient(base_url=url, timeout=60) as http, asyncio.TaskGroup() as senders:
            for _ in range(SENDERS):
                senders.create_task(send(http))
            await until(lambda: len(acknowledged) > 100)
            process.terminate()
        assert await asyncio.to_thread(process.wait, WITHIN_S) == 0

    database = sqlite3.connect(tmp_path / "graphmeter.db")
    stored = {row[0] for row in database.execute("SELECT span_id FROM span")}
    database.close()
    assert len(set(acknowledged)) == len(acknowledged)
    assert set() == set(acknowledged) - stored


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0"])
def test_a_collector_does_not_forward_to_itself(tmp_path: Path, host: str) -> None:
    port = free_port()
    with serve(tmp_path, "--port", str(port), "--forward", f"http://{host}:{port}") as process:
        _, said = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 1
        assert f"forward destination '{host}:{port}' is this collector itself" in said


def test_a_collector_does_not_forward_to_its_own_grpc_port(tmp_path: Path) -> None:
    port = str(free_port())
    with serve(tmp_path, "--port", "0", "--grpc-port", port, "--forward", f"http://localhost:{port}") as process:
        _, said = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 1
        assert f"forward destination 'localhost:{port}' is this collector itself" in said


def test_a_collector_that_listens_everywhere_does_not_forward_to_its_own_loopback(tmp_path: Path) -> None:
    port = free_port()
    anywhere = ("--host", "0.0.0.0", "--allow-anonymous")
    with serve(tmp_path, *anywhere, "--port", str(port), "--forward", f"http://127.0.0.1:{port}") as process:
        assert process.wait(WITHIN_S) == 1


def test_another_port_and_another_address_of_this_machine_are_other_backends(tmp_path: Path) -> None:
    port = free_port()
    others = ("--forward", f"http://127.0.0.1:{free_port()}", "--forward", f"http://127.0.0.2:{port}")
    with serve(tmp_path, "--port", str(port), *others) as process:
        assert len(ready(process)["forward"]) == 2
        process.terminate()
        assert process.wait(WITHIN_S) == 0


def test_grpc_is_taken_on_a_port_that_the_ready_line_names(tmp_path: Path) -> None:
    with serve(tmp_path, "--port", "0", "--grpc-port", "0") as process:
        said = ready(process)
        with grpc.insecure_channel(said["grpc"]) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            body = otlp.request(otlp.span(1, start_ns=time.time_ns())).SerializeToString()
            assert b"" == export(body, timeout=60)
        answer = httpx.get(f"{said['url']}/metrics", headers={"accept": "*/*"})
        assert "graphmeter_collector_spans_stored_total 1.0" in answer.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0


async def test_senders_that_never_finish_keep_neither_receiver_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHMETER_DRAIN_TIMEOUT_S", "1")
    traces = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    with serve(tmp_path, "--port", "0", "--grpc-port", "0") as process:
        said = await asyncio.to_thread(ready, process)
        host, port = said["url"].removeprefix("http://").split(":")
        async with grpc.aio.insecure_channel(said["grpc"]) as channel:
            hanging = channel.stream_unary(traces)()
            _, writer = await asyncio.open_connection(host, int(port))
            lines = (
                "POST /v1/traces HTTP/1.1",
                "host: localhost",
                f"content-type: {otlp.PROTOBUF}",
                "content-length: 9",
            )
            writer.write("\r\n".join([*lines, "", "x"]).encode())
            await writer.drain()
            assert b"" == await channel.unary_unary(traces)(b"")  # behind the other one on the same connection
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, WITHIN_S) == 0
            hanging.cancel()
            writer.close()


def test_another_port_for_http_leaves_grpc_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    with serve(tmp_path, "--port", "0") as process:
        assert "off" == ready(process)["grpc"]


def test_a_grpc_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serve(tmp_path, "--port", "0", "--grpc-port", str(port)) as process:
            assert process.stderr is not None
            said = process.stderr.read()
            assert 1 == process.wait(WITHIN_S)
    assert f"cannot listen on 127.0.0.1:{port} for OTLP/gRPC" in said
    assert "choose another --grpc-port, or say --no-grpc" in said


async def test_a_port_for_those_who_look_shows_how_it_does_and_nothing_else(tmp_path: Path) -> None:
    with serve(tmp_path, "--port", "0", "--metrics-port", "0") as process:
        said = ready(process)
        port = httpx.URL(said["metrics"]).port
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_S) as http:
            answers = {path: (await http.get(path)).status_code for path in ("/health", "/ready", "/metrics", "/")}
            # Whatever the name: a scraper in a cluster calls it as it likes.
            named = await http.get("/metrics", headers={"host": "collector.example.com"})
            refused = [(await http.post(path)).status_code for path in ("/v1/traces", "/api/budgets/x/reservations")]
            refused.append((await http.get("/api/runs")).status_code)
        process.send_signal(signal.SIGTERM)
        ended = process.wait(WITHIN_S)

    assert {"/health": 200, "/ready": 200, "/metrics": 200, "/": 404} == answers
    assert "graphmeter_collector_build_info" in named.text
    assert [404, 404, 404] == refused
    assert said["metrics"].startswith("http://0.0.0.0:")
    assert said["url"].startswith("http://127.0.0.1:")
    assert 0 == ended


async def test_a_port_for_those_who_look_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"0.0.0.0:{port}: .*, or choose another --metrics-port"):
            async with lookout(APIRouter(), port):
                pass
