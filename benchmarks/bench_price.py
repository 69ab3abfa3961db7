"""What pricing costs on the ingest path: CPU per call without and with prices of one's own, and what the first one pays.

Both books take turns, round by round, so that whatever else runs on the machine hits both; medians are shown.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from graphmeter import names
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.records import Envelope, SpanRecord, TokenUsage
from graphmeter_config.prices import Prices

CALLS = 20_000
ROUNDS = 9
START_NS = 1_764_590_400_000_000_000  # 2025-12-01 12:00 UTC
USAGE = TokenUsage(input=1_200, cache_read=800, output=300, reasoning=40)
CASES = {
    "flat price": ("openai", "gpt-4o"),
    "tiers": ("anthropic", "claude-sonnet-4-5"),
    "time of day": ("deepseek", "deepseek-chat"),
    "fractions": ("mistral", "mistral-small-latest"),
    "price of one's own": ("house", "model-7"),
    "unknown model": ("nobody", "nothing"),
}
OVERRIDES = 50
TOOL = "a tool's call"


def _prices() -> Prices:
    """Fifty overrides of two years each, a discount, another currency."""
    made: list[dict[str, Any]] = []
    for number in range(OVERRIDES):
        rates = {"input": "1.25", "output": "10", "cache_read": "0.125"}
        common = {"provider": "house", "model": f"model-{number}", "rates": rates, "currency": "EUR"}
        made.append({"name": f"y25-{number}", **common, "valid_from": "2025-01-01", "valid_to": "2026-01-01"})
        made.append({"name": f"y26-{number}", **common, "valid_from": "2026-01-01"})
    return Prices(
        overrides=[*made, {"name": "search", "tool": "search", "per_call": "0.008"}],
        discounts=[{"name": "deal", "provider": "openai", "percent": "12.5"}],
        currencies=[{"currency": "EUR", "rates": [{"from": "2025-01-01", "usd_per_unit": "1.08"}]}],
    )


def _call(provider: str, model: str) -> SpanRecord:
    envelope = Envelope(bytes(16), b"", b"")
    record = SpanRecord(bytes(16), bytes(8), b"", f"chat {model}", names.MODEL, START_NS, START_NS + 1, envelope, b"")
    record.provider, record.model, record.request_model, record.usage = provider, model, model, USAGE
    return record


def _tool() -> SpanRecord:
    record = _call("", "")
    record.kind, record.tool, record.usage = names.TOOL, "search", TokenUsage()
    return record


def _cold_us(book: PriceBook, record: SpanRecord) -> float:
    began = time.process_time()
    book.price(record)
    return (time.process_time() - began) * 1e6


def _warm_us(book: PriceBook, record: SpanRecord) -> float:
    price, calls = book.price, range(CALLS)
    began = time.process_time()
    for _ in calls:
        price(record)
    return (time.process_time() - began) / CALLS * 1e6


def main() -> None:
    began = time.perf_counter()
    catalogue = Catalogue()
    prices = _prices()
    books = [PriceBook([catalogue]), PriceBook([catalogue], prices)]
    loaded = time.perf_counter() - began
    print(f"{catalogue.name} and {len(prices.overrides)} overrides, loaded in {loaded:.2f} s; CPU, medians\n")
    print(f"{'':<20} {'without overrides':>27} {'with overrides':>27}")
    print(f"{'µs per call':<20} {'first':>13} {'every other':>13} {'first':>13} {'every other':>13}")
    for label, record in [*((label, _call(*named)) for label, named in CASES.items()), (TOOL, _tool())]:
        cold = [_cold_us(book, record) for book in books]
        warm: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for book, found in zip(books, warm, strict=True):
                found.append(_warm_us(book, record))
        shown = [f"{first:>13,.0f} {median(others):>13.2f}" for first, others in zip(cold, warm, strict=True)]
        print(f"{label:<20} {' '.join(shown)}")


if __name__ == "__main__":
    main()
