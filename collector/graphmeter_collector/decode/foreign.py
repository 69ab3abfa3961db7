"""Spans of other instrumentations: a record and what its dialect found in, what it says of its run, and how it ended out.

One span says at most what it is itself. What it is a part of (whose run, whose node) its ancestors may say, who arrive when
they like: the store asks them (see `SpanRecord.foreign`).
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode import langgraph
from graphmeter_collector.decode.attributes import Repairs, label
from graphmeter_collector.records import SpanRecord

_INTERRUPTS: Final = frozenset({"GraphInterrupt", "NodeInterrupt"})
_CANCELLATIONS: Final = frozenset(
    {"CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit", "GraphDrained"}
)
_CONTROL: Final = frozenset({"ParentCommand", "GraphBubbleUp"})
"""Exceptions by which LangGraph and Python pass control; as our client takes them."""
_PAUSES: Final = frozenset({names.RUN, names.SUBGRAPH, names.NODE, names.TOOL})
_RATE_LIMITS: Final = ("ratelimit", "toomanyrequests", "throttling", "resourceexhausted")


def identify(record: SpanRecord, found: dict[str, Any], service: str) -> None:
    """What the span says of the run that it is or belongs to."""
    record.foreign = True
    if record.kind == names.SPAN:
        return
    if record.graph:
        # A complete statement. Without a graph, or of a span that is no call, it would make runs that never end.
        record.run_id = found.get(names.RUN_ID, "")
    record.step = found.get(names.LANGGRAPH_STEP, 0)
    record.user_id = record.user_id or found.get("user.id") or found.get("enduser.id", "")
    record.session_id = record.session_id or found.get("session.id", "")
    if record.graph == langgraph.UNNAMED:
        # An unnamed graph takes the name of its service.
        record.graph = service


def outcome(record: SpanRecord, span: Span, repairs: Repairs) -> None:
    """Tell control flow from failure: others report an interrupt, a cancelled task or a jump to a parent as errors."""
    if record.status != names.ERROR:
        if record.kind in _PAUSES and span.events and _plain(_exception(span, repairs)) in _INTERRUPTS:
            record.status = names.INTERRUPTED
        return
    name = _plain(record.error_type)
    status = (
        names.INTERRUPTED
        if name in _INTERRUPTS
        else names.CANCELLED
        if name in _CANCELLATIONS
        else names.OK
        if name in _CONTROL
        else names.ERROR
    )
    if status != names.ERROR:
        record.status = status
        record.error_type = record.status_message = ""
        return
    if record.kind == names.MODEL:
        bare = name.lower().replace("_", "")
        record.rate_limited = record.error_type == "429" or any(word in bare for word in _RATE_LIMITS)
    if name == record.error_type and _plain(whole := _exception(span, repairs)) == name:
        record.error_type = whole


def _plain(kind: str) -> str:
    return kind.rpartition(".")[2]


def _exception(span: Span, repairs: Repairs) -> str:
    """Type of the last exception that the span recorded."""
    for event in reversed(span.events):
        if event.name == "exception":
            for pair in event.attributes:
                if pair.key == "exception.type":
                    return label(pair.value, repairs) or ""
    return ""
