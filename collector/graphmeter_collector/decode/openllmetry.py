"""OpenLLMetry (Traceloop): `traceloop.*` beside the GenAI names of all ages, LangChain's metadata as association properties.

Source: https://github.com/traceloop/openllmetry: opentelemetry-instrumentation-langchain 0.62.4, -openai, -anthropic,
-bedrock and semconv-ai. Input tokens contain cached ones, except in the instrumentation of Bedrock, which passes on AWS's
figure.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode import genai, langgraph
from graphmeter_collector.decode.attributes import LABEL_BYTES, Repairs, Table, clean, count, label, raw
from graphmeter_collector.decode.usage import with_cached

SCOPES: Final = (
    "opentelemetry.instrumentation.langchain",
    "traceloop.",
    "@traceloop/",
)
BEDROCK_SCOPE: Final = "opentelemetry.instrumentation.bedrock"
KIND: Final = "traceloop.span.kind"
REQUEST_TYPE: Final = "llm.request.type"
_SYSTEM: Final = "gen_ai.system"
_ENTITY: Final = "traceloop.entity.name"
_WORKFLOW: Final = "traceloop.workflow.name"
_ASSOCIATION: Final = "traceloop.association.properties."
_USER: Final = _ASSOCIATION + "user_id"
_SESSION: Final = _ASSOCIATION + "session_id"
_TOTAL: Final = "gen_ai.usage.total_tokens"
_TOTAL_OLD: Final = "llm.usage.total_tokens"
_REASONING: Final = "gen_ai.usage.reasoning_tokens"
_REASONING_OLD: Final = "llm.usage.reasoning_tokens"

TABLE: Final[Table] = MappingProxyType(
    {
        **dict.fromkeys((KIND, REQUEST_TYPE, _ENTITY, _WORKFLOW, _USER, _SESSION), label),
        **dict.fromkeys((_TOTAL, _TOTAL_OLD, _REASONING, _REASONING_OLD), count),
        **dict.fromkeys((_ASSOCIATION + key for key in langgraph.KEYS), label),
        # As long as the graphs are deep.
        _ASSOCIATION + langgraph.NAMESPACE: raw,
        _ASSOCIATION + langgraph.OUTER_NAMESPACE: raw,
    }
)

_OPERATIONS: Final = MappingProxyType(
    {"chat": names.OP_CHAT, "completion": names.OP_TEXT, "embedding": names.OP_EMBEDDINGS}
)
_CHAINS: Final = frozenset({"workflow", "task", "agent"})
_FRAMEWORKS: Final = frozenset({"", "langchain", "langgraph"})
"""What stands for a provider where the class of the model is not known to them."""


def translate(found: dict[str, Any], span: Span, repairs: Repairs) -> str:
    """Say in common words what the span says in OpenLLMetry's; returns its kind."""
    start = len(_ASSOCIATION)
    metadata = {key[start:]: value for key, value in found.items() if key.startswith(_ASSOCIATION)}
    langgraph.fill(found, metadata, repairs)
    if names.OPERATION not in found and (operation := _OPERATIONS.get(found.get(REQUEST_TYPE, ""))):
        found[names.OPERATION] = operation
    if _WORKFLOW in found:
        found.setdefault(names.GRAPH, found[_WORKFLOW])
    for common, theirs in ((names.USER, _USER), (names.SESSION, _SESSION)):
        if theirs in found:
            found.setdefault(common, found[theirs])
    kind = _kind(found, metadata, span.name)
    if kind == names.MODEL:
        _call(found, metadata)
    elif kind in (names.TOOL, names.RETRIEVER):
        found.setdefault(names.TOOL_NAME, found.get(_ENTITY) or clean(span.name, LABEL_BYTES, repairs))
    return kind


def translate_bedrock(found: dict[str, Any], span: Span, repairs: Repairs) -> str:
    """As `translate`, for the instrumentation of Bedrock: its input leaves out what was cached, as AWS's figures do."""
    given, _ = genai.totals(found)
    kind = translate(found, span, repairs)
    if kind == names.MODEL and given is not None:
        found[names.USAGE_INPUT] = given + genai.cached(found)
    return kind


def _kind(found: dict[str, Any], metadata: dict[str, Any], name: str) -> str:
    said = found.get(KIND, "")
    if found.get(names.OPERATION) == "vector_db_retrieve":
        return names.RETRIEVER
    if said == "tool":
        return names.TOOL
    if said in _CHAINS:
        return langgraph.chain_kind(metadata, found.get(_ENTITY, name)) if metadata else names.SPAN
    return genai.kind(found)


def _call(found: dict[str, Any], metadata: dict[str, Any]) -> None:
    # What LangChain calls the provider; the class of the model, which they go by, says less.
    if provider := langgraph.provider(metadata.get(langgraph.PROVIDER)):
        found[names.PROVIDER] = provider
    else:
        named = (found.get(names.PROVIDER) or found.get(_SYSTEM, "")).lower()  # older ones write `OpenAI`, `Langchain`
        found.pop(names.PROVIDER, None)
        found[_SYSTEM] = "" if named in _FRAMEWORKS else named
    if found.get(names.REQUEST_MODEL, "unknown") == "unknown":
        found.pop(names.REQUEST_MODEL, None)
        if asked := metadata.get(langgraph.MODEL):
            found[names.REQUEST_MODEL] = asked
    if found.get(names.RESPONSE_MODEL) == "unknown":
        del found[names.RESPONSE_MODEL]
    for older in (_REASONING, _REASONING_OLD):
        if older in found:
            found.setdefault(names.USAGE_REASONING, found[older])
    cached = genai.cached(found)
    given, output = genai.totals(found)
    if cached and given is not None:
        found[names.USAGE_INPUT] = with_cached(given, output, found.get(_TOTAL, found.get(_TOTAL_OLD)), cached)
