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
    "input_tokens": names.USAGE_INPUT,
    "output_tokens": names.USAGE_OUTPUT,
    "cache_read_tokens": names.USAGE_CACHE_READ,
    "cache_write_tokens": names.USAGE_CACHE_WRITE,
    "cache_write_5m_tokens": names.CACHE_WRITE_5M_TOKENS,
    "cache_write_1h_tokens": names.CACHE_WRITE_1H_TOKENS,
    "output_reasoning_tokens": names.USAGE_REASONING,
    "input_audio_tokens": names.USAGE_AUDIO_INPUT,
    "output_audio_tokens": names.USAGE_AUDIO_OUTPUT,
    "input_image_tokens": names.USAGE_IMAGE_INPUT,
    "output_image_tokens": names.USAGE_IMAGE_OUTPUT,
}


class Cost(NamedTuple):
    """Cost of one call."""

    usd: Decimal
    price: str
    """`genai-prices 0.2.3 openai/gpt-4o`."""


class _Catalogue(NamedTuple):
    name: str
    usage: Callable[..., Any]
    calculate: Callable[..., Any]


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
    usage = {unit: attributes[name] for unit, name in _UNITS.items() if attributes.get(name)}
    # The model that answered; if the catalogue lacks that snapshot, the one asked for.
    for name in (names.RESPONSE_MODEL, names.REQUEST_MODEL):
        model = attributes.get(name)
        if not model:
            continue
        try:
            with forks.gate:  # the catalogue loads its data when first asked
                return _price(catalogue, usage, model, attributes.get(names.PROVIDER), at_ns)
        except LookupError:  # not in the catalogue: the collector says so, loudly
            continue
        except Exception as error:  # noqa: BLE001 - odd usage, or another catalogue version; guard counts and logs
            guard.swallowed("price", error)
            return None
    return None


def _price(catalogue: _Catalogue, usage: Mapping[str, int], model: str, provider: str | None, at_ns: int) -> Cost:
    found = catalogue.calculate(
        catalogue.usage(**usage),
        model,
        provider_id=_CATALOGUE_NAMES.get(provider, provider) if provider else None,
        genai_request_timestamp=datetime.fromtimestamp(at_ns / 1e9, UTC),
    )
    return Cost(found.total_price, f"{catalogue.name} {found.provider.id}/{found.model.id}")
