"""The API of strict budgets: room for a call asked for before it is made, and given up when it came to nothing.

Applications ask, so it takes a key with the scope `ingest`; a key that is bound to a team asks for that team. To see what is
reserved takes one with `read`.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, HTTPException, Path, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt

from graphmeter import names
from graphmeter_collector.expose.asking import PROBLEMS, Reference, storable
from graphmeter_collector.records import ANONYMOUS
from graphmeter_collector.reports import Ask, Held, Reserved
from graphmeter_config.spend import COLUMNS, TAG, known

NS: Final = 1_000_000_000
DEFAULT_TTL_S: Final = 900.0
"""Longer than any model call and its delivery take."""
LONGEST_TTL_S: Final = 86_400.0
_MOST: Final = 1 << 62
_MOST_ATTRIBUTES: Final = 64
_LONGEST: Final = 500


def _attribution(name: str) -> str:
    if not known(name):
        raise ValueError(f"{name[:80]!r} is no attribution of spend: known are {', '.join(COLUMNS)}, {TAG}NAME")
    return name


def _value(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half a character, which no stored text does") from None
    return storable(text)


_Id = Annotated[str, Field(pattern=f"^{names.RESERVATION_ID}$")]
_Name = Annotated[str, Field(max_length=_LONGEST), AfterValidator(_value), AfterValidator(_attribution)]
_Value = Annotated[str, Field(max_length=_LONGEST), AfterValidator(_value)]
_Amount = Annotated[StrictInt, Field(ge=0, lt=_MOST)]


class Asking(BaseModel):
    """A call that is about to be made."""

    model_config = ConfigDict(extra="forbid")

    id: _Id | None = None
    """Made by the caller, new for each call: with it an ask may be repeated, and given up unanswered."""
    attributes: Annotated[dict[_Name, _Value], Field(max_length=_MOST_ATTRIBUTES)] = {}
    """Attributions of the call: team, graph, user, tag:plan …"""
    nano_usd: _Amount | None = None
    """What it costs at most, in nano-USD; needed of a budget in USD."""
    tokens: _Amount | None = None
    """What it takes at most; needed of a budget in tokens."""
    ttl_s: Annotated[float, Field(gt=0, le=LONGEST_TTL_S)] = DEFAULT_TTL_S
    """How long it is reserved if nothing is heard of the call: longer than calls and their delivery take."""


class Reservations(Protocol):
    """What decides."""

    async def reserve(self, ask: Ask) -> Reserved: ...

    async def release(self, reservation: str) -> None: ...

    async def open(self, name: str) -> list[Held]: ...


def reservations_router(reservations: Reservations) -> APIRouter:
    """Routes below `/api/budgets/NAME/reservations`."""
    router = APIRouter(prefix="/api/budgets/{name}/reservations", tags=["budgets"], responses=PROBLEMS)

    @router.post(
        "", summary="Reserve what a call costs at most; 201 if it is granted, 200 if it is not", status_code=201
    )
    async def reserve(request: Request, response: Response, name: Reference, asked: Asking) -> dict[str, Any]:
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise HTTPException(415, "send what is asked for as application/json")
        caller = getattr(request.state, "caller", ANONYMOUS)
        attributions = asked.attributes | ({"team": caller.team} if caller.team else {})
        ttl_ns = round(asked.ttl_s * NS)
        ask = Ask(asked.id or uuid.uuid4().hex, name, attributions, asked.nano_usd, asked.tokens, ttl_ns)
        answer = await reservations.reserve(ask)
        if not answer.granted:
            response.status_code = 200
        return asdict(answer)

    @router.get("", summary="What calls under way have reserved, by scope")
    async def held(name: Reference) -> list[dict[str, Any]]:
        return [each._asdict() | {"scope": list(each.scope)} for each in await reservations.open(name)]

    @router.delete("/{reservation}", summary="Give a reservation up: its call cost nothing", status_code=204)
    async def release(name: Reference, reservation: Annotated[str, Path(pattern=f"^{names.RESERVATION_ID}$")]) -> None:
        await reservations.release(reservation)

    return router
