"""Spans that a collector acknowledges as durable per second, beside the same rows written raw to the same kind of database.

A collector as `graphmeter serve` starts it, a sender (`load.py`), and the database are processes of their own; spans go over
real HTTP on connections that stay open. Everything is on: attribution, prices, ledger, runs, rollups, metrics, bodies kept.
Raw means the rows of `span`, `span_body` and `ledger` alone, prepared before the clock starts, many to a transaction: what
the database can do at best. Ratios of one run are what to watch; the rest is the machine's, and so is the rate where others
work on it. `per core` is what remains true then: spans per second of CPU time, of collector and database together.
Processors are kept awake meanwhile (see `awake`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
from awake import awake
from load import Shape, requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from racing import ORDER

from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import facts, sql, tables
from graphmeter_collector.store.batch import Batch
from graphmeter_collector.store.migrate import migrate

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from acceptance.processes import free_port, until  # noqa: E402 - needs the path

if TYPE_CHECKING:
    from support.postgres import Server

RAW_SPANS_PER_TRANSACTION = 4_096
RUN_IN_CHECKPOINTS = 3
RETENTION_DAYS = 30
TURNS, TURN = 15, 30_600
"""Turns of a collector beside another, and spans in each: a second or two."""
STEP = 100_000
"""Spans that are made at once while tables grow: 50 MB."""
TABLES = (tables.span, tables.span_body, tables.ledger)
WAYS: dict[str, tuple[str, ...]] = {
    "as an application sends": (),
    "gzip": ("--gzip",),
    "unique values": ("--unique",),
    "2 KB of content per call": ("--content",),
}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Rows = list[list[facts.Row]]
"""Of each of `TABLES`."""


class Cost(NamedTuple):
    """What one pass over a load took."""

    spans_per_s: float
    collector_us: float
    """CPU per span."""
    database_us: float
    p50_ms: float
    p99_ms: float

    @property
    def per_core(self) -> float:
        """Spans per second of CPU of collector and database together."""
        return 1e6 / (self.collector_us + self.database_us)


# --- processes ----------------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def peak_mb(pid: int) -> float:
    """The most memory a process had so far."""
    [line] = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def family_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all its children."""
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        try:
            return sum(map(cpu_s, [pid, *map(int, children)]))
        except FileNotFoundError:
            continue  # one has ended since: its time is the parent's now


class Collector(NamedTuple):
    """A collector that listens."""

    process: subprocess.Popen[bytes]
    url: str
    ready_s: float
    database: int
    """Process id of the database's server; 0: there is none."""

    def load(self, spans: int, *flags: str, seed: int = 0) -> list[Cost]:
        """What sending so many spans takes, once or (`--twice`) twice."""
        command = [sys.executable, str(HERE / "load.py"), self.url, f"--spans={spans}", f"--seed={seed}", *flags]
        costs = []
        with subprocess.Popen(command, stdout=subprocess.PIPE) as sender:
            assert sender.stdout is not None
            before = self.cpu()
            for line in sender.stdout:
                after = self.cpu()
                said: dict[str, Any] = json.loads(line)
                used = [(now - then) / said["spans"] * 1e6 for now, then in zip(after, before, strict=True)]
                costs.append(Cost(said["spans"] / said["wall_s"], used[0], used[1], said["p50_ms"], said["p99_ms"]))
                before = after
        if sender.returncode:
            raise AssertionError("the sender failed")
        return costs

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far, of collector and database."""
        database = family_cpu_s(self.database) if self.database else 0.0
        return cpu_s(self.process.pid), database


@contextmanager
def collector(database_url: str, database: int = 0, *flags: str) -> Iterator[Collector]:
    """A collector process on a database; `flags` are more of `graphmeter serve`."""
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("graphmeter")),
        "serve",
        f"--port={port}",
        "--database-url",
        database_url,
        *flags,
    ]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            until("the collector", lambda: b"ready" in (Path(folder) / "log").read_bytes(), 60)
            yield Collector(process, f"http://127.0.0.1:{port}", time.monotonic() - began, database)
        finally:
            process.terminate()
            process.wait(30)


# --- raw ----------------------------------------------------------------------------------------------------------


def raw_rows(bodies: Sequence[bytes]) -> list[Rows]:
    """What the collector writes, by transaction."""
    book, window = PriceBook(), Window.around(time.time_ns(), RETENTION_DAYS)
    records: list[SpanRecord] = []
    for body in bodies:
        records += decode_request(ExportTraceServiceRequest.FromString(body), window).records
    for record in records:
        book.price(record)
    parts = [
        Batch.of(records[first : first + RAW_SPANS_PER_TRANSACTION])
        for first in range(0, len(records), RAW_SPANS_PER_TRANSACTION)
    ]
    return [[part.rows, part.bodies, part.ledger] for part in parts]


async def raw_sqlite(database_url: str, transactions: Sequence[Rows]) -> float:
    """Seconds for executemany, with the store's own settings of durability, and its way of binding values."""
    import_module("graphmeter_collector.store.sqlite")
    database = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4000", "cache_size = -65536"):
            database.execute(f"PRAGMA {pragma}")
        began = time.perf_counter()
        for rows in transactions:
            database.execute("BEGIN IMMEDIATE")
            for table, each in zip(TABLES, rows, strict=True):
                database.executemany(sql.insert(table, sql.SQLITE), each)
            database.execute("COMMIT")
        return time.perf_counter() - began
    finally:
        database.close()


async def raw_postgres(database_url: str, transactions: Sequence[Rows]) -> float:
    """Seconds for COPY into tables with the same columns and indexes, but without partitions."""
    connection = await asyncpg.connect(database_url)
    try:
        for table in TABLES:
            await connection.execute(f"CREATE TABLE raw_{table.name} (LIKE {table.name} INCLUDING ALL)")
        began = time.perf_counter()
        for rows in transactions:
            async with connection.transaction():
                for table, each in zip(TABLES, rows, strict=True):
                    await connection.copy_records_to_table(
                        f"raw_{table.name}", records=each, columns=tables.column_names(table)
                    )
        return time.perf_counter() - began
    finally:
        await connection.close()


# --- the two side by side -----------------------------------------------------------------------------------------


class Database(NamedTuple):
    """Where to store, and how to do so raw."""

    name: str
    fresh: Callable[[], str]
    raw: Callable[[str, Sequence[Rows]], Coroutine[None, None, float]]
    process: int = 0
    """Process id of its server."""
    stop: Callable[[], None] = lambda: None
    """End the server."""
    start: Callable[[], None] = lambda: None
    """Start it again."""


@contextmanager
def databases(wanted: str) -> Iterator[list[Database]]:
    """SQLite files and the Postgres that the tests use, but one that survives a power cut."""
    found = []
    with ExitStack() as open_ones:
        folder = open_ones.enter_context(tempfile.TemporaryDirectory())
        if wanted in ("", "sqlite"):
            found.append(Database("SQLite", lambda: f"sqlite:///{folder}/{uuid.uuid4()}.db", raw_sqlite))
        if wanted in ("", "postgres"):
            from support import postgres

            # Tests save the time that being durable takes; here it is what is measured.
            postgres._SETTINGS = ("max_connections=60", "log_min_messages=fatal")  # type: ignore[assignment]
            try:
                server: Server = open_ones.enter_context(postgres.server())
            except postgres.NoPostgres as missing:
                print(f"{missing}\n")
            else:
                process = server_process(server.create())
                asyncio.run(run_in(server.create()))
                found.append(Database("Postgres", server.create, raw_postgres, process, server.stop, server.restart))
        yield found


async def run_in(database_url: str) -> None:
    """Take a new server past its first checkpoints: from then on it writes its log over old files, as one does that has run
    for a while, while a new one makes, and fills with zeros, every file that it writes."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE TABLE filling (filling text)")
        for _ in range(RUN_IN_CHECKPOINTS):
            await connection.execute("INSERT INTO filling SELECT repeat('x', 1000) FROM generate_series(1, 400000)")
            await connection.execute("TRUNCATE filling")
            await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def server_process(database_url: str) -> int:
    """The own process of a server on this machine: the parent of each that serves a connection."""

    async def ask() -> int:
        connection = await asyncpg.connect(database_url)
        try:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            stat = Path(f"/proc/{pid}/stat").read_text()  # noqa: ASYNC240 - no disk behind it
            return int(stat.rpartition(")")[2].split()[1])
        finally:
            await connection.close()

    return asyncio.run(ask())


def _cpu_here(database: Database) -> float:
    return time.process_time() + (family_cpu_s(database.process) if database.process else 0.0)


def measure(database: Database, spans: int, rounds: int) -> None:
    """Print one line per way of sending."""
    bodies = list(requests(Shape(), spans))
    transactions = raw_rows(bodies)
    stored = sum(len(rows[0]) for rows in transactions)
    raw, raw_us = [], []
    for _ in range(rounds):
        url = database.fresh()
        migrate(url)
        before = _cpu_here(database)
        raw.append(stored / asyncio.run(database.raw(url, transactions)))
        raw_us.append((_cpu_here(database) - before) / stored * 1e6)
    at_best, us = statistics.median(raw), statistics.median(raw_us)
    print(
        f"{database.name}: raw rows {at_best:,.0f} spans/s ({min(raw):,.0f} to {max(raw):,.0f}), CPU {us:.1f} µs a span\n"
    )
    print(
        f"{'':<26} {'spans/s':>8} {'to raw':>7} {'per core':>9} {'collector':>10} {'database':>9} "
        f"{'p50 ms':>7} {'p99 ms':>7} {'RSS MB':>7}"
    )
    for name, flags in WAYS.items():
        passes: list[list[Cost]] = []
        most = ready = 0.0
        for number in range(rounds):
            with collector(database.fresh(), database.process) as running:
                passes.append(running.load(spans, *flags, *([] if flags else ["--twice"]), seed=number + 1))
                most, ready = max(most, peak_mb(running.process.pid)), running.ready_s
        for again, label in enumerate((name, "  all of it again")[: len(passes[0])]):
            cost = Cost(*map(statistics.median, zip(*[each[again] for each in passes], strict=True)))
            print(
                f"{label:<26} {cost.spans_per_s:>8,.0f} {cost.spans_per_s / at_best:>7.2f} {cost.per_core:>9,.0f} "
                f"{cost.collector_us:>7.1f} µs {cost.database_us:>6.1f} µs {cost.p50_ms:>7.0f} {cost.p99_ms:>7.0f} "
                f"{most:>7.0f}",
                flush=True,
            )
    print(f"\nready {ready:.1f} s after the start\n")


def grow(database: Database, to: int) -> None:
    """Print what a span costs while the tables grow, each line from the one before to its own number of stored spans.

    Averages over whole stretches: what the database does in the background (vacuum, checkpoints) comes in lumps. Minutes lie
    between first and last line, in which the machine changes; so what a span costs at both ends comes after it, in turns.
    """
    print(f"{database.name}, as the tables grow\n")
    print(f"{'up to':>12} {'spans/s':>8} {'collector':>10} {'database':>9} {'p99 ms':>7}")
    marks = [mark for decade in range(4, 9) for mark in (10**decade, 5 * 10**decade // 2) if mark < to]
    url = database.fresh()
    with collector(url, database.process) as running:
        stored, seed = 0, 0
        for mark in (*marks, to):
            costs = []
            while stored < mark:
                step = min(STEP, mark - stored)
                seed += 1
                costs += [(step, cost) for cost in running.load(step, seed=seed)]
                stored += step
            spans = sum(step for step, _ in costs)
            seconds, collector_us, database_us = (
                sum(step * each for step, each in column) / spans
                for column in (
                    [(step, 1 / cost.spans_per_s) for step, cost in costs],
                    [(step, cost.collector_us) for step, cost in costs],
                    [(step, cost.database_us) for step, cost in costs],
                )
            )
            worst = max(cost.p99_ms for _, cost in costs)
            print(
                f"{mark:>12,} {1 / seconds:>8,.0f} {collector_us:>7.1f} µs {database_us:>6.1f} µs {worst:>7.0f}",
                flush=True,
            )
        print(f"\npeak {peak_mb(running.process.pid):.0f} MB\n")
        with collector(database.fresh(), database.process) as other:
            print("the same collector, and a new one on an empty database, in turns\n")
            both_ends(other, running)
    with collector(url, database.process) as running, collector(database.fresh(), database.process) as other:
        print("a new collector on each of the two, in turns\n")
        both_ends(other, running)


def both_ends(empty: Collector, full: Collector) -> None:
    """Print what a span costs `empty`, on a database that has just been made, and `full`, once both have worked a little."""
    ends = {"empty": empty, "full": full}
    costs: dict[str, list[Cost]] = {name: [] for name in ends}
    for turn in range(1 + TURNS):
        for name in ORDER.sample(list(ends), len(ends)):
            [cost] = ends[name].load(TURN, seed=10**6 + turn)
            costs[name] += [cost] if turn else []
    print(f"{'':>12} {'spans/s':>8} {'collector':>10} {'database':>9} {'p99 ms':>7} {'ready':>8}")
    for name, each in costs.items():
        cost = Cost(*map(statistics.median, zip(*each, strict=True)))
        print(
            f"{name:>12} {cost.spans_per_s:>8,.0f} {cost.collector_us:>7.1f} µs {cost.database_us:>6.1f} µs "
            f"{cost.p99_ms:>7.0f} {ends[name].ready_s:>6.1f} s"
        )
    pairs = zip(costs["empty"], costs["full"], strict=True)
    ratios = statistics.quantiles([one.per_core / other.per_core for one, other in pairs], n=4)
    print(f"\nCPU of a span, full / empty: {ratios[1]:.2f} ({ratios[0]:.2f} to {ratios[2]:.2f})\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("", "sqlite", "postgres"), default="", help="one of the two only")
    parser.add_argument("--spans", type=int, default=100_000, help="spans per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    parser.add_argument("--grow", type=int, default=0, help="show the cost of a span up to so many stored, instead")
    given = parser.parse_args()
    with awake(), databases(given.store) as found:
        for database in found:
            if given.grow:
                grow(database, given.grow)
            else:
                measure(database, given.spans, given.rounds)


if __name__ == "__main__":
    main()
