"""Which database URLs are understood, and what is said of the others; one writer per embedded file."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from collector.store.dump import opened
from collector.waiting import until
from graphmeter_collector.errors import StartupError
from graphmeter_collector.reports import RunFilter
from graphmeter_collector.store import open_store
from graphmeter_collector.store.engine import parse, read_engine, sqlite_path
from graphmeter_collector.store.lock import FileLock
from graphmeter_collector.store.migrate import current, migrate
from graphmeter_collector.store.read import open_reader
from support.records import whole_run


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+asyncpg://u@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("sqlite+aiosqlite:////var/a.db", "sqlite:////var/a.db"),
    ],
)
def test_urls_in_every_common_spelling_are_understood(given: str, understood: str) -> None:
    assert understood == str(parse(given))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:secret@host/db", "cannot store in 'mysql': write postgresql://"),
        ("postgresql+psycopg://u:secret@host/db", "cannot store in 'postgresql"),
        ("nonsense:secret", "not a URL: write postgresql://"),
        ("", "not a URL"),
        ("postgresql://u:secret@host:port/db", "not a URL"),
        ("postgresql://u:secret@[host/db", "not a URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "postgresql://nobody:"),
    ],
)
async def test_what_cannot_be_used_is_said_with_the_remedy_and_without_the_password(url: str, message: str) -> None:
    with pytest.raises(StartupError, match=re.escape(message)) as refused:
        await open_store(url)
    assert "secret" not in str(refused.value)
    with pytest.raises(StartupError, match=re.escape(message)) as refused:
        await asyncio.to_thread(migrate, url)
    assert "secret" not in str(refused.value)


async def test_a_database_that_does_not_exist_is_said(postgres_url: str) -> None:
    with pytest.raises(StartupError, match='database "no_such" does not exist'):
        await open_store(postgres_url.rsplit("/", 1)[0] + "/no_such")


async def test_options_of_a_postgres_url_mean_what_they_mean_to_libpq(postgres_url: str) -> None:
    url = f"{postgres_url}?sslmode=prefer&application_name=graphmeter"
    async with opened(url) as store:
        await store.write(whole_run())
        assert 1 == len(await store.reader.runs(RunFilter()))
    assert await asyncio.to_thread(current, postgres_url) == await asyncio.to_thread(current, url)


async def test_a_path_of_strange_characters_is_a_path(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a folder/ä#+&=%2541.db"  # a URL: %25 is a percent sign
    await asyncio.to_thread(migrate, url)

    async with opened(url) as store:
        await store.write(whole_run())
        async with open_reader(url) as reader:
            assert 1 == len(await reader.runs(RunFilter()))
    assert ["ä#+&=%41.db"] == [path.name for path in (tmp_path / "a folder").glob("*.db")]


async def test_an_embedded_file_has_one_writer_and_the_second_is_told_whose_it_is(sqlite_url: str) -> None:
    async with opened(sqlite_url):
        lock = f"{sqlite_path(parse(sqlite_url))}.writer.lock"
        with pytest.raises(StartupError, match=rf"{re.escape(lock)} is held by process {os.getpid()}: one collector"):
            await open_store(sqlite_url)
    # Once it is closed the next may have it.
    async with opened(sqlite_url):
        pass


HOLD = """
import sys, time
from pathlib import Path
from graphmeter_collector.store.lock import FileLock
FileLock(Path(sys.argv[1]), "writer", "stop it").acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    database = tmp_path / "graphmeter.db"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, database], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert "held\n" == holder.stdout.readline()
    with pytest.raises(StartupError, match=f"held by process {holder.pid}: stop it"):
        FileLock(database, "writer", "stop it").acquire()

    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    lock = FileLock(database, "writer", "stop it")
    lock.acquire()
    lock.release()


def test_a_folder_that_cannot_be_written_is_said() -> None:
    with pytest.raises(StartupError, match="choose another --data-dir"):
        FileLock(Path("/proc/none/graphmeter.db"), "writer", "").acquire()


async def test_an_unmigrated_or_missing_file_is_refused_with_the_remedy(empty_sqlite_url: str) -> None:
    with pytest.raises(StartupError, match="run `graphmeter migrate`"):
        await open_store(empty_sqlite_url)
    await asyncio.to_thread(migrate, empty_sqlite_url, "base")
    with pytest.raises(StartupError, match="has no tables yet: run `graphmeter migrate`"):
        await open_store(empty_sqlite_url)
    # A refused opening leaves no lock.
    await asyncio.to_thread(migrate, empty_sqlite_url)
    async with opened(empty_sqlite_url):
        pass


async def test_a_connection_whose_asker_is_gone_before_it_is_ready_is_closed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[asyncpg.Connection[asyncpg.Record]] = []

    async def hanging(connection: asyncpg.Connection[asyncpg.Record], *_: object) -> None:
        made.append(connection)
        await asyncio.Event().wait()

    engine = read_engine(parse(postgres_url))

    async def ask() -> None:
        async with engine.connect():
            raise AssertionError("it cannot be ready")

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "execute", hanging)
        asking = asyncio.create_task(ask())
        await until(lambda: made)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await engine.dispose()

    assert [True] == [connection.is_closed() for connection in made]
