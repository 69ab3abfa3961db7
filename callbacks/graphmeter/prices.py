"""What a model call cost, when the `prices` extra is installed: attributes of the call in, USD and the price's name out.

A hint for people who look at a trace or at `debug=True`. The collector prices every call again and is the authority. The
catalogue (genai-prices) is loaded on first use, in the exporter's thread; no network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from graphmeter import forks, guard, names

# gen_ai.provider.name → provider id of genai-prices; what is not listed has the same name in both.
_CATALOGUE_NAMES: Final[Mapping[str, str]] = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
_UNITS: Final[Mapping[str, str]] = {
    names.USAGE_INPUT: "input_tokens",
    names.USAGE_OUTPUT: "output_tokens",
    names.USAGE_CACHE_READ: "cache_read_tokens",
    names.USAGE_CACHE_WRITE: "cache_write_tokens",
    names.CACHE_WRITE_5M_TOKENS: "cache_write_5m_tokens",
    names.CACHE_WRITE_1H_TOKENS: "cache_write_1h_tokens",
    names.USAGE_REASONING: "output_reasoning_tokens",
    names.USAGE_AUDIO_INPUT: "input_audio_tokens",
    names.USAGE_AUDIO_OUTPUT: "output_audio_tokens",
    names.USAGE_IMAGE_INPUT: "input_image_tokens",
    names.USAGE_IMAGE_OUTPUT: "output_image_tokens",
}
"""Attribute → unit of genai-prices."""


class Cost(NamedTuple):
    """Cost of one call."""

    usd: Decimal
    price: str
    """`genai-prices 0.2.3 openai/gpt-4o`."""


class _Catalogue(NamedTuple):
    name: str
    usage: Callable[..., Any]
    calculate: Callable[..., Any]


class _Flat(NamedTuple):
    """A price that is a few constants: no tiers, no hours, no fees. USD per token."""

    price: str
    input: Decimal
    cache_read: Decimal
    output: Decimal


_flat: dict[tuple[str, str | None], _Flat | None] = {}
"""Flat prices met so far, None for models whose price is not. Ten times quicker than asking the catalogue."""
_MOST_FLAT: Final = 1000
_DEARER: Final = frozenset(
    _UNITS.keys() - {names.USAGE_INPUT, names.USAGE_OUTPUT, names.USAGE_CACHE_READ, names.USAGE_REASONING}
)
"""Usage that a flat price does not price."""
_FLAT_RATES: Final = frozenset({"input_mtok", "output_mtok", "cache_read_mtok"})
_RATES_OF_OTHER_UNITS: Final = frozenset({"web_searches_kcount", "storage_searches_kcount", "cache_write_mtok"})
_missing: set[tuple[str, str | None]] = set()
"""Models that the catalogue does not have: it looks through all it has, each time."""
_MOST_MISSING: Final = 1000


@functools.cache
def _catalogue() -> _Catalogue | None:
    with forks.gate:
        try:
            import genai_prices
        except ImportError:
            return None
        from importlib.metadata import version

    return _Catalogue(f"genai-prices {version('genai-prices')}", genai_prices.Usage, genai_prices.calc_price)


def cost_of(attributes: Mapping[str, Any], at_ns: int) -> Cost | None:
    """Cost of a call with these span attributes at `at_ns` (Unix epoch); None without catalogue, usage or price.

    A provider that the catalogue does not know is not looked up by model name alone: a self-hosted `gpt-oss` costs nothing
    like its namesake.
    """
    catalogue = _catalogue()
    if catalogue is None or names.USAGE_INPUT not in attributes:
        return None
    provider = attributes.get(names.PROVIDER)
    usage: dict[str, int] | None = None
    # The model that answered; if the catalogue lacks that snapshot, the one asked for.
    for name in (names.RESPONSE_MODEL, names.REQUEST_MODEL):
        model = attributes.get(name)
        if not model:
            continue
        flat = _flat.get((model, provider))
        if flat is not None and (cost := _flat_cost(flat, attributes)) is not None:
            return cost
        if (model, provider) in _missing:
            continue
        if usage is None:
            usage = {_UNITS[name]: tokens for name, tokens in attributes.items() if name in _UNITS and tokens}
        try:
            with forks.gate:  # the catalogue loads its data when first asked
                return _price(catalogue, usage, model, provider, at_ns)
        except LookupError:  # the collector says so, loudly
            if len(_missing) < _MOST_MISSING:
                _missing.add((model, provider))
        except Exception as error:  # noqa: BLE001 - odd usage, or another catalogue version; guard counts and logs
            guard.swallowed("price", error)
            return None
    return None


def _flat_cost(flat: _Flat, attributes: Mapping[str, Any]) -> Cost | None:
    """Cost by `flat`; None where it does not say all."""
    cached = attributes.get(names.USAGE_CACHE_READ, 0)
    plain = attributes[names.USAGE_INPUT] - cached
    if plain < 0 or not _DEARER.isdisjoint(attributes):
        return None
    usd = plain * flat.input + cached * flat.cache_read + attributes.get(names.USAGE_OUTPUT, 0) * flat.output
    return Cost(usd, flat.price)


def _price(catalogue: _Catalogue, usage: Mapping[str, int], model: str, provider: str | None, at_ns: int) -> Cost:
    found = catalogue.calculate(
        catalogue.usage(**usage),
        model,
        provider_id=_CATALOGUE_NAMES.get(provider, provider) if provider else None,
        genai_request_timestamp=datetime.fromtimestamp(at_ns / 1e9, UTC),
    )
    # The library takes no rate for no cost. Ids of models that are given away say so.
    if all(rate is None for rate in vars(found.model_price).values()) and not found.model.id.endswith(":free"):
        raise LookupError(f"{found.provider.id}/{found.model.id} has no rates")
    price = f"{catalogue.name} {found.provider.id}/{found.model.id}"
    if (model, provider) not in _flat and len(_flat) < _MOST_FLAT:
        _flat[model, provider] = _flat_price(found, price)
    return Cost(found.total_price, price)


def _flat_price(found: Any, price: str) -> _Flat | None:
    if isinstance(found.model.prices, list):  # prices that depend on the date or the hour
        return None
    rates = {key: rate for key, rate in vars(found.model_price).items() if rate is not None}
    if not rates.keys() - _RATES_OF_OTHER_UNITS <= _FLAT_RATES or not {"input_mtok", "output_mtok"} <= rates.keys():
        return None
    if not all(isinstance(rate, Decimal) for rate in rates.values()):  # tiers
        return None
    input_rate = rates["input_mtok"] / 1_000_000
    cache_rate = rates["cache_read_mtok"] / 1_000_000 if "cache_read_mtok" in rates else input_rate
    return _Flat(price, input_rate, cache_rate, rates["output_mtok"] / 1_000_000)
