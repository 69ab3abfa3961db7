"""The price book: a billable call in, its cost out, with the price it was taken from.

Prices are dated, and a call costs what its model cost when the call started, whenever it arrives. Prices of one's own
(graphmeter.yaml) come before the catalogue. What was found is kept per call's names and stretch of time in which no price
changes, so a call that resembles an earlier one costs a dictionary look-up and a few integer products.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from graphmeter import names
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.price.overrides import Overrides
from graphmeter_collector.price.providers import Call
from graphmeter_collector.price.rates import DayPrice
from graphmeter_collector.records import NO_USAGE, Cost, SpanRecord
from graphmeter_config.prices import Prices

MAX_REMEMBERED = 4_096
"""Answers of the sources kept; when full all are forgotten, so that made-up model names cannot fill memory."""

DAY_NS = 86_400_000_000_000
_NEVER_ASKED = DayPrice("", "", ())
_NOTHING = (0,) * len(NO_USAGE)
_new = tuple.__new__
_PIECES = frozenset({names.TOOL, names.RETRIEVER})


class Source(Protocol):
    """Somebody who knows list prices of models."""

    @property
    def name(self) -> str:
        """Name and version, as written on every cost."""
        ...

    def find(self, provider: str, model: str, day: int, tier: str = "") -> DayPrice | None:
        """The price of a model on a day (UTC, days since the epoch), or None when this source does not know it.

        At a tier of service, else the usual one; `DayPrice.service_tier` says which it is.
        """
        ...


class PriceBook:
    """Prices calls: by prices of one's own, else from `sources`, first match wins; by default the genai-prices catalogue."""

    def __init__(self, sources: Sequence[Source] | None = None, prices: Prices | None = None) -> None:
        self._inside = _Inside(tuple(sources) if sources is not None else (Catalogue(),), prices or Prices())

    @property
    def catalogue(self) -> str:
        """Which catalogues are in force: `genai-prices 0.2.3`."""
        return " + ".join(source.name for source in self._inside.sources)

    @property
    def sources(self) -> tuple[Source, ...]:
        return self._inside.sources

    @property
    def overrides(self) -> Overrides:
        """Prices of one's own."""
        return self._inside.overrides

    def use(self, prices: Prices | None = None, sources: Sequence[Source] | None = None) -> None:
        """Replace prices of one's own, or sources; what was remembered is forgotten.

        Calls that are being priced in other threads are priced by the old ones or by the new ones, never by a mixture.
        """
        before = self._inside
        self._inside = _Inside(
            before.sources if sources is None else tuple(sources), before.overrides.prices if prices is None else prices
        )

    def price(self, record: SpanRecord) -> None:
        """Set `record.cost` on a model call, and on a call of a tool or retriever that has a price."""
        if record.kind == names.MODEL:
            record.cost = _cost_of_call(record, self._inside.find(record))
        elif self._inside.pieces and record.kind in _PIECES:
            record.cost = _cost_of_piece(record, self._inside.find_piece(record))

    def find(self, record: SpanRecord) -> DayPrice | None:
        """The price of a model call; None when nobody knows one."""
        return self._inside.find(record)

    def price_at(self, call: Call, at_ns: int) -> DayPrice | None:
        """The price of a model call that starts at a time."""
        return self._inside.ask(call, at_ns)

    def seen(self) -> list[Call]:
        """Calls that were priced lately, each once."""
        return self._inside.seen()


class _Inside:
    """All that changes together when prices do."""

    def __init__(self, sources: tuple[Source, ...], prices: Prices) -> None:
        self.sources = sources
        self.overrides = Overrides(prices)
        self.pieces = self.overrides.pieces
        self._own = prices != Prices()
        self._edges = prices.edges_ns
        self._pieces: dict[tuple[str, str, str, str, int], DayPrice | None] = {}
        self._remembered: dict[tuple[str, str, str, str, str, int, int], DayPrice | None] = {}

    def find(self, record: SpanRecord) -> DayPrice | None:
        at_ns, edges = record.start_ns, self._edges
        key = (
            record.provider,
            record.model,
            record.request_model,
            record.service_tier,
            record.server,
            at_ns // DAY_NS,
            bisect_right(edges, at_ns) if edges else 0,
        )
        found = self._remembered.get(key, _NEVER_ASKED)
        if found is _NEVER_ASKED:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self.ask(Call(*key[:5]), at_ns)
        return found

    def find_piece(self, record: SpanRecord) -> DayPrice | None:
        edges = self._edges
        segment = bisect_right(edges, record.start_ns) if edges else 0
        key = (record.kind, record.operation, record.tool, record.model, segment)
        found = self._pieces.get(key, _NEVER_ASKED)
        if found is _NEVER_ASKED:
            if len(self._pieces) >= MAX_REMEMBERED:
                self._pieces.clear()
            found = self._pieces[key] = self.overrides.piece(record)
        return found

    def ask(self, call: Call, at_ns: int) -> DayPrice | None:
        """Prices of one's own for any of the call's names, then each of its names in every source."""
        tier = call.tier
        if not self._own:
            return self._listed(call, tier, at_ns)
        own = self.overrides.find(call.names, tier, at_ns)
        if own is not None:
            return own
        share = self.overrides.tier_of(call.names, tier, at_ns)
        found = self._listed(call, "" if share is not None else tier, at_ns)
        if found is None:
            return None
        if share is not None:
            found = replace(found.times(share, tokens_only=True), name=f"{found.name} ({tier})", service_tier=tier)
            found = replace(found, source=f"{found.source} + {self.overrides.source}")
        return self.overrides.discounted(found, call.names, at_ns)

    def _listed(self, call: Call, tier: str, at_ns: int) -> DayPrice | None:
        for name in call.models:
            for source in self.sources:
                if found := source.find(call.provider, name, at_ns // DAY_NS, tier):
                    return replace(found, name=f"{found.name} ({found.service_tier})") if found.service_tier else found
        return None

    def seen(self) -> list[Call]:
        return sorted({Call(*key[:5]) for key in list(self._remembered)})


def _cost_of_call(record: SpanRecord, price: DayPrice | None) -> Cost:
    if price is None:
        if record.usage_missing and not record.cache_hit:
            return Cost(0, _NOTHING, "usage_missing", 0)
        return Cost(0, _NOTHING, "cached" if record.cache_hit else "unpriced")
    usage = record.usage
    rates = price.flat or price.rates_for(record.start_ns % DAY_NS, usage)
    if record.usage_missing and not record.cache_hit and rates.needs_usage:
        return Cost(0, _NOTHING, "usage_missing", 0, price.source, price.name)
    if rates.tokens_only:
        cost = rates.cost_of_tokens(usage)
    else:
        extra = rates.per_ns * record.duration_ns
        # A call that failed before any token was used was not served: no fee per request either.
        if record.status != names.ERROR or usage != NO_USAGE or price.bill_failed:
            extra += rates.per_request + rates.per_image * (record.images or 1)
        cost = rates.cost_of_tokens(usage, extra)
    if record.cache_hit:
        return Cost(0, _NOTHING, "cached", cost[0] if cost else 0, price.source, price.name)
    if cost is None:
        return Cost(0, _NOTHING, "unpriced", 0, price.source, price.name)
    total, parts = cost
    # As `Cost(…)`, which takes twice as long to say the same.
    return _new(Cost, (total, parts, "free" if rates.free else "priced", 0, price.source, price.name))


def _cost_of_piece(record: SpanRecord, price: DayPrice | None) -> Cost | None:
    """None: the call costs nothing, and has no place on the ledger."""
    if price is None:
        return None
    rates = price.tariffs[0].tiers[0]
    if rates.free or (record.status == names.ERROR and not price.bill_failed):
        return None
    cost = rates.cost_of(NO_USAGE, images=record.images or 1, duration_ns=record.duration_ns)
    assert cost is not None  # no token, no missing rate
    return Cost(cost[0], cost[1], "priced", 0, price.source, price.name)
