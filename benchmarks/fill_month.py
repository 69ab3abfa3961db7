"""The month of `month.py` into a database, through the collector's own pipeline: `python benchmarks/fill_month.py URL`.

A collector as `graphmeter serve` makes it takes the requests, only that they come through a pipe and not over HTTP: they
are decoded, priced, stored, counted and acknowledged like any other, and retention runs after each of the month's days. So
the tables hold what thirty days of real work would have left, and filling them shows what the first and the last span cost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench_ingest import family_cpu_s, server_process
from month import DAY, DAYS, FRAME, HOUR, Month
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graphmeter_collector.app import Collector, running
from graphmeter_collector.retention import cutoffs
from graphmeter_collector.settings import Settings

SENDERS = 24
"""Requests that wait for their answers at any time: a busy collector, whose transactions have some thousand spans."""


class Frame(NamedTuple):
    """One request."""

    day: int
    spans: int
    body: bytes


@dataclass(slots=True)
class Stretch:
    """What was spent since the last line."""

    spans: int = 0
    worst_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    collector_s: float = field(default_factory=time.process_time)
    database_s: float = 0.0


@dataclass(slots=True)
class Filling:
    """Progress, printed as a table of what a span costs by how many are stored."""

    collector: Collector
    database: int
    stored: int = 0
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SENDERS))
    stretch: Stretch = field(default_factory=Stretch)
    marks: list[int] = field(default_factory=lambda: [mark * 10**n for n in range(4, 9) for mark in (1, 3)])

    def begin(self) -> None:
        """Print the head of the table."""
        print(f"{'stored':>12} {'spans/s':>8} {'collector':>10} {'database':>9} {'worst answer':>13}")
        self.stretch = Stretch(database_s=self._database_s())

    def add(self, spans: int, took_s: float) -> None:
        """A request of so many spans was answered."""
        self.stored += spans
        self.stretch.spans += spans
        self.stretch.worst_s = max(self.stretch.worst_s, took_s)
        if self.stored >= self.marks[0]:
            self.line()

    def line(self) -> None:
        """Print what the spans since the last line have cost, on average."""
        done, spans = self.stretch, self.stretch.spans
        if not spans:
            return
        self.marks = [mark for mark in self.marks if mark > self.stored]
        self.stretch = Stretch(database_s=self._database_s())
        collector_us = (self.stretch.collector_s - done.collector_s) / spans * 1e6
        database_us = (self.stretch.database_s - done.database_s) / spans * 1e6
        rate = spans / (self.stretch.began - done.began)
        print(
            f"{self.stored:>12,} {rate:>8,.0f} {collector_us:>7.1f} µs {database_us:>6.1f} µs {done.worst_s:>11.2f} s",
            flush=True,
        )

    async def send(self, frame: Frame) -> None:
        """Have a request acknowledged; gives its `room` back."""
        began = time.perf_counter()
        answer = await self.collector.pipeline.accept(ExportTraceServiceRequest.FromString(frame.body))
        if answer.rejected:
            raise AssertionError(f"day {frame.day}: {answer.message}")
        self.room.release()
        self.add(frame.spans, time.perf_counter() - began)

    async def end_of_day(self, month: Month, day: int) -> float:
        """Wait for all answers, then do what retention would have done after that day; returns seconds of that."""
        for _ in range(SENDERS):
            await self.room.acquire()
        began = time.perf_counter()
        ended_ns = month.end_ns - (month.days - 1 - day) * DAY
        await self.collector.store.retain(cutoffs(self.collector.config.retention, ended_ns))
        for _ in range(SENDERS):
            self.room.release()
        # Not in the table: who stops it knows how to go on.
        print(f"day {day + 1} of {month.days}: next is --first-day {day + 1}", file=sys.stderr)
        return time.perf_counter() - began

    def _database_s(self) -> float:
        return family_cpu_s(self.database) if self.database else 0.0


async def fill(database_url: str, month: Month, first_day: int = 0, database: int = 0) -> None:
    """Store the month's days from `first_day` on, and print what that costs; `database` is its server's process, if any."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database_url=database_url, data_dir=Path(folder), spool_max_bytes=0, log_level="warning")
        async with running(settings) as collector:
            filling = Filling(collector, database)
            filling.begin()
            day, retaining_s = first_day, 0.0
            async with contextlib.aclosing(_frames(month, first_day)) as frames, asyncio.TaskGroup() as group:
                async for frame in frames:
                    if frame.day != day:
                        retaining_s += await filling.end_of_day(month, day)
                        day = frame.day
                    await filling.room.acquire()
                    group.create_task(filling.send(frame))
                retaining_s += await filling.end_of_day(month, day)
            filling.line()
            print(f"\nand retention, after each day, {retaining_s:.0f} s in all\n")


async def _frames(month: Month, first_day: int) -> AsyncIterator[Frame]:
    """The requests, made by a process of their own."""
    command = [str(Path(__file__).with_name("month.py")), f"--spans={month.spans}", f"--end-ns={month.end_ns}"]
    command += [f"--seed={month.seed}", f"--first-day={first_day}"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, limit=1 << 24
    )
    assert process.stdout is not None
    try:
        while head := await process.stdout.read(FRAME.size):
            if len(head) < FRAME.size:
                head += await process.stdout.readexactly(FRAME.size - len(head))
            day, spans, size = FRAME.unpack(head)
            yield Frame(day, spans, await process.stdout.readexactly(size))
        if await process.wait():
            raise AssertionError("the month could not be made")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def last_hour_ns() -> int:
    """When the month ends that is made now: whole hours, so that another process may make the same one."""
    return time.time_ns() // HOUR * HOUR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database_url")
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--end-ns", type=int, default=last_hour_ns(), help="end of the month; this hour if left out")
    parser.add_argument("--first-day", type=int, default=0, help=f"go on with this day, of {DAYS}")
    given = parser.parse_args()
    month = Month(given.spans, given.end_ns, given.seed)
    print(f"--spans {month.spans} --seed {month.seed} --end-ns {month.end_ns}\n", flush=True)
    database = server_process(given.database_url) if given.database_url.startswith("postgres") else 0
    asyncio.run(fill(given.database_url, month, given.first_day, database))


if __name__ == "__main__":
    main()
