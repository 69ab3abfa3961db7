"""Which price a model call gets and why: everything that was considered, what won, what lost to what."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphmeter_collector.price.book import DAY_NS, PriceBook
from graphmeter_collector.price.overrides import Weighed, weigh
from graphmeter_collector.price.providers import Call, is_gateway
from graphmeter_collector.price.rates import DayPrice, Rates
from graphmeter_config.dated import NEVER_NS


@dataclass(frozen=True, slots=True)
class Considered:
    """One price that was looked at."""

    what: str
    """override, discount, service tier or catalogue."""
    name: str
    verdict: str
    """`used`, or why not."""


@dataclass(slots=True)
class Explanation:
    """The price of a model at a time."""

    provider: str
    model: str
    at_ns: int
    tier: str
    price: DayPrice | None
    considered: list[Considered] = field(default_factory=list)
    currency: str = ""
    """`EUR at 1.08 USD since 2026-01-01`, where the price is said in another one."""
    nearest: Sequence[str] = ()
    """Names that may be meant, where nobody knows this one."""
    worthless: str = ""
    """The currency whose rate is all that lacks, where a price of one's own is known."""


def explain(book: PriceBook, call: Call, at_ns: int) -> Explanation:
    """Ask as the collector does, and note every answer."""
    if is_gateway(call.provider):
        call = _owned(book, call, at_ns)
    price = book.price_at(call, at_ns)
    told = Explanation(call.provider, call.model, at_ns, call.tier, price)
    overrides, names = book.overrides, call.names
    weighed = weigh(overrides.of("model"), names, at_ns)
    usable = overrides.usable([each.entry for each in weighed], at_ns)
    winner = next((each.entry for each in weighed if not each.why_not and each.entry in usable), None)
    for each in weighed:
        if not each.why_not and each.entry not in usable:
            verdict = f"no rate of {each.entry.currency} yet"
        else:
            verdict = _verdict(each, winner)
        told.considered.append(Considered("override", each.entry.name, verdict))
    if winner is not None and (rate := overrides.rate_of(winner, at_ns)):
        told.currency = f"{winner.currency} at {rate.usd_per_unit.normalize():f} USD since {rate.since}"
    listed = _listed(book, call, at_ns)
    for number, name in enumerate(listed):
        verdict = f"comes after override {winner.name}" if winner else "used" if number == 0 else "comes later"
        told.considered.append(Considered("catalogue", name, verdict))
    prices = overrides.prices
    of_tier = [entry for entry in prices.service_tiers if entry.tier == call.tier] if call.tier else []
    kinds: tuple[tuple[str, Iterable[Any]], ...] = (("service tier", of_tier), ("discount", prices.discounts))
    for what, entries in kinds:
        found = weigh(entries, names, at_ns)
        best = next((each.entry for each in found if not each.why_not), None)
        for each in found:
            on_list = "changes the catalogue's prices only" if winner is not None else "nothing to change"
            applies = winner is None and bool(listed)
            verdict = _verdict(each, best) if applies or each.why_not else on_list
            told.considered.append(Considered(what, each.entry.name, verdict))
    if call.tier and price is not None and price.service_tier != call.tier:
        note = "no price of its own is known: the usual one"
        told.considered.append(Considered("service tier", call.tier, note))
    if price is None:
        lacking = (each.entry for each in weighed if not each.why_not and each.entry not in usable)
        told.worthless = next((entry.currency for entry in lacking), "")
        told.nearest = [] if told.worthless else nearest(book, call.model)
    return told


def nearest(book: PriceBook, model: str, most: int = 5) -> list[str]:
    """Names of models that look like this one, or are this one with the provider that it lacked."""
    known: dict[str, str] = {}
    for source in book.sources:
        for name in getattr(source, "model_names", ()):
            known.setdefault(name.lower(), name)
            bare_name = name.rpartition("/")[2]
            known.setdefault(bare_name.lower(), bare_name)
    asked = model.lower()
    owned = sorted(name for lower, name in known.items() if lower.endswith(f"/{asked}") and lower.count("/") == 1)
    close = [known[name] for name in difflib.get_close_matches(asked, known, n=most * 3, cutoff=0.5) if name != asked]
    return list(dict.fromkeys([*owned, *close]))[:most]


def _owned(book: PriceBook, call: Call, at_ns: int) -> Call:
    """The call with whose model it is by its name alone; `openai/gpt-4o` is a name with its owner."""
    found = next(iter(_listed(book, call, at_ns)), "")
    if not found:
        return call
    owned = call._replace(provider=found.partition("/")[0])
    rest = call.model.partition("/")[2]
    return owned._replace(model=rest) if rest and not _listed(book, owned, at_ns) else owned


def _listed(book: PriceBook, call: Call, at_ns: int) -> list[str]:
    found = [
        price.name
        for name in call.models
        for source in book.sources
        if (price := source.find(call.provider, name, at_ns // DAY_NS, call.tier))
    ]
    return list(dict.fromkeys(found))


def _verdict(each: Weighed[Any], winner: Any) -> str:
    if each.why_not:
        return each.why_not
    return "used" if each.entry is winner else f"wider than {winner.name}"


def rates_json(rates: Rates) -> dict[str, Any]:
    """Rates for a program without decimals: nano-USD / `scale`."""
    shown: dict[str, Any] = {"per_token": list(rates.per_token), "scale": rates.scale, "free": rates.free}
    if rates.missing:
        shown["missing"] = list(rates.missing)
    for extra in ("per_request", "per_image", "per_ns"):
        if amount := getattr(rates, extra):
            shown[extra] = amount
    return shown


def price_json(price: DayPrice) -> dict[str, Any]:
    """A price for a program without decimals."""
    return {
        "source": price.source,
        "name": price.name,
        "bill_failed": price.bill_failed,
        "tariffs": [
            {
                "from_time_ns": start,
                "tiers": [
                    {"above": above, **rates_json(rates)}
                    for above, rates in zip((None, *tariff.starts), tariff.tiers, strict=True)
                ],
            }
            for start, tariff in zip((0, *price.starts_ns), price.tariffs, strict=True)
        ],
    }


def until_or_none(until_ns: int) -> int | None:
    """The end of a validity; None: it has none."""
    return None if until_ns >= NEVER_NS else until_ns
