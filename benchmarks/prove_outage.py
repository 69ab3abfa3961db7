"""A backend that is away for an hour: nothing is lost, nothing comes twice, and memory does not grow with what waits.

    python benchmarks/prove_outage.py [--store sqlite] [--rate 300] [--hours 1] [--real-time]

A collector as `graphmeter serve` starts it, with a destination where nobody listens, is sent what an application sends in
that time at that rate: 300 spans a second make 1,080,000 in an hour. It comes as fast as it is taken, unless `--real-time`
spreads it over the hour. Then an independent OTLP receiver appears in the destination's place and writes down the id of
every span. In the end its list is compared with what was sent: each id must be there exactly once. Prints memory, outbox and
files over time; exits with 1 if anything is missing, came twice, or was not sent.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

from aiohttp import web
from bench_ingest import Collector, Database, collector, databases, free_port
from load import RUNS_PER_REQUEST, SPANS_PER_RUN, Shape, requests, send
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graphmeter import names

STEP_SPANS = 40 * SPANS_PER_RUN * RUNS_PER_REQUEST
"""Made at once, before they are sent: 20,400, some 10 MB."""
LINES = 12
KEY_BYTES = 24
COME_BACK_WITHIN_S = 90.0
"""A destination that was away for long is tried every minute."""


def receive(port: int, into: str) -> None:
    """An OTLP backend that knows nothing of the collector: appends trace and span id of every span to a file."""

    async def take(request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        with Path(into).open("ab") as file:  # noqa: ASYNC230 - a page of memory
            file.write(
                b"".join(
                    span.trace_id + span.span_id
                    for resource in message.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                )
            )
        return web.Response()

    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/v1/traces", take)
    web.run_app(application, host="127.0.0.1", port=port, print=lambda *_: None, access_log=None)


def forwardable(body: bytes) -> list[bytes]:
    """Ids of a request's spans that a backend is to have: all but the notes of the client."""
    return [
        span.trace_id + span.span_id
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if not any(each.key == names.KIND and each.value.string_value in names.NOTES for each in span.attributes)
    ]


class Watch:
    """Prints one line per look at a collector."""

    def __init__(self, running: Collector, database_url: str, received: Path) -> None:
        self._running = running
        self._file = Path(database_url.removeprefix("sqlite:///")) if database_url.startswith("sqlite") else None
        self._received = received
        self._began = time.monotonic()
        self.peak_mb = 0.0
        print(f"{'s':>6}{'sent':>12}{'waiting':>12}{'at backend':>12}{'RSS MB':>9}{'file MB':>9}")

    def line(self, sent: int) -> None:
        """What is where now."""
        self.peak_mb = max(self.peak_mb, self.rss_mb())
        size = f"{self._file.stat().st_size / 1e6:>9.0f}" if self._file else f"{'-':>9}"
        seconds = time.monotonic() - self._began
        print(
            f"{seconds:>6.0f}{sent:>12,}{sent - self.at_backend():>12,}{self.at_backend():>12,}"
            f"{self.rss_mb():>9.0f}{size}",
            flush=True,
        )

    def rss_mb(self) -> float:
        """Memory of the collector now."""
        pages = int(Path(f"/proc/{self._running.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def at_backend(self) -> int:
        """Spans that the backend has written down."""
        return self._received.stat().st_size // KEY_BYTES if self._received.exists() else 0

    def metric(self, name: str) -> float:
        """Sum of a metric of the collector over its labels."""
        with urllib.request.urlopen(f"{self._running.url}/metrics", timeout=30) as answer:  # noqa: S310 - loopback
            page = answer.read().decode()
        return sum(
            float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))
        )


def prove(database: Database, spans: int, seconds: float) -> bool:
    """Send, wait for the backend to have all, compare."""
    print(f"\n{database.name}: {spans:,} spans or a few more while the backend is away\n")
    expected: list[bytes] = []
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        url, received = database.fresh(), Path(folder) / "received"
        forward = ("--forward", f"http://127.0.0.1:{port}", "--data-dir", folder)
        with collector(url, database.process, *forward) as running:
            watch = Watch(running, url, received)
            sent = 0
            shown = 0
            began = time.monotonic()
            while sent < spans:
                bodies = list(requests(Shape(), min(STEP_SPANS, spans - sent), seed=sent + 1))
                for body in bodies:
                    expected += forwardable(body)
                result = asyncio.run(send(running.url, bodies, senders=8, compressed=False, spans=len(bodies)))
                assert not result.refused, "the collector refused spans"
                sent += len(bodies) * RUNS_PER_REQUEST * SPANS_PER_RUN
                if sent >= shown * spans / LINES or sent >= spans:
                    shown = int(sent / spans * LINES) + 1
                    watch.line(len(expected))
                time.sleep(max(began + seconds * sent / spans - time.monotonic(), 0))
            away_mb = watch.rss_mb()
            backend = multiprocessing.get_context("spawn").Process(
                target=receive, args=(port, str(received)), daemon=True
            )
            backend.start()
            print("the backend is back")
            ends = time.monotonic() + COME_BACK_WITHIN_S
            while not watch.at_backend() and time.monotonic() < ends:
                time.sleep(0.05)
            first, had = time.monotonic(), watch.at_backend()
            last, moved = had, first
            while watch.at_backend() < len(expected) and time.monotonic() < moved + COME_BACK_WITHIN_S:
                time.sleep(0.2)
                if watch.at_backend() >= last + spans / 6:
                    watch.line(len(expected))
                    last, moved = watch.at_backend(), time.monotonic()
            watch.line(len(expected))
            rate = (watch.at_backend() - had) / max(time.monotonic() - first, 0.001)
            # What would come twice comes now.
            time.sleep(3)
            forwarded, dropped = (
                watch.metric(each.name) for each in (names.COLLECTOR_FORWARDED, names.COLLECTOR_FORWARD_DROPPED)
            )
            peak = watch.peak_mb
        backend.terminate()
        data = received.read_bytes() if received.exists() else b""
    got = Counter(data[at : at + KEY_BYTES] for at in range(0, len(data), KEY_BYTES))
    missing, twice = len(set(expected) - got.keys()), sum(count - 1 for count in got.values())
    strange = len(got.keys() - set(expected))
    print(
        f"\nleft at {rate:,.0f} spans/s; missing {missing}, twice {twice}, never sent {strange}, dropped {dropped:.0f}; "
        f"counted as forwarded {forwarded:,.0f} of {len(expected):,}; RSS {away_mb:.0f} MB when the backend came back, "
        f"{peak:.0f} MB at most",
        flush=True,
    )
    return not missing and not twice and not strange and not dropped and forwarded == len(expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=("", "sqlite", "postgres"), default="", help="one of the two only")
    parser.add_argument("--rate", type=int, default=300, help="spans a second that an hour holds")
    parser.add_argument("--hours", type=float, default=1.0, help="how long the backend is away")
    parser.add_argument("--real-time", action="store_true", help="take that long")
    given = parser.parse_args()
    spans, seconds = round(given.rate * given.hours * 3600), given.hours * 3600 * given.real_time
    with databases(given.store) as found:
        proven = [prove(database, spans, seconds) for database in found]
    if not all(proven):
        sys.exit("\nNOT PROVEN")
    print("\nevery span arrived exactly once")


if __name__ == "__main__":
    main()
