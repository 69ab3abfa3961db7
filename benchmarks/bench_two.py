"""One collector and two on one Postgres: rate, CPU per span, deadlocks, and whether the sums are the same.

    python benchmarks/bench_two.py [--spans 60000] [--rounds 3]

Every trace is cut in two: half of its spans goes into one request, half into another. One collector gets all requests, or
each of two gets one half of every trace at the same time, so that both write the same runs, nodes and rollups. The rounds
take turns. Afterwards every table must hold the same in both databases, sums over writers included. Sender, collectors and
Postgres share the machine: on two cores a second collector shows what it costs, not how far it scales. Processors are kept
awake (see `awake`).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

import asyncpg
from awake import awake
from bench_ingest import Database, collector, cpu_s, databases, family_cpu_s
from load import Shape, requests, send
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.store.dump import dump


class Took(NamedTuple):
    """What storing all spans took."""

    spans_per_s: float
    collectors_us: float
    """CPU per span, of all collectors."""
    database_us: float
    p99_ms: float
    deadlocks: int

    @property
    def per_core(self) -> float:
        return 1e6 / (self.collectors_us + self.database_us)


def halves(body: bytes) -> tuple[bytes, bytes]:
    """Two requests with every other span of one."""
    first, second = (ExportTraceServiceRequest.FromString(body) for _ in range(2))
    for request, parity in ((first, 0), (second, 1)):
        scope = request.resource_spans[0].scope_spans[0]
        kept = [span for at, span in enumerate(scope.spans) if at % 2 == parity]
        del scope.spans[:]
        scope.spans.extend(kept)
    return first.SerializeToString(), second.SerializeToString()


async def _both(urls: list[str], bodies: tuple[list[bytes], list[bytes]]) -> float:
    """Send a half to each, at the same time; returns the worst p99."""
    sent = await asyncio.gather(
        *(
            send(url, part, senders=4, compressed=False, spans=0)
            for url, part in zip(urls * (2 // len(urls)), bodies, strict=True)
        )
    )
    return max(each.p99_ms for each in sent)


def run(database: Database, count: int, bodies: tuple[list[bytes], list[bytes]], spans: int) -> tuple[str, Took]:
    """Store everything through so many collectors; returns the database's URL."""
    url = database.fresh()
    with ExitStack() as running:
        collectors = [running.enter_context(collector(url, database.process)) for _ in range(count)]
        pids = [each.process.pid for each in collectors]
        before = sum(map(cpu_s, pids)), family_cpu_s(database.process)
        began = time.perf_counter()
        p99_ms = asyncio.run(_both([each.url for each in collectors], bodies))
        wall_s = time.perf_counter() - began
        ours, theirs = sum(map(cpu_s, pids)) - before[0], family_cpu_s(database.process) - before[1]
    return url, Took(spans / wall_s, ours / spans * 1e6, theirs / spans * 1e6, p99_ms, asyncio.run(_deadlocks(url)))


async def _deadlocks(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        return int(
            await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    finally:
        await connection.close()


async def differences(one: str, two: str) -> list[str]:
    """Tables that do not hold the same."""
    first, second = await dump(one), await dump(two)
    return [table for table, rows in first.items() if rows != second[table]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    given = parser.parse_args()
    cut = [halves(body) for body in requests(Shape(), given.spans)]
    bodies = [first for first, _ in cut], [second for _, second in cut]
    spans = sum(
        len(ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans)
        for part in bodies
        for body in part
    )
    wrong: set[str] = set()
    took: dict[int, list[Took]] = {1: [], 2: []}
    with awake(), databases("postgres") as found:
        for database in found:
            for _ in range(given.rounds):
                urls = []
                for count, each in took.items():
                    url, result = run(database, count, bodies, spans)
                    urls.append(url)
                    each.append(result)
                wrong |= set(asyncio.run(differences(urls[0], urls[1])))
    print(f"{spans:,} spans, halves of every trace; {given.rounds} rounds, medians\n")
    print(f"{'':<16}{'spans/s':>9}{'per core':>10}{'collectors':>13}{'database':>11}{'p99 ms':>9}{'deadlocks':>11}")
    for count, each in took.items():
        if each:
            rate, ours_us, database_us, p99_ms, deadlocks = map(statistics.median, zip(*each, strict=True))
            label = f"{count} collector{'s' * (count > 1)}"
            per_core = statistics.median(one.per_core for one in each)
            print(
                f"{label:<16}{rate:>9,.0f}{per_core:>10,.0f}{ours_us:>10.1f} µs{database_us:>8.1f} µs{p99_ms:>9.0f}"
                f"{deadlocks:>11.0f}"
            )
    print(f"\ntables that differ: {', '.join(sorted(wrong)) or 'none'}")
    if wrong or any(each.deadlocks for each in took[2]):
        sys.exit(1)


if __name__ == "__main__":
    main()
