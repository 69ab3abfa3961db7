"""`GET /api/prices`: the effective price book, for clients that price calls by themselves; an ETag makes asking cheap."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response

from graphmeter import names
from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.expose.asking import PROBLEMS
from graphmeter_collector.reports import Reader

SEEN_NS: Final = 30 * 86_400_000_000_000
"""How far back models count as seen."""
MOST_ASKED: Final = 100

Asked = tuple[str, str]
"""Provider and model."""
PricesOf = Callable[[Sequence[Asked], int], dict[str, Any]]
"""Effective prices of these and of what was priced lately, at a time."""


def prices_router(reader: Reader, prices_of: PricesOf) -> APIRouter:
    """The route below `/api`."""
    router = APIRouter(prefix="/api", tags=["prices"], responses=PROBLEMS)

    @router.get("/prices", summary="The effective price book: models seen, models asked for, and all overrides")
    async def prices(
        model: Annotated[
            list[str], Query(max_length=MOST_ASKED, description="Also this one, PROVIDER/MODEL; may be repeated.")
        ] = [],  # noqa: B006 - read only; FastAPI wants a literal
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        now_ns = time.time_ns()
        asked = [(provider, name) for each in model for provider, _, name in [each.partition("/")] if name]
        try:
            known = [(s.provider, s.model) for s in await reader.series(now_ns - SEEN_NS) if s.kind == names.MODEL]
        except StoreUnavailable:
            known = []  # what this process has priced is remembered, and a client must not wait for a database
        body = json.dumps(prices_of([*known, *asked], now_ns), separators=(",", ":")).encode()
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
        tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        if headers["ETag"] in tags or "*" in tags:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    return router
