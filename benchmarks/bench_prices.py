"""What the price of a call costs: on the ingest path, for each kind of price, and when the ledger is priced again.

    python benchmarks/bench_prices.py [--rounds 31] [--calls 100000] [--times 2] [--store sqlite|postgres|none]

Kinds take turns, round by round, so that whatever else runs on the machine hits all of them; lower quartiles of processor
time are shown. Tokens differ from call to call, and are as seldom round as those of real ones. The first call is one after
prices have changed, when nothing is remembered.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench_ingest import Database, databases, family_cpu_s

from graphmeter import names
from graphmeter_collector import garbage
from graphmeter_collector.ledger import Which
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.records import Envelope, SpanRecord, TokenUsage
from graphmeter_collector.repricing import Outcome, reprice
from graphmeter_collector.store import open_store
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.versions import PriceVersions
from graphmeter_config.prices import Prices

PROMISED_US = 2.0
"""Per call, hot, whatever its price: docs/benchmarks.md."""
DIFFERENT, TIMES = 250, 20
"""Calls of a kind, and how often each is priced in a round."""
START_NS = 1_773_144_000_000_000_000  # 2026-03-10 12:00 UTC, days before prices of the catalogue change
DAY_NS = 86_400_000_000_000
WRITTEN_AT_ONCE = 2_000
OVERRIDES = 50
RNG = random.Random(1)  # noqa: S311 - tokens of a benchmark


class Kind(NamedTuple):
    """A kind of price, or of what has none."""

    label: str
    own: bool
    """Whether the book that is asked has prices of one's own."""
    calls: list[SpanRecord]


def prices(percent: str = "12.5") -> Prices:
    """Some of every kind, among fifty that hold for two years each."""
    made: list[dict[str, Any]] = []
    for number in range(OVERRIDES):
        common = {"provider": "house", "model": f"model-{number}", "rates": {"input": "1.25", "output": "10"}}
        made.append({"name": f"y25-{number}", **common, "valid_from": "2025-01-01", "valid_to": "2026-01-01"})
        made.append({"name": f"y26-{number}", **common, "valid_from": "2026-01-01"})
    rates = {"input": "1.25", "output": "10", "cache_read": "0.125"}
    larger = [{"above": 200_000, "rates": {"input": "2.5", "output": "15"}}]
    contract = {"currency": "EUR", "discount": "3.5%", "service_tiers": {"flex": "50%"}, "tiers": larger}
    made += [
        {"name": "euro", "provider": "house", "model": "euro", "rates": rates, "currency": "EUR"},
        {"name": "all", "provider": "house", "model": "all", "rates": rates, **contract},
        {"name": "gpu", "provider": "house", "model": "gpu", "per_second": "0.0011"},
        {"name": "pictures", "provider": "house", "model": "pictures", "per_image": "0.04"},
        {"name": "gratis", "provider": "house", "model": "gratis", "free": True},
        {"name": "search", "tool": "search", "per_call": "0.008"},
    ]
    return Prices(
        overrides=made,
        discounts=[{"name": "deal", "provider": "openai", "percent": percent}],
        service_tiers=[{"name": "flex", "provider": "aws", "tier": "flex", "multiplier": "50%"}],
        currencies=[{"currency": "EUR", "rates": [{"from": "2025-01-01", "usd_per_unit": "1.08"}]}],
    )


def call(provider: str, model: str, usage: TokenUsage, number: int = 0, **facts: Any) -> SpanRecord:
    """A model call that took a second and some."""
    ids = (number.to_bytes(16, "big"), b"12345678", b"")
    start_ns = facts.pop("start_ns", START_NS)
    end_ns = start_ns + RNG.randrange(1, 4 * 10**9)
    record = SpanRecord(*ids, f"chat {model}", names.MODEL, start_ns, end_ns, Envelope(bytes(16), b"", b""), b"")
    record.provider, record.model, record.request_model, record.usage = provider, model, model, usage
    record.operation = names.OP_CHAT
    for name, value in facts.items():
        setattr(record, name, value)
    return record


def text(most: int = 5_000) -> TokenUsage:
    """Tokens of a call with a warm cache, of a model that reasons."""
    read, answer = RNG.randrange(2_000), RNG.randrange(1, 1_000)
    return TokenUsage(input=RNG.randrange(1, most), cache_read=read, output=answer, reasoning=RNG.randrange(500))


def everything() -> TokenUsage:
    """Some of each bucket."""
    return TokenUsage(*[RNG.randrange(1, 2_000) for _ in range(10)])


def kinds() -> Iterator[Kind]:
    """Every kind of price; the first is what others are compared with."""

    def kind(label: str, provider: str, model: str, *, own: bool = False, usage: Any = text, **facts: Any) -> Kind:
        return Kind(label, own, [call(provider, model, usage(), **facts) for _ in range(DIFFERENT)])

    def days() -> list[SpanRecord]:
        return [
            call("anthropic", "claude-opus-4-6", text(), start_ns=START_NS + number % 28 * DAY_NS)
            for number in range(DIFFERENT)
        ]

    silent: dict[str, Any] = {"usage": TokenUsage, "usage_missing": True}
    yield kind("flat", "openai", "gpt-4o")
    yield kind("by size of the prompt", "anthropic", "claude-sonnet-4-5", usage=lambda: text(400_000))
    yield kind("by time of day", "deepseek", "deepseek-chat")
    yield Kind("dated, calls of four weeks", False, days())
    yield kind("batch", "openai", "gpt-4o", service_tier="batch")
    yield kind("service tier", "openai", "gpt-5", service_tier="priority")
    yield kind("per call besides tokens", "perplexity", "sonar-pro")
    yield kind("audio, images, every bucket", "openai", "gpt-4o", usage=everything)
    yield kind("answer from a cache", "openai", "gpt-4o", cache_hit=True)
    yield kind("usage missing", "openai", "gpt-4o", **silent)
    yield kind("unpriced", "nobody", "nothing")
    yield kind("discount of 12.5 %", "openai", "gpt-4o", own=True)
    yield kind("the same, prompts of a million", "openai", "gpt-4.1", own=True, usage=lambda: text(1_000_000))
    yield kind("the same, batch", "openai", "gpt-4o", own=True, service_tier="batch")
    yield kind("the same, every bucket", "openai", "gpt-4o", own=True, usage=everything)
    yield kind("service tier of one's own", "aws", "amazon.nova-pro-v1:0", own=True, service_tier="flex")
    yield kind("price of one's own", "house", "model-7", own=True)
    yield kind("in another currency", "house", "euro", own=True)
    yield kind("currency, discount, tier, size", "house", "all", own=True, service_tier="flex")
    yield kind("per second", "house", "gpu", own=True)
    yield kind("per image", "house", "pictures", own=True, images=2)
    yield kind("free", "house", "gratis", own=True)
    yield kind("unpriced, own prices asked", "nobody", "nothing", own=True)
    yield kind("a tool's call", "", "", own=True, usage=TokenUsage, kind=names.TOOL, tool="search")


def _hot_us(book: PriceBook, calls: list[SpanRecord]) -> float:
    price = book.price
    began = time.process_time()
    for _ in range(TIMES):
        for record in calls:
            price(record)
    return (time.process_time() - began) / (TIMES * len(calls)) * 1e6


def _first_us(book: PriceBook, record: SpanRecord) -> float:
    book.use()
    began = time.process_time()
    book.price(record)
    return (time.process_time() - began) * 1e6


def _quartile(found: list[float]) -> float:
    return statistics.quantiles(found, n=4)[0] if len(found) > 1 else found[0]


def measure_kinds(catalogue: Catalogue, rounds: int) -> None:
    """Print what a call of each kind costs."""
    own = prices()
    books = [PriceBook([catalogue]), PriceBook([catalogue], own)]
    print(f"{catalogue.name} and {len(own.overrides)} overrides; {rounds} rounds, lower quartiles of processor time\n")
    every = list(kinds())
    hot: list[list[float]] = [[] for _ in every]
    first: list[list[float]] = [[] for _ in every]
    for _ in range(rounds):
        for place, kind in enumerate(every):
            book = books[kind.own]
            first[place].append(_first_us(book, kind.calls[0]))
            for record in kind.calls:
                book.price(record)
            hot[place].append(_hot_us(book, kind.calls))
    print(f"{'µs per call':<32} {'hot':>6} {'to flat':>8} {'first':>7}")
    flat = _quartile(hot[0])
    for kind, found, firsts in zip(every, hot, first, strict=True):
        shown = _quartile(found)
        note = "" if shown <= PROMISED_US else f"  above {PROMISED_US:g}"
        print(f"{kind.label:<32} {shown:>6.2f} {shown / flat:>8.2f} {_quartile(firsts):>7,.0f}{note}")


def ledger_of(calls: int) -> list[SpanRecord]:
    """Calls of four models within a day, of which one is not known."""
    models = [("openai", "gpt-4o"), ("openai", "gpt-4.1-mini"), ("anthropic", "claude-sonnet-4-5"), ("house", "new")]
    start_ns = time.time_ns() // DAY_NS * DAY_NS
    made = []
    for number in range(calls):
        where = {
            "service": "shop",
            "environment": "prod",
            "graph": f"graph-{number % 40}",
            "team": f"team-{number % 9}",
        }
        record = call(*models[number % 4], text(), number, start_ns=start_ns + number * 1_000_000, **where)
        record.duration_ns, record.run_id, record.node = 1_000_000, f"{number:032x}", "answer"
        made.append(record)
    return made


async def measure_repricing(database: Database, catalogue: Catalogue, calls: int, rounds: int) -> None:
    """Print what pricing a ledger again costs, per call."""
    url = await asyncio.to_thread(database.fresh)
    await asyncio.to_thread(migrate, url)
    records = ledger_of(calls)
    which = Which(records[0].start_ns, records[-1].start_ns + 1)
    billed = PriceBook([catalogue])
    store = await open_store(url)
    for first in range(0, calls, WRITTEN_AT_ONCE):
        batch = records[first : first + WRITTEN_AT_ONCE]
        for record in batch:
            billed.price(record)
        await store.write(batch)
    await store.close()
    garbage.settle()  # as the command does for itself
    versions = PriceVersions(url)
    found: dict[str, list[tuple[float, float, float]]] = {}

    async def timed(what: str, book: PriceBook, *, changed: bool, dry_run: bool = False) -> None:
        before, began = _cpu(database), time.perf_counter()
        outcome: Outcome = await reprice(versions, book, which, dry_run=dry_run, by_catalogue=True)
        took, after = time.perf_counter() - began, _cpu(database)
        if (calls, changed) != (outcome.calls, outcome.repriced > 0):
            raise AssertionError(f"{what}: {outcome.repriced} of {outcome.calls} calls")
        cost = [each / calls * 1e6 for each in (took, after[0] - before[0], after[1] - before[1])]
        found.setdefault(what, []).append((cost[0], cost[1], cost[2]))

    try:
        for _ in range(rounds):
            await timed("nothing was changed, nor is", billed, changed=False)
        for number in range(1, rounds + 1):
            book = PriceBook([catalogue], prices(str(number)))
            await timed("half of all, the first time" if number == 1 else "half of all, again", book, changed=True)
            await timed("half have versions, none changes", book, changed=False)
            await timed("the same with --dry-run", book, changed=False, dry_run=True)
    finally:
        await versions.close()
    print(f"\n{database.name + ', µs per call':<34} {'wall':>7} {'here':>7} {'database':>9}")
    for what, costs in found.items():
        wall, here, there = (_quartile(list(column)) for column in zip(*costs, strict=True))
        print(f"{what:<34} {wall:>7.1f} {here:>7.1f} {there:>9.1f}")


def _cpu(database: Database) -> tuple[float, float]:
    return time.process_time(), family_cpu_s(database.process) if database.process else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="of pricing")
    parser.add_argument("--calls", type=int, default=100_000, help="on the ledger that is priced again")
    parser.add_argument("--times", type=int, default=2, help="that it is priced again")
    parser.add_argument("--store", choices=("sqlite", "postgres", "none"), default="", help="which; both if left out")
    given = parser.parse_args()
    catalogue = Catalogue()
    if given.rounds:
        measure_kinds(catalogue, given.rounds)
    if given.store == "none":
        return
    with databases(given.store) as found:
        for database in found:
            asyncio.run(measure_repricing(database, catalogue, given.calls, given.times))


if __name__ == "__main__":
    main()
