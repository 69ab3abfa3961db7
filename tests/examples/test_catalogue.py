"""Rates by hand, usage as integrations report it."""

from __future__ import annotations

from decimal import Decimal

import genai_prices
import pytest

from graphmeter import names
from graphmeter_examples.model import MODELS, ModelSpec, Rates
from graphmeter_examples.model.catalogue import usage_metadata

_GENAI_PRICES_PROVIDER = {"openai": "openai", "anthropic": "anthropic", "google_genai": "google"}


def test_cost_of_a_call_is_the_sum_of_its_buckets() -> None:
    # 1000 × 3 + 2000 × 0.30 + 500 × 3.75 + 100 × 6 + 300 × 15 USD per million = 0.010575 USD
    usage = {"input": 1000, "cache_read": 2000, "cache_write_5m": 500, "cache_write_1h": 100, "output": 300}
    assert MODELS["claude-sonnet-4-5"].rates.cost_nano(usage) == 10_575_000


def test_reasoning_costs_as_much_as_output() -> None:
    rates = MODELS["gemini-2.5-flash"].rates
    assert rates.cost_nano({"output": 128, "reasoning": 64}) == rates.cost_nano({"output": 192})


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, 0), (3, 2), (5, 2), (7, 4)], ids=["0.5→0", "1.5→2", "2.5→2", "3.5→4"]
)
def test_half_a_nano_goes_to_the_even_neighbour(tokens: int, expected: int) -> None:
    half_a_nano_per_token = Rates(input=Decimal("0.0005"), output=Decimal(0), cache_read=Decimal(0))
    assert half_a_nano_per_token.cost_nano({"input": tokens}) == expected


def test_a_call_is_rounded_once_and_not_per_bucket() -> None:
    half_each = Rates(input=Decimal("0.0005"), output=Decimal("0.0005"), cache_read=Decimal(0))
    assert half_each.cost_nano({"input": 1, "output": 1}) == 1


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_rates_by_hand_agree_with_the_catalogue(spec: ModelSpec) -> None:
    usage = {"input": 1111, "cache_read": 2048, "output": 333}
    if spec.provider == "anthropic":
        usage |= {"cache_write_5m": 1024, "cache_write_1h": 512}
    priced = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=sum(usage.values()) - 333,
            cache_read_tokens=2048,
            cache_write_tokens=usage.get("cache_write_5m", 0) + usage.get("cache_write_1h", 0),
            cache_write_1h_tokens=usage.get("cache_write_1h", 0),
            output_tokens=333,
        ),
        spec.answers_as,
        provider_id=_GENAI_PRICES_PROVIDER[spec.provider],
    )
    assert priced.total_price * names.NANO_PER_USD == spec.rates.cost_nano(usage)


def test_openai_totals_include_their_details() -> None:
    usage = {"input": 100, "cache_read": 1024, "output": 50, "reasoning": 64}
    assert usage_metadata(MODELS["o4-mini"], usage) == {
        "input_tokens": 1124,
        "output_tokens": 114,
        "total_tokens": 1238,
        "input_token_details": {"cache_read": 1024, "audio": 0},
        "output_token_details": {"reasoning": 64, "audio": 0},
    }


def test_anthropic_says_how_long_what_it_wrote_will_live() -> None:
    usage = {"input": 10, "cache_write_1h": 1024, "output": 5}
    assert usage_metadata(MODELS["claude-haiku-4-5"], usage) == {
        "input_tokens": 1034,
        "output_tokens": 5,
        "total_tokens": 1039,
        "input_token_details": {
            "cache_read": 0,
            "cache_creation": 0,
            "ephemeral_5m_input_tokens": 0,
            "ephemeral_1h_input_tokens": 1024,
        },
    }
