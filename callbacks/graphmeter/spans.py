"""Finished runs in, OpenTelemetry spans out: every name and attribute of the wire contract is written here.

Runs off the application's hot path: in the exporter's thread, or in that of whoever flushes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from graphmeter import names
from graphmeter.names import ERROR, MODEL, NODE, RETRIEVER, RUN, SUBGRAPH, TOOL
from graphmeter.records import Failure, Note, Run, Tree, Value, span_id_of

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_OPERATIONS = {
    RUN: names.OP_WORKFLOW,
    SUBGRAPH: names.OP_WORKFLOW,
    TOOL: names.OP_TOOL,
    RETRIEVER: names.OP_RETRIEVAL,
}
_LONGEST = 8192
UNSET = Status(StatusCode.UNSET)
CLIENT, INTERNAL = SpanKind.CLIENT, SpanKind.INTERNAL
_NOTHING: Mapping[str, AttributeValue] = {}

USUAL: Final = frozenset(
    {
        names.KIND,
        names.NODE_PATH,
        names.OPERATION,
        names.STATUS,
        names.NODE_NAME,
        names.ATTEMPT,
        names.ATTEMPT_FINAL,
        names.TOOL_NAME,
        names.DATA_SOURCE_ID,
        names.WORKFLOW_NAME,
    }
)
"""Attributes that are in `Usual` wherever they are."""


class Usual:
    """What a process says again and again: the spans of one node, model or tool differ in little else from run to run."""

    __slots__ = ("attributes", "encoded", "kind", "name")

    def __init__(self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue]) -> None:
        self.name = name
        """Of the span."""
        self.kind = kind
        self.attributes = attributes
        self.encoded: tuple[bytes, bytes] | None = None
        """For `graphmeter.wire`: the bytes of name and kind, and those of the attributes."""


class Description(NamedTuple):
    """One span, before it has a resource or an exporter. Its attributes lie in three layers; what is said in two of them is
    as the upper one says: shared, usual, own."""

    usual: Usual
    own: dict[str, AttributeValue]
    shared: Mapping[str, AttributeValue] = _NOTHING
    """Attributes of all spans of a tree. One object for all of them."""
    status: Status = UNSET
    events: Sequence[Event] = ()

    @property
    def attributes(self) -> dict[str, AttributeValue]:
        """All layers."""
        return {**self.shared, **self.usual.attributes, **self.own}


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


def _shared(tree: Tree, shared: Mapping[str, Value], service: str) -> Mapping[str, AttributeValue]:
    """What all spans of `tree` with the attribution `shared` say, ready to send: made once while that stays."""
    known = tree.described
    if known is None or known[0] is not shared:
        attributes: dict[str, AttributeValue] = {}
        _add(attributes, shared)
        if tree.root_id is not None:
            attributes[names.RUN_ID] = tree.run_id
            attributes[names.GRAPH] = _text(tree.graph or service)
        elif tree.graph:
            attributes[names.GRAPH] = _text(tree.graph)
        known = tree.described = shared, attributes
    return known[1]


def describe_note(note: Note, service: str) -> Description:
    """Name and attributes of `note`; `service` names graphs that have no name."""
    own: dict[str, AttributeValue] = {}
    shared = _NOTHING
    if note.tree is not None:
        shared = _shared(note.tree, note.shared, service)
    else:
        _add(own, note.shared)
        if note.run_id is not None:
            own[names.RUN_ID] = str(note.run_id)
            if note.graph is not None:
                own[names.GRAPH] = _text(note.graph or service)
    if note.facts:
        _add(own, note.facts)
    return Description(_usual_note(note.kind), own, shared)


@lru_cache(maxsize=len(names.NOTES))
def _usual_note(kind: str) -> Usual:
    name = names.NOTE_NAMES[kind]
    attributes: dict[str, AttributeValue] = {names.KIND: kind, names.NODE_PATH: "", names.OPERATION: name}
    if kind == names.START:
        attributes[names.STATUS] = names.RUNNING
    return Usual(name, INTERNAL, attributes)


def describe(run: Run, service: str, *, error_messages: bool = False) -> Description:
    """Name, attributes, status and events of the finished `run`; `service` names graphs that have no name."""
    kind, node = run.kind, run.node
    own: dict[str, AttributeValue] = {}
    if run.facts:
        _add(own, run.facts)
    if kind == NODE:
        usual = _usual(kind, names.OP_NODE, run.name, node, run.status, run.attempt, run.final)
        own[names.LANGGRAPH_STEP] = run.step
        own[names.LANGGRAPH_CHECKPOINT_NS] = _text(run.ns)
        if "." in node:
            _add_outer(own, run)
    elif kind == MODEL:
        usual = _usual(kind, str(own.pop(names.OPERATION, names.OP_CHAT)), run.name, node, run.status)
        if names.PROVIDER in own:
            own[names.PEER_SERVICE] = own[names.PROVIDER]
        if run.first_ns:
            own[names.TIME_TO_FIRST_CHUNK] = (run.first_ns - run.started_ns) / 1e9
            own[names.REQUEST_STREAM] = True
    elif kind in (TOOL, RETRIEVER):
        usual = _usual(kind, _OPERATIONS[kind], run.name, node, run.status)
    else:
        name = run.name
        if kind == RUN:
            name = run.tree.graph or service
            own[names.LANGGRAPH_STEP] = run.tree.steps
        usual = _usual(kind, _OPERATIONS[kind], name, node, run.status)
        if run.checkpoint_id:
            own[names.LANGGRAPH_CHECKPOINT_ID] = _text(run.checkpoint_id)
        if run.resumed_from:
            own[names.RESUMED_FROM] = _text(run.resumed_from)
    if run.task is not None and kind in (MODEL, TOOL, RETRIEVER):
        own[names.ATTEMPT_SPAN] = f"{run.task.span_id:016x}"
        if "." in node:
            _add_outer(own, run.task)
    if run.captured is not None:  # clean and cut to size already, as JSON has to be
        own.update(run.captured.ready)
    shared = _shared(run.tree, run.shared, service)
    if run.status != ERROR:
        return _described((usual, own, shared, UNSET, ()))
    failure = run.failure or Failure("_OTHER", "")
    own[names.ERROR_TYPE] = _text(failure.type)
    status = Status(StatusCode.ERROR, _text(failure.message) if error_messages else None)
    return Description(usual, own, shared, status, [_exception(run, failure, with_message=error_messages)])


@lru_cache(maxsize=1024)
def _usual(kind: str, operation: str, name: str, node: str, status: str, attempt: int = 1, final: bool = True) -> Usual:
    """What does not change from run to run for what is called `name` in `node`, and ended in this way."""
    label = _text(name)
    attributes: dict[str, AttributeValue] = {
        names.KIND: kind,
        names.NODE_PATH: _text(node),
        names.OPERATION: operation,
        names.STATUS: status,
    }
    if kind == NODE:
        attributes[names.NODE_NAME] = label
        attributes[names.ATTEMPT] = attempt
        attributes[names.ATTEMPT_FINAL] = final
    elif kind == TOOL:
        attributes[names.TOOL_NAME] = label
    elif kind == RETRIEVER:
        attributes[names.DATA_SOURCE_ID] = label
    elif kind != MODEL:
        attributes[names.WORKFLOW_NAME] = label
    return Usual(f"{operation} {label}" if label else operation, CLIENT if kind == MODEL else INTERNAL, attributes)


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
    return str(resource.attributes.get(names.SERVICE_NAME, ""))


def build(run: Run, resource: Resource, service: str, *, error_messages: bool = False) -> ReadableSpan:
    """The finished span of `run`, of `resource` and its `service`, sampled whatever the application's sampler says."""
    span = describe(run, service, error_messages=error_messages)
    usual, tree, under, started, ended = span.usual, run.tree, run.under, run.started_ns, run.ended_ns
    return ReadableSpan(
        usual.name,
        SpanContext(tree.trace_id, span_id_of(run.number), False, _SAMPLED, tree.state),
        under.context if isinstance(under, Run) else under,
        resource,
        span.attributes,
        span.events,
        () if run.links is None else [Link(link) for link in run.links],
        usual.kind,
        # By place: names cost a class with an __init__ of its own as much again as all the rest.
        None,
        span.status,
        started,
        ended if ended > started else started,
        scope(),
    )


def build_note(note: Note, resource: Resource, service: str) -> ReadableSpan:
    """The span of `note`: zero duration, below the root span if it is about a run."""
    span = describe_note(note, service)
    root = SpanContext(note.trace_id, span_id_of(note.run_id.int), False, _SAMPLED) if note.run_id is not None else None
    return ReadableSpan(
        span.usual.name,
        SpanContext(note.trace_id, note_id_of(note), False, _SAMPLED, note.state),
        root,
        resource,
        span.attributes,
        (),
        (),
        span.usual.kind,
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
