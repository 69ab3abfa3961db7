"""Frames of `application/vnd.amazon.eventstream`, as AWS streams answers.

Format: https://smithy.io/2.0/aws/amazon-eventstream.html#eventstream-message
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from providers.server import Answer

_STRING = 7


def stream(*frames: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """A streamed answer."""
    return Answer(b"".join(frames), "application/vnd.amazon.eventstream", 200, headers or {})


def event(kind: str, payload: Any) -> bytes:
    """One event; `kind` names a member of the operation's event union."""
    return _frame({":message-type": "event", ":event-type": kind, ":content-type": "application/json"}, payload)


def exception(kind: str, payload: Any) -> bytes:
    """A modelled error after the stream has begun."""
    return _frame({":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}, payload)


def _frame(headers: Mapping[str, str], payload: Any) -> bytes:
    head = b"".join(_header(name, value) for name, value in headers.items())
    body = json.dumps(payload).encode()
    # Prelude (both lengths) with its checksum, headers, payload, checksum of all before it; big-endian.
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + body
    return message + struct.pack(">I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return bytes([len(name)]) + name.encode() + bytes([_STRING]) + struct.pack(">H", len(text)) + text
