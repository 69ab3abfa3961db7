"""The API of budgets: their state for those who ask all the time, their definitions, changes and events.

Whoever may change something needs a key with the scope `admin` where there are keys (see `door`); here it is only looked at
that a browser cannot be made to ask for it by another site: such a request has no JSON, unless this site allowed it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Body, Header, HTTPException, Path, Query, Request, Response
from pydantic import ValidationError

from graphmeter_collector.errors import BadRequest
from graphmeter_collector.expose.asking import PROBLEMS
from graphmeter_collector.reports import BudgetEvent, BudgetRow, InForce
from graphmeter_config import Budget
from graphmeter_config.load import explained

NS: Final = 1_000_000_000
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MOST_EVENTS: Final = 1000
_LONGEST: Final = 500
_MOST_ANSWERS: Final = 1000
_FIELDS: Final = tuple(field.name for field in fields(BudgetRow))


class States(Protocol):
    """The budgets at one moment."""

    @property
    def as_of_ns(self) -> int: ...

    @property
    def rows(self) -> Sequence[BudgetRow]: ...

    @property
    def in_force(self) -> Sequence[InForce]: ...

    @property
    def etag(self) -> str: ...


class Budgets(Protocol):
    """What this collector knows of budgets."""

    async def recent(self) -> States: ...

    async def definitions(self) -> Sequence[InForce]: ...

    async def put(self, one: Budget) -> bool: ...

    async def remove(self, name: str) -> bool: ...

    async def events(self, since_ns: int, limit: int) -> list[BudgetEvent]: ...

    def receivers(self) -> Sequence[str]: ...


def budgets_router(budgets: Budgets) -> APIRouter:
    """Routes below `/api/budgets`."""
    router = APIRouter(prefix="/api/budgets", tags=["budgets"], responses=PROBLEMS)
    answers = _Answers()

    @router.get("/status", summary="State of budgets, at most 3 seconds old; 304 where nothing was spent since")
    async def status(
        budget: Annotated[str, Query(max_length=_LONGEST, description="Only this one.")] = "",
        scope: Annotated[
            list[str], Query(description="Only where an attribution has this value: scope=team:cx. May be repeated.")
        ] = [],  # noqa: B006 - FastAPI copies it
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        found = await budgets.recent()
        headers = {"ETag": f'"{found.etag}"', "Cache-Control": "no-cache"}
        if f'"{found.etag}"' in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(answers.of(found, budget, tuple(scope)), media_type="application/json", headers=headers)

    @router.get("/definitions", summary="Budgets in force, and whose they are")
    async def definitions() -> list[dict[str, Any]]:
        return [_shown(one) for one in await budgets.definitions()]

    @router.get("/events", summary="Thresholds that were crossed, the newest first")
    async def events(
        since: Annotated[str, Query(max_length=20, description="Time back from now: 24h, 7d.")] = "30d",
        limit: Annotated[int, Query(ge=1, le=_MOST_EVENTS)] = 100,
    ) -> list[dict[str, Any]]:
        found = await budgets.events(time.time_ns() - _seconds(since) * NS, limit)
        return [event._asdict() | {"scope": list(event.scope)} for event in found]

    @router.post("", summary="Put a budget into force, or change one that came this way", status_code=201)
    async def put(request: Request, response: Response, said: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise HTTPException(415, "send the budget as application/json")
        one = _budget(said)
        unknown = sorted(set(one.receivers) - set(budgets.receivers()))
        if unknown:
            known = ", ".join(budgets.receivers()) or "none: add some to `receivers:` in graphmeter.yaml"
            raise HTTPException(422, f"receivers: there is none named {unknown[0]!r} (known: {known})")
        if not await budgets.put(one):
            response.status_code = 200
        return next(_shown(found) for found in await budgets.definitions() if found.budget.name == one.name)

    @router.delete("/{name}", summary="Take a budget out of force that came this way", status_code=204)
    async def remove(name: Annotated[str, Path(max_length=_LONGEST)]) -> None:
        if not await budgets.remove(name):
            raise HTTPException(404, f"there is no budget {name!r}")

    return router


class _Answers:
    """What is said of states, put into words once: many guards ask the same between two looks at the database."""

    def __init__(self) -> None:
        self._states: States | None = None
        self._said: dict[tuple[str, tuple[str, ...]], bytes] = {}

    def of(self, states: States, budget: str, scope: tuple[str, ...]) -> bytes:
        """JSON of the budgets that are asked for."""
        if self._states is not states:
            self._states, self._said = states, {}
        found = self._said.get((budget, scope))
        if found is None:
            if len(self._said) >= _MOST_ANSWERS:
                self._said.clear()
            found = self._said[budget, scope] = _said(states, budget, dict(_part(each) for each in scope))
        return found


def _said(states: States, budget: str, wanted: dict[str, str]) -> bytes:
    rows = [
        {name: getattr(row, name) for name in _FIELDS}
        for row in states.rows
        if budget in ("", row.budget) and all(row.scope.get(name) == value for name, value in wanted.items())
    ]
    known = [_definition(one) for one in states.in_force if budget in ("", one.budget.name)]
    said = {"as_of_ns": states.as_of_ns, "budgets": rows, "definitions": known}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def _definition(of: InForce) -> dict[str, Any]:
    """What a guard needs to tell which calls count, and against whose limit; also where nothing was spent yet.

    Of one that is not `counted` nobody knows yet what was spent.
    """
    one = of.budget
    return {
        "budget": one.name,
        "unit": one.unit,
        "limit": one.limit,
        "hard": one.hard,
        "match": {name: list(globs) for name, globs in one.match.restricting().items()},
        "per": list(one.per),
        "counted": of.counted,
    }


def _shown(one: InForce) -> dict[str, Any]:
    facts = {"name": one.budget.name, "source": one.source, "since_ns": one.since_ns, "changed_ns": one.changed_ns}
    return {**facts, "counted": one.counted, "definition": one.budget.definition()}


def _budget(said: dict[str, Any]) -> Budget:
    try:
        return Budget.model_validate(said, by_alias=True, by_name=False, context={"file": True})
    except ValidationError as error:
        raise HTTPException(422, "; ".join(explained(error, Budget))) from error


def _part(text: str) -> tuple[str, str]:
    # Tags have a colon in their name, `tag:plan:free`.
    prefix = "tag:" if text.startswith("tag:") else ""
    name, colon, value = text.removeprefix(prefix).partition(":")
    if not colon:
        raise BadRequest(f"{text[:80]!r} is no part of a scope: write team:cx", reason="bad_scope")
    return prefix + name, value


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}[mhdw]", text):
        raise BadRequest(f"{text[:80]!r} is not a duration: write 24h or 7d", reason="bad_duration")
    return int(text[:-1]) * _UNITS[text[-1]]
