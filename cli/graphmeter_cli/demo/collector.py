"""A real collector as a child process: started on a free port, waited for until it is ready, stopped by its process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

READY_WITHIN_S = 90.0
STOP_WITHIN_S = 20.0
_POLL_S = 0.02
_LOG_LINES = 15  # of a collector that did not start, shown to the user

_straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy knows nothing of our loopback


@dataclass(frozen=True, slots=True)
class Collector:
    """A collector of the demo's own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def wait(self) -> int:
        """Block until the process ends by itself; its exit code."""
        return self.process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else a port that is free now. 0 asks for any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As the server does: a port whose last connections are still fading away is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise click.ClickException("no free TCP port on 127.0.0.1")


@contextmanager
def running(port: int, data_dir: Path, arguments: Sequence[str]) -> Iterator[Collector]:
    """Run `graphmeter serve` until the block ends; ready when the block begins.

    Raises:
        click.ClickException: it ended or did not become ready; the message shows the end of its log.
    """
    log = data_dir / "collector.log"
    command = [sys.executable, "-m", "graphmeter_cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for us, and we then stop the collector after the last flush.
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=_clean_environment(),
            start_new_session=True,
        )
    collector = Collector(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait_until_ready(collector)
        yield collector
    finally:
        _stop(collector)


def _wait_until_ready(collector: Collector) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not _ready(collector.url):
        if (code := collector.process.poll()) is not None:
            raise click.ClickException(
                f"the collector ended with {code}; the end of its log:\n{collector.last_words()}"
            )
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"the collector was not ready within {READY_WITHIN_S:g} s; the end of its log:\n{collector.last_words()}"
            )
        time.sleep(_POLL_S)


def _ready(url: str) -> bool:
    try:
        with _straight.open(f"{url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _stop(collector: Collector) -> None:
    process = collector.process
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        click.echo(f"the collector did not stop within {STOP_WITHIN_S:g} s and was killed", err=True)


def _clean_environment() -> dict[str, str]:
    """Without settings meant for the user's own collector: the demo's listens to the demo's flags alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GRAPHMETER_", "OTEL_"))}
