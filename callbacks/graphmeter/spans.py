"""Finished runs in, OpenTelemetry spans out: every name and attribute of the wire contract is written here.

Runs in the exporter's thread, off the application's hot path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from graphmeter import names
from graphmeter.names import ERROR, MODEL, NODE, RETRIEVER, RUN, SUBGRAPH, TOOL
from graphmeter.records import Failure, Note, Run, Value, span_id_of

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_OPERATIONS = {
    RUN: names.OP_WORKFLOW,
    SUBGRAPH: names.OP_WORKFLOW,
    NODE: names.OP_NODE,
    MODEL: names.OP_CHAT,
    TOOL: names.OP_TOOL,
    RETRIEVER: names.OP_RETRIEVAL,
}
_LONGEST = 8192
UNSET = Status(StatusCode.UNSET)
CLIENT, INTERNAL = SpanKind.CLIENT, SpanKind.INTERNAL
_NOTHING: Mapping[str, AttributeValue] = {}
_known: tuple[Resource, str] | None = None
"""A resource and its service name."""


class Description(NamedTuple):
    """One span, before it has a resource or an exporter."""

    name: str
    kind: SpanKind
    own: dict[str, AttributeValue]
    shared: Mapping[str, AttributeValue] = _NOTHING
    """Attributes of all spans of a tree. One object for all of them; where both say something, the span itself is right."""
    status: Status = UNSET
    events: Sequence[Event] = ()


_described = partial(tuple.__new__, Description)
"""Nearly every span is made here, in half the time that a named tuple takes to look at its defaults."""


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


def _shared(run: Run, service: str) -> Mapping[str, AttributeValue]:
    """What all spans of a tree say, ready to send: made once for all that ended with the same attribution."""
    tree, shared = run.tree, run.shared
    if tree.described is None or tree.described[0] is not shared:
        attributes: dict[str, AttributeValue] = {}
        _add(attributes, shared)
        if tree.root_id is not None:
            attributes[names.RUN_ID] = tree.run_id
            attributes[names.GRAPH] = _text(tree.graph or service)
        elif tree.graph:
            attributes[names.GRAPH] = _text(tree.graph)
        tree.described = shared, attributes
    return tree.described[1]


def describe_note(note: Note, service: str) -> Description:
    """Name and attributes of `note`; `service` names graphs that have no name."""
    name = names.NOTE_NAMES[note.kind]
    attributes: dict[str, AttributeValue] = {}
    _add(attributes, note.shared)
    _add(attributes, note.facts)
    if note.run_id is not None:
        attributes[names.RUN_ID] = str(note.run_id)
        if note.graph is not None:
            attributes[names.GRAPH] = _text(note.graph or service)
    attributes[names.KIND] = note.kind
    attributes[names.NODE_PATH] = ""
    attributes[names.OPERATION] = name
    if note.kind == names.START:
        attributes[names.STATUS] = names.RUNNING
    return Description(name, INTERNAL, attributes)


def describe(run: Run, service: str, *, error_messages: bool = False, whole: bool = False) -> Description:
    """Name, attributes, status and events of the finished `run`; `service` names graphs that have no name.

    `whole`: what the tree shares is among its own attributes, for who has no use for it apart.
    """
    kind = run.kind
    shared = _shared(run, service)
    attributes: dict[str, AttributeValue] = {}
    if whole:
        attributes, shared = dict(shared), _NOTHING
    operation = _OPERATIONS[kind]
    attributes[names.KIND] = kind
    attributes[names.NODE_PATH] = _name(run.node)
    attributes[names.OPERATION] = operation
    attributes[names.STATUS] = run.status
    if run.facts:
        _add(attributes, run.facts)
    label = _name(run.name)
    span_kind = INTERNAL
    if kind == NODE:
        attributes[names.NODE_NAME] = label
        attributes[names.ATTEMPT] = run.attempt
        attributes[names.ATTEMPT_FINAL] = run.final
        attributes[names.LANGGRAPH_STEP] = run.step
        attributes[names.LANGGRAPH_CHECKPOINT_NS] = _text(run.ns)
        if "." in run.node:
            _add_outer(attributes, run)
    elif kind == MODEL:
        span_kind = CLIENT
        operation = str(attributes[names.OPERATION])
        if names.PROVIDER in attributes:
            attributes[names.PEER_SERVICE] = attributes[names.PROVIDER]
        if run.first_ns:
            attributes[names.TIME_TO_FIRST_CHUNK] = (run.first_ns - run.started_ns) / 1e9
            attributes[names.REQUEST_STREAM] = True
    elif kind == TOOL:
        attributes[names.TOOL_NAME] = label
    elif kind == RETRIEVER:
        attributes[names.DATA_SOURCE_ID] = label
    else:
        if kind == RUN:
            label = _name(run.tree.graph or service)
            attributes[names.LANGGRAPH_STEP] = run.tree.steps
        attributes[names.WORKFLOW_NAME] = label
        if run.checkpoint_id:
            attributes[names.LANGGRAPH_CHECKPOINT_ID] = _text(run.checkpoint_id)
        if run.resumed_from:
            attributes[names.RESUMED_FROM] = _text(run.resumed_from)
    if run.task is not None and kind in (MODEL, TOOL, RETRIEVER):
        attributes[names.ATTEMPT_SPAN] = f"{run.task.span_id:016x}"
        if "." in run.node:
            _add_outer(attributes, run.task)
    if run.captured is not None:  # clean and cut to size already, as JSON has to be
        attributes.update(run.captured.ready)
    name = f"{operation} {label}" if label else operation
    if run.status != ERROR:
        return _described((name, span_kind, attributes, shared, UNSET, ()))
    failure = run.failure or Failure("_OTHER", "")
    attributes[names.ERROR_TYPE] = _text(failure.type)
    status = Status(StatusCode.ERROR, _text(failure.message) if error_messages else None)
    return Description(
        name, span_kind, attributes, shared, status, [_exception(run, failure, with_message=error_messages)]
    )


def _add_outer(attributes: dict[str, AttributeValue], attempt: Run) -> None:
    """Say which attempts of other nodes are around `attempt`: a name with a dot does not make a node one of a subgraph."""
    outer = []
    while attempt.task is not None:
        attempt = attempt.task
        outer.append(f"{attempt.span_id:016x}")
    if outer:
        attributes[names.OUTER_ATTEMPTS] = " ".join(outer)


def _exception(run: Run, failure: Failure, *, with_message: bool) -> Event:
    said: dict[str, AttributeValue] = {"exception.type": _text(failure.type)}
    if failure.frames is not None:
        said["exception.stacktrace"] = _text("".join(failure.frames.format()))
    if with_message and failure.message:
        said["exception.message"] = _text(failure.message)
    return Event("exception", said, run.ended_ns)


def service_of(resource: Resource) -> str:
    """What names graphs that have no name."""
    global _known  # asked for every span of a process, which has one resource
    known = _known
    if known is None or known[0] is not resource:
        known = _known = resource, str(resource.attributes.get(names.SERVICE_NAME, ""))
    return known[1]


def build(run: Run, resource: Resource, *, error_messages: bool = False) -> ReadableSpan:
    """The finished span of `run`, sampled whatever the application's sampler says."""
    span = describe(run, service_of(resource), error_messages=error_messages, whole=True)
    started, ended, under = run.started_ns, run.ended_ns, run.under
    return ReadableSpan(
        span.name,
        SpanContext(run.tree.trace_id, span_id_of(run.run_id), False, _SAMPLED, run.tree.state),
        under.context if isinstance(under, Run) else under,
        resource,
        span.own,
        span.events,
        () if run.links is None else [Link(link) for link in run.links],
        span.kind,
        # By place: names cost a class with an __init__ of its own as much again as all the rest.
        None,
        span.status,
        started,
        ended if ended > started else started,
        scope(),
    )


def build_note(note: Note, resource: Resource) -> ReadableSpan:
    """The span of `note`: zero duration, below the root span if it is about a run."""
    span = describe_note(note, service_of(resource))
    root = SpanContext(note.trace_id, span_id_of(note.run_id), False, _SAMPLED) if note.run_id is not None else None
    return ReadableSpan(
        span.name,
        SpanContext(note.trace_id, note_id_of(note), False, _SAMPLED, note.state),
        root,
        resource,
        span.own,
        (),
        (),
        span.kind,
        None,
        span.status,
        note.at_ns,
        note.at_ns,
        scope(),
    )


def _text(text: str, longest: int = _LONGEST) -> str:
    """`text` as protobuf accepts it: no lone surrogates, no NUL, not endless."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii():
        return text.replace("\0", "") if "\0" in text else text
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


_name = lru_cache(maxsize=1024)(_text)
"""For what a process says again and again: names of graphs, nodes, models and tools."""


def _add(attributes: dict[str, AttributeValue], said: Mapping[str, Value | list[str]]) -> None:
    """Add `said` to `attributes`, with its texts as protobuf accepts them."""
    for key, value in said.items():
        # Nearly every text is fine as it is.
        if isinstance(value, str) and not (len(value) <= _LONGEST and value.isascii() and "\0" not in value):
            # Half of a JSON text is none; how much a graph may have of it is `graphmeter.topology`'s to say.
            value = _text(value, len(value)) if key == names.TOPOLOGY_JSON else _text(value)
        attributes[key] = value


def usage_attributes(attributes: Mapping[str, AttributeValue]) -> dict[str, int]:
    """Token counts among `attributes`."""
    return {
        key: value
        for key, value in attributes.items()
        if key.startswith(("gen_ai.usage.", "graphmeter.usage.")) and isinstance(value, int)
    }
