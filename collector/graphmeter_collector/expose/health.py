"""Is it alive, can it acknowledge, what does it count: the routes that machines ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response

from graphmeter_collector.errors import CollectorError

PATHS = ("/health", "/ready", "/metrics")
READY_WITHIN_S = 2.0


def health_router(
    render: Callable[[str], tuple[bytes, str]], ping: Callable[[], Awaitable[None]], accepting: Callable[[], bool]
) -> APIRouter:
    """`/health`, `/ready` and `/metrics`; `render` turns an Accept header into an exposition and its content type."""
    router = APIRouter(tags=["health"])

    @router.get("/health", summary="Alive")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/ready", summary="Able to acknowledge")
    async def ready(response: Response) -> dict[str, str]:
        if not accepting():
            response.status_code = 503
            return {"status": "stopping"}
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await ping()
        except (CollectorError, TimeoutError) as error:
            response.status_code = 503
            return {"status": "not ready", "reason": str(error) or f"no answer within {READY_WITHIN_S:g} s"}
        return {"status": "ready"}

    @router.get("/metrics", summary="Prometheus exposition", response_class=Response)
    async def exposition(request: Request) -> Response:
        body, content_type = render(request.headers.get("accept", ""))
        # Starlette would add a charset to what already says one.
        return Response(body, headers={"content-type": content_type})

    return router
