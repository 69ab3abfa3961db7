"""The whole effective price book as plain data, such that a client can price calls by itself, in integers.

Every price holds from `from_ns` up to, not including, `until_ns`: until somebody's price changes, or the day (UTC) ends, for
catalogues change by days.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Final

from graphmeter import names
from graphmeter_collector.price.book import DAY_NS, PriceBook
from graphmeter_collector.price.explain import price_json, until_or_none
from graphmeter_collector.price.providers import Call
from graphmeter_config.matching import ORDER
from graphmeter_config.prices import Override

VERSION: Final = 1
_TIERS: Final = ("batch", "fast", "flex", "priority")


def effective(book: PriceBook, calls: Iterable[Call], now_ns: int) -> dict[str, Any]:
    """Prices of calls, and all overrides; the same question at the same prices has the same answer."""
    prices = book.overrides.prices
    edges = prices.edges_ns
    at = bisect_right(edges, now_ns)
    midnight = now_ns // DAY_NS * DAY_NS
    own_tiers = {entry.tier for entry in prices.service_tiers}
    own_tiers |= {tier for override in prices.overrides for tier in override.service_tiers}
    tiers = sorted({*_TIERS, *own_tiers})
    return {
        "version": VERSION,
        "sources": [*([prices.source] if prices.hash else []), *(source.name for source in book.sources)],
        "from_ns": max(midnight, edges[at - 1] if at else 0),
        "until_ns": min(midnight + DAY_NS, *edges[at : at + 1]) if edges[at:] else midnight + DAY_NS,
        "buckets": list(names.TOKEN_TYPES),
        "models": [_model(book, call, tiers, now_ns) for call in sorted({c._replace(service_tier="") for c in calls})],
        "overrides": [_override(book, override, now_ns) for override in sorted(prices.overrides, key=lambda o: o.name)],
    }


def _model(book: PriceBook, call: Call, tiers: Iterable[str], now_ns: int) -> dict[str, Any]:
    price = book.price_at(call, now_ns)
    served = {tier: book.price_at(call._replace(service_tier=tier), now_ns) for tier in tiers}
    return {
        "provider": call.provider,
        "model": call.model,
        "request_model": call.request_model,
        "server": call.server,
        "price": None if price is None else price_json(price),
        "service_tiers": {
            tier: price_json(found)
            for tier, found in served.items()
            if found is not None and found.service_tier == tier
        },
    }


def _override(book: PriceBook, override: Override, now_ns: int) -> dict[str, Any]:
    """What it says, now or when it comes into force."""
    overrides = book.overrides
    at_ns = max(now_ns, override.since_ns)
    usable = bool(overrides.usable([override], at_ns))
    return {
        "name": override.name,
        "target": override.target,
        "patterns": [
            {**{field: getattr(each, field) or "*" for field in ORDER}, "rank": list(each.rank)}
            for each in override.patterns
        ],
        "from_ns": override.since_ns,
        "until_ns": until_or_none(override.until_ns),
        "price": price_json(overrides.price_of(override, "", at_ns)) if usable else None,
        "service_tiers": {
            tier: price_json(overrides.price_of(override, tier, at_ns)) for tier in sorted(override.service_tiers)
        }
        if usable
        else {},
    }
