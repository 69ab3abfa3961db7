"""`GET /api/prices`: the effective price book, for clients that price calls by themselves; an ETag makes asking cheap."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Header, Query, Response

from graphmeter import names
from graphmeter_collector.errors import BadRequest, StoreUnavailable
from graphmeter_collector.expose.asking import PROBLEMS
from graphmeter_collector.reports import Reader

SEEN_NS: Final = 30 * 86_400_000_000_000
"""How far back models count as seen."""
MOST_ASKED: Final = 100

Asked = tuple[str, ...]
"""Provider and model, and as far as it is known requested model, tier of service and server."""


class PricesOf(Protocol):
    """Effective prices of what was asked for, at a time."""

    def __call__(self, asked: Sequence[Asked], now_ns: int, *, alone: bool = False) -> dict[str, Any]:
        """Unless `alone`, also those of what was priced lately."""


def prices_router(reader: Reader, prices_of: PricesOf) -> APIRouter:
    """The route below `/api`."""
    router = APIRouter(prefix="/api", tags=["prices"], responses=PROBLEMS)

    @router.get("/prices", summary="The effective price book: models seen, models asked for, and all overrides")
    async def prices(
        model: Annotated[
            list[str], Query(max_length=MOST_ASKED, description="Also this one, PROVIDER/MODEL; may be repeated.")
        ] = [],  # noqa: B006 - read only; FastAPI wants a literal
        call: Annotated[
            list[str],
            Query(
                max_length=MOST_ASKED,
                description='Only this one, `["PROVIDER","MODEL","REQUESTED MODEL","SERVER"]`; may be repeated.',
            ),
        ] = [],  # noqa: B006 - as above
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        now_ns = time.time_ns()
        if call:
            return _answer(prices_of([_call(each) for each in call], now_ns, alone=True), if_none_match)
        asked = [(provider, name) for each in model for provider, _, name in [each.partition("/")] if name]
        try:
            known = [(s.provider, s.model) for s in await reader.series(now_ns - SEEN_NS) if s.kind == names.MODEL]
        except StoreUnavailable:
            known = []  # what this process has priced is remembered, and a client must not wait for a database
        return _answer(prices_of([*known, *asked], now_ns), if_none_match)

    return router


def _answer(found: dict[str, Any], if_none_match: str) -> Response:
    body = json.dumps(found, separators=(",", ":")).encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    if headers["ETag"] in tags or "*" in tags:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _call(text: str) -> Asked:
    try:
        provider, model, asked_for, server = json.loads(text)
        if not all(isinstance(each, str) for each in (provider, model, asked_for, server)):
            raise ValueError(text)
    except (ValueError, TypeError, RecursionError):
        raise BadRequest(
            f'{text[:80]!r} is no call: write ["openai","gpt-4o-2024-08-06","gpt-4o",""]', reason="bad_call"
        ) from None
    return provider, model, asked_for, "", server
