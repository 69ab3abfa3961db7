"""A request in, bytes with length and checksum out; and back, past whatever a bad disk has done to them.

Every frame begins with eight random bytes that only its segment's name repeats. So a reader that has lost its place finds
the next frame by looking for them, and no sender can put something into a request that looks like one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from graphmeter_collector.records import Caller

MARK_BYTES: Final = 8
_HEADER: Final = struct.Struct(">QIIII")
"""Time of receipt (ns), spans, bytes of the caller, bytes of the body, CRC-32 of all the rest."""
_CHECKED: Final = _HEADER.size - 4
OVERHEAD: Final = MARK_BYTES + _HEADER.size


class Spooled(NamedTuple):
    """One request as it was accepted."""

    body: bytes
    """An ExportTraceServiceRequest."""
    caller: Caller
    received_ns: int
    """What was acceptable then is acceptable when it is replayed, however much later that is."""
    spans: int


class Damage(NamedTuple):
    """Bytes that are no frame."""

    offset: int
    size: int
    torn: bool
    """Nothing intact follows: most likely a frame that was being written when the process died, acknowledged to nobody."""


Found: TypeAlias = Spooled | Damage


def encode(request: Spooled, mark: bytes) -> bytes:
    """One frame of the segment with this mark."""
    caller = json.dumps(request.caller._asdict()).encode()
    checked = _HEADER.pack(request.received_ns, request.spans, len(caller), len(request.body), 0)[:_CHECKED]
    checksum = zlib.crc32(request.body, zlib.crc32(caller, zlib.crc32(checked)))
    return b"".join((mark, checked, checksum.to_bytes(4, "big"), caller, request.body))


def decode(data: bytes, mark: bytes) -> Iterator[Found]:
    """What a segment holds, in order."""
    at, lost_from = 0, -1
    while at < len(data):
        frame = _frame_at(data, at, mark)
        if frame is not None:
            if lost_from >= 0:
                yield Damage(lost_from, at - lost_from, torn=False)
                lost_from = -1
            request, size = frame
            yield request
            at += size
            continue
        if lost_from < 0:
            lost_from = at
        following = data.find(mark, at + 1)
        at = following if following >= 0 else len(data)
    if lost_from >= 0:
        yield Damage(lost_from, len(data) - lost_from, torn=True)


def _frame_at(data: bytes, at: int, mark: bytes) -> tuple[Spooled, int] | None:
    """The intact frame that begins here, and its size."""
    head, after = at + MARK_BYTES, at + OVERHEAD
    if data[at:head] != mark or after > len(data):
        return None
    received_ns, spans, caller_bytes, body_bytes, checksum = _HEADER.unpack_from(data, head)
    end = after + caller_bytes + body_bytes
    if end > len(data):
        return None
    caller, body = data[after : after + caller_bytes], data[after + caller_bytes : end]
    if zlib.crc32(body, zlib.crc32(caller, zlib.crc32(data[head : head + _CHECKED]))) != checksum:
        return None
    # Versions may differ: what this one does not know of a caller, it cannot use.
    said = {name: value for name, value in json.loads(caller).items() if name in Caller._fields}
    return Spooled(body, Caller(**said), received_ns, spans), end - at
