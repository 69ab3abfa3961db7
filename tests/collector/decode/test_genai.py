"""GenAI spans of any OpenTelemetry sender, in the newest words and in the older ones still in the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter import names
from graphmeter_collector.decode import genai
from graphmeter_collector.decode.attributes import MAX_COUNT, Repairs
from graphmeter_collector.decode.request import Decoded, Window, decode_request
from graphmeter_collector.decode.usage import Reported, exclusive
from graphmeter_collector.records import SpanRecord, TokenUsage
from support import otlp
from support.records import T0_NS

WINDOW = Window.around(T0_NS, 30)
CHAT = {names.OPERATION: "chat", names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-4o"}


def decoded(attributes: dict[str, Any], **how: Any) -> Decoded:
    return decode_request(otlp.request(otlp.span(1, attributes, **how), scope="opentelemetry.openai"), WINDOW)


def record(attributes: dict[str, Any], **how: Any) -> SpanRecord:
    [only] = decoded(attributes, **how).records
    return only


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("chat", names.MODEL),
        ("text_completion", names.MODEL),
        ("generate_content", names.MODEL),
        ("embeddings", names.MODEL),
        ("execute_tool", names.TOOL),
        ("retrieval", names.RETRIEVER),
        ("invoke_agent", names.SPAN),
        ("invoke_workflow", names.RUN),
        ("invoke_node", names.NODE),
        ("something_new", names.SPAN),
    ],
)
def test_the_operation_says_what_a_span_stands_for(operation: str, expected: str) -> None:
    attributes = {names.OPERATION: operation, names.REQUEST_MODEL: "m", names.USAGE_INPUT: 1}
    assert expected == record(attributes).kind


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({names.REQUEST_MODEL: "m", "gen_ai.usage.prompt_tokens": 3}, names.MODEL),
        ({names.RESPONSE_MODEL: "m", names.USAGE_OUTPUT: 3}, names.MODEL),
        ({names.REQUEST_MODEL: "m"}, names.SPAN),
        ({names.USAGE_INPUT: 3}, names.SPAN),
        ({"http.request.method": "GET"}, names.SPAN),
        ({}, names.SPAN),
    ],
)
def test_without_an_operation_model_and_usage_together_make_a_call(attributes: dict[str, Any], expected: str) -> None:
    assert expected == record(attributes).kind


def test_a_span_of_no_interest_is_stored_with_its_time_and_service_alone() -> None:
    found = record({"http.request.method": "GET"}, s=0.5)
    assert (names.SPAN, "shop", "", "", 500_000_000, names.OK) == (
        found.kind,
        found.service,
        found.graph,
        found.run_id,
        found.duration_ns,
        found.status,
    )


def test_attribution_is_read_from_every_sender() -> None:
    attributes = {**CHAT, names.TEAM: "cx", names.GRAPH: "support", names.NODE_PATH: "answer", names.USER: "u"}
    found = record(attributes)
    assert ("cx", "support", "answer", "u") == (found.team, found.graph, found.node, found.user_id)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({names.PROVIDER: "anthropic", "gen_ai.system": "openai"}, "anthropic"),
        ({names.PROVIDER: "", "gen_ai.system": "openai"}, "openai"),
        ({"gen_ai.system": "openai"}, "openai"),
        ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
        ({"gen_ai.system": "az.ai.inference"}, "azure.ai.inference"),
        ({"gen_ai.system": "vertex_ai"}, "gcp.vertex_ai"),
        ({"gen_ai.system": "gemini"}, "gcp.gemini"),
        ({"gen_ai.system": "xai"}, "x_ai"),
        ({}, ""),
    ],
)
def test_a_provider_has_one_name_whichever_convention_wrote_it(attributes: dict[str, str], expected: str) -> None:
    assert expected == record({names.OPERATION: "chat", **attributes}).provider


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({names.USAGE_INPUT: 10, names.USAGE_OUTPUT: 2}, TokenUsage(input=10, output=2)),
        (
            {"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 2},
            TokenUsage(input=10, output=2),
        ),
        ({names.USAGE_INPUT: 10, "gen_ai.usage.prompt_tokens": 99}, TokenUsage(input=10)),
        ({names.USAGE_INPUT: 10, names.USAGE_CACHE_READ: 4}, TokenUsage(input=6, cache_read=4)),
        ({names.USAGE_INPUT: 10, "gen_ai.usage.cache_read_input_tokens": 4}, TokenUsage(input=6, cache_read=4)),
        ({names.USAGE_INPUT: 10, names.USAGE_CACHE_WRITE: 4}, TokenUsage(input=6, cache_write_5m=4)),
        (
            {names.USAGE_INPUT: 10, "gen_ai.usage.cache_creation.input_tokens": 4},
            TokenUsage(input=6, cache_write_5m=4),
        ),
        (
            {names.USAGE_INPUT: 10, "gen_ai.usage.cache_creation_input_tokens": 4},
            TokenUsage(input=6, cache_write_5m=4),
        ),
        ({names.USAGE_INPUT: 10, names.CACHE_WRITE_5M_TOKENS: 4}, TokenUsage(input=6, cache_write_5m=4)),
        ({names.USAGE_INPUT: 10, names.CACHE_WRITE_1H_TOKENS: 4}, TokenUsage(input=6, cache_write_1h=4)),
        ({names.USAGE_OUTPUT: 10, names.USAGE_REASONING: 4}, TokenUsage(output=6, reasoning=4)),
        ({names.USAGE_INPUT: 10, names.USAGE_AUDIO_INPUT: 4}, TokenUsage(input=6, input_audio=4)),
        ({names.USAGE_INPUT: 10, names.USAGE_IMAGE_INPUT: 4}, TokenUsage(input=6, input_image=4)),
        ({names.USAGE_OUTPUT: 10, names.USAGE_AUDIO_OUTPUT: 4}, TokenUsage(output=6, output_audio=4)),
        ({names.USAGE_OUTPUT: 10, names.USAGE_IMAGE_OUTPUT: 4}, TokenUsage(output=6, output_image=4)),
        (
            {
                names.USAGE_INPUT: 100,
                names.USAGE_CACHE_READ: 50,
                names.USAGE_AUDIO_INPUT: 30,
                "gen_ai.usage.audio.cache_read.input_tokens": 20,
            },
            TokenUsage(input=40, cache_read=50, input_audio=10),
        ),
    ],
)
def test_usage_is_read_in_every_convention(attributes: dict[str, int], expected: TokenUsage) -> None:
    assert expected == record({**CHAT, **attributes}).usage


@pytest.mark.parametrize(
    ("given", "expected", "reason"),
    [
        (12, 12, ""),
        (12.0, 12, ""),
        ("12", 12, ""),
        (-5, 0, "clamped"),
        (-0.5, 0, "clamped"),
        (2**63 - 1, MAX_COUNT, "clamped"),
        (1e300, MAX_COUNT, "clamped"),
        ("9" * 5000, MAX_COUNT, "clamped"),
        (float("nan"), 0, "wrong_type"),
        (float("inf"), 0, "wrong_type"),
        ("twelve", 0, "wrong_type"),
        ("²", 0, "wrong_type"),
        (True, 0, "wrong_type"),
        ([1], 0, "wrong_type"),
        (b"12", 0, "wrong_type"),
        (None, 0, ""),
    ],
    ids=lambda given: repr(given)[:20],
)
def test_a_count_of_any_type_is_read_or_counted_as_repaired(given: object, expected: int, reason: str) -> None:
    found = decoded({**CHAT, names.USAGE_INPUT: given})
    assert (expected, {reason: 1} if reason else {}) == (found.records[0].usage.input, dict(found.repairs))


_numbers = (
    st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans() | st.sampled_from(["", "7", "-7", "7.5", "many"])
)
_keys = (
    names.USAGE_INPUT,
    names.USAGE_OUTPUT,
    names.USAGE_CACHE_READ,
    names.USAGE_CACHE_WRITE,
    names.CACHE_WRITE_1H_TOKENS,
    names.USAGE_REASONING,
    names.USAGE_AUDIO_INPUT,
    "gen_ai.usage.audio.cache_read.input_tokens",
    "gen_ai.usage.prompt_tokens",
)


@given(st.dictionaries(st.sampled_from(_keys), _numbers))
def test_no_attribute_values_give_a_negative_bucket_or_an_error(attributes: dict[str, Any]) -> None:
    usage = record({**CHAT, **attributes}).usage
    assert 0 <= min(usage)
    assert max(usage.total_input, usage.total_output) <= 10 * MAX_COUNT


@pytest.mark.parametrize(
    ("status", "attributes", "exception", "expected"),
    [
        ("", {}, "", (names.OK, "")),
        ("ok", {}, "", (names.OK, "")),
        ("ok", {names.ERROR_TYPE: "429"}, "", (names.OK, "")),
        ("", {names.ERROR_TYPE: "429"}, "", (names.ERROR, "429")),
        ("error", {}, "", (names.ERROR, "")),
        ("error", {names.ERROR_TYPE: "429"}, "RateLimit", (names.ERROR, "429")),
        ("error", {}, "RateLimit", (names.ERROR, "RateLimit")),
        ("", {}, "Handled", (names.OK, "")),
    ],
)
def test_failure_is_read_from_status_type_and_exception(
    status: str, attributes: dict[str, str], exception: str, expected: tuple[str, str]
) -> None:
    found = record({**CHAT, **attributes}, status=status, exception=exception)
    assert expected == (found.status, found.error_type)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({names.SERVICE_TIER: "flex"}, "flex"),
        ({"openai.response.service_tier": "priority"}, "priority"),
        ({"openai.response.service_tier": "default"}, ""),
        ({}, ""),
    ],
)
def test_the_tier_is_read_unless_it_is_the_usual_one(attributes: dict[str, Any], expected: str) -> None:
    assert expected == record({**CHAT, **attributes}).service_tier


@given(
    st.dictionaries(
        st.sampled_from(["input", "output", "cache_read", "reasoning", "cache_write", "audio_input"]),
        st.sampled_from([0, 3, 10, 40]),
    ),
    st.sampled_from(["", names.SAVED_PREFIX]),
)
def test_what_most_calls_report_is_split_as_anything_else_is(said: dict[str, int], prefix: str) -> None:
    keys = {
        "input": names.USAGE_INPUT,
        "output": names.USAGE_OUTPUT,
        "cache_read": names.USAGE_CACHE_READ,
        "reasoning": names.USAGE_REASONING,
        "cache_write": names.USAGE_CACHE_WRITE,
        "audio_input": names.USAGE_AUDIO_INPUT,
    }
    expected, actual = Repairs(), Repairs()
    found = {prefix + keys[name]: count for name, count in said.items()}
    assert exclusive(Reported(**said), expected) == genai.usage(found, actual, prefix)
    assert expected == actual


@pytest.mark.parametrize(
    ("attributes", "expected", "repairs"),
    [
        ({}, None, {}),
        ({names.REPORTED_COST_USD: 0.0000285}, 28_500, {}),
        ({"gen_ai.usage.cost": 0.25, "gen_ai.cost.total_cost": 1.0}, 250_000_000, {}),
        ({"gen_ai.cost.total_cost": "0.5"}, 500_000_000, {}),
        ({"gen_ai.usage.cost": 0}, 0, {}),
        ({"gen_ai.usage.cost": -1.0}, None, {"clamped": 1}),
        ({"gen_ai.usage.cost": 2e6}, None, {"clamped": 1}),
        ({"gen_ai.usage.cost": "much"}, None, {"wrong_type": 1}),
        ({"gen_ai.usage.cost": float("nan")}, None, {"not_finite": 1}),
    ],
)
def test_what_the_sender_says_that_a_call_cost_is_kept(
    attributes: dict[str, Any], expected: int | None, repairs: dict[str, int]
) -> None:
    found = decoded({**CHAT, **attributes})
    assert (expected, repairs) == (found.records[0].reported_nano, dict(found.repairs))


def test_a_call_says_where_it_went_and_how_many_images_it_made() -> None:
    found = record({**CHAT, names.SERVER_ADDRESS: "bedrock-runtime.eu-central-1.amazonaws.com", names.USAGE_IMAGES: 3})
    assert ("bedrock-runtime.eu-central-1.amazonaws.com", 3) == (found.server, found.images)


def test_a_rerank_is_a_retriever_of_its_own_operation() -> None:
    found = record({names.OPERATION: names.OP_RERANK, names.TOOL_NAME: "rerank-v3.5"})
    assert (names.RETRIEVER, names.OP_RERANK, "rerank-v3.5") == (found.kind, found.operation, found.tool)
