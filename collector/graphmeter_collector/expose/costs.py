"""Questions on spend as GET requests: who spent it, what moved, what was for nothing, what one run or good outcome costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator

from graphmeter_collector.errors import BadRequest
from graphmeter_collector.expose.asking import PROBLEMS, Ns, Since, storable, time_range
from graphmeter_collector.reports import (
    COST_UNITS,
    EFFECTIVE,
    CostRow,
    OutcomeCostRow,
    Reader,
    ReportedCostRow,
    UnitCostRow,
    View,
    Where,
    dimension,
)
from graphmeter_collector.spending import MoverRow, WasteRow, movers, waste
from graphmeter_config import periods
from graphmeter_config.periods import NoPeriod, NoZone, Period

MOST_GROUPS = 10_000

Calendar = Annotated[
    str, Query(max_length=20, description="2026-11, 2026-W47 or 2026-11-20, `this` or `last`; instead of `since`.")
]
Zone = Annotated[str, Query(max_length=100, description="Time zone of calendar periods: Europe/Berlin.")]
By = Annotated[
    str,
    Query(max_length=1000, description="Dimensions with commas between: team,model,tag:plan."),
    AfterValidator(storable),
]
Values = Annotated[
    list[Annotated[str, AfterValidator(storable)]],
    Query(max_length=100, description="Spend that counts: team=cx; may be repeated. An empty value: what names none."),
]
Prices = Annotated[
    View, Query(description="By which prices: `effective`, the last that each call was given, or `billed`, as billed.")
]


class Stretch(tuple[int, int]):
    """[since, until) in ns, and the time before it."""

    before: tuple[int, int]
    """As long, or the calendar period before."""


def _in_time(
    since: Since = "24h",
    month: Calendar = "",
    week: Calendar = "",
    day: Calendar = "",
    timezone: Zone = "UTC",
    since_ns: Ns = 0,
    until_ns: Ns = 0,
) -> Stretch:
    """What a question says about time; a calendar period takes the place of `since`."""
    said: dict[Period, str] = {"month": month, "week": week, "day": day}
    named = [(period, text) for period, text in said.items() if text]
    if len(named) > 1:
        kinds = " and ".join(period for period, _ in named)
        raise BadRequest(f"{kinds} contradict each other: give one of them", reason="bad_period")
    try:
        periods.known_zone(timezone)
        if named:
            found = periods.parse(*named[0], timezone)
            stretch, earlier = Stretch((found.since_ns, found.until_ns)), found.before()
            stretch.before = (earlier.since_ns, earlier.until_ns)
            return stretch
    except (NoPeriod, NoZone) as problem:
        raise BadRequest(str(problem), reason="bad_period") from problem
    start, end = time_range(since, since_ns, until_ns)
    stretch = Stretch((start, end))
    stretch.before = (max(2 * start - end, 0), start)
    return stretch


InTime = Annotated[Stretch, Depends(_in_time)]


def costs_router(reader: Reader) -> APIRouter:
    """Routes below `/api/cost`."""
    router = APIRouter(prefix="/api", tags=["reports"], responses=PROBLEMS)

    @router.get("/cost", summary="Spend")
    async def cost(
        stretch: InTime,
        where: Values = [],  # noqa: B006 - FastAPI copies it
        by: By = "team",
        timezone: Zone = "UTC",
        limit: Annotated[int, Query(ge=0, le=MOST_GROUPS, description="Groups at most, the dearest; 0: all.")] = 0,
        detail: Annotated[bool, Query(description="Spend on failed calls, and per token bucket, too.")] = False,
        view: Prices = EFFECTIVE,
    ) -> list[CostRow]:
        return await reader.cost(
            _parts(by), *stretch, where=_where(where), timezone=timezone, limit=limit, detail=detail, view=view
        )

    @router.get("/cost/movers", summary="Spend beside that of the time before, what moved most first")
    async def cost_movers(
        stretch: InTime,
        where: Values = [],  # noqa: B006
        by: By = "team",
        timezone: Zone = "UTC",
        view: Prices = EFFECTIVE,
    ) -> list[MoverRow]:
        now = await reader.cost(_parts(by), *stretch, where=_where(where), timezone=timezone, view=view)
        before = await reader.cost(_parts(by), *stretch.before, where=_where(where), timezone=timezone, view=view)
        return movers(now, before, view)

    @router.get("/cost/waste", summary="Spend that was for nothing, the dearest first")
    async def cost_waste(
        stretch: InTime,
        where: Values = [],  # noqa: B006
        by: By = "graph,node",
        timezone: Zone = "UTC",
        view: Prices = EFFECTIVE,
    ) -> list[WasteRow]:
        return waste(await reader.cost(_parts(by), *stretch, where=_where(where), timezone=timezone, view=view))

    @router.get("/cost/units", summary="What one run, conversation or user costs")
    async def unit_cost(
        stretch: InTime,
        where: Values = [],  # noqa: B006
        unit: Annotated[str, Query(max_length=100, description=f"One of {', '.join(COST_UNITS)}.")] = "run_id",
        by: By = "",
        view: Prices = EFFECTIVE,
    ) -> list[UnitCostRow]:
        return await reader.unit_cost(unit, _parts(by), *stretch, where=_where(where), view=view)

    @router.get("/cost/reported", summary="What providers say that calls cost, beside what they cost by our prices")
    async def reported_cost(
        stretch: InTime,
        where: Values = [],  # noqa: B006
        by: By = "provider,model",
        timezone: Zone = "UTC",
        view: Prices = EFFECTIVE,
    ) -> list[ReportedCostRow]:
        return await reader.reported_cost(_parts(by), *stretch, where=_where(where), timezone=timezone, view=view)

    @router.get("/cost/outcomes", summary="What a good outcome costs")
    async def outcome_cost(
        stretch: InTime,
        where: Values = [],  # noqa: B006
        by: By = "",
        view: Prices = EFFECTIVE,
    ) -> list[OutcomeCostRow]:
        return await reader.outcome_cost(_parts(by), *stretch, where=_where(where), view=view)

    return router


def _parts(by: str) -> list[str]:
    return [part.strip() for part in by.split(",") if part.strip()]


def _where(said: Sequence[str]) -> Where:
    """`team=cx`, `team=ops`, `tag:plan=pro` → values by dimension."""
    found: dict[str, list[str]] = {}
    for each in said:
        name, sign, value = each.partition("=")
        if not sign:
            raise BadRequest(f"{each[:80]!r} is no condition: write where=team=cx", reason="bad_condition")
        found.setdefault(dimension(name.strip()), []).append(value)
    return found
