"""OpenInference (Arize): `openinference.span.kind`, `llm.*`, `tool.*`, and LangChain's metadata as JSON.

Source: https://github.com/Arize-ai/openinference, spec/semantic_conventions.md and the instrumentations of LangChain
(0.1.80), OpenAI, Anthropic and Bedrock. `llm.token_count.prompt` contains what was read from and written to a cache, with
one exception: that of Bedrock's Converse passes on AWS's figure, which leaves it out.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode import langgraph
from graphmeter_collector.decode.attributes import LABEL_BYTES, Repairs, Table, clean, count, label, raw, usd
from graphmeter_collector.decode.usage import with_cached

KIND: Final = "openinference.span.kind"
_PROVIDER: Final = "llm.provider"
_SYSTEM: Final = "llm.system"
_MODEL: Final = "llm.model_name"
_EMBEDDING_MODEL: Final = "embedding.model_name"
_PROMPT: Final = "llm.token_count.prompt"
_COMPLETION: Final = "llm.token_count.completion"
_TOTAL: Final = "llm.token_count.total"
_CACHE_READ: Final = "llm.token_count.prompt_details.cache_read"
_CACHE_WRITE: Final = "llm.token_count.prompt_details.cache_write"
_AUDIO: Final = "llm.token_count.prompt_details.audio"
_REASONING: Final = "llm.token_count.completion_details.reasoning"
_AUDIO_OUT: Final = "llm.token_count.completion_details.audio"
_COST: Final = "llm.cost.total"
_TOOL: Final = "tool.name"
_RERANK_MODEL: Final = "reranker.model_name"
_RERANKER: Final = "RERANKER"
_METADATA: Final = "metadata"
_SESSION: Final = "session.id"
_NODE_ID: Final = "graph.node.id"
_NODE_NAME: Final = "graph.node.name"
_FIRST: Final = "First Token Stream Event"
_LONGEST_METADATA: Final = 65_536

_USAGE: Final = MappingProxyType(
    {
        _PROMPT: names.USAGE_INPUT,
        _COMPLETION: names.USAGE_OUTPUT,
        _CACHE_READ: names.USAGE_CACHE_READ,
        _CACHE_WRITE: names.USAGE_CACHE_WRITE,
        _AUDIO: names.USAGE_AUDIO_INPUT,
        _REASONING: names.USAGE_REASONING,
        _AUDIO_OUT: names.USAGE_AUDIO_OUTPUT,
    }
)

TABLE: Final[Table] = MappingProxyType(
    {
        **dict.fromkeys(
            (KIND, _PROVIDER, _SYSTEM, _MODEL, _EMBEDDING_MODEL, _TOOL, _RERANK_MODEL, _NODE_ID, _NODE_NAME), label
        ),
        **dict.fromkeys((*_USAGE, _TOTAL), count),
        _COST: usd,
        _METADATA: raw,
    }
)

_CHAINS: Final = frozenset({"CHAIN", "AGENT"})
_PROVIDERS: Final = MappingProxyType(
    {"azure": "azure.ai.openai", "aws": "aws.bedrock", "google": "gcp.gemini", "mistralai": "mistral_ai", "xai": "x_ai"}
)
"""Of OpenInference's well-known values those that OpenTelemetry spells in another way."""


def translate(found: dict[str, Any], span: Span, repairs: Repairs) -> str:
    """Say in common words what the span says in OpenInference's; returns its kind."""
    metadata = _metadata(found, repairs)
    langgraph.fill(found, metadata, repairs)
    if _NODE_ID in found or _NODE_NAME in found:
        # Frameworks other than LangGraph.
        found.setdefault(names.NODE_PATH, found.get(_NODE_NAME) or found.get(_NODE_ID))
    if found.get(_SESSION) == found.get(names.CONVERSATION_ID):
        # Their instrumentation of LangChain repeats the thread as session.
        found.pop(_SESSION, None)
    kind = _kind(found, metadata, span.name)
    if kind == names.MODEL:
        _call(found, metadata, span, repairs)
    elif kind in (names.TOOL, names.RETRIEVER):
        found.setdefault(
            names.TOOL_NAME, found.get(_TOOL) or found.get(_RERANK_MODEL) or clean(span.name, LABEL_BYTES, repairs)
        )
        general = names.OP_TOOL if kind == names.TOOL else names.OP_RETRIEVAL
        found.setdefault(names.OPERATION, names.OP_RERANK if found.get(KIND) == _RERANKER else general)
    elif kind == names.RUN:
        found.setdefault(names.GRAPH, clean(span.name, LABEL_BYTES, repairs))
    return kind


def _kind(found: dict[str, Any], metadata: dict[str, Any], name: str) -> str:
    said = found.get(KIND, "")
    if said in ("LLM", "EMBEDDING"):
        return names.MODEL
    # Whatever has "agent" in its name is an AGENT to the instrumentation of LangChain, models and tools as well.
    if said == "TOOL" or (said == "AGENT" and _TOOL in found):
        return names.TOOL
    if said in ("RETRIEVER", _RERANKER):
        return names.RETRIEVER
    if said == "AGENT" and _MODEL in found and (_PROMPT in found or _COMPLETION in found):
        return names.MODEL
    return langgraph.chain_kind(metadata, name) if said in _CHAINS and metadata else names.SPAN


def _call(found: dict[str, Any], metadata: dict[str, Any], span: Span, repairs: Repairs) -> None:
    embedding = found.get(KIND) == "EMBEDDING"
    found.setdefault(names.OPERATION, names.OP_EMBEDDINGS if embedding else names.OP_CHAT)
    provider = langgraph.provider(metadata.get(langgraph.PROVIDER))
    if not provider:
        named: str = found.get(_PROVIDER) or found.get(_SYSTEM, "")
        provider = _PROVIDERS.get(named.lower(), named)
    found.setdefault(names.PROVIDER, provider)
    asked = metadata.get(langgraph.MODEL)
    if isinstance(asked, str) and asked:
        found.setdefault(names.REQUEST_MODEL, clean(asked, LABEL_BYTES, repairs))
    if model := found.get(_MODEL) or found.get(_EMBEDDING_MODEL):
        found.setdefault(names.RESPONSE_MODEL, model)
    if any(key in found for key in _USAGE):
        read, write = found.get(_CACHE_READ, 0), found.get(_CACHE_WRITE, 0)
        for theirs, common in _USAGE.items():
            if theirs in found:
                found[common] = found[theirs]
        if _PROMPT in found:
            found[names.USAGE_INPUT] = with_cached(
                found[_PROMPT], found.get(_COMPLETION), found.get(_TOTAL), read + write
            )
    if _COST in found:
        found.setdefault(names.REPORTED_COST_USD, found[_COST])
    for event in span.events:
        if event.name == _FIRST:
            found.setdefault(names.TIME_TO_FIRST_CHUNK, max(event.time_unix_nano - span.start_time_unix_nano, 0))
            break


def _metadata(found: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    text: str = found.get(_METADATA, "")
    if not text:
        return {}
    if len(text) > _LONGEST_METADATA:
        repairs["metadata_too_long"] += 1
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        repairs["bad_metadata"] += 1
        return {}
    return metadata if isinstance(metadata, dict) else {}
