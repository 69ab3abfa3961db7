"""Finished runs in, OpenTelemetry spans out: every name and attribute of the wire contract is written here.

Runs in the exporter's thread, off the application's hot path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from graphmeter import names
from graphmeter.records import Failure, Note, Run, Value, span_id_of

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_OPERATIONS = {
    names.RUN: names.OP_WORKFLOW,
    names.SUBGRAPH: names.OP_WORKFLOW,
    names.NODE: names.OP_NODE,
    names.MODEL: names.OP_CHAT,
    names.TOOL: names.OP_TOOL,
    names.RETRIEVER: names.OP_RETRIEVAL,
}
_LONGEST = 8192
_UNSET = Status(StatusCode.UNSET)


@dataclass(slots=True)
class Description:
    """One span, before it has a resource or an exporter."""

    name: str
    kind: SpanKind
    attributes: dict[str, AttributeValue]
    status: Status
    events: list[Event] = field(default_factory=list)


@cache
def scope() -> InstrumentationScope:
    """The instrumentation scope of all our spans; the collector trusts it to mean: complete, priced by rule, ours."""
    try:
        release = version("graphmeter")
    except PackageNotFoundError:  # run from a source tree
        release = "0"
    return InstrumentationScope(names.SCOPE, release)


def note_id_of(note: Note) -> int:
    """Span id of `note`: the same whoever sends it, and however often."""
    about = note.run_id.bytes if note.run_id is not None else note.trace_id.to_bytes(16, "big")
    digest = int.from_bytes(hashlib.blake2b(about + note.salt, digest_size=16).digest(), "big")
    return ((digest >> 64) ^ (digest & 0xFFFF_FFFF_FFFF_FFFF)) or 1


def _shared(run: Run, shared: Mapping[str, Value], service: str) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = dict(shared)
    if run.tree.run_id:
        attributes[names.RUN_ID] = run.tree.run_id
        attributes[names.GRAPH] = run.tree.graph or service
    elif run.tree.graph:
        attributes[names.GRAPH] = run.tree.graph
    return attributes


def describe_note(note: Note, service: str) -> Description:
    """Name and attributes of `note`; `service` names graphs that have no name."""
    name = names.NOTE_NAMES[note.kind]
    attributes: dict[str, AttributeValue] = {**note.shared, **note.facts}
    if note.run_id is not None:
        attributes[names.RUN_ID] = str(note.run_id)
        if note.graph is not None:
            attributes[names.GRAPH] = note.graph or service
    attributes[names.KIND] = note.kind
    attributes[names.NODE_PATH] = ""
    attributes[names.OPERATION] = name
    if note.kind == names.START:
        attributes[names.STATUS] = names.RUNNING
    return Description(name, SpanKind.INTERNAL, _clean(attributes), _UNSET)


def describe(run: Run, service: str, *, error_messages: bool = False) -> Description:
    """Name, attributes, status and events of the finished `run`; `service` names graphs that have no name."""
    kind = run.kind
    attributes = _shared(run, run.shared, service)
    attributes[names.KIND] = kind
    attributes[names.NODE_PATH] = run.node
    attributes[names.OPERATION] = operation = _OPERATIONS[kind]
    attributes[names.STATUS] = run.status
    if run.facts:
        attributes.update(run.facts)
    label = run.name
    span_kind = SpanKind.INTERNAL
    if kind == names.NODE:
        attributes[names.NODE_NAME] = label
        attributes[names.ATTEMPT] = run.attempt
        attributes[names.ATTEMPT_FINAL] = run.final
        attributes[names.LANGGRAPH_STEP] = run.step
        attributes[names.LANGGRAPH_CHECKPOINT_NS] = run.ns
    elif kind == names.MODEL:
        span_kind = SpanKind.CLIENT
        operation = str(attributes[names.OPERATION])
        if run.first_ns:
            attributes[names.TIME_TO_FIRST_CHUNK] = (run.first_ns - run.started_ns) / 1e9
            attributes[names.REQUEST_STREAM] = True
    elif kind == names.TOOL:
        attributes[names.TOOL_NAME] = label
    elif kind == names.RETRIEVER:
        attributes[names.DATA_SOURCE_ID] = label
    else:
        if kind == names.RUN:
            label = run.tree.graph or service
            attributes[names.LANGGRAPH_STEP] = run.tree.steps
        attributes[names.WORKFLOW_NAME] = label
        if run.checkpoint_id:
            attributes[names.LANGGRAPH_CHECKPOINT_ID] = run.checkpoint_id
        if run.resumed_from:
            attributes[names.RESUMED_FROM] = run.resumed_from
    if run.task is not None and kind in (names.MODEL, names.TOOL, names.RETRIEVER):
        attributes[names.ATTEMPT_SPAN] = f"{run.task.context.span_id:016x}"
    span = Description(f"{operation} {label}" if label else operation, span_kind, attributes, _UNSET)
    if run.status == names.ERROR:
        _describe_failure(span, run, run.failure or Failure("_OTHER", ""), with_message=error_messages)
    span.name = _text(span.name)
    _clean(attributes)
    if run.captured is not None:  # clean and cut to size already, as JSON has to be
        attributes.update(run.captured.ready)
    return span


def _describe_failure(span: Description, run: Run, failure: Failure, *, with_message: bool) -> None:
    span.attributes[names.ERROR_TYPE] = failure.type
    event: dict[str, AttributeValue] = {"exception.type": failure.type}
    if failure.frames is not None:
        event["exception.stacktrace"] = _text("".join(failure.frames.format()))
    if with_message and failure.message:
        event["exception.message"] = _text(failure.message)
    span.status = Status(StatusCode.ERROR, _text(failure.message) if with_message else None)
    span.events.append(Event("exception", event, run.ended_ns))


def build(run: Run, resource: Resource, *, error_messages: bool = False) -> ReadableSpan:
    """The finished span of `run`, sampled whatever the application's sampler says."""
    service = str(resource.attributes.get(names.SERVICE_NAME, ""))
    span = describe(run, service, error_messages=error_messages)
    return ReadableSpan(
        span.name,
        SpanContext(run.tree.trace_id, span_id_of(run.run_id), False, _SAMPLED, run.tree.state),
        run.parent_context,
        resource,
        span.attributes,
        span.events,
        [Link(link) for link in run.links or ()],
        span.kind,
        status=span.status,
        start_time=run.started_ns,
        end_time=max(run.ended_ns, run.started_ns),
        instrumentation_scope=scope(),
    )


def build_note(note: Note, resource: Resource) -> ReadableSpan:
    """The span of `note`: zero duration, below the root span if it is about a run."""
    span = describe_note(note, str(resource.attributes.get(names.SERVICE_NAME, "")))
    root = SpanContext(note.trace_id, span_id_of(note.run_id), False, _SAMPLED) if note.run_id is not None else None
    return ReadableSpan(
        span.name,
        SpanContext(note.trace_id, note_id_of(note), False, _SAMPLED, note.state),
        root,
        resource,
        span.attributes,
        (),
        (),
        span.kind,
        status=span.status,
        start_time=note.at_ns,
        end_time=note.at_ns,
        instrumentation_scope=scope(),
    )


def _text(text: str, longest: int = _LONGEST) -> str:
    """`text` as protobuf accepts it: no lone surrogates, no NUL, not endless."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii():
        return text.replace("\0", "") if "\0" in text else text
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _clean(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    for key, value in attributes.items():
        # Nearly every text is fine as it is.
        if isinstance(value, str) and not (len(value) <= _LONGEST and value.isascii() and "\0" not in value):
            # Half of a JSON text is none; how much a graph may have of it is `graphmeter.topology`'s to say.
            attributes[key] = _text(value, len(value)) if key == names.TOPOLOGY_JSON else _text(value)
    return attributes


def usage_attributes(attributes: Mapping[str, AttributeValue]) -> dict[str, int]:
    """Token counts among `attributes`."""
    return {
        key: value
        for key, value in attributes.items()
        if key.startswith(("gen_ai.usage.", "graphmeter.usage.")) and isinstance(value, int)
    }
