"""The catalogue: same money as genai-prices itself, names as instrumentations write them, prices of the right date."""

from datetime import UTC, datetime, timedelta

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphmeter_collector.price.catalogue import Catalogue
from graphmeter_collector.price.money import nano_of
from graphmeter_collector.records import TokenUsage

CATALOGUE = Catalogue()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
BEDROCK_HAIKU = f"aws/regional.{HAIKU}"
# By a name that reaches the model: `regional.` stands for any Bedrock region prefix, and some ids are no names at all.
MODELS = [
    (provider.id, name)
    for provider in get_snapshot().providers
    for name in (model.id.replace("regional.", "us.") for model in provider.models)
    if provider.find_model(name)
]
OVERLAPS = dict.fromkeys(
    (
        *(
            f"cache_{modality}_{what}_tokens"
            for modality in ("audio", "image")
            for what in ("read", "write", "write_5m", "write_1h")
        ),
        "output_audio_reasoning_tokens",
        "output_image_reasoning_tokens",
    ),
    0,
)
"""Our buckets do not overlap: no cached audio, no spoken reasoning. The library wants that said."""

moments = st.integers(0, 5 * 365 * 86_400).map(
    lambda seconds: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
counts = st.integers(0, 2_000_000) | st.integers(0, 50)
usages = st.builds(TokenUsage, *[counts] * len(TokenUsage._fields))


def library_usage(usage: TokenUsage) -> Usage:
    """Inclusive totals, as the library and the providers count."""
    return Usage(
        input_tokens=usage.total_input,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
        cache_write_5m_tokens=usage.cache_write_5m,
        cache_write_1h_tokens=usage.cache_write_1h,
        input_audio_tokens=usage.input_audio,
        input_image_tokens=usage.input_image,
        output_tokens=usage.total_output,
        output_reasoning_tokens=usage.reasoning,
        output_audio_tokens=usage.output_audio,
        output_image_tokens=usage.output_image,
        **OVERLAPS,
    )


def library_total(provider: str, model: str, usage: TokenUsage, at: datetime) -> int:
    calculation = calc_price(library_usage(usage), model, provider_id=provider, genai_request_timestamp=at)
    return nano_of(calculation.total_price)


def current_prices(provider: str, model: str, at: datetime) -> ModelPrice:
    return get_snapshot().find_provider_model(model, None, provider, None)[1].get_prices(at)


def total(provider: str, model: str, usage: TokenUsage, at: datetime) -> int:
    cost = ours(provider, model, usage, at)
    assert cost is not None
    return cost[0]


def ours(provider: str, model: str, usage: TokenUsage, at: datetime) -> tuple[int, tuple[int, ...]] | None:
    since = at - EPOCH
    price = CATALOGUE.find(provider, model, since.days)
    time_of_day_ns = (since - timedelta(days=since.days)) // timedelta(microseconds=1) * 1_000
    return price.rates_for(time_of_day_ns, usage).cost_of(usage) if price else None


@settings(max_examples=1_500, deadline=None)
@given(model=st.sampled_from(MODELS), usage=usages, at=moments)
@example(("anthropic", "claude-sonnet-4-5"), TokenUsage(input=200_000, output=1), datetime(2025, 12, 1, tzinfo=UTC))
@example(("anthropic", "claude-sonnet-4-5"), TokenUsage(input=200_001, output=1), datetime(2025, 12, 1, tzinfo=UTC))
@example(("perplexity", "sonar-deep-research"), TokenUsage(1, reasoning=7, output=3), datetime(2025, 12, 1, tzinfo=UTC))
def test_a_call_costs_what_the_library_says(model: tuple[str, str], usage: TokenUsage, at: datetime) -> None:
    cost = ours(*model, usage, at)
    if cost is not None:
        assert cost[0] == library_total(*model, usage, at)
        assert cost[0] == sum(cost[1])


def test_every_model_of_the_catalogue_costs_what_the_library_says() -> None:
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    usage = TokenUsage(input=400_001, cache_read=3, cache_write_5m=4, cache_write_1h=5, input_image=6, output=7)
    priced = {model: cost[0] for model in MODELS if (cost := ours(*model, usage, at))}
    assert len(priced) > 1_900
    assert priced == {model: library_total(*model, usage, at) for model in priced}


def test_tokens_without_any_rate_have_no_cost_instead_of_none() -> None:
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    for provider, model in MODELS:
        price = dict(vars(current_prices(provider, model, at)))
        for direction, usage in (("input", TokenUsage(input=10)), ("output", TokenUsage(output=10))):
            has_rate = price.get(f"{direction}_mtok") is not None or model.endswith(":free")
            assert has_rate == (ours(provider, model, usage, at) is not None), (provider, model, direction)


def test_a_model_that_is_given_away_is_free_and_one_without_a_price_is_not() -> None:
    usage = TokenUsage(input=1_000, output=100)
    given_away = CATALOGUE.find("openrouter", "deepseek/deepseek-r1:free", day=20_500)
    assert given_away is not None
    rates = given_away.rates_for(0, usage)
    assert (True, (0, (0,) * len(usage))) == (rates.free, rates.cost_of(usage))
    assert CATALOGUE.find("github-copilot", "gpt-4o", day=20_500) is None


def test_audio_by_the_hour_is_no_price_for_tokens() -> None:
    assert CATALOGUE.find("openai", "whisper-1", day=20_000) is None


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [
        ("openai", "gpt-4o", "openai/gpt-4o"),
        ("OpenAI", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("", "gpt-4o-mini", "openai/gpt-4o-mini"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::abc", "openai/ft:gpt-4o-mini"),
        ("azure.ai.openai", "gpt-4.1", "azure/gpt-4.1"),
        ("azure", "gpt-4o-mini-2024-07-18", "azure/gpt-4o-mini"),
        ("aws.bedrock", "anthropic.claude-3-haiku-20240307-v1:0", BEDROCK_HAIKU),
        ("amazon_bedrock", "us.anthropic.claude-3-haiku-20240307-v1:0", BEDROCK_HAIKU),
        ("bedrock_converse", f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}", BEDROCK_HAIKU),
        ("amazon_bedrock", "amazon.nova-pro-v1:0", "aws/amazon.nova-pro-v1:0"),
        *(
            ("aws.bedrock", name, "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0")
            for name in (f"{area}.anthropic.claude-sonnet-4-5-20250929-v1:0" for area in ("us", "eu", "jp", "au"))
        ),
        (
            "aws.bedrock",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "aws/global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        ("azure.ai.openai", "gpt-4o-2024-08-06", "azure/gpt-4o"),
        ("azure", "gpt-4.1-mini-2025-04-14", "azure/gpt-4.1-mini"),
        ("azure", "o4-mini-2025-04-16", "azure/o4-mini"),
        ("azure", "text-embedding-3-small", "azure/text-embedding-3-small"),
        ("openai", "ft:gpt-4o-2024-08-06:acme:support:9xYz", "openai/ft:gpt-4o"),
        ("openai", "ft:gpt-3.5-turbo-0125:acme::9xYz", "openai/ft:gpt-3.5-turbo-"),
        ("gcp.gemini", "gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("google_genai", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("google_vertexai", "publishers/google/models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("gcp.vertex_ai", "claude-3-5-sonnet@20240620", "google/claude-3-5-sonnet"),
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("mistral_ai", "mistral-large-latest", "mistral/mistral-large"),
        ("x_ai", "grok-4", "x-ai/grok-4-0709"),
        ("xai", "grok-4", "x-ai/grok-4-0709"),
        ("groq", "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile"),
        ("cohere", "command-r-plus", "cohere/command-r-plus"),
        ("deepseek", "deepseek-chat", "deepseek/deepseek-chat"),
        ("litellm", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("huggingface_cerebras", "openai/gpt-oss-120b", "huggingface_cerebras/openai/gpt-oss-120b"),
    ],
)
def test_names_of_instrumentations_resolve(provider: str, model: str, price: str) -> None:
    found = CATALOGUE.find(provider, model, day=20_500)
    assert found is not None
    assert price == found.name


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-nonsense"),
        ("ollama", "llama3.2"),
        ("my-openai-compatible-gateway", "gpt-4o"),
        ("azure", "my-deployment"),
        ("", "never-heard-of"),
        ("openai", ""),
        ("", ""),
    ],
)
def test_what_is_not_known_for_sure_has_no_price(provider: str, model: str) -> None:
    assert CATALOGUE.find(provider, model, day=20_500) is None


def test_a_price_change_takes_effect_on_its_day() -> None:
    usage = TokenUsage(input=1_000_000)
    before = datetime(2026, 3, 12, 23, 59, 59, tzinfo=UTC)
    # Claude Opus 4.6: above 200,000 input tokens 10 USD per million until 2026-03-13, 5 USD since.
    assert (
        total("anthropic", "claude-opus-4-6", usage, before),
        total("anthropic", "claude-opus-4-6", usage, before + timedelta(seconds=1)),
    ) == (10_000_000_000, 5_000_000_000)


def test_off_peak_hours_have_their_own_price() -> None:
    usage = TokenUsage(output=1_000_000)
    # DeepSeek's discount ended at 00:30 and began at 16:30 UTC.
    prices = {
        clock: total("deepseek", "deepseek-chat", usage, datetime.fromisoformat(f"2025-06-01T{clock}:00+00:00"))
        for clock in ("00:29", "00:30", "16:29", "16:30")
    }
    assert prices == {"00:29": 550_000_000, "00:30": 1_100_000_000, "16:29": 1_100_000_000, "16:30": 550_000_000}


def test_a_tier_begins_above_its_start_and_applies_to_all_tokens() -> None:
    at = datetime(2025, 12, 1, tzinfo=UTC)
    # Claude Sonnet 4.5: 3 USD in and 15 USD out per million tokens, 6 and 22.50 above 200,000 input tokens.
    assert total("anthropic", "claude-sonnet-4-5", TokenUsage(input=200_000, output=1), at) == 600_000_000 + 15_000
    assert total("anthropic", "claude-sonnet-4-5", TokenUsage(input=200_001, output=1), at) == 1_200_006_000 + 22_500


def test_fast_mode_has_the_price_of_its_speed() -> None:
    usage = TokenUsage(input=1_000_000, output=1_000_000)
    # Claude Opus 5: 5 USD in and 25 USD out per million tokens, 10 and 50 in fast mode.
    costs = {}
    for tier in ("", "fast", "priority"):
        price = CATALOGUE.find("anthropic", "claude-opus-5", day=20_778, tier=tier)
        assert price is not None
        cost = price.rates_for(0, usage).cost_of(usage)
        assert cost is not None
        costs[tier] = (price.service_tier, cost[0])
    assert {"": ("", 30 * 10**9), "fast": ("fast", 60 * 10**9), "priority": ("", 30 * 10**9)} == costs


def test_a_fee_per_request_is_shown_with_the_input() -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    # Sonar Pro: 14 USD per thousand requests, 3 and 15 USD per million tokens.
    cost = ours("perplexity", "sonar-pro", TokenUsage(input=10, output=10), at)
    assert cost is not None
    assert (cost[0], cost[1][0], cost[1][6]) == (14_000_000 + 30_000 + 150_000, 14_000_000 + 30_000, 150_000)


@settings(max_examples=300, deadline=None)
@given(usage=usages, bucket=st.integers(0, len(TokenUsage._fields) - 1), more=st.integers(1, 10_000))
def test_more_tokens_are_never_cheaper_within_a_tier(usage: TokenUsage, bucket: int, more: int) -> None:
    larger = usage._replace(**{usage._fields[bucket]: usage[bucket] + more})
    at = datetime(2026, 11, 1, tzinfo=UTC)
    # No tiers: the price is one rate per bucket whatever the size of the prompt.
    assert total("openai", "gpt-4o", usage, at) <= total("openai", "gpt-4o", larger, at)
