"""The price book: a model call in, its cost out, with the price it was taken from.

Prices are dated, and a call costs what its model cost when the call started, whenever it arrives. Sources are asked in
order, the first that knows the model on that day answers; what they said is kept per (provider, model, day), so a
call that resembles an earlier one costs a dictionary look-up and a few integer products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from graphmeter import names
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.price.rates import DayPrice
from graphmeter_collector.records import NO_USAGE, Cost, SpanRecord

MAX_REMEMBERED = 4_096
"""Answers of the sources kept; when full all are forgotten, so that made-up model names cannot fill memory."""

_DAY_NS = 86_400_000_000_000
_NEVER_ASKED = DayPrice("", "", ())
_NOTHING = (0,) * len(NO_USAGE)


class Source(Protocol):
    """Somebody who knows prices. Overrides of a user would come before the catalogue."""

    @property
    def name(self) -> str:
        """Name and version, as written on every cost."""
        ...

    def find(self, provider: str, model: str, day: int) -> DayPrice | None:
        """The price of a model on a day (UTC, days since the epoch), or None when this source does not know it."""
        ...


class PriceBook:
    """Prices model calls from `sources`, first match wins; by default the genai-prices catalogue alone."""

    def __init__(self, sources: Sequence[Source] | None = None) -> None:
        self._sources = tuple(sources) if sources is not None else (Catalogue(),)
        self.catalogue = " + ".join(source.name for source in self._sources)
        """Which catalogues are in force: `genai-prices 0.2.3`."""
        self._remembered: dict[tuple[str, str, str, int], DayPrice | None] = {}

    def price(self, record: SpanRecord) -> None:
        """Set `record.cost` on a model call; other records stay as they are."""
        if record.kind == names.MODEL:
            record.cost = self._cost_of(record)

    def find(self, record: SpanRecord) -> DayPrice | None:
        """The price of the model that answered, else of the one that was asked for; None when neither is known.

        Providers answer with dated or deployment names that a catalogue may not have yet, hence the second try.
        """
        day = record.start_ns // _DAY_NS
        key = (record.provider, record.model, record.request_model, day)
        found = self._remembered.get(key, _NEVER_ASKED)
        if found is _NEVER_ASKED:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self._ask(record.provider, record.model, record.request_model, day)
        return found

    def _ask(self, provider: str, model: str, request_model: str, day: int) -> DayPrice | None:
        for name in dict.fromkeys((model, request_model)):
            for source in self._sources:
                if name and (found := source.find(provider, name, day)):
                    return found
        return None

    def _cost_of(self, record: SpanRecord) -> Cost:
        price = self.find(record)
        if record.usage_missing and not record.cache_hit:
            return Cost(0, _NOTHING, "usage_missing", 0, price.source if price else "", price.name if price else "")
        if price is None:
            return Cost(0, _NOTHING, "cached" if record.cache_hit else "unpriced")
        usage = record.usage
        rates = price.rates_for(record.start_ns % _DAY_NS, usage)
        # A call that failed before any token was used was not served: no fee per request either.
        served = record.status != names.ERROR or usage != NO_USAGE
        cost = rates.cost_of(usage, requests=1 if served else 0)
        if record.cache_hit:
            return Cost(0, _NOTHING, "cached", cost[0] if cost else 0, price.source, price.name)
        if cost is None:
            return Cost(0, _NOTHING, "unpriced", 0, price.source, price.name)
        return Cost(cost[0], cost[1], "free" if rates.free else "priced", 0, price.source, price.name)
