"""`graphmeter stack` with the real Prometheus and Alertmanager: alerts arrive, and nothing outlives it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.processes import until
from cli.running import failure
from graphmeter_cli.stack import tools
from support import promtool
from support.signals import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """\
version: 1
slos:
  - name: answers
    objective: 99%
"""
LAST_LINE = "Ctrl-C ends everything."
ADDRESS = re.compile(r"^(Collector|Alertmanager|Prometheus) +(http://localhost:\d+)$", re.MULTILINE)


@contextmanager
def stack(folder: Path, *arguments: str, path: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A stack on free ports that keeps its data in a folder; gone when the block ends."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRAPHMETER_", "OTEL_"))}
    clean |= {"PYTHONUNBUFFERED": "1", "COLUMNS": "160"} | ({} if path is None else {"PATH": path})
    ports = ("--port", "0", "--prometheus-port", "0", "--alertmanager-port", "0")
    with subprocess.Popen(
        [sys.executable, "-m", "graphmeter_cli", "stack", "--data-dir", str(folder), *ports, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=clean,
        preexec_fn=interruptible,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def said(process: subprocess.Popen[str], last: str = LAST_LINE) -> str:
    """What it printed up to this line."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if last in line:
            return seen
    raise AssertionError(f"{last!r} never came:\n{seen}")


def addresses(screen: str) -> dict[str, str]:
    return {name: url.replace("localhost", "127.0.0.1") for name, url in ADDRESS.findall(screen)}


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def listens(url: str) -> bool:
    port = urllib.parse.urlsplit(url).port
    assert port is not None
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def binaries() -> list[str]:
    """The options that name both programs."""
    named = ("prometheus", "prometheus-alertmanager")
    return ["--prometheus", promtool.find(named[0]), "--alertmanager", promtool.find(named[1])]


def hurried(folder: Path, prometheus: str) -> str:
    """The real Prometheus, on rules that are looked at every second in place of every minute."""
    program = folder / "hurried-prometheus"
    program.write_text(
        f"#!/bin/sh\nsed -i 's/interval: 1m/interval: 1s/' {folder}/stack/rules/*.rules.yml\nexec {prometheus} \"$@\"\n"
    )
    program.chmod(0o755)
    return str(program)


def test_an_alert_of_the_generated_rules_reaches_alertmanager_and_ctrl_c_ends_everything(
    tmp_path: Path, binaries: list[str]
) -> None:
    (tmp_path / "graphmeter.yaml").write_text(CONFIG)
    binaries[1] = hurried(tmp_path, binaries[1])
    with stack(tmp_path, *binaries) as process:
        screen = said(process)
        url = addresses(screen)
        assert {"Collector", "Alertmanager", "Prometheus"} == set(url), screen
        assert "No Prometheus" not in screen

        # It says where alerts are to be seen, and there they are.
        (page,) = re.findall(r"^See alerts +(http://localhost:\d+/\S+)$", screen, re.M)
        with urllib.request.urlopen(page, timeout=60) as answer:
            assert 200 == answer.status

        rules = get(f"{url['Prometheus']}/api/v1/rules")["data"]["groups"]
        # The rules of the file that lies here, not of the defaults.
        assert any("answers" in str(group["rules"]) for group in rules)

        def watchdog() -> list[str]:
            alerts = get(f"{url['Alertmanager']}/api/v2/alerts")
            told = [each for each in alerts if each["labels"]["alertname"] == "GraphmeterWatchdog"]
            return [receiver["name"] for each in told for receiver in each["receivers"]]

        assert ["deadman"] == until("the watchdog in Alertmanager", watchdog)

        def scraped() -> list[str]:
            targets = get(f"{url['Prometheus']}/api/v1/targets")["data"]["activeTargets"]
            return [target["labels"]["job"] for target in targets if target["health"] == "up"]

        assert ["graphmeter"] == until("a scrape", scraped)

        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

    assert (0, "Everything has ended.") == (process.returncode, rest.strip())
    assert [] == [name for name, address in url.items() if listens(address)]
    assert (tmp_path / "graphmeter.db").exists()


def test_a_stack_has_its_folder_to_itself_and_leaves_nobody_behind_when_it_is_killed(
    tmp_path: Path, binaries: list[str]
) -> None:
    with stack(tmp_path, *binaries) as process:
        url = addresses(said(process))
        assert all(listens(address) for address in url.values())
        with stack(tmp_path) as second:
            refused = second.communicate(timeout=60)[0]
        assert (1, True) == (
            second.returncode,
            refused.startswith("Error: another `graphmeter stack` keeps its data in"),
        )
        process.kill()
        process.wait(60)
        until("every server gone", lambda: not any(listens(address) for address in url.values()))


def test_it_says_what_is_missing_and_ends_all_when_one_ends(tmp_path: Path) -> None:
    ends = tmp_path / "prometheus"
    # Becomes ready, says why, and ends.
    ends.write_text(
        f"#!{sys.executable}\n"
        "import http.server, sys\n"
        "port = next(part for part in sys.argv if part.startswith('--web.listen-address=')).rpartition(':')[2]\n"
        "server = http.server.HTTPServer(('127.0.0.1', int(port)), http.server.SimpleHTTPRequestHandler)\n"
        "server.handle_request()\n"
        "sys.exit('the disk is gone')\n"
    )
    ends.chmod(0o755)
    (tmp_path / "-").mkdir()
    (tmp_path / "-" / "ready").write_text("")
    with stack(tmp_path, "--prometheus", str(ends), path=os.devnull) as process:
        screen = process.communicate(timeout=120)[0]

    assert 1 == process.returncode
    assert "No Alertmanager, so nobody is told of alerts: the release of https://prometheus.io/download/" in screen
    assert re.search(r"^Error: Prometheus ended with 1; the end of its log:\n(.*\n)*the disk is gone$", screen, re.M)
    assert not listens(addresses(screen)["Collector"])


def test_a_port_that_was_asked_for_and_is_busy_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with stack(tmp_path, "--port", port, path=os.devnull) as process:
            screen = process.communicate(timeout=60)[0]
    assert (1, f"Error: --port {port}: somebody listens there already\n") == (process.returncode, screen)
    assert [] == list(tmp_path.rglob("*.db"))


@pytest.mark.parametrize(
    ("code", "arguments", "sentence"),
    [
        (
            2,
            ["--prometheus", "/no/such"],
            "Invalid value for --prometheus: '/no/such' is not a program that can be run",
        ),
        (1, ["--config", "none.yaml"], "none.yaml: "),
    ],
    ids=["program", "file"],
)
def test_what_is_named_and_not_there_is_a_sentence(code: int, arguments: list[str], sentence: str) -> None:
    assert failure(code, "stack", *arguments).startswith(sentence)


def test_how_to_get_a_program_is_told_for_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = "the release of https://prometheus.io/download/, on PATH or named with --prometheus"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert f"brew install brewed, or {release}" == tools.how_to_get("packaged", "brewed", "--prometheus")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert release == tools.how_to_get("packaged", "brewed", "--prometheus")
    shutil.copy("/bin/sh", tmp_path / "apt-get")
    assert f"apt-get install packaged, or {release}" == tools.how_to_get("packaged", "brewed", "--prometheus")
