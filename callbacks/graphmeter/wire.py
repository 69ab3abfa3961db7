"""Finished runs and notes in, OTLP bytes out: our own encoder of `ExportTraceServiceRequest`.

OpenTelemetry's builds a protobuf object for every attribute, which takes ten times as long as all else that happens to a
span, and takes it from the application, whose interpreter can do one thing at a time. Most of our bytes repeat: keys, what
a tree's spans share, resource and scope. They are encoded once.

The bytes are those of OpenTelemetry's encoder for what `graphmeter.spans.build` makes, field by field in order of their
numbers (https://github.com/open-telemetry/opentelemetry-proto/blob/v1.5.0/opentelemetry/proto/trace/v1/trace.proto). An
attribute that cannot be encoded is left out and counted, as it would be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import SpanContext, Status, TraceState

from graphmeter import guard, names, spans
from graphmeter.records import Note, Run, Tree, span_id_of

_DOUBLE: Final = Struct("<d").pack
_TIMES: Final = Struct("<BQBQ").pack
_TIME: Final = Struct("<BQ").pack
_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))
"""Varints of one byte."""
_TRUE, _FALSE = b"\x10\x01", b"\x10\x00"
_REPEATED_CHARACTERS: Final = 64
"""Longer texts are hardly ever said twice."""

_ONCE: Final = frozenset(
    {
        names.RUN_ID,
        names.LANGGRAPH_CHECKPOINT_NS,
        names.LANGGRAPH_CHECKPOINT_ID,
        names.ATTEMPT_SPAN,
        names.RESPONSE_ID,
        names.TOOL_CALL_ID,
        names.CONVERSATION_ID,
    }
)
"""Short ones that are hardly ever said twice, either: remembered, they would drive out what is."""

# Keys of the fields: number << 3 | wire type.
_IN_RESOURCE: Final = b"\x0a"
_IN_EVENT: Final = b"\x1a"
_IN_SCOPE: Final = b"\x1a"
_IN_SPAN: Final = b"\x4a"
_LOCAL: Final = b"\x85\x01\x00\x01\x00\x00"
_REMOTE: Final = b"\x85\x01\x00\x03\x00\x00"
"""Flags of a span: it is known whether the parent is in another process; it is."""
_LINK_LOCAL: Final = b"\x35\x00\x01\x00\x00"
_LINK_REMOTE: Final = b"\x35\x00\x03\x00\x00"
_UNSET: Final = b"\x7a\x00"
_INTERNAL: Final = b"\x30\x01"
_CLIENT: Final = b"\x30\x03"
_PARENT: Final = b"\x22\x08"


def encode(run: Run, service: str, *, error_messages: bool = False) -> bytes:
    """The finished `run` as a field of a request; see `graphmeter.spans.build`."""
    said = spans.describe(run, service, error_messages=error_messages)
    tree = run.tree
    state, attributes = _layers(said, tree)
    under = run.under
    return _span(
        said,
        tree.trace_id,
        span_id_of(run.number),
        state,
        b"" if under is None else _PARENT + under.span_id.to_bytes(8, "big"),
        _TIMES(0x39, run.started_ns, 0x41, max(run.ended_ns, run.started_ns)),
        attributes,
        b"" if run.links is None else b"".join(map(_link, run.links)),
        _REMOTE if isinstance(under, SpanContext) and under.is_remote else _LOCAL,
    )


def encode_note(note: Note, service: str) -> bytes:
    """`note` as a field of a request; see `graphmeter.spans.build_note`."""
    said = spans.describe_note(note, service)
    attributes = _attributes(_IN_SPAN, said.attributes) if note.tree is None else _layers(said, note.tree)[1]
    return _span(
        said,
        note.trace_id,
        spans.note_id_of(note),
        _state(note.state),
        b"" if note.run_id is None else _PARENT + span_id_of(note.run_id.int).to_bytes(8, "big"),
        _TIMES(0x39, note.at_ns, 0x41, note.at_ns),
        attributes,
        b"",
        _LOCAL,
    )


def request(fields: Iterable[bytes], resource: Resource) -> bytes:
    """A request that holds `fields`, which `encode` and `encode_note` made. Requests joined end to end are one, too."""
    scope = spans.scope()
    about = (
        _text(b"\x0a", scope.name)
        + _text(b"\x12", scope.version or "")
        + _attributes(_IN_SCOPE, scope.attributes or {})
    )
    scoped = _field(b"\x0a", about) + b"".join(fields) + _text(b"\x1a", scope.schema_url or "")
    whose = _field(b"\x0a", _attributes(_IN_RESOURCE, resource.attributes))
    return _field(b"\x0a", whose + _field(b"\x12", scoped) + _text(b"\x1a", resource.schema_url))


def _layers(said: spans.Description, tree: Tree) -> tuple[bytes, bytes]:
    """Trace state and attributes of a span of `tree`; what many spans say is made once."""
    shared, usual, own = said.shared, said.usual.attributes, said.own
    known = tree.encoded
    if known is None or known[0] is not shared:
        apart = shared.keys().isdisjoint(spans.USUAL)
        known = tree.encoded = shared, _state(tree.state), _attributes(_IN_SPAN, shared) if apart else None
    if known[2] is not None and usual.keys().isdisjoint(own) and shared.keys().isdisjoint(own):
        return known[1], known[2] + _usual(said.usual)[1] + _attributes(_IN_SPAN, own)
    return known[1], _attributes(_IN_SPAN, said.attributes)  # what is said twice is sent once


def _usual(usual: spans.Usual) -> tuple[bytes, bytes]:
    """Name and kind of a span, which follow each other, and attributes."""
    encoded = usual.encoded
    if encoded is None:
        head = _text(b"\x2a", usual.name) + (_CLIENT if usual.kind is spans.CLIENT else _INTERNAL)
        encoded = usual.encoded = head, _attributes(_IN_SPAN, usual.attributes)
    return encoded


def _span(
    said: spans.Description,
    trace_id: int,
    span_id: int,
    state: bytes,
    parent: bytes,
    times: bytes,
    attributes: bytes,
    links: bytes,
    flags: bytes,
) -> bytes:
    status = _UNSET if said.status is spans.UNSET else _status(said.status)
    events = b"".join(map(_event, said.events)) if said.events else b""
    return _field(
        b"\x12",
        b"".join(
            (
                b"\x0a\x10",
                trace_id.to_bytes(16, "big"),
                b"\x12\x08",
                span_id.to_bytes(8, "big"),
                state,
                parent,
                _usual(said.usual)[0],
                times,
                attributes,
                events,
                links,
                status,
                flags,
            )
        ),
    )


def _state(state: TraceState | None) -> bytes:
    return _text(b"\x1a", ",".join([f"{key}={value}" for key, value in state.items()])) if state else b""


def _status(status: Status) -> bytes:
    # The code is not unset: that would not be written.
    code = b"\x18" + _SMALL[status.status_code.value]
    return _field(b"\x7a", _text(b"\x12", status.description or "") + code)


def _event(event: Event) -> bytes:
    said = _attributes(_IN_EVENT, event.attributes or {})
    return _field(b"\x5a", _TIME(0x09, event.timestamp) + _text(b"\x12", event.name) + said)


def _link(to: SpanContext) -> bytes:
    flags = _LINK_REMOTE if to.is_remote else _LINK_LOCAL
    ids = b"\x0a\x10" + to.trace_id.to_bytes(16, "big") + b"\x12\x08" + to.span_id.to_bytes(8, "big")
    return _field(b"\x6a", ids + flags)


# --- attributes -------------------------------------------------------------------------------------------------------


def _attributes(field: bytes, said: Mapping[str, Any]) -> bytes:
    parts = []
    for key, value in said.items():
        kind = type(value)
        try:
            if kind is str and (len(value) > _REPEATED_CHARACTERS or key in _ONCE):
                parts.append(_field(field, _key(key) + _field(b"\x12", _field(b"\x0a", value.encode()))))
            elif kind is str or kind is int or kind is bool:
                parts.append(_repeated(field, key, value))
            elif kind is float:
                parts.append(_field(field, _key(key) + b"\x12\x09\x21" + _DOUBLE(value)))
            elif kind is list and len(value) == 1 and type(value[0]) is str:
                parts.append(_repeated_list(field, key, *value))
            else:
                parts.append(_attribute(field, key, value))
        except Exception as error:  # noqa: BLE001 - an odd value costs itself; guard counts and logs
            guard.swallowed("encode attribute", error)
    return b"".join(parts)


def _attribute(field: bytes, key: str, value: Any) -> bytes:
    return _field(field, _key(key) + _field(b"\x12", _value(value)))


# Floats do not come here: 0.0 is taken for -0.0.
_repeated = lru_cache(4096, typed=True)(_attribute)


@lru_cache(1024)
def _repeated_list(field: bytes, key: str, *values: str) -> bytes:
    return _attribute(field, key, values)


@lru_cache(1024)
def _key(key: str) -> bytes:
    return _text(b"\x0a", key)


def _value(value: Any) -> bytes:
    """`AnyValue`. Its fields are written when they are empty, too."""
    if value is None:
        return b""
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, str):
        return _field(b"\x0a", value.encode())
    if isinstance(value, int):
        return b"\x18" + _int64(value)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE(value)
    if isinstance(value, bytes):
        return _field(b"\x3a", value)
    if isinstance(value, Sequence):
        return _field(b"\x2a", b"".join([_field(b"\x0a", _value(one)) for one in value]))
    if isinstance(value, Mapping):
        return _field(b"\x32", b"".join([_attribute(b"\x0a", str(key), one) for key, one in value.items()]))
    raise TypeError(f"no attribute can hold {type(value).__name__}")


# --- protobuf ---------------------------------------------------------------------------------------------------------
# https://protobuf.dev/programming-guides/encoding/


def _field(key: bytes, content: bytes) -> bytes:
    size = len(content)
    return key + (_SMALL[size] if size < 0x80 else _varint(size)) + content


def _text(key: bytes, text: str) -> bytes:
    """A field of plain text, which is not written when it is empty."""
    return _field(key, text.encode()) if text else b""


def _int64(number: int) -> bytes:
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{number} is no 64-bit integer")
    return _varint(number & 0xFFFF_FFFF_FFFF_FFFF)


def _varint(number: int) -> bytes:
    """Seven bits a byte, lowest first; the highest bit says that more follow."""
    if number < 0x80:
        return _SMALL[number]
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)
