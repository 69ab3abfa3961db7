"""The reading API: questions of reports.Reader as GET requests, its rows as JSON.

Whatever is wrong with a question, its answer is a status and one sentence in `detail`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel

from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.expose import state
from graphmeter_collector.reports import (
    BudgetRow,
    ClientRow,
    ContentRow,
    CostRow,
    NodeRow,
    Reader,
    RunCount,
    RunFilter,
    RunRow,
    Series,
    SloRow,
    SpanRow,
    TopologyRow,
)
from graphmeter_config import Config

NS = 1_000_000_000
DAY_S = 86_400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_S, "w": 7 * DAY_S}
MOST_RUNS = 10_000
_MOST: Final = 1 << 63
"""No column holds this or more."""
_LAST_YEAR: Final = 2261
"""The last whole year whose nanoseconds since 1970 fit into 63 bits."""


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character, which no stored text does")
    return text


def _status(text: str) -> str:
    if text and text not in names.RUN_STATUSES:
        raise ValueError(f"is none of {', '.join(names.RUN_STATUSES)}")
    return text


Text = Annotated[str, Query(max_length=500), AfterValidator(_storable)]
Status = Annotated[str, Query(description="One of the statuses of a run."), AfterValidator(_status)]
Reference = Annotated[str, Path(max_length=500), AfterValidator(_storable)]
Amount = Annotated[int, Query(ge=0, lt=_MOST)]
Since = Annotated[str, Query(description="Time back from now: 30m, 24h, 7d.")]
Month = Annotated[str, Query(description="A calendar month in UTC, 2026-11; takes the place of `since`.")]
Ns = Annotated[int, Query(ge=0, lt=_MOST, description="Unix time in ns; takes the place of `since`.")]


class Problem(BaseModel):
    """What is wrong, and what to do about it."""

    detail: str


_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "The question makes no sense"},
    404: {"model": Problem, "description": "There is no such thing"},
    422: {"model": Problem, "description": "A parameter has an impossible value"},
    503: {"model": Problem, "description": "The database is away; ask again later"},
}


def sentence(error: RequestValidationError) -> str:
    """Which parameters are impossible, and why."""
    return "; ".join(
        f"{each['loc'][-1]}: {each['msg'].removeprefix('Value error, ')}, got {str(each['input'])[:80]!r}"
        for each in error.errors()
    )


def api_router(reader: Reader, config: Callable[[], Config]) -> APIRouter:
    """Routes below `/api`."""
    router = APIRouter(prefix="/api", tags=["reports"], responses=_PROBLEMS)

    @router.get("/runs", summary="Runs, newest first")
    async def runs(
        graph: Text = "",
        status: Status = "",
        team: Text = "",
        min_cost_nano: Amount = 0,
        min_duration_ns: Amount = 0,
        since: Since = "",
        since_ns: Ns = 0,
        until_ns: Ns = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 50,
    ) -> list[RunRow]:
        start, end = _range(since, "", since_ns, until_ns) if since else (since_ns, until_ns)
        return await reader.runs(RunFilter(graph, status, team, min_cost_nano, min_duration_ns, start, end, limit))

    @router.get("/runs/{reference}", summary="One run, by run id, trace id or the beginning of either")
    async def run(reference: Reference) -> RunRow:
        return await _find(reader, reference)

    @router.get("/runs/{reference}/trace", summary="All spans of a run's trace, by start")
    async def trace(reference: Reference) -> list[SpanRow]:
        return await reader.spans((await _find(reader, reference)).trace_id)

    @router.get("/graphs/{graph}/topology", summary="Shapes of a graph, the one seen last first")
    async def topology(graph: Reference) -> list[TopologyRow]:
        found = await reader.topologies(graph)
        if not found:
            raise HTTPException(404, f"no topology of a graph {graph!r}: its client sends one with the first run")
        return found

    @router.get("/clients", summary="What client processes report of their spans, those with most losses first")
    async def clients(since: Since = "24h", since_ns: Ns = 0) -> list[ClientRow]:
        return await reader.clients(_range(since, "", since_ns, 0)[0])

    @router.get("/runs/{reference}/content", summary="What was captured in a run's trace, where `capture=` is on")
    async def content(reference: Reference) -> list[ContentRow]:
        return await reader.content((await _find(reader, reference)).trace_id)

    @router.get("/nodes", summary="Latency, errors, tokens and cost per node")
    async def nodes(
        since: Since = "24h", since_ns: Ns = 0, until_ns: Ns = 0, graph: Text = "", team: Text = ""
    ) -> list[NodeRow]:
        start, end = _range(since, "", since_ns, until_ns)
        return await reader.nodes(start, end, graph=graph, team=team)

    @router.get("/cost", summary="Spend, as billed")
    async def cost(
        by: Annotated[str, Query(description="Dimensions with commas between: team,model.")] = "team",
        since: Since = "24h",
        month: Month = "",
        since_ns: Ns = 0,
        until_ns: Ns = 0,
    ) -> list[CostRow]:
        start, end = _range(since, month, since_ns, until_ns)
        return await reader.cost([part.strip() for part in by.split(",") if part.strip()], start, end)

    @router.get("/run_counts", summary="Runs by status")
    async def run_counts(since: Since = "24h", since_ns: Ns = 0, until_ns: Ns = 0) -> list[RunCount]:
        return await reader.run_counts(*_range(since, "", since_ns, until_ns))

    @router.get("/series", summary="Combinations of dimensions seen")
    async def series(since: Since = "24h", since_ns: Ns = 0) -> list[Series]:
        return await reader.series(_range(since, "", since_ns, 0)[0])

    @router.get("/budgets", summary="State of every budget")
    async def budgets() -> list[BudgetRow]:
        return await state.budgets(reader, config())

    @router.get("/slos", summary="State of every SLO")
    async def slos() -> list[SloRow]:
        return await state.slos(reader, config())

    return router


async def _find(reader: Reader, reference: str) -> RunRow:
    found = await reader.run(reference)
    if found is None:
        raise HTTPException(404, f"no run {reference!r}: give a run id, a trace id, or 8 characters or more of either")
    return found


def _range(since: str, month: str, since_ns: int, until_ns: int) -> tuple[int, int]:
    """[since, until) in ns."""
    now = time.time_ns()
    if month:
        return _month(month)
    start = since_ns or max(now - _duration_s(since) * NS, 0)
    # What started this very nanosecond belongs to "until now".
    return start, until_ns or now + 1


def _duration_s(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not re.fullmatch("[0-9]{1,9}", number) or not int(number):
        raise BadRequest(f"{text[:80]!r} is not a duration: write 30m, 24h or 7d", reason="bad_duration")
    return int(number) * _UNITS[unit]


def _month(text: str) -> tuple[int, int]:
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        first = datetime.min.replace(tzinfo=UTC)
    if not 1970 <= first.year <= _LAST_YEAR:
        raise BadRequest(f"{text[:80]!r} is not a month: write 2026-11", reason="bad_month")
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return round(first.timestamp()) * NS, round(after.timestamp()) * NS
