"""What providers say that a call cost: every place and unit that is documented, and nothing that is none."""

from __future__ import annotations

from typing import Any

import pytest

from graphmeter import guard
from graphmeter.usage import reported

TOKENS = {"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196}


@pytest.fixture(autouse=True)
def no_faults_before() -> None:
    guard.forget()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({"token_usage": TOKENS}, None, id="nobody says"),
        pytest.param({"token_usage": {**TOKENS, "cost": 0.95}}, 0.95, id="openrouter, by way of ChatOpenAI"),
        pytest.param(
            {
                "token_usage": {
                    **TOKENS,
                    "cost": 0.5,
                    "is_byok": False,
                    "cost_details": {"upstream_inference_cost": 0.5},
                }
            },
            0.5,
            id="openrouter, whose cost contains that of the provider behind it",
        ),
        pytest.param(
            {"token_usage": {**TOKENS, "cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}}},
            19.5,
            id="openrouter with a key of one's own: its fee, and what the provider takes",
        ),
        pytest.param(
            {"model_provider": "openrouter", "cost": 0.95, "cost_details": {"upstream_inference_cost": None}},
            0.95,
            id="langchain-openrouter",
        ),
        pytest.param({"model_provider": "nobody", "cost": 0.95}, None, id="a cost of nobody knows what"),
        pytest.param({"token_usage": {**TOKENS, "cost_in_usd_ticks": 37_756_000}}, 0.0037756, id="xai"),
        pytest.param(
            {"token_usage": {**TOKENS, "cost": {"input_tokens_cost": 0.1, "request_cost": 0.2, "total_cost": 0.35}}},
            0.35,
            id="perplexity",
        ),
        pytest.param(
            {"usage": {"input_tokens": 1, "output_tokens": 2, "cost": {"currency": "USD", "total_cost": 0.35}}},
            0.35,
            id="perplexity's responses",
        ),
        pytest.param({"usage": {"cost": {"currency": "EUR", "total_cost": 0.35}}}, None, id="another currency"),
        pytest.param({"headers": {"x-litellm-response-cost": "2.85e-05"}}, 2.85e-05, id="litellm's header"),
        pytest.param({"response_cost": 0.0}, 0.0, id="langchain-litellm, of a call that was free"),
        pytest.param({"token_usage": TOKENS, "response_cost": 0.25}, 0.25, id="beside a usage that does not say"),
    ],
)
def test_cost_is_read_where_it_is_documented(said: dict[str, Any], expected: float | None) -> None:
    assert expected == reported.cost_of(said, None)
    assert expected == reported.cost_of({}, said)
    assert {} == guard.faults()


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), 1e300, "a lot", True, [1], 10**400])
def test_what_cannot_be_a_cost_is_none_and_counted(value: Any) -> None:
    assert reported.cost_of({"token_usage": {"cost": value}}) is None
    assert {"unusable reported cost"} == set(guard.faults())
