"""The `prices:` section as a source of prices: a call and its time in, the price of one's own or nothing out.

Of the entries that are in force and match, the narrowest wins; `weigh` says of all others why they lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Generic, Protocol, TypeVar

from graphmeter import names
from graphmeter_collector.price.rates import DayPrice, Rates, Tariff, make_rates
from graphmeter_collector.records import SpanRecord
from graphmeter_config.matching import Names, Pattern, Rank
from graphmeter_config.prices import ExchangeRate, Override, Prices

_ONE: Final = Decimal(1)
_THOUSAND: Final = Decimal(1_000)
_NOTHING: Final = (Decimal(0),) * len(names.TOKEN_TYPES)


class _Entry(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def patterns(self) -> tuple[Pattern, ...]: ...
    @property
    def since_ns(self) -> int: ...
    @property
    def until_ns(self) -> int: ...


_AnEntry = TypeVar("_AnEntry", bound=_Entry)


@dataclass(frozen=True, slots=True)
class Weighed(Generic[_AnEntry]):
    """What an entry has to say about a call."""

    entry: _AnEntry
    rank: Rank | None
    """None: it does not match."""
    why_not: str
    """Empty: it could price the call, and does if none is narrower."""


def weigh(entries: Iterable[_AnEntry], call: Names, at_ns: int) -> list[Weighed[_AnEntry]]:
    """Every entry, those that match first, the narrowest of them first of all."""
    return sorted((_weighed(entry, call, at_ns) for entry in entries), key=_order)


def narrowest(entries: Iterable[_AnEntry], call: Names, at_ns: int) -> _AnEntry | None:
    """The entry that wins, if any matches."""
    return next((found.entry for found in weigh(entries, call, at_ns) if not found.why_not), None)


def _weighed(entry: _AnEntry, call: Names, at_ns: int) -> Weighed[_AnEntry]:
    matching = [pattern for pattern in entry.patterns if not pattern.mismatch(call)]
    if not matching:
        return Weighed(entry, None, f"another {_closest(entry.patterns, call)}")
    rank = max(pattern.rank for pattern in matching)
    if at_ns < entry.since_ns:
        return Weighed(entry, rank, "not yet in force")
    return Weighed(entry, rank, "no longer in force" if at_ns >= entry.until_ns else "")


def _closest(patterns: Sequence[Pattern], call: Names) -> str:
    """What an entry that does not match is not about; the model last, for that goes without saying."""
    missed = {pattern.mismatch(call) for pattern in patterns}
    return next((field for field in ("provider", "region", "deployment") if field in missed), "model")


def _order(found: Weighed[_AnEntry]) -> tuple[bool, tuple[int, ...], str]:
    # The name decides what the configuration's own check cannot have let through.
    return (bool(found.why_not), tuple(-part for part in found.rank or ()), found.entry.name)


class Overrides:
    """Prices of one's own, and what changes those of the catalogue."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.source = prices.source
        self._by_target: dict[str, list[Override]] = {}
        for override in prices.overrides:
            self._by_target.setdefault(override.target, []).append(override)
        self._currencies = {currency.currency: currency for currency in prices.currencies}

    @property
    def pieces(self) -> bool:
        """Whether calls of tools, retrievers or reranks may cost something."""
        return bool(self._by_target.keys() - {"model"})

    def of(self, target: str) -> list[Override]:
        """Those of a model, tool, retriever or rerank."""
        return self._by_target.get(target, [])

    def find(self, call: Names, tier: str, at_ns: int) -> DayPrice | None:
        """The price of a model call, at a tier of service."""
        found = narrowest(self.usable(self.of("model"), at_ns), call, at_ns)
        return None if found is None else self.price_of(found, tier, at_ns)

    def piece(self, record: SpanRecord) -> DayPrice | None:
        """The price of a call of a tool, retriever or rerank."""
        target = target_of(record)
        called = tuple(name.lower() for name in (record.tool, record.model) if name)
        at_ns = record.start_ns
        found = narrowest(self.usable(self.of(target), at_ns), Names(model=called), at_ns)
        return None if found is None else self.price_of(found, "", at_ns)

    def usable(self, overrides: Iterable[Override], at_ns: int) -> list[Override]:
        """Those whose currency has a rate by then."""
        return [override for override in overrides if override.currency == "USD" or self.rate_of(override, at_ns)]

    def rate_of(self, override: Override, at_ns: int) -> ExchangeRate | None:
        """What the override's currency is worth; None for USD, and before its first rate."""
        currency = self._currencies.get(override.currency)
        return None if currency is None else currency.at(at_ns)

    def price_of(self, override: Override, tier: str, at_ns: int) -> DayPrice:
        """What an override says, in USD."""
        rate = self.rate_of(override, at_ns)
        factor = (_ONE if rate is None else rate.usd_per_unit) * _left(override.discount)
        starts = tuple(each.above for each in override.tiers)
        share = override.service_tiers.get(tier, _ONE) if tier else _ONE
        served = tier if tier in override.service_tiers else ""
        tiers = tuple(_rates(override, above).times(share, tokens_only=True).times(factor) for above in (None, *starts))
        return DayPrice(
            source=self.source,
            name=override.name + (f" ({served})" if served else ""),
            tariffs=(Tariff(starts, tiers),),
            service_tier=served,
            bill_failed=override.bill_failed,
        )

    def tier_of(self, call: Names, tier: str, at_ns: int) -> Decimal | None:
        """Share of the catalogue's usual token rates that a tier of service costs, if an entry says so."""
        entries = [entry for entry in self.prices.service_tiers if entry.tier == tier] if tier else []
        found = narrowest(entries, call, at_ns)
        return None if found is None else found.multiplier

    def discounted(self, price: DayPrice, call: Names, at_ns: int) -> DayPrice:
        """A price of the catalogue, less what a contract takes off."""
        found = narrowest(self.prices.discounts, call, at_ns)
        if found is None:
            return price
        less = price.times(_left(found.percent))
        return replace(less, source=f"{price.source} + {self.source}", name=f"{price.name} less {found.name}")


def target_of(record: SpanRecord) -> str:
    """Which kind of override prices the record."""
    if record.kind == names.TOOL:
        return "tool"
    return "rerank" if record.operation == names.OP_RERANK else "retriever"


def _rates(override: Override, above: int | None) -> Rates:
    fee = override.per_call or Decimal(0)
    return make_rates(
        _NOTHING if override.rates is None else override.rates_above(above),
        fee * _THOUSAND,
        usd_per_image=override.per_image or Decimal(0),
        usd_per_second=override.per_second or Decimal(0),
    )


def _left(percent: Decimal | None) -> Decimal:
    return _ONE if percent is None else (100 - percent) / 100
