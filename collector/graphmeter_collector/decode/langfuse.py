"""Langfuse: `langfuse.observation.*`, every value that is not a text as JSON, usage in exclusive buckets already.

Source: langfuse 5.0.4 (`langfuse.langchain.CallbackHandler`, `LangfuseOtelSpanAttributes`).
"""

from __future__ import annotations

import json
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode import langgraph
from graphmeter_collector.decode.attributes import LABEL_BYTES, MAX_COUNT, Repairs, Table, clean, label, nano_of, raw

SCOPE: Final = "langfuse-sdk"
KIND: Final = "langfuse.observation.type"
_MODEL: Final = "langfuse.observation.model.name"
_USAGE: Final = "langfuse.observation.usage_details"
_COST: Final = "langfuse.observation.cost_details"
_FIRST: Final = "langfuse.observation.completion_start_time"
_MESSAGE: Final = "langfuse.observation.status_message"
_METADATA: Final = "langfuse.observation.metadata."
_LONGEST: Final = 8_192

TABLE: Final[Table] = MappingProxyType(
    {
        KIND: label,
        _MODEL: label,
        _FIRST: label,
        _MESSAGE: label,
        _USAGE: raw,
        _COST: raw,
        **dict.fromkeys((_METADATA + key for key in langgraph.KEYS), raw),
    }
)

_KINDS: Final = MappingProxyType(
    {
        "generation": names.MODEL,
        "embedding": names.MODEL,
        "tool": names.TOOL,
        "retriever": names.RETRIEVER,
    }
)
_TOTALS: Final = MappingProxyType({"input": names.USAGE_INPUT, "output": names.USAGE_OUTPUT})
_INCLUSIVE: Final = MappingProxyType({"prompt_tokens": names.USAGE_INPUT, "completion_tokens": names.USAGE_OUTPUT})
"""OpenAI's own words are passed on as they came."""
_PARTS: Final = MappingProxyType(
    {
        "input_cache_read": names.USAGE_CACHE_READ,
        "input_cached_tokens": names.USAGE_CACHE_READ,
        "input_cache_creation": names.USAGE_CACHE_WRITE,
        "input_ephemeral_5m_input_tokens": names.CACHE_WRITE_5M_TOKENS,
        "input_ephemeral_1h_input_tokens": names.CACHE_WRITE_1H_TOKENS,
        "input_audio": names.USAGE_AUDIO_INPUT,
        "output_reasoning": names.USAGE_REASONING,
        "output_reasoning_tokens": names.USAGE_REASONING,
        "output_audio": names.USAGE_AUDIO_OUTPUT,
    }
)


def translate(found: dict[str, Any], span: Span, repairs: Repairs) -> str:
    """Say in common words what the span says in Langfuse's; returns its kind."""
    start = len(_METADATA)
    metadata = {key[start:]: _value(text) for key, text in found.items() if key.startswith(_METADATA)}
    langgraph.fill(found, metadata, repairs)
    if found.get(_MESSAGE, "").startswith("(Interrupt("):
        found.setdefault(names.ERROR_TYPE, "langgraph.errors.GraphInterrupt")  # all that is left of the exception
    said = found.get(KIND, "")
    kind = _KINDS.get(said) or langgraph.chain_kind(metadata, span.name)
    if kind == names.MODEL:
        found.setdefault(names.OPERATION, names.OP_EMBEDDINGS if said == "embedding" else names.OP_CHAT)
        found.setdefault(names.PROVIDER, langgraph.provider(metadata.get(langgraph.PROVIDER)))
        asked = metadata.get(langgraph.MODEL)
        if isinstance(asked, str) and asked:
            found.setdefault(names.REQUEST_MODEL, clean(asked, LABEL_BYTES, repairs))
        if _MODEL in found:
            found.setdefault(names.RESPONSE_MODEL, found[_MODEL])
        _usage(found)
        _cost(found, repairs)
        _first_token(found, span)
    elif kind in (names.TOOL, names.RETRIEVER):
        found.setdefault(names.TOOL_NAME, clean(span.name, LABEL_BYTES, repairs))
        found.setdefault(names.OPERATION, names.OP_TOOL if kind == names.TOOL else names.OP_RETRIEVAL)
    elif kind == names.RUN:
        found.setdefault(names.GRAPH, clean(span.name, LABEL_BYTES, repairs))
    return kind


def _usage(found: dict[str, Any]) -> None:
    details = _value(found.get(_USAGE, ""))
    if not isinstance(details, dict):
        return
    counts = {
        key: min(max(value, 0), MAX_COUNT)
        for key, value in details.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    # LangChain's mark of an answer from its cache.
    hit = counts.pop("total_cost", None) == 0
    if hit:
        found[names.CACHE_HIT] = True
    said = {common: counts[theirs] for theirs, common in _PARTS.items() if theirs in counts}
    for total, common in _TOTALS.items():
        if total in counts:
            parts = sum(count for key, count in counts.items() if key.startswith(total + "_") and _is_part(key, total))
            said[common] = counts[total] + parts
    for total, common in _INCLUSIVE.items():
        if total in counts:
            said.setdefault(common, counts[total])
    prefix = names.SAVED_PREFIX if hit else ""
    found.update({prefix + key: count for key, count in said.items()})


def _cost(found: dict[str, Any], repairs: Repairs) -> None:
    """USD by bucket, in the words of whoever set them; their `total` may be left out."""
    details = _value(found.get(_COST, ""))
    if not isinstance(details, dict):
        return
    amounts = {
        bucket: usd for bucket, usd in details.items() if isinstance(usd, (int, float)) and not isinstance(usd, bool)
    }
    if amounts and (nano := nano_of(amounts.get("total", sum(amounts.values())), repairs)) is not None:
        found.setdefault(names.REPORTED_COST_USD, nano)


def _is_part(key: str, total: str) -> bool:
    """Tiers repeat what other parts say; all else was taken off the total."""
    return not key.startswith(f"{total}_priority")


def _first_token(found: dict[str, Any], span: Span) -> None:
    said = found.get(_FIRST, "").strip('"')
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return
    if moment.tzinfo is not None:
        passed = round(moment.timestamp() * 1_000_000) * 1_000 - span.start_time_unix_nano
        found.setdefault(names.TIME_TO_FIRST_CHUNK, max(passed, 0))


def _value(text: str) -> Any:
    """What a JSON text holds; a text that is none is meant as it stands."""
    if not text or len(text) > _LONGEST:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
