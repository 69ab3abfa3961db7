"""Calls of the ledger priced once more: by today's price book for good, or as if another model had answered, for a look.

A call costs what its model cost when it began, whenever that became known: a price that was missing, a contract that was
signed late. What comes to something else becomes a version beside what was billed (see `store.versions`). Doing so twice
changes nothing the second time, and what was interrupted is finished by doing it again. What has no price any more keeps
what it cost: a model that a catalogue has forgotten was not free.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.ledger import CallKey, Repriced, Run, StoredCall, Versions, Which
from graphmeter_collector.price.book import DAY_NS, PriceBook
from graphmeter_collector.records import Cost, SpanRecord
from graphmeter_config.prices import OWN, Prices

NO_PRICE: Final = "no price is known"
_NO_USAGE: Final = "its usage is not known"
UNKNOWN: Final = frozenset({"unpriced", "usage_missing"})
"""Statuses of costs that mean nothing."""
_NONE_HERE: Final = (
    "calls of {model} were billed by {source}, and no prices of your own are given here: name the graphmeter.yaml that "
    "collectors use (--config), or let the catalogue decide (--defaults)"
)

Next = Callable[[Which, CallKey | None], Awaitable[list[StoredCall]]]
"""Reads calls in their order."""


@dataclass(slots=True)
class LeftOut:
    """Calls of a model whose cost cannot be said."""

    provider: str
    model: str
    why: str
    calls: int


@dataclass(slots=True)
class ModelChange:
    """What the calls of one model come to."""

    provider: str
    model: str
    calls: int
    repriced: int
    """Those that cost something else than before."""
    before_nano: int
    after_nano: int
    change_nano: int


@dataclass(slots=True)
class Outcome:
    """What pricing again did, or with `dry_run` would do."""

    prices: str
    """By which: sources with their versions."""
    since_ns: int
    until_ns: int
    dry_run: bool
    version: int
    """Of what was written; 0: nothing was."""
    models: list[ModelChange]
    """Those that change most first."""
    unpriced: list[LeftOut]
    """Of which calls the cost is still not known, and why."""

    @property
    def calls(self) -> int:
        return sum(row.calls for row in self.models)

    @property
    def repriced(self) -> int:
        return sum(row.repriced for row in self.models)


async def reprice(
    versions: Versions,
    book: PriceBook,
    which: Which,
    *,
    reason: str = "",
    dry_run: bool = False,
    by_catalogue: bool = False,
) -> Outcome:
    """Price calls by the prices of their own time as they are known now.

    Args:
        by_catalogue: Also calls that were billed by prices of one's own, where the book has none.

    Raises:
        BadRequest: the book has no prices of one's own, and calls were billed by such.
        Busy: somebody does that already.
        StoreUnavailable: the database is away; what was written until then stands.
    """
    run = Run(prices_of(book), reason, time.time_ns(), which.since_ns, which.until_ns)
    found = _Changes(book, careful=not by_catalogue and book.overrides.prices == Prices())
    if dry_run:
        async for calls in all_calls(versions.calls, which):
            found.take(calls)
    else:
        async with versions.exclusively():
            async for calls in all_calls(versions.calls, which):
                if changed := found.take(calls):
                    await versions.write(run, changed)
    return Outcome(run.prices, run.since_ns, run.until_ns, dry_run, run.version, found.models(), found.unpriced())


async def all_calls(read: Next, which: Which) -> AsyncIterator[list[StoredCall]]:
    """Every call that is asked for, some thousand at a time."""
    calls = await read(which, None)
    while calls:
        yield calls
        # Others on this loop come first: this may go on for long.
        await asyncio.sleep(0)
        calls = await read(which, calls[-1].key)


def prices_of(book: PriceBook) -> str:
    """Sources of a price book with their versions, the first that is asked first."""
    own = book.overrides.prices
    return " + ".join([*([own.source] if own != Prices() else []), book.catalogue])


def cost_now(book: PriceBook, record: SpanRecord) -> Cost | None:
    """What a call costs by a price book, or why not; `record.cost` stays as it is. None: a tool that has no price."""
    before, record.cost = record.cost, None
    book.price(record)
    found, record.cost = record.cost, before
    return found


@dataclass(slots=True)
class _Sums:
    """Of one model's calls."""

    calls: int = 0
    repriced: int = 0
    before: int = 0
    after: int = 0


class _Changes:
    """Adds up, by model."""

    def __init__(self, book: PriceBook, *, careful: bool) -> None:
        """`careful`: stop at calls that were billed by prices of one's own."""
        self._book = book
        self._careful = careful
        self._models: dict[tuple[str, str], _Sums] = {}
        self._unpriced: Counter[tuple[str, str, str]] = Counter()

    def take(self, calls: Iterable[StoredCall]) -> list[Repriced]:
        """Count calls; returns those that cost something else now."""
        book = self._book
        changed = []
        for call in calls:
            record, before = call.record, call.record.cost
            assert before is not None  # every call of the ledger has one
            if self._careful and OWN in before.source:
                raise BadRequest(_NONE_HERE.format(model=record.model, source=before.source), reason="no_own_prices")
            after = cost_now(book, record)
            if after is None or after.status in UNKNOWN or (record.cache_hit and not after.source):
                if after is not None and not record.cache_hit:
                    self._unpriced[record.provider, record.model, why_not(book, record, after)] += 1
                after = before
            model = (record.provider, record.model)
            sums = self._models.get(model) or self._models.setdefault(model, _Sums())
            sums.calls += 1
            sums.before += before.total_nano
            sums.after += after.total_nano
            # A price that has a new name and the same amounts is no news.
            if before[:4] != after[:4]:
                sums.repriced += 1
                changed.append(Repriced(call, after))
        return changed

    def models(self) -> list[ModelChange]:
        rows = [
            ModelChange(*model, sums.calls, sums.repriced, sums.before, sums.after, sums.after - sums.before)
            for model, sums in self._models.items()
        ]
        return sorted(rows, key=lambda row: (-abs(row.change_nano), -row.repriced, row.provider, row.model))

    def unpriced(self) -> list[LeftOut]:
        return [LeftOut(*key, calls) for key, calls in sorted(self._unpriced.items())]


def why_not(book: PriceBook, record: SpanRecord, cost: Cost) -> str:
    """Why what a call cost is not known."""
    if cost.status == "usage_missing":
        return _NO_USAGE
    price = book.find(record)
    if price is None:
        return NO_PRICE
    missing = price.rates_for(record.start_ns % DAY_NS, record.usage).missing
    buckets = [names.TOKEN_TYPES[index] for index in missing if record.usage[index]]
    return f"the price {price.name} has no rate for tokens of {', '.join(buckets)}"
