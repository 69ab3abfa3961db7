"""deploy/env.py: passwords are random, made once, and readable by their owner only."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path


def _run(root: Path, target: Path) -> str:
    command = [sys.executable, str(root / "deploy" / "env.py"), str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _values(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_it_writes_long_random_passwords_for_its_owner_only(root: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.env", tmp_path / "other.env"
    _run(root, one)
    _run(root, other)
    values = _values(one)
    assert {"POSTGRES_PASSWORD", "GRAPHMETER_DB_PASSWORD", "GRAFANA_DB_PASSWORD", "GRAFANA_ADMIN_PASSWORD"} == set(
        values
    )
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values.values())
    assert len({*values.values(), *_values(other).values()}) == 8
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


def test_git_ignores_the_file(root: Path) -> None:
    assert ".env" in (root / ".gitignore").read_text(encoding="utf-8").splitlines()
