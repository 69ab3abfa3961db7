"""A real webhook on loopback that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from support.ports import free_port


@dataclass
class Hook:
    """What was posted, and what will be answered."""

    port: int = field(default_factory=free_port)
    posted: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    """Path, headers (names in lower case), body."""
    answers: list[web.Response] = field(default_factory=list)
    """Of the next requests, in turn; then 200."""
    takes_s: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/s3cret"

    @property
    def bodies(self) -> list[str]:
        return [body for _, _, body in self.posted]

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posted.append((request.path, headers, await request.text()))
        await asyncio.sleep(self.takes_s)
        return self.answers.pop(0) if self.answers else web.Response(text="ok")


@asynccontextmanager
async def hook() -> AsyncIterator[Hook]:
    """A webhook that is up until the block ends."""
    made = Hook()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made._take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    try:
        yield made
    finally:
        await runner.cleanup()
