"""A request's body in, at most so many bytes out: limits hold while it streams in, before and after decompression."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from starlette.requests import Request

from graphmeter_collector.errors import BadRequest, TooLarge, Unsupported

_GZIP: Final = zlib.MAX_WBITS | 16
_ZLIB: Final = zlib.MAX_WBITS
_WBITS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


class Limits(NamedTuple):
    """What one request may be."""

    body_bytes: int
    """As sent."""
    decompressed_bytes: int
    spans: int


async def read_raw(request: Request, limits: Limits) -> bytes:
    """The body as sent.

    Raises:
        TooLarge: at the declared length, before a byte is read, or as soon as the limit is passed.
    """
    body = bytearray()
    async for chunk in _chunks(request, limits):
        body += chunk
    return bytes(body)


async def read_decompressed(request: Request, limits: Limits) -> bytes:
    """The body without its Content-Encoding: gzip, deflate or identity.

    Raises:
        Unsupported: another encoding.
        TooLarge: see `read_raw`; also when it inflates beyond its limit, at which point inflating stops.
        BadRequest: the compressed stream is damaged or ends early.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        body = await read_raw(request, limits)
        if len(body) > limits.decompressed_bytes:
            raise _too_large("body", limits.decompressed_bytes)
        return body
    wbits = _WBITS.get(encoding)
    if wbits is None:
        raise Unsupported(f"content encoding {encoding[:80]!r} is not known: send gzip, deflate or none")
    inflater = _Inflater(encoding, wbits, limits.decompressed_bytes)
    async for chunk in _chunks(request, limits):
        inflater.feed(chunk)
    return inflater.finish()


async def _chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:19]) > limits.body_bytes:
        raise _too_large("body", limits.body_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.body_bytes:
            raise _too_large("body", limits.body_bytes)
        yield chunk


class _Inflater:
    """Streaming decompression that never holds more than its limit, whatever the compressed bytes promise."""

    def __init__(self, encoding: str, wbits: int, limit: int) -> None:
        self._encoding = encoding
        self._wbits = wbits
        self._limit = limit
        self._stream = zlib.decompressobj(wbits)
        self._fed = False
        self._out = bytearray()

    def feed(self, data: bytes) -> None:
        while data:
            if self._stream.eof:
                # A gzip body may be several gzip members in a row: parallel compressors write that.
                self._stream = zlib.decompressobj(self._wbits)
            self._fed = True
            try:
                self._out += self._stream.decompress(data, self._limit + 1 - len(self._out))
            except zlib.error as error:
                raise BadRequest(f"the {self._encoding} body is damaged: {error}", reason="bad_compression") from error
            if len(self._out) > self._limit:
                raise _too_large("decompressed body", self._limit)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def finish(self) -> bytes:
        if self._fed and not self._stream.eof:
            raise BadRequest(f"the {self._encoding} body ends early: it was cut on the way", reason="bad_compression")
        return bytes(self._out)


def _too_large(what: str, limit: int) -> TooLarge:
    return TooLarge(f"the {what} is larger than {limit} bytes: send smaller batches")
