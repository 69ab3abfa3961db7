"""One destination's senders: the outbox in, OTLP/HTTP requests out, rows deleted when the destination has answered.

Memory holds a batch for each request under way, bounded by count and bytes. What is not yet delivered waits in the
database, however long the destination is away. Every collector forwards; a batch is claimed in the database, so no two send
the same span. A span is delivered at least once: a collector that ends between an answer and the delete has that batch sent
again.

One sender is always there. While more waits than one request takes, others help, so that a backlog leaves as fast as it can
be read and not as fast as a distant backend answers; the first failure sends them away until a request has succeeded again.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, Protocol

import aiohttp
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from graphmeter import names
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.reports import OutboxItem
from graphmeter_collector.telemetry import Metrics

_log = structlog.stdlib.get_logger(__name__)

IN_FLIGHT: Final = 4
"""Requests under way to one destination, at most."""
BATCH_SPANS: Final = 2_048
BATCH_BYTES: Final = 2 * 1024 * 1024
"""Of spans before compression, but for a single larger one: backends commonly take requests of up to 20 MiB."""
POLL_S: Final = 5.0
"""How often the outbox is read without being told: what another collector committed has no bell here."""
FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 60.0
LONGEST_ASKED_S: Final = 600.0
"""Of the waits that destinations ask for."""
CONTENT_FAULTS: Final = frozenset({400, 413, 422})
"""Answers that blame what was sent. Only these lose spans; OTLP would have us drop on most others too, but a wrong
address, a missing key or a broken backend says nothing about the spans, and the outbox can wait until it is mended."""

_GZIP: Final = 16 + zlib.MAX_WBITS


class Target(Protocol):
    """Where to send, and how."""

    @property
    def name(self) -> str: ...

    @property
    def endpoint(self) -> str:
        """Base URL; `/v1/traces` is added."""
        ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def ssl(self) -> ssl.SSLContext | None:
        """None: as the system trusts."""
        ...

    @property
    def gzip(self) -> bool: ...

    @property
    def timeout_s(self) -> float: ...


class Claim(Protocol):
    """Spans that nobody else sends meanwhile."""

    @property
    def items(self) -> Sequence[OutboxItem]: ...

    @property
    def more(self) -> bool:
        """Whether others wait behind these."""
        ...

    @property
    def gone(self) -> int:
        """Spans that waited for so long that their bytes are not kept any more."""
        ...

    async def delete(self, items: Sequence[OutboxItem]) -> None: ...


class Outbox(Protocol):
    """What the worker needs of the store."""

    def outbox_claim(self, destination: str, limit: int, max_bytes: int) -> AbstractAsyncContextManager[Claim]: ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination answered: it has the spans, except those it refused for good."""

    refused: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """The destination is away or busy: nothing is lost, try again."""

    message: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TooMuch:
    """The destination will not take a request of this size, or one of its spans: send it in halves."""

    message: str


Answer = Delivered | Later | TooMuch


@dataclass(slots=True)
class _Done:
    """What one claim came to."""

    forwarded: int = 0
    refused: int = 0
    gone: int = 0
    message: str = ""
    """Why the last were refused."""


class Forwarder:
    """Sends committed spans to one destination, oldest first. One per destination and collector."""

    def __init__(self, outbox: Outbox, target: Target, metrics: Metrics) -> None:
        self._outbox = outbox
        self._target = target
        self._metrics = metrics
        self._url = f"{target.endpoint.rstrip('/')}/v1/traces"
        self._bell = asyncio.Event()
        self._helping = asyncio.Event()
        """Set while there is more than one sender's work."""
        self._backoff_s = 0.0
        self._failed_at = 0.0
        """When the backoff grew, by time.monotonic()."""
        metrics.declare(names.COLLECTOR_FORWARDED, target.name)
        metrics.declare(names.COLLECTOR_FORWARD_FAILED, target.name)
        for reason in (names.FORWARD_REFUSED, names.FORWARD_EXPIRED):
            metrics.declare(names.COLLECTOR_FORWARD_DROPPED, target.name, reason)

    def notify(self) -> None:
        """Something was committed."""
        self._bell.set()

    async def run(self) -> None:
        """Forward until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._target.timeout_s)
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as senders,
        ):
            senders.create_task(self._lead(session))
            for _ in range(IN_FLIGHT - 1):
                senders.create_task(self._help(session))

    async def _lead(self, session: aiohttp.ClientSession) -> None:
        while True:
            sent = await self._round(session)
            if self._backoff_s:
                # Never earlier than a destination asked for, unless it asked for more than LONGEST_ASKED_S.
                await asyncio.sleep(self._backoff_s * random.uniform(1.0, 1.25))  # noqa: S311 - jitter, no secret
            elif not sent:
                await self._wait()

    async def _help(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self._helping.wait()
            if not await self._round(session):
                self._helping.clear()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()

    async def _round(self, session: aiohttp.ClientSession) -> bool:
        """Send one batch; whether there was one."""
        done = _Done()
        began = time.monotonic()
        try:
            async with self._outbox.outbox_claim(self._target.name, BATCH_SPANS, BATCH_BYTES) as claim:
                if claim.more and not self._backoff_s:
                    self._helping.set()
                done.gone = claim.gone
                answer = await self._deliver(session, claim, claim.items, done) if claim.items else None
        except CollectorError as error:  # the database is away
            _log.warning("outbox_unreadable", destination=self._target.name, error=str(error))
            self._back_off(began)
            return False
        if claim.more:
            # What nobody else was given meanwhile because this claim had it in sight.
            self._bell.set()
        # Only now it is certain that they are not sent again.
        self._count(done)
        if answer is None:
            return done.gone > 0
        if isinstance(answer, Later):
            self._metrics.inc(names.COLLECTOR_FORWARD_FAILED, self._target.name)
            if not self._backoff_s:
                _log.warning("forward_failed", destination=self._target.name, error=answer.message)
            self._back_off(began, answer.after_s)
        elif self._backoff_s and began >= self._failed_at:
            _log.info("forward_resumed", destination=self._target.name)
            self._backoff_s = 0.0
        return True

    async def _deliver(
        self, session: aiohttp.ClientSession, claim: Claim, items: Sequence[OutboxItem], done: _Done
    ) -> Answer:
        """Send the items, in halves where that is what it takes, until the destination is away."""
        answer = await self._send(session, items)
        if isinstance(answer, Later):
            return answer
        if isinstance(answer, TooMuch) and len(items) > 1:
            middle = len(items) // 2
            first = await self._deliver(session, claim, items[:middle], done)
            return first if isinstance(first, Later) else await self._deliver(session, claim, items[middle:], done)
        # What a destination says it refused is not ours to trust: more than it was sent would turn a counter back.
        refused = len(items) if isinstance(answer, TooMuch) else min(max(answer.refused, 0), len(items))
        await claim.delete(items)
        done.forwarded += len(items) - refused
        if refused:
            done.refused += refused
            done.message = answer.message
        return answer

    def _count(self, done: _Done) -> None:
        name = self._target.name
        if done.refused:
            self._metrics.inc(names.COLLECTOR_FORWARD_DROPPED, name, names.FORWARD_REFUSED, by=done.refused)
            _log.warning("forward_refused", destination=name, spans=done.refused, message=done.message)
        if done.gone:
            self._metrics.inc(names.COLLECTOR_FORWARD_DROPPED, name, names.FORWARD_EXPIRED, by=done.gone)
            _log.warning("forward_expired", destination=name, spans=done.gone)
        self._metrics.inc(names.COLLECTOR_FORWARDED, name, by=done.forwarded)

    async def _send(self, session: aiohttp.ClientSession, items: Sequence[OutboxItem]) -> Answer:
        headers = {**self._target.headers, "Content-Type": "application/x-protobuf"}
        if self._target.gzip:
            headers["Content-Encoding"] = "gzip"
        # Spans that carry prompts make requests of megabytes: receiving must not wait for their compression.
        body = await asyncio.to_thread(_packed if self._target.gzip else body_of, items)
        trust = self._target.ssl if self._target.ssl is not None else True
        try:
            # A POST that follows a redirect becomes a GET, whose 200 would pass for a delivery.
            async with session.post(
                self._url, data=body, headers=headers, allow_redirects=False, ssl=trust
            ) as response:
                return _answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Later(f"{self._url}: {error or type(error).__name__}")

    def _back_off(self, began: float, at_least_s: float = 0.0) -> None:
        """After a failure of what was begun at a time: everybody but the leader stops, and that one waits."""
        self._helping.clear()
        if began >= self._failed_at:
            # Not for each request of those that were under way at the same time.
            self._backoff_s = min(max(self._backoff_s * 2, FIRST_BACKOFF_S), LONGEST_BACKOFF_S)
            self._failed_at = time.monotonic()
        self._backoff_s = max(self._backoff_s, min(at_least_s, LONGEST_ASKED_S))


def _packed(items: Sequence[OutboxItem]) -> bytes:
    return zlib.compress(body_of(items), 1, _GZIP)


def body_of(items: Sequence[OutboxItem]) -> bytes:
    """One OTLP request with each span's own bytes, under its own resource and scope.

    Put together on the wire, not from messages: what was received leaves as it came, fields that this version does not
    know and their order included, and nothing stored can fail to parse.
    """
    shared: dict[bytes, list[OutboxItem]] = {}
    for item in items:
        try:
            shared[item.envelope.id].append(item)
        except KeyError:
            shared[item.envelope.id] = [item]
    resources: dict[tuple[bytes, str], list[list[OutboxItem]]] = {}
    for same in shared.values():
        envelope = same[0].envelope
        resources.setdefault((envelope.resource, envelope.resource_schema_url), []).append(same)
    request: list[bytes] = []
    for (resource, resource_url), scopes in resources.items():
        resource_spans = _field(ResourceSpans.RESOURCE_FIELD_NUMBER, resource)
        for spans in scopes:
            envelope = spans[0].envelope
            scope_spans = _field(ScopeSpans.SCOPE_FIELD_NUMBER, envelope.scope)
            for span in spans:
                scope_spans += (_head(ScopeSpans.SPANS_FIELD_NUMBER, len(span.body)), span.body)
            if envelope.scope_schema_url:
                scope_spans += _field(ScopeSpans.SCHEMA_URL_FIELD_NUMBER, envelope.scope_schema_url.encode())
            resource_spans += _field(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, *scope_spans)
        if resource_url:
            resource_spans += _field(ResourceSpans.SCHEMA_URL_FIELD_NUMBER, resource_url.encode())
        request += _field(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, *resource_spans)
    return b"".join(request)


def _field(number: int, *value: bytes) -> list[bytes]:
    return [_head(number, sum(map(len, value))), *value]


@lru_cache(maxsize=4096)
def _head(number: int, length: int) -> bytes:
    """What stands before a length-delimited field: https://protobuf.dev/programming-guides/encoding/"""
    head = bytearray((number << 3 | 2,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    if 200 <= status < 300:
        if headers.get("Content-Type", "").startswith("text/html"):
            # The port of a user interface answers everything with its page: Jaeger's 16686 for 4318.
            return Later(f"HTTP {status} with a web page: this is no OTLP endpoint")
        try:
            partial = ExportTraceServiceResponse.FromString(body).partial_success
        except DecodeError:  # an answer in JSON or none at all; the status says it was accepted
            return Delivered()
        return Delivered(partial.rejected_spans, partial.error_message)
    message = f"HTTP {status}: {headers.get('Location', '') or body[:200].decode(errors='replace')}"
    if status in CONTENT_FAULTS:
        return TooMuch(message)
    return Later(message, _seconds(headers.get("Retry-After", "")))


def _seconds(retry_after: str) -> float:
    """A Retry-After header as seconds from now; 0 for one that says nothing."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
