"""Every shape of usage that integrations report, as inclusive attributes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from graphmeter import guard, names
from graphmeter.usage import usage_of
from graphmeter.usage.streams import Told

ANTHROPIC = {
    "input_tokens": 3000,
    "output_tokens": 10,
    "input_token_details": {
        "cache_read": 1000,
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": 500,
        "ephemeral_1h_input_tokens": 200,
    },
}


@pytest.mark.parametrize(
    ("standard", "expected"),
    [
        pytest.param(
            {"input_tokens": 1, "output_tokens": 2}, {names.USAGE_INPUT: 1, names.USAGE_OUTPUT: 2}, id="plain"
        ),
        pytest.param(
            ANTHROPIC,
            {
                names.USAGE_INPUT: 3000,
                names.USAGE_OUTPUT: 10,
                names.USAGE_CACHE_READ: 1000,
                names.USAGE_CACHE_WRITE: 700,
                names.CACHE_WRITE_5M_TOKENS: 500,
                names.CACHE_WRITE_1H_TOKENS: 200,
            },
            id="anthropic-split",
        ),
        pytest.param(
            {**ANTHROPIC, "input_token_details": {**ANTHROPIC["input_token_details"], "cache_creation": 700}},  # type: ignore[dict-item]
            {
                names.USAGE_INPUT: 3000,
                names.USAGE_OUTPUT: 10,
                names.USAGE_CACHE_READ: 1000,
                names.USAGE_CACHE_WRITE: 700,
                names.CACHE_WRITE_5M_TOKENS: 500,
                names.CACHE_WRITE_1H_TOKENS: 200,
            },
            id="split-and-sum-are-not-added",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "output_tokens": 40,
                "input_token_details": {"priority": 80, "priority_cache_read": 20, "audio": 5},
                "output_token_details": {"priority": 30, "priority_reasoning": 10, "audio": 3},
            },
            {
                names.USAGE_INPUT: 100,
                names.USAGE_OUTPUT: 40,
                names.USAGE_CACHE_READ: 20,
                names.USAGE_REASONING: 10,
                names.USAGE_AUDIO_INPUT: 5,
                names.USAGE_AUDIO_OUTPUT: 3,
            },
            id="openai-service-tier",
        ),
        pytest.param(
            {"input_tokens": None, "output_tokens": 7.0, "input_token_details": None},
            {names.USAGE_OUTPUT: 7},
            id="none-and-whole-floats",
        ),
    ],
)
def test_standard_usage(standard: dict[str, Any], expected: dict[str, int]) -> None:
    guard.forget()
    usage = usage_of(SimpleNamespace(usage_metadata=standard), None)
    assert usage is not None
    assert (expected, False) == (usage.attributes, usage.cached)
    assert {} == guard.faults()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(
            {
                "token_usage": {
                    "prompt_tokens": 100,
                    "completion_tokens": 20,
                    "prompt_tokens_details": {"cached_tokens": 60},
                    "completion_tokens_details": {"reasoning_tokens": 8},
                }
            },
            {
                names.USAGE_INPUT: 100,
                names.USAGE_OUTPUT: 20,
                names.USAGE_CACHE_READ: 60,
                names.USAGE_REASONING: 8,
            },
            id="openai",
        ),
        pytest.param(
            {
                "usage": {
                    "input_tokens": 100,
                    "output_tokens": 20,
                    "total_tokens": 120,
                    "input_tokens_details": {"cached_tokens": 60},
                    "output_tokens_details": {"reasoning_tokens": 8},
                }
            },
            {
                names.USAGE_INPUT: 100,
                names.USAGE_OUTPUT: 20,
                names.USAGE_CACHE_READ: 60,
                names.USAGE_REASONING: 8,
            },
            id="openai-responses-includes-what-is-cached",
        ),
        pytest.param(
            {"usage": {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 90}},
            {names.USAGE_INPUT: 100, names.USAGE_OUTPUT: 2, names.USAGE_CACHE_READ: 90},
            id="anthropic-excludes-what-is-cached",
        ),
    ],
)
def test_raw_provider_usage_is_the_second_choice(output: dict[str, Any], expected: dict[str, int]) -> None:
    usage = usage_of(SimpleNamespace(usage_metadata=None, response_metadata={}), output)
    assert usage is not None
    assert expected == usage.attributes


@pytest.mark.parametrize("value", [-5, 1.5, "12", float("nan"), True, 1 << 80])
def test_a_count_that_is_none_is_unknown_and_counted(value: Any) -> None:
    guard.forget()
    usage = usage_of(SimpleNamespace(usage_metadata={"input_tokens": value, "output_tokens": 1}), None)
    assert usage is not None
    assert {names.USAGE_OUTPUT: 1} == usage.attributes
    assert not usage.complete
    assert 1 == sum(guard.faults().values())


def test_unknown_shapes_are_counted_not_guessed() -> None:
    guard.forget()
    assert usage_of(None, {"token_usage": {"things": 3}}) is None
    assert {"usage of unknown shape": 1} == guard.faults()


def test_only_zeros_are_no_usage() -> None:
    assert usage_of(SimpleNamespace(usage_metadata={"input_tokens": 0, "output_tokens": 0}), None) is None
    assert usage_of(None, {"token_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}) is None


@pytest.mark.parametrize(("total_cost", "cached"), [(0, True), (0.0, False), (0.25, False), (None, False)])
def test_a_proxy_that_says_what_a_call_cost_is_no_cache(total_cost: Any, cached: bool) -> None:
    """LangChain's cache says the integer 0; proxies that price calls say a float."""
    standard = {"input_tokens": 1, "output_tokens": 1, "total_cost": total_cost}
    usage = usage_of(SimpleNamespace(usage_metadata=standard), None)
    assert usage is not None
    assert cached == usage.cached


def test_raw_usage_of_unknown_shape_beside_known_totals_is_no_fault() -> None:
    guard.forget()
    message = SimpleNamespace(
        usage_metadata={"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
        response_metadata={"usage": {"things": 3}},
    )
    usage = usage_of(message, None)
    assert usage is not None
    assert {names.USAGE_INPUT: 5, names.USAGE_OUTPUT: 2} == usage.attributes
    assert {} == guard.faults()


def test_no_usage_is_none() -> None:
    assert usage_of(None, None) is None
    assert usage_of(SimpleNamespace(usage_metadata=None, response_metadata={"usage": {}}), {"token_usage": {}}) is None


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([(10, 5)], None, id="once"),
        pytest.param([(10, 0), (10, 3), (10, 5)], (10, 5), id="the-whole-so-far-on-every-chunk"),
        pytest.param([(10, 5), (10, 5)], (10, 5), id="said-twice"),
        pytest.param([(25, 0), (0, 15)], None, id="anthropic-says-each-part-once"),
        pytest.param([(10, 1), (0, 1), (0, 1)], None, id="output-as-it-comes"),
        pytest.param([(10, 5), (10, 3)], None, id="no-running-sum"),
        pytest.param([(0, 1), (0, 2)], None, id="without-input"),
        pytest.param([(10, 1), (10, 2), (4, 3)], None, id="another-input"),
    ],
)
def test_usage_that_chunks_tell_again_is_not_used_again(
    chunks: list[tuple[int, int]], expected: tuple[int, int] | None
) -> None:
    first, *more = [{"input_tokens": tokens_in, "output_tokens": tokens_out} for tokens_in, tokens_out in chunks]
    told = Told(first)
    for usage in more:
        told.add(usage)
    whole = told.whole
    assert expected == (None if whole is None else (whole["input_tokens"], whole["output_tokens"]))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([(10, 1)], (10, 1), id="the-first"),
        pytest.param([(10, 0), (10, 3), (10, 5)], (10, 5), id="the-whole-so-far-on-every-chunk"),
        pytest.param([(25, 0), (0, 15)], (25, 15), id="each-part-once"),
        pytest.param([(10, 1), (0, 1), (0, 1)], (10, 3), id="output-as-it-comes"),
    ],
)
def test_what_a_stream_has_told_when_it_breaks_off(chunks: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    first, *more = [
        {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        for tokens_in, tokens_out in chunks
    ]
    told = Told(first)
    for usage in more:
        told.add(usage)
    assert expected == (told.so_far["input_tokens"], told.so_far["output_tokens"])
