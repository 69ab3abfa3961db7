"""What every test gets: a clean environment, and databases when it asks for them.

`sqlite_url` and `postgres_url` are fresh databases at the newest schema, `empty_…` ones without any; `database_url`
runs a test on both.
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from graphmeter_collector.store.migrate import migrate
from support import postgres

# Property tests run without a deadline: a busy machine is no fault.
settings.register_profile("graphmeter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("graphmeter")

AROUND_MIDNIGHT_S: Final = 30.0

# With Python's own thresholds a sixth of the suite's time, and a fourth of collecting it, went into looking for cycles.
gc.set_threshold(50_000, 10, 10)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Runs of some seconds ago are today's, this month's: no test begins around midnight (UTC), when they may not be."""
    since_s = (time.time() + AROUND_MIDNIGHT_S) % 86_400
    if since_s < 2 * AROUND_MIDNIGHT_S:
        time.sleep(2 * AROUND_MIDNIGHT_S - since_s)


def pytest_collection_finish() -> None:
    """Modules and thousands of tests stay to the end: nobody need look through them for cycles again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test depends on, or reports to, what the developer's shell has configured, or leaves anything in his home."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    for name in list(os.environ):
        if name.startswith(("GRAPHMETER_", "OTEL_")) and name != postgres.VARIABLE:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A running Postgres; fails, rather than skips, where none can be had."""
    with postgres.server() as server:
        yield server


@pytest.fixture(scope="session")
def _migrated_template(postgres_server: postgres.Server) -> Iterator[str]:
    """A database at the newest schema to copy from: quicker than migrating one for every test."""
    url = postgres_server.create()
    migrate(url)
    yield url
    postgres_server.drop(url)


@pytest.fixture
def empty_postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def postgres_url(postgres_server: postgres.Server, _migrated_template: str) -> Iterator[str]:
    url = postgres_server.create(template=_migrated_template.rsplit("/", 1)[1])
    yield url
    postgres_server.drop(url)


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'graphmeter.db'}"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file at the newest schema to copy from: quicker than migrating one for every test."""
    path = tmp_path_factory.mktemp("template") / "graphmeter.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(empty_sqlite_url: str, migrated_file: Path) -> str:
    shutil.copyfile(migrated_file, empty_sqlite_url.removeprefix("sqlite:///"))
    return empty_sqlite_url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of either kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of either kind without any table."""
    return str(request.getfixturevalue(f"empty_{request.param}_url"))
