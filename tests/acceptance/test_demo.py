"""`graphmeter demo` as a new user runs it: in a fresh home, and with the screen that the README promises."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.signals import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).resolve().parents[2] / "README.md"
TIMEOUT_S = 240


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home nobody has lived in, with a folder for temporary files next to it."""
    (tmp_path / "tmp").mkdir()
    fresh = tmp_path / "home"
    fresh.mkdir()
    return fresh


@contextmanager
def demo(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo in that home; gone when the block ends."""
    kept = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name in kept}
    environment |= {"HOME": str(home), "TMPDIR": str(home.parent / "tmp"), "COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "graphmeter_cli", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
        env=environment,
        preexec_fn=interruptible,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def finished(home: Path, *arguments: str) -> str:
    """The screen of a demo that succeeded and left nothing behind."""
    with demo(home, *arguments) as process:
        screen, _ = process.communicate(timeout=TIMEOUT_S)
    assert 0 == process.returncode, screen
    assert [] == [*home.rglob("*"), *(home.parent / "tmp").rglob("*")]
    return screen


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process has printed when `text` appears."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came:\n{seen}")


def promised() -> tuple[list[str], list[str]]:
    """What the README says that the demo prints: its headings, and its lines as a run's own seed draws them."""
    chapter = README.read_text(encoding="utf-8").partition("## What `make demo` prints")[2].partition("\n## ")[0]
    headings = [*re.findall(r"\*\*([^*]+)\*\*", chapter), "Nodes: latency", "Stored = run?"]
    blocks = [line.strip() for line in chapter.splitlines() if line.startswith("    ")]
    return headings, [drawn(line) for line in blocks if line.startswith("✓ ") or line.endswith(tuple("0123456789"))]


def drawn(line: str) -> str:
    """A line of the screen without what differs from run to run: times, ids, and the space that they take."""
    return " ".join(re.sub(r"\b[\d,.]+ m?s\b|\b\d:\d\d:\d\d\b|\b[0-9a-f-]{32,36}\b", "", line).split())


def test_the_screen_is_the_one_that_the_readme_shows_even_if_the_port_is_busy(home: Path) -> None:
    headings, lines = promised()
    assert len(headings) > 6
    assert len(lines) > 10

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        screen = finished(home, "--once", "--port", str(port))

    said = re.match(rf"Port {port} is busy: using (\d+)\.\nCollector on http://127\.0\.0\.1:(\d+), storing in ", screen)
    assert said is not None, screen
    assert said[1] == said[2] != str(port)

    missing = [heading for heading in headings if f"\n{heading}" not in screen]
    shown = {drawn(line) for line in screen.splitlines()}
    missing += [line for line in lines if line not in shown]
    assert [] == missing, screen
    assert "✗ " not in screen.partition("Stored = run?")[2]


def test_on_a_postgres_that_holds_an_earlier_demo_it_proves_its_own_runs(home: Path, empty_postgres_url: str) -> None:
    small = ("--once", "--runs", "24", "--port", "0", "--database-url", empty_postgres_url)
    screens = [finished(home, *small), finished(home, *small)]

    first, second = (re.findall(r"^  ✓ (.+?) +([\d,]+) = [\d,]+ ", screen, re.MULTILINE) for screen in screens)
    # Planned were 24; a run that fails is not resumed.
    assert 20 <= int(dict(first)["runs"]) <= 24
    assert first == second
    for screen in screens:
        assert "storing in the given database" in screen
        assert empty_postgres_url not in screen


@pytest.mark.parametrize(
    ("arguments", "when", "codes"),
    [
        pytest.param(["--runs", "8"], "Ctrl-C ends the demo", {0}, id="when all is shown"),
        # Python itself ends with the signal when that came while it was loading a module.
        pytest.param(["--runs", "2000"], "Collector on ", {1, -signal.SIGINT}, id="while graphs run"),
    ],
)
def test_ctrl_c_ends_the_demo_and_its_collector(arguments: list[str], when: str, codes: set[int], home: Path) -> None:
    with demo(home, "--port", "0", *arguments) as process:
        said = re.search(r"Collector on (\S+),", read_until(process, when))
        assert said is not None
        with urllib.request.urlopen(f"{said[1]}/ready", timeout=60) as answer:
            assert 200 == answer.status
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

    assert process.returncode in codes, rest
    assert "Traceback" not in rest
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{said[1]}/ready", timeout=60)
    assert [] == [*home.rglob("*"), *(home.parent / "tmp").rglob("*")]
