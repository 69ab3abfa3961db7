"""What pricing costs on the ingest path: microseconds per warm call, and what the first call of a model pays."""

from __future__ import annotations

import time

from graphmeter import names
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import Envelope, SpanRecord, TokenUsage

CALLS = 20_000
ROUNDS = 5
"""The best one is shown: the others had company on the machine."""
START_NS = 1_764_590_400_000_000_000  # 2025-12-01 12:00 UTC
USAGE = TokenUsage(input=1_200, cache_read=800, output=300, reasoning=40)
CASES = {
    "flat price": ("openai", "gpt-4o"),
    "tiers": ("anthropic", "claude-sonnet-4-5"),
    "time of day": ("deepseek", "deepseek-chat"),
    "fractions": ("mistral", "mistral-small-latest"),
    "unknown model": ("nobody", "nothing"),
}


def _call(provider: str, model: str) -> SpanRecord:
    envelope = Envelope(bytes(16), b"", b"")
    record = SpanRecord(bytes(16), bytes(8), b"", f"chat {model}", names.MODEL, START_NS, START_NS + 1, envelope, b"")
    record.provider, record.model, record.request_model, record.usage = provider, model, model, USAGE
    return record


def _cold_us(book: PriceBook, record: SpanRecord) -> float:
    began = time.perf_counter()
    book.price(record)
    return (time.perf_counter() - began) * 1e6


def _warm_us(book: PriceBook, record: SpanRecord) -> float:
    best = float("inf")
    price, calls = book.price, range(CALLS)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in calls:
            price(record)
        best = min(best, time.perf_counter() - began)
    return best / CALLS * 1e6


def main() -> None:
    began = time.perf_counter()
    book = PriceBook()
    print(f"{book.catalogue}, loaded in {time.perf_counter() - began:.2f} s")
    print(f"\n{'µs per call':<14} {'first of a model':>16} {'every other':>12}")
    for label, (provider, model) in CASES.items():
        record = _call(provider, model)
        print(f"{label:<14} {_cold_us(book, record):>16,.0f} {_warm_us(book, record):>12.2f}")


if __name__ == "__main__":
    main()
