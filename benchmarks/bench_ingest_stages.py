"""Where the collector's time goes while it stores spans: CPU of each stage of the write path, best of several rounds.

Stages run in the order of the collector, in groups as large as those of a busy one, with Python's collector of cycles off.
What is not here: HTTP, the database's driver, the database.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from load import Shape, requests

from graphmeter_collector import otlp
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import SpanRecord, WriteResult
from graphmeter_collector.store import facts, histogram, runs
from graphmeter_collector.store.batch import Delivery, together
from graphmeter_collector.telemetry import Metrics

SPANS = 12_000
ROUNDS = 7
GROUP = 8
"""Requests."""
SHAPES = {"as sent": Shape(), "unique": Shape(unique=True), "content": Shape(content=True)}

_Result = TypeVar("_Result")


def measure(shape: Shape, book: PriceBook) -> dict[str, float]:
    """Microseconds per span, by stage."""
    took: dict[str, float] = {}
    spans = 0

    def timed(stage: str, work: Callable[[], _Result]) -> _Result:
        began = time.thread_time()
        result = work()
        took[stage] = took.get(stage, 0.0) + (time.thread_time() - began) * 1e6
        return result

    window, metrics = Window.around(time.time_ns(), 30), Metrics()
    counts = Counts(metrics)

    def price(records: Sequence[SpanRecord]) -> None:
        for record in records:
            book.price(record)

    bodies = list(requests(shape, SPANS, seed=time.time_ns()))
    for first in range(0, len(bodies), GROUP):
        # One after the other, as a collector does: what lies in the processor's cache there does so here.
        deliveries = []
        for body in bodies[first : first + GROUP]:
            message = timed("parse protobuf", lambda body=body: otlp.read(body))
            decoded = timed("decode", lambda message=message: decode_request(message, window).records)
            timed("price", lambda decoded=decoded: price(decoded))
            deliveries.append(timed("sort, make rows", lambda decoded=decoded: Delivery(decoded)))
        given = timed("put together", lambda deliveries=deliveries: together(deliveries).records)
        spans += len(given)
        timed("runs and their nodes", lambda given=given: runs.changes(given))
        hourly = timed("rollups", lambda given=given: facts.rollups(given))
        daily = timed("rollups", lambda hourly=hourly: facts.daily(hourly))
        every = [*hourly.values(), *daily.values()]
        timed("rollups", lambda every=every: [histogram.pack(each.latency) for each in every])
        timed("metrics", lambda given=given: counts.count(WriteResult(given, 0, [])))
    return {stage: us / spans for stage, us in took.items()}


def main() -> None:
    gc.disable()
    book = PriceBook()
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for name, shape in SHAPES.items():
            for stage, us in measure(shape, book).items():
                row = best.setdefault(stage, {})
                row[name] = min(us, row.get(name, us))
            gc.collect()
    print(f"{'CPU µs per span':<22}" + "".join(f"{name:>9}" for name in SHAPES))
    for stage, row in best.items():
        print(f"{stage:<22}" + "".join(f"{row[name]:>9.2f}" for name in SHAPES))
    print(f"{'together':<22}" + "".join(f"{sum(row[name] for row in best.values()):>9.2f}" for name in SHAPES))


if __name__ == "__main__":
    main()
