"""`graphmeter demo` as a process: real graphs, the real client, a real collector, and a proof that can fail."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.running import failure
from graphmeter import names
from graphmeter_cli.demo import collector
from graphmeter_collector.store import open_store
from support.ports import free_port
from support.records import T0_NS, whole_run
from support.signals import interruptible

GRAPHMETER = [sys.executable, "-m", "graphmeter_cli"]
RUNS = ["--runs", "20"]
WITHIN_S = 240


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a demo to its end."""
    command = [*GRAPHMETER, "demo", *RUNS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that goes on until the block ends at the latest."""
    command = [*GRAPHMETER, "demo", *RUNS, *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=interruptible
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process has printed when `text` appears."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came:\n{seen}")


async def test_what_was_stored_is_what_was_run_whatever_else_is_stored(database_url: str) -> None:
    store = await open_store(database_url)
    now = (time.time_ns() - T0_NS) / 1e9
    await store.write([*whole_run(1, at_s=now), *whole_run(2, at_s=now + 60, status=names.ERROR)])
    await store.close()

    result = await asyncio.to_thread(demo, "--once", "--port", "0", "--database-url", database_url)

    assert 0 == result.returncode, result.stdout + result.stderr
    assert "✗ runs" not in result.stdout


def test_the_summary_shows_everything_that_was_promised() -> None:
    result = demo("--once", "--port", "0")

    assert (0, "") == (result.returncode, result.stderr)
    for heading in (
        "Nodes: latency",
        "Spend per model",
        "Spend per team",
        "One run as a tree",
        "One SLO",
        "One budget",
        "Stored = run?",
        "Where to look next",
    ):
        assert f"\n{heading}" in result.stdout
    for text in ("p95", "unattributed", "└── ✓ chat", "demo-availability", "demo-team-monthly", "scrape_configs"):
        assert text in result.stdout
    for what in ("runs", "node executions", "node attempts", "node errors", "model calls", "tool calls"):
        assert re.search(rf"✓ {what} +([\d,]+) = \1 ", result.stdout), what
    for what in ("tokens, input", "tokens, cache_read", "tokens, reasoning", "cost, nano-USD"):
        assert re.search(rf"✓ {what} +([1-9][\d,]+) = \1 ", result.stdout), what


LIAR = """
import sys
from graphmeter_cli import main
from graphmeter_cli.demo import run

def lie(*arguments, **named):
    tally = truth(*arguments, **named)
    tally.run("support", "cx", "ok")
    return tally

truth, run.run_workload, run.STORED_WITHIN_S = run.run_workload, lie, 1.0
sys.argv = ["graphmeter", "demo", "--once", "--runs", "8", "--port", "0"]
main()
"""


def test_a_wrong_tally_makes_the_proof_fail_with_both_numbers() -> None:
    result = subprocess.run([sys.executable, "-c", LIAR], capture_output=True, text=True, timeout=WITHIN_S, check=False)

    assert 1 == result.returncode
    assert re.search(r"✗ runs +(\d+) ≠ \d+ ", result.stdout)
    assert re.search(r"support, cx, ok: run [1-9], stored \d\n", result.stdout)
    assert "✓ model calls" in result.stdout


def test_a_busy_port_is_said_and_another_one_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = demo("--once", "--port", str(port))

    assert 0 == result.returncode
    assert result.stdout.startswith(f"Port {port} is busy: using ")


def test_it_stays_up_until_ctrl_c_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with started("--port", "0", "--data-dir", str(tmp_path)) as process:
        said = read_until(process, "Ctrl-C ends the demo")
        url = said.split()[2].rstrip(",")
        with urllib.request.urlopen(f"{url}/ready", timeout=60) as answer:
            assert 200 == answer.status
        process.send_signal(signal.SIGINT)

        assert 0 == process.wait(60)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/ready", timeout=60)
    assert (tmp_path / "graphmeter.db").exists()


def test_a_collector_that_runs_already_is_used_and_left_alone(tmp_path: Path) -> None:
    with collector.running(free_port(), tmp_path, []) as running:
        result = demo("--once", "--endpoint", running.url)

        assert 0 == result.returncode, result.stdout + result.stderr
        assert running.process.poll() is None


def test_endless_load_ends_with_sigterm(tmp_path: Path) -> None:
    with (
        collector.running(free_port(), tmp_path, []) as running,
        started("--loop", "--endpoint", running.url) as process,
    ):
        read_until(process, "(seed 8)")
        process.terminate()

        assert 0 == process.wait(60)


def test_a_collector_that_cannot_start_shows_why(tmp_path: Path) -> None:
    result = demo("--once", "--port", "0", "--database-url", "postgresql://localhost:1/nothing")

    assert 1 == result.returncode
    assert "the collector ended with 1; the end of its log:" in result.stderr
    assert "cannot use the database" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--once", "--loop"], "--once and --loop contradict each other"),
        (["--endpoint", "http://localhost:4318", "--forward", "http://localhost:1"], "leave out the others"),
        (["--provider", "from-key"], "set OPENAI_API_KEY, ANTHROPIC_API_KEY or GOOGLE_API_KEY"),
        (["--runs", "0"], "0 is not in the range"),
    ],
    ids=str,
)
def test_contradictions_are_refused(arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(key, raising=False)

    assert expected in failure(2, "demo", *arguments)
