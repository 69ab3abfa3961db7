"""A backend that is away while spans come in, and comes back: what the backlog costs in memory, and how fast it goes.

    python benchmarks/bench_forward.py [--spans 60000] [--size 1000] [--postgres postgresql://…]

`away` is the growth of the collector's memory from the first tenth of the backlog to all of it, `catching up` from there to
its end; spans/s are those delivered, by one collector to one backend in a process of its own that reads and counts them.
Without --postgres only SQLite is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import socket
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector import logs
from graphmeter_collector.forward.forwarder import Forwarder
from graphmeter_collector.outbound import Destination
from graphmeter_collector.records import Envelope, SpanRecord
from graphmeter_collector.store import open_store
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.telemetry import Metrics

BATCH = 2_000
ENVELOPE = Envelope(b"e" * 16, b"", b"")


def receive(port: int) -> None:
    """A backend: parses what comes."""

    async def take(request: web.Request) -> web.Response:
        ExportTraceServiceRequest.FromString(await request.read())
        return web.Response()

    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/v1/traces", take)
    web.run_app(application, host="127.0.0.1", port=port, print=lambda *_: None, access_log=None)


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def spans(count: int, size: int) -> list[SpanRecord]:
    """Whole new spans of this minute."""
    now, made = time.time_ns(), []
    for number in range(count):
        trace_id, span_id = uuid.uuid4().bytes, number.to_bytes(8, "big")
        # Random text: nothing here is to compress well by chance.
        text = os.urandom(size // 2).hex()
        body = Span(trace_id=trace_id, span_id=span_id, name="node", trace_state=text).SerializeToString()
        made.append(
            SpanRecord(trace_id, span_id, b"", "node", names.NODE, now, now + 1, ENVELOPE, body, service="shop")
        )
    return made


async def until(what: Callable[[], bool]) -> None:
    """Return when something holds."""
    while not what():  # noqa: ASYNC110 - counters have no event
        await asyncio.sleep(0.02)


async def measure(url: str, count: int, size: int) -> tuple[float, float, float, float]:
    """Growth while away and while catching up in MB, peak in MB, spans per second."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store, metrics = await open_store(url), Metrics()
    forwarder = Forwarder(store, Destination("backend", f"http://127.0.0.1:{port}"), metrics)
    forwarding = asyncio.create_task(forwarder.run())
    first = 0.0
    for at in range(0, count, BATCH):
        await store.write(spans(BATCH, size), destinations=["backend"])
        forwarder.notify()
        if at + BATCH >= count / 10 and not first:
            first = resident_mb()
    backlog = resident_mb()
    backend = multiprocessing.get_context("spawn").Process(target=receive, args=(port,), daemon=True)
    backend.start()
    await until(lambda: metrics.value(names.COLLECTOR_FORWARDED, "backend") > 0)
    began, had = time.perf_counter(), metrics.value(names.COLLECTOR_FORWARDED, "backend")
    await until(lambda: metrics.value(names.COLLECTOR_FORWARDED, "backend") >= count)
    took = time.perf_counter() - began
    caught_up = resident_mb()
    assert await store.outbox_depth() == {}, "something was left"
    backend.terminate()
    forwarding.cancel()
    await asyncio.wait([forwarding])
    await store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return backlog - first, caught_up - backlog, peak, (count - had) / took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spans", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=1_000, help="bytes of a span")
    parser.add_argument("--postgres", default="", help="URL of an empty database")
    given = parser.parse_args()
    logs.configure("console", "error")
    print(f"{given.spans:,} spans of {given.size:,} bytes\n")
    print(f"{'':<10}{'away MB':>10}{'catching up MB':>16}{'peak MB':>10}{'spans/s':>10}")
    with tempfile.TemporaryDirectory() as folder:
        urls = {"SQLite": f"sqlite:///{folder}/g.db"} | ({"Postgres": given.postgres} if given.postgres else {})
        for name, url in urls.items():
            migrate(url)
            away, after, peak, rate = asyncio.run(measure(url, given.spans, given.size))
            print(f"{name:<10}{away:>10.1f}{after:>16.1f}{peak:>10.0f}{rate:>10,.0f}")


if __name__ == "__main__":
    main()
