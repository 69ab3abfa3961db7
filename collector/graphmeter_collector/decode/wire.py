"""Attributes of our own client's spans as they lie on the wire: bytes in, values that are worth reading out.

Almost every attribute of a span was on the span before it: the run, the graph, the team, the model. So what the bytes of an
attribute mean is looked up: no message object is made for it, and a value met before costs one look-up. Unknown bytes go
through the real schema and the reader of the dialect's table, so the two ways cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

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
        pairs = [_parsed(each) for each in attributes]
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
        try:
            pair = self._read_text(raw)
        except UnicodeDecodeError as problem:
            raise DecodeError(f"an attribute is not UTF-8: {problem}") from problem
        if pair is not None:
            return pair
        parsed = _parsed(raw)
        if parsed.key not in self._table and not parsed.key.startswith(self._tag_prefix):
            return _IGNORED
        repairs: Repairs = Counter()
        found = pick((parsed,), self._table, repairs)
        tags = pick_tags((parsed,), self._tag_prefix, repairs)
        if repairs:
            raise _Repaired
        for pair in found.items():
            return pair
        for tag in tags.items():
            return _TAG, tag
        return _IGNORED

    def _read_text(self, raw: bytes) -> _Pair | None:
        """What most attributes are, a short text under a short name, without parsing; None of others."""
        if len(raw) < 2 or raw[0] != _KEY_FIRST or raw[1] >= _ONE_BYTE:
            return None
        end = 2 + raw[1]
        key = raw[2:end]
        is_tag = key.startswith(self._start_of_tag)
        if not is_tag and key in self._keys and key not in self._labels:
            return None
        text = _short_text(raw, end)
        if text is None:
            return None
        if not is_tag:
            # A trace view shows the others, nobody here reads them.
            return (self._keys[key], text) if key in self._labels else _IGNORED if key.decode() else None
        name = key[len(self._start_of_tag) :].decode()
        return (_TAG, (name, text)) if name and "\x00" not in name and len(name) <= SHORT else None


def _parsed(raw: bytes) -> KeyValue:
    """The attribute as a message.

    Raises:
        DecodeError: no whole request with it could be parsed.
    """
    pair = KeyValue.FromString(raw)
    if pair.value.WhichOneof("value") in ("array_value", "kvlist_value"):
        # Parsers bound how deep messages may be nested, counted from the outermost one.
        ExportTraceServiceRequest.FromString(_nested(_nested(_nested(_nested(raw, 0x4A), 0x12), 0x12), 0x0A))
    return pair


def _nested(data: bytes, tag: int) -> bytes:
    """A message's bytes as a field of another one."""
    size, length = bytearray((tag,)), len(data)
    while length >= _ONE_BYTE:
        size.append(length & 0x7F | _ONE_BYTE)
        length >>= 7
    size.append(length)
    return bytes(size) + data


def _short_text(raw: bytes, at: int) -> str | None:
    """The value that begins at `at`, if it is a text that `label` takes as it is; None says nothing about it."""
    size = len(raw) - at
    if not 4 <= size <= SHORT or raw[at] != _VALUE_NEXT or raw[at + 2] != _STRING or raw[at + 3] != size - 4:
        return None
    text = raw[at + 4 :].decode()
    return None if "\x00" in text else text
