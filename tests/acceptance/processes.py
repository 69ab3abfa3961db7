"""Real processes for acceptance tests: the collector as `graphmeter serve` starts it, and Python programs that use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_WITHIN_S = 90.0
"""A start is two seconds of work, but not on a machine where many others work."""


def until(what: str, condition: Callable[[], Any], timeout_s: float = 90.0) -> Any:
    """Wait for a condition to become true and return its value; fail naming what was awaited."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what}; last seen: {value!r}")
        time.sleep(0.05)


@dataclass
class Collector:
    """A running collector process."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str) -> Any:
        """The JSON answer of an API path."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        """The text of a path such as `/metrics`."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            body: bytes = answer.read()
            return body.decode()

    def post(self, body: bytes, content_type: str = "application/x-protobuf", encoding: str = "") -> tuple[int, bytes]:
        """Send one OTLP trace request; returns status and body, whatever the status."""
        headers = {"Content-Type": content_type, **({"Content-Encoding": encoding} if encoding else {})}
        request = urllib.request.Request(self.url + "/v1/traces", data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def metric(self, sample: str, **labels: str) -> float:
        """Sum of the samples of that name (`graphmeter_runs_total`) that have these labels; 0 when there is none.

        Read as a person would, not as a scraper: it eats no zero that Prometheus was to see.
        """
        return sum(
            found.value
            for family in text_string_to_metric_families(self.text("/metrics"))
            for found in family.samples
            if found.name == sample and labels.items() <= found.labels.items()
        )

    def ready(self) -> bool:
        return _answers(self.url + "/ready")

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the collector did not stop; its log:\n{self.log.read_text()}") from None


@contextmanager
def collector(
    folder: Path, *arguments: str, database_url: str = "", port: int = 0, **environment: str
) -> Iterator[Collector]:
    """Run `graphmeter serve` until the block ends; ready when the block begins."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"collector-{port}.log"
    command = [
        sys.executable,
        "-m",
        "graphmeter_cli",
        "serve",
        "--port",
        str(port),
        "--data-dir",
        str(folder),
        *arguments,
    ]
    if database_url:
        command += ["--database-url", database_url]
    with log.open("ab") as output:
        running = Collector(_start(command, output, folder, **environment), f"http://127.0.0.1:{port}", log)
        try:
            deadline = time.monotonic() + READY_WITHIN_S
            while not running.ready():
                if running.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the collector did not become ready; its log:\n{log.read_text()}")
                time.sleep(0.02)
            yield running
        finally:
            if running.process.poll() is None:
                running.stop()


def _start(command: list[str], output: IO[bytes], folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    return subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=clean | environment)


@contextmanager
def serving(folder: Path, command: list[str], path: str, **environment: str) -> Iterator[str]:
    """Run a web server, which gets `--port`, until the block ends; its URL, once `path` is answered there."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    with log.open("ab") as output:
        process = _start([*command, "--port", str(port)], output, folder, **environment)
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not _answers(url + path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not become ready; its log:\n{log.read_text()}")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def start_program(folder: Path, source: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a Python program given as text; its output goes to `program.log` in the folder."""
    program = folder / "program.py"
    program.write_text(source)
    with (folder / "program.log").open("ab") as output:
        return _start([sys.executable, str(program)], output, folder, **environment)


def run_program(folder: Path, source: str, **environment: str) -> str:
    """Run a Python program given as text to its end and return what it printed; fail unless it exits with 0."""
    process = start_program(folder, source, **environment)
    code = process.wait(180)
    printed = (folder / "program.log").read_text()
    if code != 0:
        raise AssertionError(f"the program ended with {code}:\n{printed}")
    return printed
