"""What spans of other instrumentations cost, which say what they are but seldom where they belong, beside our own.

    python benchmarks/bench_settling.py [--spans 40000] [--stored 1000000] [--store postgres]

The same runs (a root, ten nodes, five model calls) as our client sends them and as OpenInference does: whole runs in one
request, which are settled at the commit; and the calls and nodes first, the roots in later requests, so that every span is
stored, waits, is looked for, settled and counted. OTLP bytes in, until nothing waits any more; no HTTP. With `--stored` the
table of spans holds so many others before, over a week, and Postgres's plans of the settling queries are printed. Processors
are kept awake (see `awake`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import time
import uuid
from collections.abc import Iterator, Mapping

import asyncpg
from awake import awake
from bench_ingest import Database, databases, family_cpu_s
from load import CALLS, MODELS, NODES, RUNS_PER_REQUEST, Shape, requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graphmeter_collector import logs
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.store import Store, open_store, partitions, unsettled
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_collector.store.migrate import migrate

REQUESTS_PER_COMMIT = 8
DAYS = 7
FOR_EVER_NS = 1 << 62
PLANNED = {
    "what is due": (unsettled.DUE_POSTGRES, "bigint, bigint", "1, 1000"),
    "what is ready": (unsettled.READY_POSTGRES, "bigint", "1000"),
    "ancestors": (
        unsettled.ANCESTORS_POSTGRES,
        "bytea[], bytea[], int, int",
        "'{{\\x00112233445566778899aabbccddeeff}}', '{{\\x0011223344556677}}', {day} - 1, {day}",
    ),
}


def foreign(spans: int, *, leaves_first: bool) -> Iterator[bytes]:
    """Requests as OpenInference's instrumentation of LangChain would send them."""
    rng = random.Random(1)  # noqa: S311 - ids of a benchmark
    now_ns = time.time_ns()
    late: list[ExportTraceServiceRequest] = []
    for first in range(0, -(-spans // (1 + NODES + CALLS)), RUNS_PER_REQUEST):
        roots, below = _request(), _request()
        for number in range(first, first + RUNS_PER_REQUEST):
            _run(roots if leaves_first else below, below, number, now_ns, rng)
        yield below.SerializeToString()
        if leaves_first:
            late.append(roots)
            if len(late) == REQUESTS_PER_COMMIT:
                yield from (each.SerializeToString() for each in late)
                late.clear()
    yield from (each.SerializeToString() for each in late)


def _request() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    resource.scope_spans.add().scope.name = "openinference.instrumentation.langchain"
    return request


def _run(
    roots: ExportTraceServiceRequest, below: ExportTraceServiceRequest, number: int, now_ns: int, rng: random.Random
) -> None:
    trace = uuid.UUID(int=rng.getrandbits(128)).bytes
    began = now_ns - (60 + number % 600) * 1_000_000_000
    thread = {"thread_id": trace.hex()}

    def add(
        to: ExportTraceServiceRequest, of: int, parent: int, name: str, ms: int, said: Mapping[str, str | int]
    ) -> None:
        span = to.resource_spans[0].scope_spans[0].spans.add(name=name, trace_id=trace)
        span.span_id = trace[:6] + of.to_bytes(2, "big")
        span.parent_span_id = trace[:6] + parent.to_bytes(2, "big") if parent else b""
        span.start_time_unix_nano, span.end_time_unix_nano = began + of * 1_000_000, began + (of + ms) * 1_000_000
        for key, value in said.items():
            into = span.attributes.add(key=key).value
            if isinstance(value, str):
                into.string_value = value
            else:
                into.int_value = value

    kind = "openinference.span.kind"
    add(
        roots,
        1,
        0,
        "LangGraph",
        1000,
        {kind: "CHAIN", "metadata": json.dumps({**thread, "ls_integration": "langgraph"})},
    )
    for node in range(NODES):
        name = f"node {node}"
        where = json.dumps(
            {**thread, "langgraph_node": name, "langgraph_step": node + 1, "langgraph_checkpoint_ns": f"{name}:1"}
        )
        add(below, 10 + node, 1, name, 90, {kind: "CHAIN", "metadata": where})
        if node < CALLS:
            provider, model = MODELS[(number + node) % len(MODELS)]
            call: dict[str, str | int] = {
                kind: "LLM",
                "metadata": where,
                "llm.provider": provider,
                "llm.model_name": model,
                "llm.token_count.prompt": 1_200 + number,
                "llm.token_count.completion": 250,
            }
            add(below, 50 + node, 10 + node, "ChatModel", 80, call)


WAYS = {
    "ours": lambda spans: requests(Shape(), spans),
    "theirs, whole runs": lambda spans: foreign(spans, leaves_first=False),
    "theirs, roots last": lambda spans: foreign(spans, leaves_first=True),
}


async def keep(url: str, bodies: list[bytes]) -> tuple[int, int]:
    """Decode, price, store and settle all; returns how many spans, and how many were settled after their commit."""
    book, window, store = PriceBook(), Window.around(time.time_ns(), 30), await open_store(url)
    spans = settled = 0
    for first in range(0, len(bodies), REQUESTS_PER_COMMIT):
        records = []
        for body in bodies[first : first + REQUESTS_PER_COMMIT]:
            records += decode_request(ExportTraceServiceRequest.FromString(body), window).records
        for record in records:
            book.price(record)
        await store.write(records)
        spans += len(records)
        settled += await _settle(store)
    waiting = (await store.unsettled())[0]
    assert not waiting, f"{waiting} spans were not settled"
    await store.close()
    return spans, settled


async def _settle(store: Store) -> int:
    settled = 0
    while found := (await store.settle(time.time_ns(), FOR_EVER_NS)).result.settled:
        settled += len(found)
    return settled


# --- a table that is full already ---------------------------------------------------------------------------------

_COLUMNS = "trace_id, span_id, day, parent_id, kind, name, service, start_ns, duration_ns, model, provider"


async def fill(url: str, spans: int) -> None:
    """Put other spans into the table, eight a trace, over the days before today."""
    today = time.time_ns() // DAY_NS
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
            db.execute(
                f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {spans - 1}) "  # noqa: S608
                f"INSERT INTO span ({_COLUMNS}) SELECT CAST(printf('%016d', i / 8) AS BLOB), "
                f"CAST(printf('%08d', i) AS BLOB), {today} - (i / 8) % {DAYS}, NULL, 'node', 'n', 'shop', "
                f"({today} - (i / 8) % {DAYS}) * {DAY_NS}, 1, '', '' FROM n"
            )
        return
    connection = await asyncpg.connect(url)
    for day in range(today - DAYS + 1, today + 1):
        await partitions.ensure(connection, day)
    await connection.execute(
        f"INSERT INTO span ({_COLUMNS}) SELECT decode(md5((i / 8)::text), 'hex'), "  # noqa: S608
        f"substr(decode(md5(i::text), 'hex'), 1, 8), {today} - (i / 8) % {DAYS}, NULL, 'node', 'n', 'shop', "
        f"({today} - (i / 8) % {DAYS})::bigint * {DAY_NS}, 1, '', '' FROM generate_series(0, {spans - 1}) AS i"
    )
    await connection.execute("ANALYZE")
    await connection.close()


async def plans(url: str) -> None:
    """Print how Postgres finds what settling asks for, with five thousand that wait."""
    connection = await asyncpg.connect(url)
    today = time.time_ns() // DAY_NS
    await connection.execute(
        "INSERT INTO unsettled (trace_id, span_id, day, wanted, since_ns, facts) SELECT decode(md5(i::text), 'hex'), "  # noqa: S608
        f"substr(decode(md5(i::text), 'hex'), 1, 8), {today}, substr(decode(md5((i * 8)::text), 'hex'), 1, 8), i, '{{}}' "
        "FROM generate_series(1, 5000) AS i"
    )
    await connection.execute("ANALYZE unsettled")
    for name, (query, types, values) in PLANNED.items():
        await connection.execute(f"PREPARE planned({types}) AS {query}")
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE planned({values.format(day=today)})"
        )
        lines = [row[0] for row in rows]
        scanned = [line.strip(" ->") for line in lines if "Seq Scan on span" in line and "never executed" not in line]
        print(f"  {name}: {lines[-1].strip()}; sequential scans of spans: {scanned or 'none'}")
        await connection.execute("DEALLOCATE planned")
    await connection.execute("TRUNCATE unsettled")
    await connection.close()


def measure(database: Database, spans: int, stored: int, rounds: int) -> None:
    """Print a line per sender."""
    print(f"{database.name}{f', {stored:,} spans stored before' if stored else ''}\n")
    print(f"{'':<22}{'spans/s':>9}{'per core':>10}{'collector':>12}{'database':>11}{'settled later':>15}")
    lines: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way, make in WAYS.items():
            url = database.fresh()
            migrate(url)
            if stored:
                asyncio.run(fill(url, stored))
                if database.process and not number and way == "ours":
                    asyncio.run(plans(url))
            bodies = list(make(spans))
            began, cpu, theirs = time.perf_counter(), time.process_time(), _cpu(database)
            kept, settled = asyncio.run(keep(url, bodies))
            wall_s, cpu_us = time.perf_counter() - began, (time.process_time() - cpu) / kept * 1e6
            database_us = (_cpu(database) - theirs) / kept * 1e6
            lines[way].append((kept / wall_s, 1e6 / (cpu_us + database_us), cpu_us, database_us, settled / kept))
    for way, found in lines.items():
        rate, per_core, ours_us, database_us, share = map(statistics.median, zip(*found, strict=True))
        print(
            f"{way:<22}{rate:>9,.0f}{per_core:>10,.0f}{ours_us:>9.1f} µs{database_us:>8.1f} µs{share:>14.0%}",
            flush=True,
        )
    print()


def _cpu(database: Database) -> float:
    return family_cpu_s(database.process) if database.process else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=("", "sqlite", "postgres"), default="", help="one of the two only")
    parser.add_argument("--spans", type=int, default=40_000)
    parser.add_argument("--stored", type=int, default=0, help="spans in the table before")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    given = parser.parse_args()
    logs.configure("console", "error")
    with awake(), databases(given.store) as found:
        for database in found:
            measure(database, given.spans, given.stored, given.rounds)


if __name__ == "__main__":
    main()
