"""What each dialect's words mean, beyond what the example graphs say in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names, providers
from graphmeter_collector.decode import dialects, langgraph
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.records import SpanRecord, TokenUsage
from support import otlp
from support.records import T0_NS

WINDOW = Window.around(T0_NS, 30)
OPENINFERENCE = "openinference.instrumentation.langchain"
OPENLLMETRY = "opentelemetry.instrumentation.langchain"
AGENTO11Y = "github.com/grafana/sigil/sdks/python"
LANGFUSE = "langfuse-sdk"
OUTER, INNER = "billing:1f", "billing:1f|decide:2e"


def record(attributes: dict[str, Any], scope: str = "somebody", **how: Any) -> SpanRecord:
    decoded = decode_request(otlp.request(otlp.span(1, attributes, **how), scope=scope), WINDOW)
    assert {} == dict(decoded.repairs)
    [only] = decoded.records
    return only


def metadata(**said: Any) -> dict[str, Any]:
    return {f"langgraph_{key}" if key in ("node", "step", "checkpoint_ns") else key: said[key] for key in said}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("openinference.instrumentation.openai", "openinference"),
        (OPENLLMETRY, "openllmetry"),
        ("traceloop.tracer", "openllmetry"),
        ("@traceloop/instrumentation-openai", "openllmetry"),
        ("opentelemetry.instrumentation.bedrock", "openllmetry"),
        (AGENTO11Y, "agento11y"),
        (LANGFUSE, "langfuse"),
        ("opentelemetry.instrumentation.fastapi", "any"),
        ("", "any"),
    ],
)
def test_a_scope_has_one_dialect(scope: str, expected: str) -> None:
    assert expected == dialects.of_scope(scope).name


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        ({"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 3}, 3),
        ({"llm.request.type": "chat", "gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 3}, 3),
        ({"agento11y.sdk.name": "sdk-js", names.OPERATION: "streamText", names.USAGE_INPUT: 3}, 3),
        ({"langfuse.observation.type": "generation", "langfuse.observation.usage_details": '{"input": 3}'}, 3),
    ],
    ids=["openinference", "openllmetry", "agento11y", "langfuse"],
)
def test_a_scope_that_nobody_knows_is_told_by_the_attributes(attributes: dict[str, Any], tokens: int) -> None:
    found = record(attributes)
    assert (names.MODEL, tokens, True) == (found.kind, found.usage.total_input, found.foreign)


@pytest.mark.parametrize("said", ["amazon_bedrock", "google_genai", "Azure", "openai", "Somebody"])
def test_what_langchain_calls_a_provider_has_the_name_that_our_client_gives_it(said: str) -> None:
    assert providers.provider_name(said) == langgraph.provider(said)


@pytest.mark.parametrize(
    ("said", "name", "kind", "node"),
    [
        (metadata(ls_integration="langgraph"), "shop", names.RUN, ""),
        (metadata(ls_integration="langchain_create_agent"), "shop", names.RUN, ""),
        (metadata(thread_id="t"), "LangGraph", names.RUN, ""),
        (metadata(thread_id="t"), "RunnableSequence", names.SPAN, ""),
        (metadata(node="billing", checkpoint_ns=OUTER), "billing", names.NODE, "billing"),
        (metadata(node="billing", checkpoint_ns=OUTER), "route", names.SPAN, "billing"),
        (
            {**metadata(node="billing", checkpoint_ns=OUTER), "checkpoint_ns": OUTER},
            "billing",
            names.SUBGRAPH,
            "billing",
        ),
        (
            {**metadata(node="billing", checkpoint_ns=OUTER), "checkpoint_ns": OUTER},
            "LangGraph",
            names.SUBGRAPH,
            "billing",
        ),
        ({**metadata(node="billing", checkpoint_ns=OUTER), "checkpoint_ns": OUTER}, "a chain", names.SPAN, "billing"),
        (
            {**metadata(node="decide", checkpoint_ns=INNER), "checkpoint_ns": OUTER},
            "decide",
            names.NODE,
            "billing.decide",
        ),
        (metadata(node="b", checkpoint_ns="a:1|1|b:2"), "b", names.NODE, "a.b"),
        (metadata(node="a:b", checkpoint_ns="a:b:1f"), "a:b", names.NODE, "a:b"),
        (metadata(node="__start__", checkpoint_ns="__start__:1"), "__start__", names.SPAN, ""),
        (metadata(node="old"), "old", names.SPAN, "old"),
    ],
)
def test_a_chain_is_what_langgraph_says_of_it(said: dict[str, Any], name: str, kind: str, node: str) -> None:
    """In both dialects that pass its metadata on."""
    openinference = {"openinference.span.kind": "CHAIN", "metadata": json.dumps(said)}
    openllmetry = {
        "traceloop.span.kind": "task",
        "traceloop.entity.name": name,
        **{f"traceloop.association.properties.{key}": value for key, value in said.items()},
    }
    for scope, attributes in ((OPENINFERENCE, openinference), (OPENLLMETRY, openllmetry)):
        found = record(attributes, scope, name=name)
        assert (scope, kind, node) == (scope, found.kind, found.node)


def test_an_unnamed_graph_takes_the_name_of_its_service() -> None:
    said = json.dumps(metadata(ls_integration="langgraph"))
    assert (
        "shop" == record({"openinference.span.kind": "CHAIN", "metadata": said}, OPENINFERENCE, name="LangGraph").graph
    )
    assert "shop" == record({names.OPERATION: "chat", "traceloop.workflow.name": "LangGraph"}, OPENLLMETRY).graph


def test_what_a_span_says_in_our_words_wins() -> None:
    said = json.dumps(metadata(ls_integration="langgraph", thread_id="t"))
    attributes = {"openinference.span.kind": "CHAIN", "metadata": said, names.GRAPH: "g", names.CONVERSATION_ID: "c"}
    found = record(attributes, OPENINFERENCE, name="shop")
    assert ("g", "c") == (found.graph, found.thread_id)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"prompt": 10, "completion": 2}, TokenUsage(input=10, output=2)),
        ({"prompt": 10, "prompt_details.cache_read": 4}, TokenUsage(input=6, cache_read=4)),
        (
            {"prompt": 10, "completion": 2, "total": 16, "prompt_details.cache_read": 4},
            TokenUsage(input=10, cache_read=4, output=2),
        ),
        ({"prompt": 3, "prompt_details.cache_write": 4}, TokenUsage(input=3, cache_write_5m=4)),
        ({"completion": 9, "completion_details.reasoning": 4}, TokenUsage(output=5, reasoning=4)),
        ({"prompt": 9, "prompt_details.audio": 4}, TokenUsage(input=5, input_audio=4)),
    ],
    ids=["plain", "cached within", "cached beside, by the total", "more cached than input", "reasoning", "audio"],
)
def test_openinference_counts_cached_input_in_unless_it_cannot(counts: dict[str, int], expected: TokenUsage) -> None:
    attributes = {f"llm.token_count.{key}": count for key, count in counts.items()}
    found = record({"openinference.span.kind": "LLM", "llm.model_name": "m", **attributes}, OPENINFERENCE)
    assert (expected, False) == (found.usage, found.usage_missing)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"openinference.span.kind": "AGENT", "tool.name": "agent_search"}, names.TOOL),
        ({"openinference.span.kind": "AGENT", "llm.model_name": "m", "llm.token_count.prompt": 1}, names.MODEL),
        ({"openinference.span.kind": "AGENT"}, names.SPAN),
        ({"openinference.span.kind": "RETRIEVER"}, names.RETRIEVER),
        ({"openinference.span.kind": "EMBEDDING", "embedding.model_name": "m"}, names.MODEL),
        ({"openinference.span.kind": "GUARDRAIL"}, names.SPAN),
        ({}, names.SPAN),
    ],
)
def test_openinference_calls_everything_an_agent_that_has_it_in_its_name(
    attributes: dict[str, Any], expected: str
) -> None:
    assert expected == record(attributes, OPENINFERENCE).kind


def test_openinference_tells_the_first_token_by_an_event() -> None:
    event = Span.Event(name="First Token Stream Event", time_unix_nano=T0_NS + 250)
    found = record({"openinference.span.kind": "LLM", "llm.model_name": "m"}, OPENINFERENCE, events=[event])
    assert 250 == found.ttft_ns


def test_metadata_that_is_no_json_is_counted_and_hides_nothing_else() -> None:
    span = otlp.span(1, {"openinference.span.kind": "LLM", "llm.model_name": "m", "metadata": "{"})
    decoded = decode_request(otlp.request(span, scope=OPENINFERENCE), WINDOW)
    assert ({"bad_metadata": 1}, "m") == (dict(decoded.repairs), decoded.records[0].model)


@pytest.mark.parametrize(
    ("scope", "given", "expected"),
    [
        ("opentelemetry.instrumentation.anthropic", 10, TokenUsage(input=6, cache_read=4)),
        ("opentelemetry.instrumentation.bedrock", 10, TokenUsage(input=10, cache_read=4)),
        ("opentelemetry.instrumentation.bedrock", 3, TokenUsage(input=3, cache_read=4)),
    ],
)
def test_of_openllmetry_only_bedrock_leaves_out_what_was_cached(scope: str, given: int, expected: TokenUsage) -> None:
    cached = {"gen_ai.usage.cache_read_input_tokens": 4}
    attributes = {names.OPERATION: "chat", "gen_ai.usage.prompt_tokens": given, **cached}
    assert expected == record({"llm.request.type": "chat", **attributes}, scope).usage


def test_openllmetry_does_not_know_who_answered_and_langchain_does() -> None:
    attributes = {
        names.OPERATION: "chat",
        names.PROVIDER: "langchain",
        names.REQUEST_MODEL: "unknown",
        "traceloop.association.properties.ls_provider": "google_genai",
        "traceloop.association.properties.ls_model_name": "gemini-2.5-flash",
        "traceloop.association.properties.user_id": "u",
    }
    found = record(attributes, OPENLLMETRY)
    assert ("gcp.gemini", "gemini-2.5-flash", "gemini-2.5-flash", "u") == (
        found.provider,
        found.model,
        found.request_model,
        found.user_id,
    )
    del attributes["traceloop.association.properties.ls_provider"]
    assert "" == record(attributes, OPENLLMETRY).provider


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"gen_ai.system": "OpenAI"}, "openai"),
        ({"gen_ai.system": "Langchain"}, ""),
        ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
        ({names.PROVIDER: "aws.bedrock"}, "aws.bedrock"),
    ],
)
def test_older_openllmetry_writes_providers_in_its_own_way(said: dict[str, str], expected: str) -> None:
    assert expected == record({"llm.request.type": "chat", **said}).provider


@pytest.mark.parametrize(
    ("component", "operation", "semantics", "expected"),
    [
        ("ChatAnthropic", "generateText", {}, TokenUsage(input=10, cache_read=4)),
        ("ChatAnthropic", "streamText", {}, TokenUsage(input=6, cache_read=4)),
        ("ChatAnthropic", "generateText", {"gen_ai.token.semantics": "inclusive"}, TokenUsage(input=6, cache_read=4)),
        ("ChatOpenAI", "generateText", {}, TokenUsage(input=6, cache_read=4)),
    ],
)
def test_agento11y_passes_anthropics_own_figures_on(
    component: str, operation: str, semantics: dict[str, str], expected: TokenUsage
) -> None:
    attributes = {
        names.OPERATION: operation,
        "agento11y.framework.component_name": component,
        names.USAGE_INPUT: 10,
        "gen_ai.usage.cache_read_input_tokens": 4,
        **semantics,
    }
    assert expected == record(attributes, AGENTO11Y).usage


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"input": 6, "input_cache_read": 4, "output": 2, "total": 12}, TokenUsage(input=6, cache_read=4, output=2)),
        (
            {"input": 1, "input_ephemeral_5m_input_tokens": 2, "input_ephemeral_1h_input_tokens": 3},
            TokenUsage(input=1, cache_write_5m=2, cache_write_1h=3),
        ),
        ({"input": 6, "input_priority": 4}, TokenUsage(input=6)),
        ({"output": 1, "output_reasoning": 5}, TokenUsage(output=1, reasoning=5)),
        ({"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}, TokenUsage(input=7, output=1)),
        ("no JSON object", TokenUsage()),
    ],
    ids=["cached", "by lifetime", "tier", "reasoning", "openai's own words", "nothing"],
)
def test_langfuses_buckets_are_exclusive(details: Any, expected: TokenUsage) -> None:
    attributes = {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": json.dumps(details)}
    assert expected == record(attributes, LANGFUSE).usage


def test_langfuse_tells_an_answer_from_a_cache() -> None:
    details = json.dumps({"input": 6, "output": 2, "total_cost": 0})
    found = record({"langfuse.observation.type": "generation", "langfuse.observation.usage_details": details}, LANGFUSE)
    assert (True, TokenUsage(input=6, output=2), False) == (found.cache_hit, found.usage, found.usage_missing)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"input": 0.1, "output": 0.2, "total": 0.35}, 350_000_000),
        ({"input": 0.25, "output": 0.5}, 750_000_000),
        ({"input": "much"}, None),
        ({}, None),
        ("no JSON object", None),
    ],
)
def test_langfuse_tells_the_cost_that_it_was_told(details: Any, expected: int | None) -> None:
    attributes = {"langfuse.observation.type": "generation", "langfuse.observation.cost_details": json.dumps(details)}
    assert expected == record(attributes, LANGFUSE).reported_nano


def test_openinference_tells_the_total_cost_of_a_call() -> None:
    attributes = {"openinference.span.kind": "LLM", "llm.cost.total": 0.0375, "llm.cost.prompt": 0.03}
    assert 37_500_000 == record(attributes, "openinference.instrumentation.openai").reported_nano


def test_langfuse_tells_the_first_token_by_its_time() -> None:
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.completion_start_time": '"2025-06-01T00:00:00.250000+00:00"',
    }
    start = 1_748_736_000_000_000_000
    span = otlp.span(1, attributes, start_ns=start, s=1.0)
    decoded = decode_request(otlp.request(span, scope=LANGFUSE), Window.around(start, 30))
    assert 250_000_000 == decoded.records[0].ttft_ns


@pytest.mark.parametrize(
    ("exception", "status", "error"),
    [
        ("langgraph.errors.GraphInterrupt", names.INTERRUPTED, ""),
        ("GraphInterrupt", names.INTERRUPTED, ""),
        ("asyncio.exceptions.CancelledError", names.CANCELLED, ""),
        ("GeneratorExit", names.CANCELLED, ""),
        ("langgraph.errors.ParentCommand", names.OK, ""),
        ("shop.OutOfStock", names.ERROR, "shop.OutOfStock"),
    ],
)
def test_control_flow_is_no_failure_whoever_calls_it_one(exception: str, status: str, error: str) -> None:
    node = {"openinference.span.kind": "CHAIN", "metadata": json.dumps(metadata(node="n", checkpoint_ns="n:1"))}
    found = record(node, OPENINFERENCE, name="n", status="error", message="m", exception=exception)
    assert (names.NODE, status, error) == (found.kind, found.status, found.error_type)


def test_a_bare_error_type_becomes_that_of_the_exception_beside_it() -> None:
    found = record(
        {names.OPERATION: "chat", names.ERROR_TYPE: "RateLimitError"}, status="error", exception="openai.RateLimitError"
    )
    assert ("openai.RateLimitError", True) == (found.error_type, found.rate_limited)
    assert record({names.OPERATION: "chat", names.ERROR_TYPE: "429"}, status="error").rate_limited


def test_workflows_and_nodes_of_the_conventions_are_runs_and_nodes() -> None:
    run = record({names.OPERATION: names.OP_WORKFLOW, names.WORKFLOW_NAME: "shop", "user.id": "u", "session.id": "s"})
    assert (names.RUN, "shop", "u", "s", "") == (run.kind, run.graph, run.user_id, run.session_id, run.run_id)
    node = record({names.OPERATION: names.OP_NODE, names.NODE_NAME: "plan", names.LANGGRAPH_STEP: 2})
    assert (names.NODE, "plan", 2) == (node.kind, node.node, node.step)
