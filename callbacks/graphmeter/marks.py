"""Our mark on what others trace inside a measured run, so that twins of our spans are known: in `tracestate`, which children
of what is current inherit, and in LangChain's metadata (`graphmeter.neighbours`).

In: the trace state of a run and the application's service name. Out: two trace states, for what is inside the run and for
what is inside one of its model calls, where the instrumentation of a provider's SDK records the same call once more.

Trace state travels on to other services, whose calls are their own: the mark says which service it means. It says so by a
hash, because model providers see it, too.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span, TraceState

from graphmeter import guard, names

_MOST_ENTRIES: Final = 32
"""https://www.w3.org/TR/trace-context/#tracestate-header: the rightmost, oldest ones have to go."""

_provider: object = None
_hash = ""
_plain: tuple[TraceState, TraceState] = (TraceState(), TraceState())
"""The marks alone: most runs have no other entry, and share these two."""


def inside(state: TraceState, provider: object) -> tuple[TraceState, TraceState]:
    """`state` with our entry in front: as it is inside a run, and inside a model call. Other entries stay.

    `provider` is the application's, which knows the service.
    """
    try:
        if provider is not _provider:
            _look(provider)
    except Exception as error:  # noqa: BLE001 - the application's provider may be anybody's code; guard counts and logs
        guard.swallowed("marks", error)
        return state, state
    if not state:
        return _plain
    others = [(key, value) for key, value in state.items() if key != names.TRACESTATE][: _MOST_ENTRIES - 1]
    return (
        TraceState([(names.TRACESTATE, f"{names.MARK_RUN}:{_hash}"), *others]),
        TraceState([(names.TRACESTATE, f"{names.MARK_CALL}:{_hash}"), *others]),
    )


def measured() -> str:
    """The mark in LangChain's metadata."""
    provider = trace.get_tracer_provider()
    if provider is not _provider:
        _look(provider)
    return f"{names.MARK_RUN}:{_hash}"


def is_of_langchain(span: Span) -> bool:
    """Whether `span` was made by another instrumentation of LangChain: it says what we say, and is no work between."""
    scope = getattr(getattr(span, "instrumentation_scope", None), "name", "")
    return isinstance(scope, str) and scope.startswith(names.LANGCHAIN_SCOPES)


def _look(provider: object) -> None:
    global _provider, _hash, _plain  # one application, one provider; it changes when the application sets it up
    _hash = hashlib.blake2b(_service(provider).encode("utf-8", "replace"), digest_size=4).hexdigest()
    _plain = (
        TraceState([(names.TRACESTATE, f"{names.MARK_RUN}:{_hash}")]),
        TraceState([(names.TRACESTATE, f"{names.MARK_CALL}:{_hash}")]),
    )
    _provider = provider


def _service(provider: object) -> str:
    """What the application's spans say as `service.name`."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    attributes = getattr(getattr(provider, "resource", None), "attributes", None)
    if attributes is None:  # no tracing of its own so far; an instrumentation may still bring a provider along
        attributes = OTELResourceDetector().detect().attributes
        unknown = f"unknown_service:{Path(sys.executable).name}" if sys.executable else "unknown_service"
        return str(attributes.get(names.SERVICE_NAME) or unknown)
    return str(attributes.get(names.SERVICE_NAME, ""))
