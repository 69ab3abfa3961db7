"""Twins: spans of other instrumentations that record a run, node or call which our own client has recorded already. In: a
foreign span, its scope and service. Out: whether it is to be counted by another span.

Two marks of our client tell. Inside a model call of ours every span inherits an entry in `tracestate`: what the
instrumentation of a provider's SDK records there is the same call. And other instrumentations of LangChain, which hear the
same events, write the run's metadata on their spans, with an entry of ours in it (see `graphmeter.neighbours`).

A twin stays in the trace, and is neither priced nor counted as a call. What a downstream service does under the same trace
state is its own business, and so is a raw call of a provider's SDK in a node: our client does not see it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names

_WITHOUT_METADATA: Final = "github.com/grafana/sigil/sdks/python"
"""agento11y does not say LangChain's metadata: what it heard from LangChain (by the attribute below) is taken at the trace
state's word."""
_FROM_LANGCHAIN: Final = "agento11y.framework.run_id"
_METADATA: Final = "metadata"  # openinference: all of it, as JSON
_SUFFIX: Final = f".{names.METADATA_MARK}"
_LONGEST_METADATA: Final = 65_536


def is_twin(span: Span, kind: str, scope: str, service: str) -> bool:
    """Whether the foreign `span` repeats a call of ours.

    Args:
        span: As it came.
        kind: What it stands for, one of `graphmeter.names.KINDS`.
        scope: Name of its instrumentation scope.
        service: `service.name` of its resource.
    """
    if kind == names.SPAN:
        return False
    entry = _entry(span.trace_state)
    if kind == names.MODEL and entry and _means(entry, names.MARK_CALL, service):
        return True
    if scope.startswith(_WITHOUT_METADATA):
        inside = _means(entry, names.MARK_RUN, service) or _means(entry, names.MARK_CALL, service)
        return inside and any(pair.key == _FROM_LANGCHAIN for pair in span.attributes)
    if not scope.startswith(names.LANGCHAIN_SCOPES):
        return False
    return _means(_in_metadata(span.attributes), names.MARK_RUN, service)


def _means(mark: str, letter: str, service: str) -> bool:
    return mark == f"{letter}:{hashlib.blake2b(service.encode('utf-8', 'replace'), digest_size=4).hexdigest()}"


def _entry(trace_state: str) -> str:
    if names.TRACESTATE in trace_state:
        for member in trace_state.split(","):
            key, _, value = member.partition("=")
            if key.strip() == names.TRACESTATE:
                return value.strip()
    return ""


def _in_metadata(attributes: Iterable[KeyValue]) -> str:
    for pair in attributes:
        text = pair.value.string_value
        if pair.key.endswith(_SUFFIX):
            return text.strip('"')  # Langfuse writes all metadata as JSON
        if pair.key == _METADATA and names.METADATA_MARK in text and len(text) <= _LONGEST_METADATA:
            try:
                metadata = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(metadata, dict):
                return str(metadata.get(names.METADATA_MARK, ""))
    return ""
