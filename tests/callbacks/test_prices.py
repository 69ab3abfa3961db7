"""The client's price hint agrees with the catalogue, by the short way and by the long one."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from graphmeter import names, prices

AT_NS = time.time_ns()


@pytest.mark.parametrize(
    ("provider", "catalogue", "model"),
    [
        ("openai", "openai", "gpt-4o"),
        ("openai", "openai", "gpt-4o-mini"),
        ("openai", "openai", "o3-mini"),
        ("anthropic", "anthropic", "claude-sonnet-4-5"),
        ("gcp.gemini", "google", "gemini-2.5-pro"),
        ("deepseek", "deepseek", "deepseek-chat"),
        ("mistral_ai", "mistral", "mistral-large-latest"),
    ],
)
@pytest.mark.parametrize(
    ("tokens_in", "cached", "tokens_out", "reasoning"),
    [(1000, 0, 100, 0), (1000, 400, 100, 60), (250_000, 1000, 7, 0), (0, 0, 0, 0), (5, 5, 0, 0)],
)
def test_every_call_costs_what_the_catalogue_says(
    provider: str, catalogue: str, model: str, tokens_in: int, cached: int, tokens_out: int, reasoning: int
) -> None:
    attributes = {
        names.PROVIDER: provider,
        names.REQUEST_MODEL: model,
        names.USAGE_INPUT: tokens_in,
        names.USAGE_CACHE_READ: cached,
        names.USAGE_OUTPUT: tokens_out,
        names.USAGE_REASONING: reasoning,
    }
    expected = calc_price(
        Usage(
            input_tokens=tokens_in,
            cache_read_tokens=cached,
            output_tokens=tokens_out,
            output_reasoning_tokens=reasoning,
        ),
        model,
        provider_id=catalogue,
    ).total_price
    # Twice: the first call may ask the catalogue, the second remembers.
    for _ in range(2):
        cost = prices.cost_of(attributes, AT_NS)
        assert cost is not None
        assert expected == cost.usd
        assert cost.price.startswith("genai-prices ")


def test_cache_writes_go_the_long_way() -> None:
    attributes = {
        names.PROVIDER: "anthropic",
        names.RESPONSE_MODEL: "claude-sonnet-4-5",
        names.USAGE_INPUT: 1000,
        names.USAGE_CACHE_WRITE: 700,
        names.CACHE_WRITE_5M_TOKENS: 500,
        names.CACHE_WRITE_1H_TOKENS: 200,
        names.USAGE_OUTPUT: 10,
    }
    cost = prices.cost_of(attributes, AT_NS)
    assert cost is not None
    # 300 at 3.00, 500 at 3.75, 200 at 6.00, 10 out at 15.00 USD per million.
    assert Decimal("0.004125") == cost.usd


def test_a_price_that_is_remembered_does_not_stand_for_what_it_does_not_say() -> None:
    plain: dict[str, object] = {
        names.PROVIDER: "aws.bedrock",
        names.REQUEST_MODEL: "global.anthropic.claude-sonnet-4-20250514-v1:0",
        names.USAGE_INPUT: 1000,
        names.USAGE_OUTPUT: 10,
    }

    def usd(**more: int) -> Decimal | None:
        cost = prices.cost_of({**plain, **{getattr(names, key): tokens for key, tokens in more.items()}}, AT_NS)
        return None if cost is None else cost.usd

    for _ in range(2):  # 3.00 in, 3.75 for what is written to the cache, 15.00 out
        assert Decimal("0.00315") == usd() == usd(USAGE_CACHE_WRITE=0)
        assert Decimal("0.003375") == usd(USAGE_CACHE_WRITE=300)
        assert usd(USAGE_CACHE_READ=1001) is None  # more than all of it


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {names.USAGE_INPUT: 1},
        {names.USAGE_INPUT: 1, names.REQUEST_MODEL: "no-such-model", names.PROVIDER: "openai"},
        {names.USAGE_INPUT: 1, names.REQUEST_MODEL: "gpt-4o", names.PROVIDER: "my-cluster"},
        {names.REQUEST_MODEL: "gpt-4o", names.PROVIDER: "openai"},
    ],
)
def test_what_is_unknown_has_no_cost(attributes: dict[str, object]) -> None:
    assert [None, None] == [prices.cost_of(attributes, AT_NS) for _ in range(2)]


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [("openrouter", "deepseek/deepseek-r1:free", Decimal(0)), ("github-copilot", "gpt-4o", None)],
)
def test_no_rate_is_no_price_but_for_models_that_are_given_away(
    provider: str, model: str, expected: Decimal | None
) -> None:
    call = {names.PROVIDER: provider, names.REQUEST_MODEL: model, names.USAGE_INPUT: 1000, names.USAGE_OUTPUT: 10}
    for _ in range(2):
        cost = prices.cost_of(call, AT_NS)
        assert expected == (None if cost is None else cost.usd)
