"""How fast a backlog leaves for a backend that is back: spans per second, CPU of collector and database, memory.

    python benchmarks/bench_forward.py [--spans 100000] [--store sqlite] [--rounds 3]

Whole runs as the client sends them (`load.py`) are stored first, as a collector stores them while a backend is away. Then
one process forwards all of them to a backend in a process of its own, which inflates, parses and counts them. Spans per
second of CPU (`per core`) are of forwarder and database. Processors are kept awake (see `awake`).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import statistics
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import NamedTuple

from aiohttp import web
from awake import awake
from bench_ingest import Database, databases, family_cpu_s, peak_mb
from load import Shape, requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graphmeter import names
from graphmeter_collector import logs
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.forward.forwarder import Forwarder
from graphmeter_collector.outbound import Destination
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.store import open_store
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.telemetry import Metrics

TO = "backend"
REQUESTS_PER_COMMIT = 8


class Took(NamedTuple):
    """What emptying the outbox took."""

    spans: int
    wall_s: float
    cpu_s: float
    """Of the forwarding process."""
    grown_mb: float
    """Of its memory, from an open store to its peak."""


def receive(port: int) -> None:
    """A backend: parses what comes."""

    async def take(request: web.Request) -> web.Response:
        ExportTraceServiceRequest.FromString(await request.read())
        return web.Response()

    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/v1/traces", take)
    web.run_app(application, host="127.0.0.1", port=port, print=lambda *_: None, access_log=None)


async def fill(url: str, count: int) -> int:
    """Store so many spans for the destination; returns how many wait."""
    book, window = PriceBook(), Window.around(time.time_ns(), 30)
    store = await open_store(url)
    bodies = list(requests(Shape(), count))
    for first in range(0, len(bodies), REQUESTS_PER_COMMIT):
        records = []
        for body in bodies[first : first + REQUESTS_PER_COMMIT]:
            records += decode_request(ExportTraceServiceRequest.FromString(body), window).records
        for record in records:
            book.price(record)
        await store.write(records, destinations=[TO])
    depth = await store.outbox_depth()
    await store.close()
    return depth[TO]


def forward(url: str, port: int, count: int, compressed: bool, pipe: Connection) -> None:
    """Empty the outbox; in a process of its own."""
    logs.configure("console", "error")

    async def empty() -> Took:
        store, metrics = await open_store(url), Metrics()
        destination = Destination(TO, f"http://127.0.0.1:{port}", gzip=compressed)
        forwarder = Forwarder(store, destination, metrics)
        before = peak_mb(os.getpid())
        began, cpu = time.perf_counter(), time.process_time()
        forwarding = asyncio.create_task(forwarder.run())
        while metrics.value(names.COLLECTOR_FORWARDED, TO) < count:  # noqa: ASYNC110 - counters have no event
            await asyncio.sleep(0.01)
        wall_s, used_s = time.perf_counter() - began, time.process_time() - cpu
        forwarding.cancel()
        await asyncio.wait([forwarding])
        assert await store.outbox_depth() == {}, "something was left"
        await store.close()
        return Took(count, wall_s, used_s, peak_mb(os.getpid()) - before)

    pipe.send(asyncio.run(empty()))


def measure(database: Database, count: int, rounds: int) -> None:
    """Print a line per way of sending."""
    context = multiprocessing.get_context("spawn")
    for label, compressed in (("gzip", True), ("no compression", False)):
        lines: list[tuple[float, ...]] = []
        for _ in range(rounds):
            url = database.fresh()
            migrate(url)
            waiting = asyncio.run(fill(url, count))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            with ExitStack() as processes:
                backend = context.Process(target=receive, args=(port,), daemon=True)
                backend.start()
                processes.callback(backend.terminate)
                while True:
                    try:
                        socket.create_connection(("127.0.0.1", port)).close()
                        break
                    except OSError:
                        time.sleep(0.05)
                pipe, theirs = context.Pipe()
                before = _database_cpu(database)
                sender = context.Process(target=forward, args=(url, port, waiting, compressed, theirs), daemon=True)
                sender.start()
                took: Took = pipe.recv()
                database_us = (_database_cpu(database) - before) / took.spans * 1e6
                sender.join()
            ours_us = took.cpu_s / took.spans * 1e6
            lines.append((took.spans / took.wall_s, 1e6 / (ours_us + database_us), ours_us, database_us, took.grown_mb))
        rate, per_core, ours_us, database_us, grown = map(statistics.median, zip(*lines, strict=True))
        print(
            f"{database.name + ', ' + label:<26}{rate:>9,.0f}{per_core:>10,.0f}{ours_us:>9.1f} µs"
            f"{database_us:>8.1f} µs{grown:>9.1f}",
            flush=True,
        )


def _database_cpu(database: Database) -> float:
    return family_cpu_s(database.process) if database.process else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--store", choices=("", "sqlite", "postgres"), default="", help="one of the two only")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    given = parser.parse_args()
    logs.configure("console", "error")
    print(f"{'':<26}{'spans/s':>9}{'per core':>10}{'collector':>12}{'database':>11}{'grown MB':>9}")
    with awake(), databases(given.store) as found:
        for database in found:
            measure(database, given.spans, given.rounds)


if __name__ == "__main__":
    main()
