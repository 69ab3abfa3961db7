"""Attributes of our own client's spans as they lie on the wire: bytes in, values that are worth reading out.

Almost every attribute of a span was on the span before it: the run, the graph, the team, the model. So what the bytes of an
attribute mean is looked up: no message object is made for it, and a value met before costs one look-up. Unknown bytes go
through the real schema and the reader of the dialect's table, so the two ways cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from graphmeter_collector.decode.attributes import SHORT, Repairs, Table, label, pick, pick_tags

MOST_KNOWN: Final = 16_384
"""Attributes remembered, some 5 MB; when full, values that never repeat are forgotten, so that they cannot fill memory."""
LONGEST_KNOWN: Final = 256
"""Bytes of an attribute that is remembered: longer ones hardly repeat."""
MOST_TAGS: Final = 64

_KEY_FIRST: Final = 0x0A
_VALUE_NEXT: Final = 0x12
_STRING: Final = 0x0A
"""Tags on the wire: a pair's key, a pair's value, a value's text."""
_ONE_BYTE: Final = 0x80
TAG: Final = object()
"""Stands for the key of a tag, whose value is its name and its text."""
Entry = tuple[int, Any, Any]
"""What is remembered of an attribute: its mark, its key and its value. Attributes that nobody reads have one mark, tags have
one, and each key whose values differ from span to span by nature; any other attribute has a mark of its own."""
_IGNORED: Final[Entry] = (0, "", None)
_TAG_MARK: Final = 1


class _Repaired(Exception):
    """A value that has to be changed is counted each time it comes, so it is not remembered."""


class Attributes:
    """Reads attributes by a dialect's table and remembers what they said. Safe to use from several threads."""

    def __init__(self, table: Table, tag_prefix: str, differing: Collection[str] = ()) -> None:
        """Attributes that begin with `tag_prefix` are tags; values of `differing` ones seldom repeat."""
        self._table = table
        self._tag_prefix = tag_prefix
        self._known = _Known(table, tag_prefix, differing)
        self._look_up = self._known.__getitem__

    def entries(self, attributes: Sequence[bytes]) -> list[Entry] | None:
        """What is known of each; None if a value has to be changed, which is counted each time it comes.

        Raises:
            DecodeError: one is not what OTLP has.
        """
        try:
            return list(map(self._look_up, attributes))
        except _Repaired:
            return None

    def read(self, attributes: Sequence[bytes], repairs: Repairs) -> tuple[dict[str, Any], dict[str, str] | None]:
        """The values that the table names, as `pick` finds them, and the tags, if any, as `pick_tags` does."""
        entries = self.entries(attributes)
        if entries is None:
            return self._slowly(attributes, repairs)
        found: dict[Any, Any] = {key: value for _, key, value in entries}
        if TAG not in found:
            return found, None
        tags = [value for _, key, value in entries if key is TAG]
        if len(tags) >= MOST_TAGS:
            return self._slowly(attributes, repairs)
        del found[TAG]
        return found, dict(tags)

    def __len__(self) -> int:
        """How many attributes are remembered."""
        return len(self._known)

    def _slowly(self, attributes: Iterable[bytes], repairs: Repairs) -> tuple[dict[str, Any], dict[str, str]]:
        pairs = [_parsed(each) for each in attributes]
        found = pick(pairs, self._table, repairs)
        return found, pick_tags(pairs, self._tag_prefix, repairs, limit=MOST_TAGS)


class _Known(dict[bytes, Entry]):
    """What attributes say, by their bytes."""

    def __init__(self, table: Table, tag_prefix: str, differing: Collection[str]) -> None:
        super().__init__()
        self._table = table
        self._tag_prefix = tag_prefix
        self._start_of_tag = tag_prefix.encode()
        self._keys = {key.encode(): key for key in table}
        self._labels = {key.encode() for key, reader in table.items() if reader is label}
        # Never given twice, also after all was forgotten: what a mark stood for may be remembered elsewhere.
        self._marks = count(_TAG_MARK + 1)
        self._differing = {key: next(self._marks) for key in differing}
        self._common = {_IGNORED[0], _TAG_MARK, *self._differing.values()}

    def __missing__(self, raw: bytes) -> Entry:
        entry = self._read(raw)
        if len(raw) <= LONGEST_KNOWN:
            if len(self) >= MOST_KNOWN:
                # Values that seldom repeat go first, and with them most of what is there.
                kept = [(raw, entry) for raw, entry in list(self.items()) if entry[0] not in self._common]
                self.clear()
                if len(kept) < MOST_KNOWN // 2:
                    self.update(kept)
            self[raw] = entry
        return entry

    def _read(self, raw: bytes) -> Entry:
        try:
            entry = self._read_text(raw)
        except UnicodeDecodeError as problem:
            raise DecodeError(f"an attribute is not UTF-8: {problem}") from problem
        if entry is not None:
            return entry
        parsed = _parsed(raw)
        if parsed.key not in self._table and not parsed.key.startswith(self._tag_prefix):
            return _IGNORED
        repairs: Repairs = Counter()
        found = pick((parsed,), self._table, repairs)
        tags = pick_tags((parsed,), self._tag_prefix, repairs)
        if repairs:
            raise _Repaired
        for key, value in found.items():
            return self._entry(key, value)
        for tag in tags.items():
            return _TAG_MARK, TAG, tag
        return _IGNORED

    def _entry(self, key: str, value: Any) -> Entry:
        # Of no value, or of zero, something may follow: that makes another kind of span.
        mark = self._differing.get(key) if value else None
        return next(self._marks) if mark is None else mark, key, value

    def _read_text(self, raw: bytes) -> Entry | None:
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
            return self._entry(self._keys[key], text) if key in self._labels else _IGNORED if key.decode() else None
        name = key[len(self._start_of_tag) :].decode()
        return (_TAG_MARK, TAG, (name, text)) if name and "\x00" not in name and len(name) <= SHORT else None


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
