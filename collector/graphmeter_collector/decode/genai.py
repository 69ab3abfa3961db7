"""GenAI attributes of any OpenTelemetry sender: the newest conventions, and the older names still in the field.

In: a span's attributes. Out: whether it is a model, tool or retriever call, by which provider and model, with what usage.
Pinned to semantic-conventions-genai main of 2026-11; older names from semantic-conventions v1.27 to v1.42.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode.attributes import Repairs, Table, count, flag, label, ordinal, seconds, usd
from graphmeter_collector.decode.usage import Reported, exclusive
from graphmeter_collector.records import TokenUsage

_SYSTEM: Final = "gen_ai.system"  # until v1.36
_PROMPT_TOKENS: Final = "gen_ai.usage.prompt_tokens"  # until v1.26
_COMPLETION_TOKENS: Final = "gen_ai.usage.completion_tokens"
_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"  # until v1.42
_CACHE_CREATION_FLAT: Final = "gen_ai.usage.cache_creation_input_tokens"
_CACHE_READ_FLAT: Final = "gen_ai.usage.cache_read_input_tokens"
_AUDIO_CACHE_READ: Final = "gen_ai.usage.audio.cache_read.input_tokens"
_IMAGE_CACHE_READ: Final = "gen_ai.usage.image.cache_read.input_tokens"
_COST: Final = "gen_ai.usage.cost"
"""Of OpenRouter's own traces, OpenLIT, Pydantic AI and others; no name of the conventions."""
_LITELLM_COST: Final = "gen_ai.cost.total_cost"
_OPENAI_TIER: Final = "openai.response.service_tier"

_USAGE_KEYS: Final = (
    names.USAGE_INPUT,
    names.USAGE_OUTPUT,
    names.USAGE_CACHE_READ,
    names.USAGE_CACHE_WRITE,
    names.USAGE_REASONING,
    names.USAGE_AUDIO_INPUT,
    names.USAGE_AUDIO_OUTPUT,
    names.USAGE_IMAGE_INPUT,
    names.USAGE_IMAGE_OUTPUT,
    names.CACHE_WRITE_5M_TOKENS,
    names.CACHE_WRITE_1H_TOKENS,
    _PROMPT_TOKENS,
    _COMPLETION_TOKENS,
    _CACHE_CREATION,
    _CACHE_CREATION_FLAT,
    _CACHE_READ_FLAT,
    _AUDIO_CACHE_READ,
    _IMAGE_CACHE_READ,
)

GENAI: Final[Table] = MappingProxyType(
    {
        names.OPERATION: label,
        names.PROVIDER: label,
        _SYSTEM: label,
        names.REQUEST_MODEL: label,
        names.RESPONSE_MODEL: label,
        names.RESPONSE_ID: label,
        names.CONVERSATION_ID: label,
        names.TOOL_NAME: label,
        names.DATA_SOURCE_ID: label,
        names.ERROR_TYPE: label,
        names.TIME_TO_FIRST_CHUNK: seconds,
        names.CACHE_HIT: flag,
        names.USAGE_MISSING: flag,
        names.SERVICE_TIER: label,
        names.SERVER_ADDRESS: label,
        names.USAGE_IMAGES: count,
        names.REPORTED_COST_USD: usd,
        _OPENAI_TIER: label,
        **dict.fromkeys(_USAGE_KEYS, count),
        **dict.fromkeys((names.SAVED_PREFIX + key for key in _USAGE_KEYS), count),
    }
)

OF_FRAMEWORKS: Final[Table] = MappingProxyType(
    {
        names.WORKFLOW_NAME: label,
        names.NODE_NAME: label,
        names.LANGGRAPH_STEP: ordinal,
        "user.id": label,
        "enduser.id": label,
        "session.id": label,
        _COST: usd,
        _LITELLM_COST: usd,
    }
)
"""What our own spans say in words of ours: read on others' only."""

COUNTS: Final = (*_USAGE_KEYS, *(names.SAVED_PREFIX + key for key in _USAGE_KEYS))
"""Attributes that `usage` reads."""

_PLAIN: Final = (names.USAGE_INPUT, names.USAGE_OUTPUT, names.USAGE_CACHE_READ, names.USAGE_REASONING)
_PLAIN_FIRST: Final = {
    prefix: tuple(prefix + key for key in (*_PLAIN, *(key for key in _USAGE_KEYS if key not in _PLAIN)))
    for prefix in ("", names.SAVED_PREFIX)
}
"""Keys of usage by prefix; those that nearly every call reports come first."""

_KIND_OF_OPERATION: Final = MappingProxyType(
    {
        names.OP_WORKFLOW: names.RUN,
        names.OP_NODE: names.NODE,
        names.OP_CHAT: names.MODEL,
        names.OP_TEXT: names.MODEL,
        names.OP_EMBEDDINGS: names.MODEL,
        "generate_content": names.MODEL,
        names.OP_TOOL: names.TOOL,
        names.OP_RETRIEVAL: names.RETRIEVER,
        names.OP_RERANK: names.RETRIEVER,
    }
)
"""Other operations (invoke_agent, plan …) contain calls; their usage repeats that of the calls and is never billed."""

_PROVIDER_OF_SYSTEM: Final = MappingProxyType(
    {
        "az.ai.inference": "azure.ai.inference",
        "az.ai.openai": "azure.ai.openai",
        "gemini": "gcp.gemini",
        "vertex_ai": "gcp.vertex_ai",
        "xai": "x_ai",
    }
)
"""Values that gen_ai.system had and gen_ai.provider.name renamed; all others stayed."""


_USUAL_TIERS: Final = frozenset({"auto", "default", "standard"})


def kind(found: dict[str, Any]) -> str:
    """What a foreign span stands for: one of `graphmeter.names.KINDS`."""
    operation = found.get(names.OPERATION)
    if operation is None:
        # Before v1.30 some instrumentations sent model and usage without naming the operation.
        is_call = (names.REQUEST_MODEL in found or names.RESPONSE_MODEL in found) and usage_reported(found)
        return names.MODEL if is_call else names.SPAN
    return _KIND_OF_OPERATION.get(operation, names.SPAN)


def translate(found: dict[str, Any], span: Span, repairs: Repairs) -> str:
    """Nothing to say in other words, but where a span of a framework stands; returns its kind.

    A workflow inside of another one is a subgraph: its ancestors tell.
    """
    for common, general in (
        (names.GRAPH, names.WORKFLOW_NAME),
        (names.NODE_PATH, names.NODE_NAME),
    ):
        if general in found:
            found.setdefault(common, found[general])
    return kind(found)


def cached(found: dict[str, Any]) -> int:
    """Input tokens read from and written to a cache."""
    read = _first(found, names.USAGE_CACHE_READ, _CACHE_READ_FLAT)
    written = _first(found, names.USAGE_CACHE_WRITE, _CACHE_CREATION, _CACHE_CREATION_FLAT)
    return (read or 0) + (written or 0)


def totals(found: dict[str, Any]) -> tuple[int | None, int | None]:
    """Input and output tokens as reported."""
    return _first(found, names.USAGE_INPUT, _PROMPT_TOKENS), _first(found, names.USAGE_OUTPUT, _COMPLETION_TOKENS)


def _first(found: dict[str, Any], *keys: str) -> int | None:
    return next((found[key] for key in keys if key in found), None)


def provider(found: dict[str, Any]) -> str:
    named: str = found.get(names.PROVIDER) or ""
    if named:
        return named
    system: str = found.get(_SYSTEM, "")
    return _PROVIDER_OF_SYSTEM.get(system, system)


def service_tier(found: dict[str, Any]) -> str:
    """Tier that a call was served at; empty for the provider's usual one."""
    tier: str = found.get(names.SERVICE_TIER) or found.get(_OPENAI_TIER, "")
    return "" if tier in _USUAL_TIERS else tier


def reported_cost(found: dict[str, Any]) -> int | None:
    """What the sender says that the call cost, in nano-USD."""
    return _first(found, names.REPORTED_COST_USD, _COST, _LITELLM_COST)


def usage_reported(found: dict[str, Any], prefix: str = "") -> bool:
    """Whether the provider's answer named any tokens; a count of zero is a report."""
    return any(prefix + key in found for key in _USAGE_KEYS)


def usage(found: dict[str, Any], repairs: Repairs, prefix: str = "") -> TokenUsage:
    """Exclusive buckets of the call; with `prefix` those that a cached answer did not have to consume."""

    input_, output, read, reasoning, *others = map(found.get, _PLAIN_FIRST[prefix])
    if input_ is not None and output is not None and not any(others):
        # What nearly every call reports; the general way below would say the same.
        read, reasoning = read or 0, reasoning or 0
        if read <= input_ and reasoning <= output:
            return TokenUsage(input_ - read, read, 0, 0, 0, 0, output - reasoning, reasoning, 0, 0)

    def first(*keys: str) -> int | None:
        for key in keys:
            value: int | None = found.get(prefix + key)
            if value is not None:
                return value
        return None

    reported = Reported(
        input=first(names.USAGE_INPUT, _PROMPT_TOKENS),
        output=first(names.USAGE_OUTPUT, _COMPLETION_TOKENS),
        cache_read=first(names.USAGE_CACHE_READ, _CACHE_READ_FLAT) or 0,
        cache_write=first(names.USAGE_CACHE_WRITE, _CACHE_CREATION, _CACHE_CREATION_FLAT) or 0,
        cache_write_5m=first(names.CACHE_WRITE_5M_TOKENS) or 0,
        cache_write_1h=first(names.CACHE_WRITE_1H_TOKENS) or 0,
        audio_input=_uncached(first(names.USAGE_AUDIO_INPUT), first(_AUDIO_CACHE_READ)),
        image_input=_uncached(first(names.USAGE_IMAGE_INPUT), first(_IMAGE_CACHE_READ)),
        reasoning=first(names.USAGE_REASONING) or 0,
        audio_output=first(names.USAGE_AUDIO_OUTPUT) or 0,
        image_output=first(names.USAGE_IMAGE_OUTPUT) or 0,
    )
    return exclusive(reported, repairs)


def _uncached(total: int | None, cached: int | None) -> int:
    return max((total or 0) - (cached or 0), 0)


def within(ttft_ns: int, duration_ns: int, repairs: Repairs) -> int:
    """The time to the first chunk, which is no longer than the call."""
    if ttft_ns > duration_ns:
        repairs["clamped"] += 1
        return duration_ns
    return ttft_ns
