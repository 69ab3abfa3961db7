"""A request's body in, at most so many bytes out: limits hold while it streams in, before and after decompression.

All requests together have bounds, too: `Room` is the memory for bodies, which a request holds until it is answered.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

from starlette.requests import Request

from graphmeter_collector.errors import BadRequest, NoRoom, TooLarge, TooSlow, Unsupported

_GZIP: Final = zlib.MAX_WBITS | 16
_ZLIB: Final = zlib.MAX_WBITS
_WBITS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


class Limits(NamedTuple):
    """What one request may be."""

    body_bytes: int
    """As sent."""
    decompressed_bytes: int
    spans: int
    seconds: float = 30.0
    """From the first byte of the body to the last."""


class Room:
    """Memory for the bodies of all requests together; every receiver takes from the same one."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.taken = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A request's share, given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.taken -= share.size


class Share:
    """What one request takes of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def grow_to(self, size: int) -> None:
        """Take so many bytes in all. A request that is alone may have more than there is room for.

        Raises:
            NoRoom: others fill the room.
        """
        others = self._room.taken - self.size
        if others and others + size > self._room.most_bytes:
            raise NoRoom(f"requests of {others} bytes are under way, and there is room for few more: send again later")
        self._room.taken += size - self.size
        self.size = size


async def read_raw(request: Request, limits: Limits, share: Share) -> bytes:
    """The body as sent.

    Raises:
        TooLarge: at the declared length, before a byte is read, or as soon as the limit is passed.
        TooSlow: it does not end in time.
        NoRoom: other requests leave too little memory.
    """
    body = bytearray()
    async with _in_time(limits):
        async for chunk in _chunks(request, limits):
            share.grow_to(len(body) + len(chunk))
            body += chunk
    return bytes(body)


async def read_decompressed(request: Request, limits: Limits, share: Share) -> bytes:
    """The body without its Content-Encoding: gzip, deflate or identity.

    Raises:
        Unsupported: another encoding.
        TooLarge, TooSlow, NoRoom: see `read_raw`; the first also when it inflates beyond its limit, at which point
            inflating stops.
        BadRequest: the compressed stream is damaged or ends early.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        body = await read_raw(request, limits, share)
        if len(body) > limits.decompressed_bytes:
            raise _too_large("body", limits.decompressed_bytes)
        return body
    wbits = _WBITS.get(encoding)
    if wbits is None:
        raise Unsupported(f"content encoding {encoding[:80]!r} is not known: send gzip, deflate or none")
    inflater = _Inflater(encoding, wbits, limits.decompressed_bytes)
    async with _in_time(limits):
        async for chunk in _chunks(request, limits):
            inflater.feed(chunk, share)
    return inflater.finish()


@asynccontextmanager
async def _in_time(limits: Limits) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limits.seconds):
            yield
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {limits.seconds:g} s: send smaller batches") from None


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

    def feed(self, data: bytes, share: Share) -> None:
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
            share.grow_to(len(self._out))
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def finish(self) -> bytes:
        if self._fed and not self._stream.eof:
            raise BadRequest(f"the {self._encoding} body ends early: it was cut on the way", reason="bad_compression")
        return bytes(self._out)


def _too_large(what: str, limit: int) -> TooLarge:
    return TooLarge(f"the {what} is larger than {limit} bytes: send smaller batches")
