"""Spans stored durably per second through the pipeline, beside the same rows written raw to the same kind of database.

Through the pipeline means: OTLP bytes in, decoded, priced, stored once with run totals, ledger and rollups, counted. Raw
means the rows of `span`, `span_body` and `ledger` alone, prepared beforehand, many to a transaction: what the database
can do at best. The ratio of the two in one run is the figure to watch; the rest depends on the machine. HTTP is left out.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from graphmeter import names
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.pipeline import Pipeline
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import facts, open_store, sql, tables
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.telemetry import Metrics

if TYPE_CHECKING:
    from support.postgres import Server

SENDERS = 8
REQUESTS = 24
RUNS_PER_REQUEST = 30
NODES = 10
CALLS = 5
ROUNDS = 3
"""Raw and pipeline take turns; medians are shown."""
RAW_SPANS_PER_TRANSACTION = 4_096
RETENTION_DAYS = 30
SPANS = REQUESTS * RUNS_PER_REQUEST * (2 + NODES + CALLS)
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-4o-mini"))
TABLES = (tables.span, tables.span_body, tables.ledger)

NO_ATTRIBUTES: Mapping[str, str | int] = {}

Rows = list[list[facts.Row]]
"""Of each of `TABLES`."""


class Took(NamedTuple):
    """Seconds for all spans of the payload."""

    raw: float
    new: float
    cpu: float
    """Of this process, for the new ones."""
    again: float
    """For the same requests once more: all of them duplicates."""


# --- payload ------------------------------------------------------------------------------------------------------


def payload() -> list[bytes]:
    """Requests as the client sends them: whole runs of nodes and model calls, each span attributed by itself."""
    now_ns = time.time_ns()
    return [_request(number, now_ns) for number in range(REQUESTS)]


def _request(number: int, now_ns: int) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key=names.SERVICE_NAME).value.string_value = "shop"
    scope = resource.scope_spans.add()
    scope.scope.name = names.SCOPE
    for run in range(RUNS_PER_REQUEST):
        _add_run(scope, number * RUNS_PER_REQUEST + run, now_ns)
    return request.SerializeToString()


def _add_run(scope: ScopeSpans, number: int, now_ns: int) -> None:
    run_id = uuid.uuid4()
    began = now_ns - (60 + number % 600) * 1_000_000_000
    common: dict[str, str | int] = {
        names.RUN_ID: str(run_id),
        names.GRAPH: ("support", "research")[number % 2],
        names.TEAM: ("cx", "ops", "growth")[number % 3],
        names.TENANT: f"tenant {number % 20}",
        names.CONVERSATION_ID: f"thread {number}",
        names.STATUS: names.OK,
    }

    def add(
        identity: int,
        kind: str,
        name: str,
        ms: tuple[int, int],
        parent: int,
        own: Mapping[str, str | int] = NO_ATTRIBUTES,
    ) -> None:
        span = scope.spans.add(name=name, trace_id=run_id.bytes, span_id=_span_id(run_id, identity))
        span.parent_span_id = _span_id(run_id, parent) if parent else b""
        span.start_time_unix_nano, span.end_time_unix_nano = (began + at * 1_000_000 for at in ms)
        _describe(span, {names.KIND: kind, **common, **own})

    add(99, names.START, names.OP_START, (0, 0), 1)
    add(1, names.RUN, f"{names.OP_WORKFLOW} support", (0, 100 * NODES), 0)
    for node in range(NODES):
        where: dict[str, str | int] = {names.NODE_PATH: f"node {node}", names.LANGGRAPH_STEP: node + 1}
        add(10 + node, names.NODE, f"{names.OP_NODE} node {node}", (100 * node, 100 * node + 90 + number % 7), 1, where)
        if node < CALLS:
            provider, model = MODELS[(number + node) % len(MODELS)]
            call = {
                **where,
                names.OPERATION: names.OP_CHAT,
                names.PROVIDER: provider,
                names.REQUEST_MODEL: model,
                names.RESPONSE_MODEL: model,
                names.RESPONSE_ID: f"chatcmpl-{run_id}-{node}",
                names.USAGE_INPUT: 1_200 + number,
                names.USAGE_CACHE_READ: 400,
                names.USAGE_OUTPUT: 250,
            }
            add(50 + node, names.MODEL, f"chat {model}", (100 * node + 1, 100 * node + 80), 10 + node, call)


def _span_id(run_id: uuid.UUID, identity: int) -> bytes:
    return ((run_id.int & 0xFFFF_FFFF_FFFF_0000) | identity).to_bytes(8, "big")


def _describe(span: Span, attributes: dict[str, str | int]) -> None:
    for key, value in attributes.items():
        into = span.attributes.add(key=key).value
        if isinstance(value, str):
            into.string_value = value
        else:
            into.int_value = value


# --- pipeline -----------------------------------------------------------------------------------------------------


async def through_pipeline(database_url: str, requests: Sequence[bytes], book: PriceBook) -> tuple[float, float, float]:
    """Seconds, CPU seconds, and seconds for all of it once more."""
    store = await open_store(database_url)
    metrics = Metrics()
    counts = Counts(metrics)
    pipeline = Pipeline(store, book, metrics, observers=(counts.count,), retention_days=RETENTION_DAYS)
    writing = asyncio.create_task(pipeline.run())
    try:
        cpu = time.process_time()
        new = await _send(pipeline, requests)
        cpu = time.process_time() - cpu
        again = await _send(pipeline, requests)
    finally:
        await pipeline.drain(10)
        writing.cancel()
        await asyncio.wait([writing])
        await store.close()
    spans = metrics.value(names.COLLECTOR_STORED)
    if spans != metrics.value(names.COLLECTOR_DUPLICATE) or spans != SPANS:
        raise AssertionError(f"{spans} of {SPANS} spans stored")
    return new, cpu, again


async def _send(pipeline: Pipeline, requests: Sequence[bytes]) -> float:
    waiting: Iterator[bytes] = iter(requests)

    async def sender() -> None:
        for body in waiting:
            await pipeline.accept(ExportTraceServiceRequest.FromString(body))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as senders:
        for _ in range(SENDERS):
            senders.create_task(sender())
    return time.perf_counter() - began


# --- raw ----------------------------------------------------------------------------------------------------------


def raw_rows(requests: Sequence[bytes], book: PriceBook) -> list[Rows]:
    """What the pipeline writes, by transaction."""
    window = Window.around(time.time_ns(), RETENTION_DAYS)
    records: list[SpanRecord] = []
    for body in requests:
        records += decode_request(ExportTraceServiceRequest.FromString(body), window).records
    for record in records:
        book.price(record)
    parts = [
        facts.once(records[first : first + RAW_SPANS_PER_TRANSACTION])
        for first in range(0, len(records), RAW_SPANS_PER_TRANSACTION)
    ]
    return [
        [
            [facts.span_row(record) for record in part],
            facts.body_rows(part),
            [facts.ledger_row(record) for record in part if facts.is_call(record)],
        ]
        for part in parts
    ]


async def raw_sqlite(database_url: str, transactions: Sequence[Rows]) -> float:
    """Seconds for executemany, with the store's own settings of durability."""
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


def measure(
    fresh: Callable[[], str],
    raw: Callable[[str, Sequence[Rows]], Coroutine[None, None, float]],
    requests: Sequence[bytes],
    book: PriceBook,
) -> Took:
    """Medians of all rounds, each on databases of its own."""
    transactions = raw_rows(requests, book)
    rounds = []
    for _ in range(ROUNDS):
        for_raw, for_pipeline = fresh(), fresh()
        migrate(for_raw)
        migrate(for_pipeline)
        seconds = asyncio.run(raw(for_raw, transactions))
        rounds.append(Took(seconds, *asyncio.run(through_pipeline(for_pipeline, requests, book))))
    return Took(*map(statistics.median, zip(*rounds, strict=True)))


@contextmanager
def postgres_server() -> Iterator[Server | None]:
    """The server that the tests use, but one that survives a power cut; None where none can be had."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from support import postgres

    # Tests save the time that being durable takes; here it is what is measured.
    postgres._SETTINGS = ("max_connections=60", "log_min_messages=fatal")  # type: ignore[assignment]
    with ExitStack() as running:
        try:
            server = running.enter_context(postgres.server())
        except postgres.NoPostgres as missing:
            print(f"{missing}\n")
            yield None
        else:
            yield server


def show(database: str, took: Took) -> None:
    """One line of the table."""
    raw, new, again = (SPANS / seconds for seconds in (took.raw, took.new, took.again))
    cpu_us = took.cpu / SPANS * 1e6
    print(f"{database:<10} {raw:>12,.0f} {new:>12,.0f} {new / raw:>8.2f} {cpu_us:>12.0f} {again:>14,.0f}")


def main() -> None:
    book = PriceBook()
    requests = payload()
    runs = REQUESTS * RUNS_PER_REQUEST
    size = sum(map(len, requests)) / SPANS
    print(
        f"{SPANS:,} spans of {runs} runs in {REQUESTS} requests, {size:.0f} bytes a span, {SENDERS} senders; ", end=""
    )
    print(f"median of {ROUNDS} rounds\n")
    print(f"{'spans/s':<10} {'raw rows':>12} {'pipeline':>12} {'ratio':>8} {'CPU µs/span':>12} {'all duplicates':>14}")
    with tempfile.TemporaryDirectory() as folder:
        show("SQLite", measure(lambda: f"sqlite:///{folder}/{uuid.uuid4()}.db", raw_sqlite, requests, book))
    with postgres_server() as server:
        if server is not None:
            show("Postgres", measure(server.create, raw_postgres, requests, book))


if __name__ == "__main__":
    main()
