"""deploy/Dockerfile and .dockerignore: small, unprivileged, and built from files that reach the build."""

from __future__ import annotations

import fnmatch
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import tooling


@pytest.fixture(scope="module")
def instructions(root: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continued lines joined, comments left out."""
    text = (root / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def _reaches_the_build(root: Path, path: str) -> bool:
    """Docker's rule: the last pattern that matches a path, or a folder above it, decides."""
    kept = True
    for raw in (root / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not raw or raw.startswith("#"):
            continue
        pattern, keep = raw.removeprefix("!"), raw.startswith("!")
        parts = Path(path).parts
        above = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
        if any(fnmatch.fnmatch(one, pattern.removeprefix("**/")) for one in above):
            kept = keep
    return kept


def test_every_base_image_has_a_version(instructions: list[tuple[str, str]]) -> None:
    bases = [arguments.split()[0] for name, arguments in instructions if name == "FROM"]
    bases += [match[1] for _, arguments in instructions if (match := re.match(r"--from=(\S+/\S+)", arguments))]
    assert len(bases) == 3
    for base in bases:
        assert re.search(r":\d+\.\d+", base), base


def test_it_builds_in_one_stage_and_runs_in_another(instructions: list[tuple[str, str]]) -> None:
    stages = [arguments for name, arguments in instructions if name == "FROM"]
    assert stages == ["python:3.13-slim AS build", "python:3.13-slim"]


def test_hadolint_finds_nothing(root: Path, tmp_path: Path) -> None:
    checked = tooling.hadolint(root / "deploy" / "Dockerfile")
    assert checked.ok, checked.output
    planted = tmp_path / "Dockerfile"
    planted.write_text("FROM python:latest\nRUN cd /tmp && pip install requests\n")
    assert {"DL3003", "DL3007", "DL3013"} <= set(re.findall(r"DL\d+", tooling.hadolint(planted).output))


def test_it_runs_as_a_numbered_user_without_rights(instructions: list[tuple[str, str]]) -> None:
    names = [name for name, _ in instructions]
    assert ("USER", "10001:10001") in instructions
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))


def test_it_checks_its_own_health_with_python_alone(instructions: list[tuple[str, str]]) -> None:
    check = next(arguments for name, arguments in instructions if name == "HEALTHCHECK")
    command = json.loads(check.split("CMD", 1)[1])
    assert command[0] == "python"
    copied = next(arguments for name, arguments in instructions if name == "COPY" and "healthcheck.py" in arguments)
    assert command[1] == copied.split()[1]


def test_it_starts_the_collector_by_default(instructions: list[tuple[str, str]], root: Path) -> None:
    assert ("ENTRYPOINT", '["graphmeter"]') in instructions
    assert ("CMD", '["serve"]') in instructions
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert "graphmeter" in project["project"]["scripts"]


def test_what_it_copies_exists_and_reaches_the_build(instructions: list[tuple[str, str]], root: Path) -> None:
    sources = [
        source
        for name, arguments in instructions
        if name == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    ]
    assert sources == ["pyproject.toml", "uv.lock", ".", "deploy/healthcheck.py"]
    for source in sources:
        assert (root / source).exists(), source
        assert source == "." or _reaches_the_build(root, source), source


def test_everything_the_wheel_is_made_of_reaches_the_build(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [project["project"]["readme"], *project["project"]["license-files"]]
    wanted += project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert [path for path in wanted if not (root / path).exists() or not _reaches_the_build(root, path)] == []


@pytest.mark.parametrize("path", [".env", ".git/config", ".venv/bin/python", "tests/deploy/conftest.py", "docs/x.md"])
def test_nothing_else_reaches_the_build(root: Path, path: str) -> None:
    assert not _reaches_the_build(root, path)


def test_the_uv_that_builds_can_read_the_lock(instructions: list[tuple[str, str]], root: Path) -> None:
    commands = [arguments for name, arguments in instructions if name == "RUN" and "uv sync" in arguments]
    assert len(commands) == 2
    assert all("--locked" in command and "--no-dev" in command for command in commands)
    assert (root / "uv.lock").exists()


@contextmanager
def _collector(status: int) -> Iterator[int]:
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
            """Tests stay quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _health(root: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "deploy" / "healthcheck.py")]
    environment = {**os.environ, "GRAPHMETER_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_ready_collector_is_healthy(root: Path) -> None:
    with _collector(200) as port:
        assert _health(root, port).returncode == 0


def test_a_collector_that_cannot_acknowledge_is_not(root: Path) -> None:
    with _collector(503) as port:
        checked = _health(root, port)
    assert checked.returncode == 1
    assert "503" in checked.stderr


def test_no_collector_is_not_healthy_either(root: Path) -> None:
    with _collector(200) as port:
        pass
    assert _health(root, port).returncode == 1
