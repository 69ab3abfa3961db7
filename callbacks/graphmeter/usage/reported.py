"""What a provider or gateway says that a call cost: an answer in, USD out; None where nobody says.

It is kept beside the price that the collector works out, never in its place: the two are compared (`graphmeter cost
reported`). Where it is said:

- OpenRouter, `usage.cost` in credits, which are USD; with a key of one's own for the provider behind it (`is_byok`) that is
  OpenRouter's fee, and `cost_details.upstream_inference_cost` comes on top. `langchain-openrouter` moves both up into
  `response_metadata`. https://openrouter.ai/docs/use-cases/usage-accounting
- xAI, `usage.cost_in_usd_ticks` of 10^-10 USD. https://docs.x.ai/developers/cost-tracking
- Perplexity, `usage.cost.total_cost`. https://docs.perplexity.ai/api-reference/chat-completions-post
- LiteLLM, the header `x-litellm-response-cost` of its proxy (ChatOpenAI hands headers on with `include_response_headers`),
  `response_cost` where `langchain-litellm` asks. https://docs.litellm.ai/docs/proxy/cost_tracking
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from graphmeter import guard
from graphmeter.usage.shapes import details, is_mapping

_MOST_USD: Final = 1_000_000.0
"""Beyond any real call."""
_TICKS_PER_USD: Final = 10_000_000_000
_USAGES: Final = ("token_usage", "usage")
_TICKS: Final = "cost_in_usd_ticks"
KEYS: Final = (_TICKS, "cost", "is_byok", "cost_details")
"""Of a usage, those that are read."""
_OPENROUTER: Final = "openrouter"
_LITELLM: Final = "response_cost"
_HEADERS: Final = "headers"
_HEADER: Final = "x-litellm-response-cost"
_TELLING: Final = frozenset({*_USAGES, "cost", _LITELLM, _HEADERS})
"""A mapping with none of these keys says nothing of cost."""


def cost_of(*places: Mapping[str, Any] | None) -> float | None:
    """USD, from the first of an answer's `response_metadata` and `llm_output` that says."""
    for place in places:
        if not place or _TELLING.isdisjoint(place):
            continue
        for key in _USAGES:
            usage = place.get(key)
            if usage and is_mapping(usage) and (found := of_usage(usage)) is not None:
                return found
        # A provider's own `cost` may be anything; that of this integration is documented.
        if place.get("model_provider") == _OPENROUTER and (found := _openrouter(place)) is not None:
            return found
        for said in (place.get(_LITELLM), details(place, _HEADERS).get(_HEADER)):
            if said is not None and (found := _usd(said)) is not None:
                return found
    return None


def of_usage(usage: Mapping[str, Any]) -> float | None:
    """USD, from usage as a provider sent it."""
    ticks = usage.get(_TICKS)
    if ticks is not None:
        found = _usd(ticks, _TICKS_PER_USD)
        if found is not None:
            return found
    cost = usage.get("cost")
    if is_mapping(cost):
        return _usd(cost.get("total_cost")) if cost.get("currency", "USD") == "USD" else None
    return _openrouter(usage)


def _openrouter(said: Mapping[str, Any]) -> float | None:
    cost = _usd(said.get("cost"))
    if cost is not None and said.get("is_byok") is True:
        cost += _usd(details(said, "cost_details").get("upstream_inference_cost")) or 0.0
    return cost


def _usd(said: object, per_usd: int = 1) -> float | None:
    """`said` as USD; headers say it as text. What cannot be one is counted."""
    if said is None:
        return None
    try:
        found = math.nan if isinstance(said, bool) else float(said) / per_usd  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if 0.0 <= found <= _MOST_USD:
        return found
    guard.noticed("unusable reported cost", repr(said)[:80])
    return None
