"""deploy/env.py: passwords are random, made once, and readable by their owner only; ports that are busy are moved."""

from __future__ import annotations

import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.loading import load_env
from support.ports import free_port


def _run(root: Path, target: Path) -> str:
    command = [sys.executable, str(root / "deploy" / "env.py"), str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _values(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _passwords(path: Path) -> dict[str, str]:
    # Ports may be among them: of what listens on this machine.
    return {name: value for name, value in _values(path).items() if name.endswith("_PASSWORD")}


def test_it_writes_long_random_passwords_for_its_owner_only(root: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.env", tmp_path / "other.env"
    _run(root, one)
    _run(root, other)
    values = _passwords(one)
    assert {"POSTGRES_PASSWORD", "GRAPHMETER_DB_PASSWORD", "GRAFANA_DB_PASSWORD", "GRAFANA_ADMIN_PASSWORD"} == set(
        values
    )
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values.values())
    assert len({*values.values(), *_passwords(other).values()}) == 8
    assert stat.S_IMODE(one.stat().st_mode) == 0o600


def test_a_second_run_changes_nothing(root: Path, tmp_path: Path) -> None:
    target = tmp_path / ".env"
    _run(root, target)
    before = target.read_bytes()
    said = _run(root, target)
    assert before == target.read_bytes()
    assert "has every password already" in said


def test_what_is_there_stays_and_only_the_missing_is_added(root: Path, tmp_path: Path) -> None:
    target = tmp_path / ".env"
    target.write_text("# mine\nGRAPHMETER_GRAFANA_PORT=3333\nPOSTGRES_PASSWORD=chosen", encoding="utf-8")
    _run(root, target)
    values = _values(target)
    assert values["POSTGRES_PASSWORD"] == "chosen"
    assert values["GRAPHMETER_GRAFANA_PORT"] == "3333"
    assert target.read_text(encoding="utf-8").startswith("# mine\n")
    assert len(values) == 5
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_it_prints_no_password(root: Path, tmp_path: Path) -> None:
    target = tmp_path / ".env"
    said = _run(root, target)
    assert not any(value in said for value in _values(target).values())


def test_ports_on_which_somebody_listens_are_moved_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load_env(root)
    path = tmp_path / ".env"
    with socket.create_server(("127.0.0.1", 0)) as mine, socket.create_server(("127.0.0.1", 0)) as stacks:
        # Bound by us alone, as `SO_REUSEADDR` lets the look at it pass.
        busy, free = mine.getsockname()[1], free_port()
        monkeypatch.setattr(module, "PORTS", {"GRAPHMETER_GRAFANA_PORT": busy, "GRAPHMETER_JAEGER_PORT": free})
        module.main([str(path)])
        moved = {name: int(value) for name, value in _values(path).items() if name.endswith("_PORT")}
        assert ["GRAPHMETER_GRAFANA_PORT"] == list(moved)
        assert moved["GRAPHMETER_GRAFANA_PORT"] not in (busy, free, stacks.getsockname()[1])
        said = capsys.readouterr().out
        assert f"Somebody listens on port {busy}: GRAPHMETER_GRAFANA_PORT={moved['GRAPHMETER_GRAFANA_PORT']}" in said
        assert f"Grafana: http://localhost:{moved['GRAPHMETER_GRAFANA_PORT']}," in said

        # Now the stack itself listens.
        path.write_text(path.read_text().replace("GRAFANA_DB_PASSWORD", "# GRAFANA_DB_PASSWORD"))
        monkeypatch.setattr(module, "PORTS", {"GRAPHMETER_JAEGER_PORT": stacks.getsockname()[1]})
        assert ["GRAFANA_DB_PASSWORD"] == module.write(path)


def test_it_knows_every_port_of_the_compose_file(root: Path) -> None:
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    published = {name: int(port) for name, port in re.findall(r"\$\{(GRAPHMETER_\w+_PORT):-(\d+)\}", text)}
    assert published == load_env(root).PORTS


def test_git_ignores_the_file(root: Path) -> None:
    assert ".env" in (root / ".gitignore").read_text(encoding="utf-8").splitlines()
