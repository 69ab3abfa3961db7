"""Revisions: up, down and up again; the head is what the code's tables say; two at once; a newer database is refused."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from acceptance.processes import collector
from collector.store.dump import dump, fresh, opened
from collector.store.test_waste import SPANS
from graphmeter_collector.errors import StartupError
from graphmeter_collector.store import migrate as migrations
from graphmeter_collector.store.engine import parse
from graphmeter_collector.store.migrate import current, head, migrate
from graphmeter_collector.store.tables import metadata
from support import otlp, postgres
from support.records import SECOND, T0_NS, trace


def inspected(url: str, question: Any) -> Any:
    """Ask something on a plain connection."""
    return migrations._run(parse(url), question)


def tables(url: str) -> set[str]:
    return set(inspected(url, lambda connection: inspect(connection).get_table_names()))


def test_every_revision_goes_up_down_and_up_again(empty_database_url: str) -> None:
    assert current(empty_database_url) is None
    revisions = [each.revision for each in ScriptDirectory(str(files("graphmeter_migrations"))).walk_revisions()]

    for revision in reversed(revisions):
        assert revision == migrate(empty_database_url, revision)
    assert head() == current(empty_database_url)
    assert {*metadata.tables, "alembic_version"} == tables(empty_database_url)
    for revision in [*revisions[1:], "base"]:
        assert revision == migrate(empty_database_url, revision)
    assert {"alembic_version"} == tables(empty_database_url)

    assert head() == migrate(empty_database_url)
    assert head() == migrate(empty_database_url)


def plain(default: str | None) -> str:
    """A default without the spelling of its database: `'{}'::json` and `true` are `{}` and `1`."""
    value = re.sub(r"::\w+$", "", default or "").strip("()'")
    return {"true": "1", "false": "0"}.get(value, value)


def defaults_differ(
    _context: object, _found: object, _said: object, found: str | None, _default: object, said: str | None
) -> bool:
    return plain(found) != plain(said)


def test_the_head_is_what_the_code_says(database_url: str) -> None:
    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": defaults_differ}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    assert [] == inspected(database_url, differences)


@pytest.mark.parametrize("table", metadata.tables)
def test_primary_keys_are_what_the_code_says(database_url: str, table: str) -> None:
    # Alembic compares everything but these.
    found = inspected(database_url, lambda connection: inspect(connection).get_pk_constraint(table))

    assert [column.name for column in metadata.tables[table].primary_key] == found["constrained_columns"]


def test_spans_and_bodies_are_partitioned_by_day(postgres_url: str) -> None:
    query = "SELECT partrelid::regclass::text, pg_get_partkeydef(partrelid) FROM pg_partitioned_table ORDER BY 1"

    assert [("span", "RANGE (day)"), ("span_body", "RANGE (day)")] == [
        tuple(row) for row in postgres.execute(postgres_url, query)
    ]


def test_releases_begin_with_the_first_run_that_is_known(empty_database_url: str) -> None:
    def insert(connection: Connection) -> None:
        for of, release, started_ns in ((1, "1.4", 30), (2, "1.4", 20), (3, "1.5", 40), (4, "", 10)):
            row = {"trace": bytes([of]), "release": release, "ns": started_ns}
            columns = "trace_id, run_id, service, release, started_ns, last_seen_ns"
            connection.execute(
                text(f"INSERT INTO run ({columns}) VALUES (:trace, 'a', 'shop', :release, :ns, :ns)"), row
            )

    def rows(connection: Connection) -> list[tuple[Any, ...]]:
        found = connection.execute(text("SELECT service, environment, release, first_ns FROM release_seen ORDER BY 4"))
        return [tuple(row) for row in found]

    migrate(empty_database_url, "0016")
    inspected(empty_database_url, insert)
    migrate(empty_database_url, "0017")
    assert [("shop", "", "1.4", 20), ("shop", "", "1.5", 40)] == inspected(empty_database_url, rows)


def test_what_waits_to_be_forwarded_waits_still_after_a_way_back_and_forth(empty_database_url: str) -> None:
    def insert(connection: Connection) -> None:
        row = {"trace": b"t" * 16, "first": b"a" * 8, "more": b"b" * 8 + b"c" * 8}
        columns = "destination, trace_id, span_id, day, queued_ns, more"
        connection.execute(text(f"INSERT INTO outbox ({columns}) VALUES ('jaeger', :trace, :first, 1, 2, :more)"), row)

    def rows(connection: Connection) -> list[tuple[Any, ...]]:
        found = connection.execute(text("SELECT trace_id, span_id, day, queued_ns FROM outbox ORDER BY span_id"))
        return [tuple(row) for row in found]

    migrate(empty_database_url, "0006")
    inspected(empty_database_url, insert)
    migrate(empty_database_url, "0005")
    expected = [(b"t" * 16, letter * 8, 1, 2) for letter in (b"a", b"b", b"c")]
    assert expected == inspected(empty_database_url, rows)
    migrate(empty_database_url)
    assert expected == inspected(empty_database_url, rows)


async def test_calls_that_were_for_nothing_before_are_found(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: T0_NS + 86_400 * SECOND)
    async with opened(database_url) as store:
        # What is around a subgraph is not known of calls before 0014.
        await store.write(fresh(each for each in SPANS if each.trace_id in {trace(of) for of in (1, 2, 3, 10)}))
        await store.mark_lost(1 << 62, 0)
    before = await dump(database_url)

    await asyncio.to_thread(migrate, database_url, "0011")
    await asyncio.to_thread(migrate, database_url)
    after = await dump(database_url)

    assert before["ledger_waste"] == after["ledger_waste"] != []
    assert before["run"] == after["run"]


def test_two_that_migrate_at_once_both_end_at_the_head(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(migrate, [empty_database_url] * 4))

    assert [head()] * 4 == found
    assert {*metadata.tables, "alembic_version"} == tables(empty_database_url)


@pytest.mark.parametrize("behind", ["base", "-1"], ids=["an empty database", "one a version behind"])
def test_two_processes_that_migrate_at_once_both_end_at_the_head(empty_database_url: str, behind: str) -> None:
    if behind == "-1":
        migrate(empty_database_url, before_head())
    program = "import sys; from graphmeter_collector.store.migrate import migrate; print(migrate(sys.argv[1]))"
    both = [
        subprocess.Popen([sys.executable, "-c", program, empty_database_url], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    assert [f"{head()}\n"] * 2 == [process.communicate(timeout=60)[0] for process in both]


def before_head() -> str:
    """The revision before the newest."""
    script = ScriptDirectory(str(files("graphmeter_migrations")))
    newest = script.get_revision(head())
    assert isinstance(newest.down_revision, str)
    return newest.down_revision


@pytest.mark.parametrize("behind", ["base", "-1"], ids=["an empty database", "one a version behind"])
def test_two_collectors_that_start_at_once_on_one_postgres_both_serve(
    empty_postgres_url: str, tmp_path: Path, behind: str
) -> None:
    if behind == "-1":
        migrate(empty_postgres_url, before_head())

    def start(name: str) -> int:
        with collector(tmp_path / name, database_url=empty_postgres_url) as running:
            request = otlp.request(*otlp.run(len(name), start_ns=time.time_ns() - 5 * SECOND))
            return running.post(request.SerializeToString())[0]

    with ThreadPoolExecutor(2) as threads:
        assert [200, 200] == list(threads.map(start, ["a", "bb"]))
    assert head() == current(empty_postgres_url)
    assert 2 == inspected(empty_postgres_url, lambda sql: sql.execute(text("SELECT count(*) FROM run")).scalar())


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection, revision: str) -> str:
        connection.execute(text("CREATE TABLE half (a integer)"))
        connection.execute(text("CREATE TABLE half (a integer)"))
        return revision

    migrate(empty_database_url, "base")
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "_to", fail)
        with pytest.raises(StartupError, match="half"):
            migrate(empty_database_url)

    assert "half" not in tables(empty_database_url)
    assert head() == migrate(empty_database_url)


def test_a_database_newer_than_the_code_is_refused_with_the_remedy(database_url: str) -> None:
    def pretend(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    inspected(database_url, pretend)

    with pytest.raises(StartupError, match=r"revision 9999.*newest is \d{4}.*upgrade graphmeter"):
        migrate(database_url)
    with pytest.raises(StartupError, match="upgrade graphmeter"):
        migrations.require_head("9999", "graphmeter.db")
    assert "9999" == current(database_url)


def test_a_file_is_made_with_its_folder_and_an_unusable_one_is_said(tmp_path: Path) -> None:
    assert head() == migrate(f"sqlite:///{tmp_path}/a/b c/graph%20meter?.db".replace("?", "%3F"))
    (tmp_path / "text.db").write_text("this is no database, and was never one" * 30)
    with pytest.raises(StartupError, match=r"cannot use the database sqlite:///.*not a database"):
        migrate(f"sqlite:///{tmp_path}/text.db")


def test_a_file_that_somebody_uses_can_be_migrated(sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    other.execute("SELECT count(*) FROM span").fetchone()

    assert head() == migrate(sqlite_url)
    other.close()


def test_revisions_import_nothing_of_ours_and_say_what_they_lock() -> None:
    found = sorted(Path(str(files("graphmeter_migrations"))).glob("versions/[0-9]*.py"))
    assert found
    for path in found:
        source = path.read_text()
        assert not re.search(r"^\s*(from|import) graphmeter", source, re.M), path.name
        docstring = source.split('"""')[1]
        assert "lock" in docstring, path.name
        assert re.search(r"\((pre|post)\)", docstring), path.name
        revision = re.search(r'^revision = "(.*)"', source, re.M)
        assert revision, path.name
        assert path.name.startswith(f"{revision[1]}_")
