"""The price book as programs see it, and why a price is what it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from graphmeter_collector.price.book import DAY_NS, PriceBook
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.price.explain import explain
from graphmeter_collector.price.listing import effective
from graphmeter_collector.price.providers import Call
from graphmeter_collector.records import TokenUsage
from graphmeter_config.prices import Prices

CATALOGUE = Catalogue()
NOON_NS = int(datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
RATES = {"input": "0.15", "output": "0.6"}


def book(*overrides: dict[str, Any], **more: Any) -> PriceBook:
    return PriceBook([CATALOGUE], Prices(overrides=overrides, **more))


def client_cost(price: dict[str, Any], usage: TokenUsage) -> int:
    """What a client does with a price: integers only."""
    tiers = price["tariffs"][0]["tiers"]
    rates = [tier for tier in tiers if tier["above"] is None or usage.total_input > tier["above"]][-1]
    exact: int = sum(count * rate for count, rate in zip(usage, rates["per_token"], strict=True))
    scale: int = rates["scale"]
    return (2 * exact + scale) // (2 * scale)


def test_a_client_prices_a_call_from_the_listing_as_the_collector_does() -> None:
    own = book({"name": "mini", "model": "gpt-4o-mini", "rates": RATES})
    usage = TokenUsage(input=1_001, output=7)
    calls = [Call("openai", "gpt-4o-mini"), Call("anthropic", "claude-sonnet-4-5"), Call("nobody", "nothing")]
    models = {model["model"]: model["price"] for model in effective(own, calls, NOON_NS)["models"]}
    assert models["nothing"] is None
    for call in calls[:2]:
        price = own.price_at(call, NOON_NS)
        assert price is not None
        cost = price.rates_for(0, usage).cost_of(usage)
        assert cost is not None
        assert cost[0] == client_cost(models[call.model], usage)


def test_the_listing_says_how_long_it_holds() -> None:
    day = NOON_NS // DAY_NS * DAY_NS
    listed = effective(book(), [], NOON_NS)
    assert (day, day + DAY_NS) == (listed["from_ns"], listed["until_ns"])
    own = book({"name": "a", "model": "m", "rates": RATES, "valid_from": "2026-11-01T15:00"})
    assert (day, day + 15 * 3_600_000_000_000) == tuple(
        effective(own, [], NOON_NS)[key] for key in ("from_ns", "until_ns")
    )
    assert effective(own, [], NOON_NS) == effective(own, [], NOON_NS + 1)


def test_overrides_are_listed_with_rank_and_tiers_for_models_nobody_has_seen() -> None:
    own = book(
        {"name": "a", "provider": "azure_openai", "model": "gpt-4*", "rates": RATES, "service_tiers": {"batch": "0.5"}}
    )
    [override] = effective(own, [], NOON_NS)["overrides"]
    assert [{"deployment": "*", "model": "gpt-4*", "region": "*", "provider": "azure", "rank": [0, 5, 0, 1000]}] == (
        override["patterns"]
    )
    assert (150, 1) == (rate(override["price"], "per_token")[0], rate(override["price"], "scale"))
    batch = override["service_tiers"]["batch"]
    assert (75, 1) == (rate(batch, "per_token")[0], rate(batch, "scale"))


def rate(price: dict[str, Any], key: str) -> Any:
    return price["tariffs"][0]["tiers"][0][key]


def test_tiers_of_service_are_listed_where_they_have_a_price() -> None:
    [model] = effective(book(), [Call("openai", "gpt-5")], NOON_NS)["models"]
    assert ["batch", "flex", "priority"] == [tier for tier in model["service_tiers"] if tier != "fast"]
    flex = model["service_tiers"]["flex"]
    assert (1_250, 1) == (rate(model["price"], "per_token")[0], rate(model["price"], "scale"))
    assert (6_250, 10) == (rate(flex, "per_token")[0], rate(flex, "scale"))


def test_an_explanation_says_what_won_and_why_all_others_lost() -> None:
    own = book(
        {"name": "exact", "model": "gpt-4o", "rates": RATES, "currency": "EUR"},
        {"name": "wide", "model": "gpt-*", "rates": RATES},
        {"name": "past", "model": "gpt-4*", "rates": RATES, "valid_to": "2026-01-01"},
        {"name": "future", "model": "gpt-4?", "rates": RATES, "valid_from": "2027-01-01"},
        {"name": "azure", "model": "gpt-4o", "provider": "azure", "rates": RATES},
        discounts=[{"name": "deal", "percent": 10}],
        currencies=[{"currency": "EUR", "rates": [{"from": "2026-01-01", "usd_per_unit": "1.08"}]}],
    )
    told = explain(own, Call("", "gpt-4o"), NOON_NS)
    assert ("openai", "exact", "EUR at 1.08 USD since 2026-01-01") == (
        told.provider,
        told.price and told.price.name,
        told.currency,
    )
    assert {
        "exact": "used",
        "wide": "wider than exact",
        "past": "no longer in force",
        "future": "not yet in force",
        "azure": "another provider",
        "openai/gpt-4o": "comes after override exact",
        "deal": "changes the catalogue's prices only",
    } == {each.name: each.verdict for each in told.considered}


def test_an_unknown_model_is_explained_with_names_that_look_like_it() -> None:
    told = explain(book(), Call("openai", "gpt-4o-minni"), NOON_NS)
    assert told.price is None
    assert "gpt-4o-mini" in told.nearest


@pytest.mark.parametrize("named", ["openai/text-embedding-3-small", "litellm/nobody"])
def test_a_name_with_its_provider_is_looked_up_as_programs_send_it(named: str) -> None:
    told = explain(book(), Call("", named), NOON_NS)
    known = {"openai/text-embedding-3-small": ("openai", "text-embedding-3-small", "openai/text-embedding-3-small")}
    assert known.get(named, ("", named, None)) == (told.provider, told.model, told.price and told.price.name)


def test_a_model_whose_provider_cannot_be_told_by_its_name_is_named_with_who_has_it() -> None:
    told = explain(book(), Call("", "text-embedding-3-small"), NOON_NS)
    assert told.price is None
    assert ["azure/text-embedding-3-small", "openai/text-embedding-3-small"] == list(told.nearest[:2])
    assert "text-embedding-3-small" not in told.nearest
