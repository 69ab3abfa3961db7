"""The real promtool, amtool and Prometheus: found on PATH or in .tools.

Where one cannot be had (no Debian packages, no installation) a test that needs it is skipped with a visible reason; in CI
it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.ports import free_port

_TOOLS = Path(__file__).resolve().parents[2] / ".tools" / "usr" / "bin"
_TIMEOUT_S = 120
# Of a short life nothing need be collected often, and by one thread: a fourth of promtool's time, for at most 500 MB.
_SHORT_LIFE = {"GOGC": "400", "GOMEMLIMIT": "500MiB", "GOMAXPROCS": "1"}


class ToolMissing(AssertionError):
    """A tool that the test needs is not installed."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool said."""

    ok: bool
    output: str
    """stdout and stderr."""


def find(tool: str) -> str:
    """Path of promtool, amtool, prometheus or prometheus-alertmanager.

    Raises:
        ToolMissing: it is neither on PATH nor in .tools, and this is CI; elsewhere the test is skipped.
    """
    path = shutil.which(tool, path=os.pathsep.join((os.environ.get("PATH", os.defpath), str(_TOOLS))))
    if path is None:
        reason = (
            f"{tool} is not installed: run `make tools`, or `apt-get install prometheus prometheus-alertmanager`, "
            "or put the release binaries of Prometheus and Alertmanager on PATH"
        )
        if os.environ.get("CI"):
            raise ToolMissing(reason)
        pytest.skip(reason)
    return path


def run(tool: str, *arguments: str | Path) -> Result:
    """Run a tool to its end, at most two minutes."""
    done = subprocess.run(
        [find(tool), *map(str, arguments)],
        env=os.environ | _SHORT_LIFE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return Result(done.returncode == 0, done.stdout)


def check_rules(*files: Path) -> Result:
    """`promtool check rules`, where lint is fatal."""
    return run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *files)


def test_rules(*files: Path) -> Result:
    """`promtool test rules` on unit test files."""
    return run("promtool", "test", "rules", *files)


test_rules.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of its name


def check_metrics(exposition: str) -> Result:
    """`promtool check metrics` on the text of a /metrics page."""
    done = subprocess.run(
        [find("promtool"), "check", "metrics"],
        input=exposition,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return Result(done.returncode == 0, done.stdout)


def check_alertmanager(file: Path) -> Result:
    """`amtool check-config`."""
    return run("amtool", "check-config", file)


def routed_to(file: Path, labels: Mapping[str, str]) -> list[str]:
    """Receivers that Alertmanager would tell about an alert with these labels."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    result = run("amtool", "config", "routes", "test", f"--config.file={file}", *pairs)
    if not result.ok:
        raise AssertionError(result.output)
    # amtool warns on stderr that the flag has the last word.
    return result.output.strip().splitlines()[-1].split(",")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an API answer, e.g. `get("rules")`.

        Raises:
            AssertionError: Prometheus answers with an error.
        """
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error
        return answer["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of every series of an instant query."""
        data = self.get("query", query=expr)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def wait_for(self, expr: str, timeout_s: float = 90.0) -> list[tuple[dict[str, str], float]]:
        """The first answer of a query that holds any series.

        Raises:
            AssertionError: there is none in time; the message tells the state of the targets.
        """
        ends = time.monotonic() + timeout_s
        while True:
            if found := self.query(expr):
                return found
            if time.monotonic() > ends:
                targets = [(each["scrapeUrl"], each["lastError"]) for each in self.get("targets")["activeTargets"]]
                raise AssertionError(f"no series for {expr} within {timeout_s} s; targets: {targets}")
            time.sleep(0.1)


@contextmanager
def running_prometheus(
    folder: Path,
    *,
    targets: Sequence[str] = (),
    rule_files: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
    job: str = "graphmeter",
    interval: str = "1s",
    flags: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """Prometheus on a free port of loopback, with its data in `folder`; stopped at the end.

    `targets` and `alertmanagers` are `host:port`; scrapes and rules run every `interval`. Ready when yielded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(file.resolve()) for file in rule_files],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(targets)}]}],
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    port = free_port()
    command = [
        find("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        # Alertmanager is found a few seconds after the start; what was sent before is lost.
        "--rules.alert.resend-delay=2s",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
        *flags,
    ]
    with running(command, f"http://127.0.0.1:{port}/-/ready", folder / "prometheus.log") as url:
        yield Prometheus(url.removesuffix("/-/ready"))


@contextmanager
def running_alertmanager(folder: Path, config: Path) -> Iterator[str]:
    """Alertmanager on a free port of loopback; yields `host:port`."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    command = [
        find("prometheus-alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with running(command, f"http://{address}/-/ready", folder / "alertmanager.log"):
        yield address


@contextmanager
def running(command: Sequence[str], ready_url: str, log: Path, timeout_s: float = 90.0) -> Iterator[str]:
    """A server process from ready to stopped; yields the URL.

    Raises:
        AssertionError: it ends or is not ready in time; the message holds its log.
    """
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        ends = time.monotonic() + timeout_s
        while not _answers(ready_url):
            if process.poll() is not None or time.monotonic() > ends:
                state = "is not ready" if process.poll() is None else f"ended with {process.returncode}"
                raise AssertionError(f"{command[0]} {state}: {log.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        yield ready_url
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return bool(response.status == 200)
    except OSError:
        return False
