"""A real OTLP/HTTP backend on loopback that answers as told, can go away, and can come back on its port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.ports import free_port

Answer = web.Response | Callable[["Received"], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    at: float
    """time.monotonic()."""
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    raw: bytes
    """Body after decompression."""

    @property
    def message(self) -> ExportTraceServiceRequest:
        return ExportTraceServiceRequest.FromString(self.raw)

    @property
    def spans(self) -> list[str]:
        """Names, in the order sent."""
        return [
            span.name
            for resource in self.message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@dataclass
class Backend:
    """What was asked, and what will be answered."""

    name: str = "backend"
    headers: dict[str, str] = field(default_factory=dict)
    """What a forwarder is to send."""
    ssl: SSLContext | None = None
    """How it is to trust."""
    gzip: bool = True
    timeout_s: float = 30.0
    tls: SSLContext | None = None
    """What the backend presents itself with; None: plain HTTP."""
    port: int = field(default_factory=free_port)
    received: list[Received] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    """Names of the spans in requests that were answered with 200."""
    answers: list[Answer] = field(default_factory=list)
    """Of the next requests, in turn; then whatever `otherwise` says."""
    otherwise: Callable[[Received], web.Response] = lambda received: web.Response()
    busy: int = 0
    most_busy: int = 0
    """Requests that were under way at the same time, at most."""
    _runner: web.AppRunner | None = None

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self.tls).start()

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(time.monotonic(), request.method, request.path, headers, await request.read())
        self.received.append(received)
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            answer: Answer = self.answers.pop(0) if self.answers else self.otherwise(received)
            response = answer if isinstance(answer, web.Response) else await answer(received)
        finally:
            self.busy -= 1
        if response.status == 200:
            self.accepted += received.spans
        return response


@asynccontextmanager
async def backend(headers: dict[str, str] | None = None) -> AsyncIterator[Backend]:
    """A backend that is up, ended at the end of the block."""
    made = Backend(headers=headers or {})
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def eventually(what: Callable[[], bool | Awaitable[bool]], within_s: float = 60.0) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not in time.
    """
    ends = time.monotonic() + within_s
    while True:
        held = what()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < ends, "it never came about"
        await asyncio.sleep(0.01)
