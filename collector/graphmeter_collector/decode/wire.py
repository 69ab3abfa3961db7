"""Spans of our own client as they lie on the wire: bytes of a scope's spans in, attribute values that are worth reading out.

Almost every attribute of a span was on the span before it: the run, the graph, the team, the model. So spans are parsed with
a copy of the OTLP schema in which an attribute is a `bytes` field, and what those bytes mean is looked up: protobuf's own
parser does the work, no message object is made for an attribute, and a value met before costs one look-up. Unknown bytes go
through the real schema and the reader of the dialect's table, so the two ways cannot disagree. The span's own bytes, which
are kept, come from a second copy in which a span is a `bytes` field: to parse a scope twice as a whole costs a fifth of what
it costs to parse its spans one by one, each with memory of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, cast

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Status

from graphmeter_collector.decode.attributes import SHORT, Repairs, Table, label, pick, pick_tags

MOST_KNOWN: Final = 16_384
"""Attributes remembered, some 5 MB; when full all are forgotten, so that values that never repeat cannot fill memory."""
LONGEST_KNOWN: Final = 256
"""Bytes of an attribute that is remembered: longer ones hardly repeat."""
MOST_TAGS: Final = 64

_KEY_FIRST: Final = 0x0A
_VALUE_NEXT: Final = 0x12
_STRING: Final = 0x0A
"""Tags on the wire: a pair's key, a pair's value, a value's text."""
_ONE_BYTE: Final = 0x80
_TAG: Final = object()
_Pair = tuple[Any, Any]
"""An attribute's key and value; no key for one that nobody reads."""
_IGNORED: Final[_Pair] = ("", None)


class RawSpan(Protocol):
    """A span whose attributes are bytes. Fields are named as in OTLP."""

    @property
    def trace_id(self) -> bytes: ...
    @property
    def span_id(self) -> bytes: ...
    @property
    def parent_span_id(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def start_time_unix_nano(self) -> int: ...
    @property
    def end_time_unix_nano(self) -> int: ...
    @property
    def attributes(self) -> Sequence[bytes]: ...
    @property
    def status(self) -> Status: ...


class _Parsing(Protocol):
    def FromString(self, data: bytes) -> Any: ...  # noqa: N802 - protobuf's name


def _scope_spans(left: Mapping[str, Collection[str]]) -> _Parsing:
    """A class like OTLP's `ScopeSpans`, in which some fields, by the name of their message, stay as they came."""
    pool = DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            for field in message.field:
                if field.name in left.get(message.name, ()):
                    field.type = FieldDescriptorProto.TYPE_BYTES
                    field.ClearField("type_name")
        pool.AddSerializedFile(file.SerializeToString())
    return cast("_Parsing", GetMessageClass(pool.FindMessageTypeByName("opentelemetry.proto.trace.v1.ScopeSpans")))


_RAW_ATTRIBUTES: Final = _scope_spans({"Span": ("attributes", "events", "links")})
_RAW_SPANS: Final = _scope_spans({"ScopeSpans": ("spans",)})


def spans(scope_spans: ScopeSpans) -> Iterator[tuple[RawSpan, bytes]]:
    """Each span with its OTLP bytes, in protobuf's canonical form: fields in order, the last one of copies."""
    data = scope_spans.SerializeToString()
    return zip(_RAW_ATTRIBUTES.FromString(data).spans, _RAW_SPANS.FromString(data).spans, strict=True)


class _Repaired(Exception):
    """A value that has to be changed is counted each time it comes, so it is not remembered."""


class Attributes:
    """Reads attributes by a dialect's table and remembers what they said. Safe to use from several threads."""

    def __init__(self, table: Table, tag_prefix: str) -> None:
        """Attributes that begin with `tag_prefix` are tags."""
        self._table = table
        self._tag_prefix = tag_prefix
        self._known = _Known(table, tag_prefix)
        self._look_up = self._known.__getitem__

    def read(self, attributes: Sequence[bytes], repairs: Repairs) -> tuple[dict[str, Any], dict[str, str] | None]:
        """The values that the table names, as `pick` finds them, and the tags, if any, as `pick_tags` does."""
        try:
            found: dict[Any, Any] = dict(map(self._look_up, attributes))
        except _Repaired:
            return self._slowly(attributes, repairs)
        if _TAG not in found:
            return found, None
        tags = [pair for pair in map(self._look_up, attributes) if pair[0] is _TAG]
        if len(tags) >= MOST_TAGS:
            return self._slowly(attributes, repairs)
        del found[_TAG]
        return found, dict([pair[1] for pair in tags])

    def __len__(self) -> int:
        """How many attributes are remembered."""
        return len(self._known)

    def _slowly(self, attributes: Iterable[bytes], repairs: Repairs) -> tuple[dict[str, Any], dict[str, str]]:
        pairs = [KeyValue.FromString(each) for each in attributes]
        found = pick(pairs, self._table, repairs)
        return found, pick_tags(pairs, self._tag_prefix, repairs, limit=MOST_TAGS)


class _Known(dict[bytes, _Pair]):
    """What attributes say, by their bytes."""

    def __init__(self, table: Table, tag_prefix: str) -> None:
        super().__init__()
        self._table = table
        self._tag_prefix = tag_prefix
        self._start_of_tag = tag_prefix.encode()
        self._keys = {key.encode(): key for key in table}
        self._labels = {key.encode() for key, reader in table.items() if reader is label}

    def __missing__(self, raw: bytes) -> _Pair:
        pair = self._read(raw)
        if len(raw) <= LONGEST_KNOWN:
            if len(self) >= MOST_KNOWN:
                self.clear()
            self[raw] = pair
        return pair

    def _read(self, raw: bytes) -> _Pair:
        if len(raw) > 2 and raw[0] == _KEY_FIRST and raw[1] < _ONE_BYTE:
            end = 2 + raw[1]
            key = raw[2:end]
            is_tag = key.startswith(self._start_of_tag)
            # Most of what a trace view shows and nobody here reads needs no parsing: its key tells.
            if key not in self._keys and not is_tag:
                return _IGNORED
            text = _short_text(raw, end) if is_tag or key in self._labels else None
            if text is not None:
                if not is_tag:
                    return self._keys[key], text
                name = key[len(self._start_of_tag) :].decode()
                if name and "\x00" not in name and len(name) <= SHORT:
                    return _TAG, (name, text)
        pairs = (KeyValue.FromString(raw),)
        repairs: Repairs = Counter()
        found = pick(pairs, self._table, repairs)
        tags = pick_tags(pairs, self._tag_prefix, repairs)
        if repairs:
            raise _Repaired
        for pair in found.items():
            return pair
        for tag in tags.items():
            return _TAG, tag
        return _IGNORED


def _short_text(raw: bytes, at: int) -> str | None:
    """The value that begins at `at`, if it is a text that `label` takes as it is; None says nothing about it."""
    size = len(raw) - at
    if not 4 <= size <= SHORT or raw[at] != _VALUE_NEXT or raw[at + 2] != _STRING or raw[at + 3] != size - 4:
        return None
    text = raw[at + 4 :].decode()
    return None if "\x00" in text else text
