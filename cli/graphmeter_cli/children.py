"""Servers as child processes: started, waited for until they are ready, stopped by their process id.

What `graphmeter demo` and `graphmeter stack` are made of. A server that does not come up ends as one sentence and the end
of its log.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from graphmeter_cli.leash import Leash

READY_WITHIN_S = 90.0
STOP_WITHIN_S = 20.0
_POLL_S = 0.02
_LOG_LINES = 15  # of a server that did not start, shown to the user

_straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy knows nothing of our loopback


@dataclass(frozen=True, slots=True)
class Child:
    """A server of our own."""

    name: str
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
def running(
    name: str,
    command: Sequence[str],
    url: str,
    ready: str,
    log: Path,
    environment: Mapping[str, str],
    *,
    leash: Leash | None = None,
) -> Iterator[Child]:
    """Run a server until the block ends; it answers `ready`, a path below `url`, when the block begins.

    With a `leash` it ends, too, if we are killed.

    Raises:
        click.ClickException: it ended or did not become ready; the message shows the end of its log.
    """
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for us, and we stop our children in an order that loses nothing.
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    child = Child(name, process, url, log)
    try:
        if leash is not None:
            leash.hold(process.pid)
        _wait_until_ready(child, ready)
        yield child
    finally:
        _stop(child)
        # Not reached if stopping was interrupted: then it is still on the leash.
        if leash is not None:
            leash.release(process.pid)


def _wait_until_ready(child: Child, ready: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not answers(child.url + ready):
        if (code := child.process.poll()) is not None:
            raise click.ClickException(f"{child.name} ended with {code}; the end of its log:\n{child.last_words()}")
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"{child.name} was not ready within {READY_WITHIN_S:g} s; the end of its log:\n{child.last_words()}"
            )
        time.sleep(_POLL_S)


def answers(url: str) -> bool:
    """Whether there is such a page."""
    try:
        with _straight.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _stop(child: Child) -> None:
    process = child.process
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        click.echo(f"{child.name} did not stop within {STOP_WITHIN_S:g} s and was killed", err=True)
