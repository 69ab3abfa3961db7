"""A second port for those who only look: `/metrics`, `/health` and `/ready` on every address, nothing else, without keys.

For a collector that listens on loopback beside its application (a sidecar): the application sends without keys, nobody else
can send or read runs, and still the kubelet's probes and Prometheus, which come from outside, see how it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import APIRouter, FastAPI

from graphmeter_collector.exposure import listen

EVERYWHERE = "0.0.0.0"  # noqa: S104 - asked for by --metrics-port, and says so
_ENDS_WITHIN_S = 2


@asynccontextmanager
async def lookout(routes: APIRouter, port: int | None) -> AsyncIterator[int]:
    """Serve these routes until the block ends; the port, 0 if none was asked for.

    Raises:
        StartupError: the port is taken.
    """
    if port is None:
        yield 0
        return
    app = FastAPI(title="Graphmeter collector, for those who look", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(routes)
    with listen(EVERYWHERE, port, option="--metrics-port") as listener:
        server = _Quiet(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_ENDS_WITHIN_S
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


class _Quiet(uvicorn.Server):
    """Leaves signals to the collector's own server, which ends us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
