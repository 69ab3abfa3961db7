"""Where the collector's time goes while it stores spans: CPU of each stage of the write path, best of several rounds.

Every stage runs by itself over the same load, in groups as large as those of a busy collector, with Python's collector of
cycles off. What is not here: HTTP, the database's driver, the database.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TypeVar

from load import Shape, requests

from graphmeter_collector import otlp
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import SpanRecord, WriteResult
from graphmeter_collector.store import facts, histogram, runs
from graphmeter_collector.telemetry import Metrics

SPANS = 12_000
ROUNDS = 7
GROUP = 4_096
SHAPES = {"as sent": Shape(), "unique": Shape(unique=True), "content": Shape(content=True)}

_Result = TypeVar("_Result")
_Group = list[SpanRecord]


def measure(shape: Shape, book: PriceBook) -> dict[str, float]:
    """Microseconds per span, by stage."""
    took: dict[str, float] = {}
    spans = 0

    def timed(stage: str, work: Callable[[], _Result]) -> _Result:
        began = time.thread_time()
        result = work()
        took[stage] = took.get(stage, 0.0) + (time.thread_time() - began) * 1e6
        return result

    bodies = list(requests(shape, SPANS, seed=time.time_ns()))
    messages = timed("parse protobuf", lambda: [otlp.read(body) for body in bodies])
    window = Window.around(time.time_ns(), 30)
    decoded = timed("decode", lambda: [decode_request(message, window).records for message in messages])
    records = [record for each in decoded for record in each]
    spans = len(records)

    def price() -> None:
        for record in records:
            book.price(record)

    timed("price", price)
    metrics = Metrics()
    counts = Counts(metrics)
    for first in range(0, spans, GROUP):
        group = records[first : first + GROUP]

        def sort(group: _Group = group) -> _Group:
            return facts.once(facts.split(group)[0])

        given = timed("sort, find copies", sort)
        timed("rows of span", lambda given=given: [facts.span_row(each) for each in given])
        timed("rows of bodies", lambda given=given: (facts.body_rows(given), facts.envelope_rows(given)))
        timed("rows of ledger", lambda given=given: [facts.ledger_row(each) for each in given if facts.is_call(each)])
        timed("runs and their nodes", lambda given=given: runs.changes(given))
        hourly = timed("rollups", lambda given=given: facts.rollups(given))
        daily = timed("rollups", lambda hourly=hourly: facts.daily(hourly))
        every = [*hourly.values(), *daily.values()]
        timed("rollups", lambda every=every: [histogram.pack(each.latency) for each in every])
        new = timed("order of new ones", lambda group=group, given=given: facts.in_order(group, given))
        timed("metrics", lambda new=new: counts.count(WriteResult(new, 0, [])))
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
