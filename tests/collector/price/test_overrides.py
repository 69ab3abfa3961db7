"""Prices of one's own: which price a call gets, what it costs exactly, and what stands on the ledger about it."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmeter import names
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.records import NO_USAGE, Cost, Envelope, SpanRecord, TokenUsage
from graphmeter_config.prices import FALLBACKS, Prices

CATALOGUE = Catalogue()
LISTED = f"genai-prices {version('genai-prices')}"
NOON = "2026-03-01T12:00+00:00"
USAGE = TokenUsage(input=1_000, cache_read=2_000, output=300, reasoning=50)
NANO = 1_000_000_000
RATES = {"input": 2, "cache_read": 1, "output": 8}


def ns(moment: str) -> int:
    return int(datetime.fromisoformat(moment).astimezone(UTC).timestamp()) * NANO


def book(*overrides: dict[str, Any], **sections: Any) -> PriceBook:
    return PriceBook([CATALOGUE], Prices(overrides=overrides, **sections))


def call(provider: str = "openai", model: str = "gpt-4o", at: str = NOON, **fields: Any) -> SpanRecord:
    kind = fields.pop("kind", names.MODEL)
    record = SpanRecord(bytes(16), bytes(8), b"", "x", kind, ns(at), ns(at) + 2 * NANO, Envelope(b"", b"", b""), b"")
    if kind == names.MODEL:
        record.provider, record.model, record.usage = provider, model, USAGE
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def cost(priced_by: PriceBook, record: SpanRecord) -> Cost:
    priced_by.price(record)
    assert record.cost is not None
    return record.cost


def test_a_price_of_ones_own_comes_before_the_catalogue_and_is_named() -> None:
    own = book({"name": "mine", "model": "gpt-4o", "rates": RATES})
    parts = (2_000_000, 2_000_000, 0, 0, 0, 0, 2_400_000, 400_000, 0, 0)
    assert Cost(6_800_000, parts, "priced", 0, own.overrides.source, "mine") == cost(own, call())
    assert own.overrides.source.startswith("graphmeter.yaml ")
    assert (LISTED, "openai/gpt-4o-mini") == cost(own, call(model="gpt-4o-mini"))[4:]


def price_name(priced_by: PriceBook, **fields: Any) -> str:
    return cost(priced_by, call(**fields)).price


def test_the_narrowest_wins_in_whatever_order_they_stand() -> None:
    entries: list[dict[str, Any]] = [
        {"name": "any-gpt", "model": "gpt-*", "rates": RATES},
        {"name": "gpt-4", "model": "gpt-4*", "rates": RATES},
        {"name": "exact", "model": "gpt-4o", "rates": RATES},
        {"name": "exact-in-europe", "model": "gpt-4o", "region": "eu*", "rates": RATES},
        {"name": "exact-of-azure", "model": "gpt-4o", "provider": "azure", "rates": RATES},
        {"name": "deployed", "deployment": "prod-*", "rates": RATES},
    ]
    for seed in range(6):
        random.Random(seed).shuffle(entries)
        own = book(*entries)
        assert "exact" == price_name(own)
        assert "gpt-4" == price_name(own, model="gpt-4.1")
        assert "any-gpt" == price_name(own, model="gpt-5")
        assert "exact-of-azure" == price_name(own, provider="azure.ai.openai")
        assert "exact-in-europe" == price_name(own, server="aiplatform.googleapis.com", model="eu.x.y",
                                               request_model="gpt-4o")  # fmt: skip
        assert "deployed" == price_name(own, request_model="prod-chat")


@pytest.mark.parametrize(
    ("region", "fields"),
    [
        ("eu-central-1", {"server": "bedrock-runtime.eu-central-1.amazonaws.com"}),
        ("us-gov-west-1", {"server": "bedrock-runtime.us-gov-west-1.amazonaws.com"}),
        ("europe-west4", {"server": "europe-west4-aiplatform.googleapis.com"}),
        ("global", {"server": "aiplatform.googleapis.com"}),
        ("westeurope", {"server": "westeurope.api.cognitive.microsoft.com"}),
        ("apac", {"request_model": "apac.anthropic.claude-sonnet-4-20250514-v1:0"}),
        ("us-east-1", {"request_model": "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x"}),
    ],
)
def test_a_region_is_that_of_the_server_or_of_the_models_name(region: str, fields: dict[str, str]) -> None:
    own = book({"name": "here", "model": "m", "region": region, "rates": RATES})
    assert "here" == price_name(own, model="m", **fields)
    assert "" == price_name(own, model="m", server="elsewhere.example.com")


INFERENCE = "arn:aws:bedrock:eu-west-1:123456789012:"


@pytest.mark.parametrize(
    ("provider", "model", "request_model", "price"),
    [
        # Bedrock: ARNs of models and of inference profiles name the model; an account's own profiles do not.
        ("aws.bedrock", f"{INFERENCE}inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "",
         "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "", "aws/amazon.nova-pro-v1:0"),
        ("aws.bedrock", f"{INFERENCE}application-inference-profile/abc123", "amazon.nova-lite-v1:0",
         "aws/amazon.nova-lite-v1:0"),
        ("aws.bedrock", f"{INFERENCE}application-inference-profile/abc123", "", ""),
        ("aws.bedrock", "", f"{INFERENCE}application-inference-profile/ours-1", "profile"),
        # Azure answers with the model's name, whatever the deployment is called.
        ("azure.ai.openai", "gpt-4o-mini-2024-07-18", "chat-prod", "azure/gpt-4o-mini"),
        ("azure.ai.openai", "chat-prod", "gpt-4o", "azure/gpt-4o"),
        ("azure.ai.openai", "gpt-4o-mini-2024-07-18", "ours-eu", "deployment"),
        ("azure.ai.openai", "chat-prod", "chat-prod", ""),
        # Fine-tuned models: their own price, or one's own.
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::id", "", "openai/ft:gpt-4o-mini"),
        ("openai", "ft:gpt-4o-2024-08-06:acme:legal:id", "", "tuned"),
        ("litellm", "azure/gpt-4o", "", "azure/gpt-4o"),
    ],
)  # fmt: skip
def test_names_of_deployments_profiles_and_tuned_models_resolve(
    provider: str, model: str, request_model: str, price: str
) -> None:
    own = book(
        {"name": "deployment", "provider": "azure", "deployment": "ours-*", "rates": RATES},
        {
            "name": "profile",
            "provider": "bedrock",
            "deployment": "application-inference-profile/ours-1",
            "rates": RATES,
        },
        {"name": "tuned", "provider": "openai", "model": "ft:*:legal:*", "rates": RATES},
    )
    assert price == price_name(own, provider=provider, model=model, request_model=request_model)


def test_a_price_holds_from_its_first_instant_until_before_its_last() -> None:
    own = book(
        {"name": "spring", "model": "gpt-4o", "valid_from": "2026-03-01T12:00", "valid_to": "2026-03-02",
         "timezone": "Europe/Berlin", "rates": RATES},
    )  # fmt: skip
    edges = ["2026-03-01T10:59:59+00:00", "2026-03-01T11:00:00+00:00", "2026-03-01T22:59:59+00:00"]
    found = [price_name(own, at=at) for at in (*edges, "2026-03-01T23:00:00+00:00")]
    assert ["openai/gpt-4o", "spring", "spring", "openai/gpt-4o"] == found


def test_tiers_go_by_the_size_of_the_prompt() -> None:
    own = book({"name": "a", "model": "m", "rates": RATES, "tiers": [{"above": 1_000, "rates": {"input": 4}}]})
    assert 2_000_000 == cost(own, call(model="m", usage=TokenUsage(input=1_000))).total_nano
    assert 4_004_000 == cost(own, call(model="m", usage=TokenUsage(input=1_001))).total_nano


def test_tiers_of_service_multiply_token_rates_only() -> None:
    own = book({"name": "a", "model": "m", "rates": RATES, "per_call": "0.001", "service_tiers": {"batch": "0.5"}})
    assert (1_000_000 + 3_400_000, "a (batch)") == cost(own, call(model="m", service_tier="batch"))[::5][:2]
    assert (1_000_000 + 6_800_000, "a") == cost(own, call(model="m", service_tier="flex"))[::5][:2]


def test_the_catalogues_own_tiers_of_service_are_billed() -> None:
    own = PriceBook([CATALOGUE])
    # gpt-5: 1.25 and 10 USD; flex and batch half of it (https://developers.openai.com/api/docs/pricing).
    usage = TokenUsage(input=1_000_000)
    totals = {
        tier: cost(own, call(model="gpt-5", at="2026-11-01T12:00+00:00", usage=usage, service_tier=tier))
        for tier in ("", "flex", "batch", "scale")
    }
    assert {"": 1_250_000_000, "flex": 625_000_000, "batch": 625_000_000, "scale": 1_250_000_000} == {
        tier: found.total_nano for tier, found in totals.items()
    }
    assert ("openai/gpt-5 (flex)", "openai/gpt-5") == (totals["flex"].price, totals["scale"].price)


def test_a_tier_of_service_of_ones_own_comes_before_the_catalogues() -> None:
    own = book(service_tiers=[{"name": "flex", "provider": "openai", "tier": "Flex", "multiplier": "0.25"}])
    found = cost(own, call(model="gpt-5", usage=TokenUsage(input=1_000_000), service_tier="flex"))
    assert (312_500_000, "openai/gpt-5 (flex)") == (found.total_nano, found.price)
    assert f"{LISTED} + {own.overrides.source}" == found.source


def test_a_discount_is_taken_off_the_catalogue_and_not_off_prices_of_ones_own() -> None:
    own = book(
        {"name": "mine", "model": "gpt-4.1", "rates": RATES, "discount": "50%"},
        discounts=[{"name": "deal", "provider": "openai", "percent": "12.5%", "valid_from": "2026-01-01"}],
    )
    found = cost(own, call())
    assert (8_500_000 * 7 // 8, "openai/gpt-4o less deal") == (found.total_nano, found.price)
    assert f"{LISTED} + {own.overrides.source}" == found.source
    assert 8_500_000 == cost(own, call(at="2025-12-31T23:59:59+00:00")).total_nano
    assert 3_400_000 == cost(own, call(model="gpt-4.1")).total_nano


EUR = {
    "currency": "EUR",
    "rates": [{"from": "2026-01-01", "usd_per_unit": "1.08"}, {"from": "2026-07-01", "usd_per_unit": "1.2"}],
}


def test_another_currency_counts_at_the_rate_of_the_day() -> None:
    own = book({"name": "a", "model": "gpt-4o", "currency": "EUR", "rates": RATES}, currencies=[EUR])
    assert 6_800_000 * 108 // 100 == cost(own, call()).total_nano
    assert 6_800_000 * 12 // 10 == cost(own, call(at="2026-07-01T00:00+00:00")).total_nano
    # Before its currency has a rate, the price cannot be counted.
    assert LISTED == cost(own, call(at="2025-12-31T00:00+00:00")).source


def test_a_model_of_ones_own_costs_by_the_second_or_nothing_whatever_it_says_of_usage() -> None:
    own = book(
        {"name": "gpu", "provider": "vllm", "model": "*", "per_second": "0.0004"},
        {"name": "laptop", "provider": "ollama", "model": "*", "free": True},
    )
    silent: dict[str, Any] = {"usage": NO_USAGE, "usage_missing": True}
    assert (800_000, "priced") == cost(own, call("vllm", "llama", **silent))[::2][:2]
    assert (0, "free") == cost(own, call("ollama", "llama", **silent))[::2][:2]


def test_an_image_costs_by_the_piece() -> None:
    own = book({"name": "dalle", "model": "dall-e-3", "per_image": "0.04"})
    assert 40_000_000 == cost(own, call(model="dall-e-3", usage=NO_USAGE)).total_nano
    assert 120_000_000 == cost(own, call(model="dall-e-3", usage=NO_USAGE, images=3)).total_nano
    assert 0 == cost(own, call(model="dall-e-3", usage=NO_USAGE, status=names.ERROR)).total_nano


PIECES = book(
    {"name": "search", "tool": "tavily*", "per_call": "0.008"},
    {"name": "no-search", "tool": "tavily_mock", "free": True},
    {"name": "failing", "tool": "sms", "per_call": "0.01", "bill_failed": True},
    {"name": "index", "retriever": "pinecone", "per_call": "0.0000165"},
    {"name": "sorted", "rerank": "rerank-v3.5", "per_call": "0.002"},
)


@pytest.mark.parametrize(
    ("total", "fields"),
    [
        (8_000_000, {"kind": names.TOOL, "tool": "tavily_search"}),
        (None, {"kind": names.TOOL, "tool": "tavily_mock"}),
        (None, {"kind": names.TOOL, "tool": "calculator"}),
        (None, {"kind": names.TOOL, "tool": "tavily_search", "status": names.ERROR}),
        (10_000_000, {"kind": names.TOOL, "tool": "sms", "status": names.ERROR}),
        (16_500, {"kind": names.RETRIEVER, "tool": "Pinecone"}),
        (None, {"kind": names.RETRIEVER, "tool": "faiss"}),
        (2_000_000, {"kind": names.RETRIEVER, "operation": names.OP_RERANK, "tool": "rerank-v3.5"}),
        (None, {"kind": names.RETRIEVER, "tool": "rerank-v3.5"}),
    ],
)
def test_calls_of_tools_retrievers_and_reranks_cost_by_the_call(total: int | None, fields: dict[str, Any]) -> None:
    record = call(**fields)
    PIECES.price(record)
    assert total == (None if record.cost is None else record.cost.total_nano)


def test_a_reload_forgets_remembered_prices() -> None:
    own = book({"name": "old", "model": "gpt-4o", "rates": RATES})
    assert "old" == price_name(own)
    own.use(Prices(overrides=[{"name": "new", "model": "gpt-4o", "rates": RATES}]))
    assert "new" == price_name(own)
    own.use(Prices())
    assert "openai/gpt-4o" == price_name(own)


# --- properties -----------------------------------------------------------------------------------------------------------

rates = st.decimals(0, 1_000, places=4)
counts = st.integers(0, 1_000_000)
usages = st.builds(TokenUsage, *[counts] * len(TokenUsage._fields))
shares = st.decimals("0.01", 3, places=4)
percents = st.decimals("0.01", "99.99", places=2)
worth = st.decimals("0.000001", 5, places=6)
all_rates = st.fixed_dictionaries(
    {"input": rates, "output": rates},
    optional={bucket: rates for bucket in names.TOKEN_TYPES if bucket not in ("input", "output")},
)


@settings(max_examples=300, deadline=None)
@given(said=all_rates, usage=usages, share=shares, percent=percents, unit=worth, fee=rates)
def test_share_discount_and_currency_are_exact_and_parts_sum_to_the_total(
    said: dict[str, Decimal], usage: TokenUsage, share: Decimal, percent: Decimal, unit: Decimal, fee: Decimal
) -> None:
    own = book(
        {"name": "a", "model": "m", "rates": said, "currency": "EUR", "discount": percent, "per_call": fee,
         "service_tiers": {"batch": share}},
        currencies=[{"currency": "EUR", "rates": [{"from": "2026-01-01", "usd_per_unit": unit}]}],
    )  # fmt: skip
    found = cost(own, call(model="m", usage=usage, service_tier="batch"))
    per_token = [next(said[bucket] for bucket in chain if bucket in said) for chain in FALLBACKS]
    tokens = sum((count * rate for count, rate in zip(usage, per_token, strict=True)), Decimal(0)) / 1_000_000
    usd = (tokens * share + fee) * unit * (100 - percent) / 100
    assert int((usd * NANO).to_integral_value(ROUND_HALF_EVEN)) == found.total_nano
    assert found.total_nano == sum(found.parts)
    assert all(part >= 0 for part in found.parts)


@settings(max_examples=200, deadline=None)
@given(
    said=all_rates, usage=usages, bucket=st.sampled_from(names.TOKEN_TYPES), more=st.integers(1, 10_000), tier=counts
)
def test_more_tokens_are_never_cheaper_within_a_tier(
    said: dict[str, Decimal], usage: TokenUsage, bucket: str, more: int, tier: int
) -> None:
    own = book(
        {"name": "a", "model": "m", "rates": said, "tiers": [{"above": tier + 1, "rates": {"input": 1}}], "discount": 3}
    )
    larger = usage._replace(**{bucket: getattr(usage, bucket) + more})
    if (usage.total_input > tier + 1) == (larger.total_input > tier + 1):
        assert cost(own, call(model="m", usage=usage)).total_nano <= cost(own, call(model="m", usage=larger)).total_nano


@settings(max_examples=100, deadline=None)
@given(
    models=st.lists(st.text("ab*", min_size=1, max_size=4), min_size=2, max_size=5, unique=True),
    order=st.randoms(use_true_random=False),
    asked=st.text("ab", min_size=1, max_size=5),
)
def test_the_order_in_the_file_means_nothing(models: list[str], order: random.Random, asked: str) -> None:
    entries = [{"name": f"n{n}", "model": model, "rates": {"input": n, "output": n}} for n, model in enumerate(models)]
    try:
        own = book(*entries)
    except ValueError:  # some overlap, and no order would make them right
        return
    shuffled = list(entries)
    order.shuffle(shuffled)
    assert cost(own, call("p", asked))[:3] == cost(book(*shuffled), call("p", asked))[:3]
