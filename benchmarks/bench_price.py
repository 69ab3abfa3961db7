"""What pricing costs on the ingest path: microseconds per warm call, and what the first call of a model pays."""

from __future__ import annotations

import time
from collections.abc import Callable

from graphmeter import names
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import Envelope, SpanRecord, TokenUsage

CALLS = 100_000
START_NS = 1_764_590_400_000_000_000  # 2025-12-01 12:00 UTC


def _call(provider: str, model: str, usage: TokenUsage) -> SpanRecord:
    envelope = Envelope(bytes(16), b"", b"")
    record = SpanRecord(bytes(16), bytes(8), b"", f"chat {model}", names.MODEL, START_NS, START_NS + 1, envelope, b"")
    record.provider, record.model, record.request_model, record.usage = provider, model, model, usage
    return record


def _best_us(run: Callable[[], None], times: int, rounds: int = 5) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(times):
            run()
        best = min(best, time.perf_counter() - started)
    return best / times * 1e6


def main() -> None:
    started = time.perf_counter()
    book = PriceBook()
    print(f"load {book.catalogue}: {time.perf_counter() - started:.2f} s")
    usage = TokenUsage(input=1_200, cache_read=800, output=300, reasoning=40)
    for label, record in {
        "flat price": _call("openai", "gpt-4o", usage),
        "tiers": _call("anthropic", "claude-sonnet-4-5", usage),
        "time of day": _call("deepseek", "deepseek-chat", usage),
        "fractions": _call("mistral", "mistral-small-latest", usage),
        "unknown": _call("nobody", "nothing", usage),
    }.items():
        started = time.perf_counter()
        book.price(record)
        cold_us = (time.perf_counter() - started) * 1e6
        warm_us = _best_us(lambda record=record: book.price(record), CALLS)  # type: ignore[misc]
        print(f"{label:12} cold {cold_us:8.0f} µs   warm {warm_us:5.2f} µs")


if __name__ == "__main__":
    main()
