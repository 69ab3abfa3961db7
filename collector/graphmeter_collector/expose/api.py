"""The reading API: questions of reports.Reader as GET requests, its rows as JSON.

Whatever is wrong with a question, its answer is a status and one sentence in `detail`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import APIRouter, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator

from graphmeter import names
from graphmeter_collector.expose.asking import PROBLEMS, Amount, Ns, Reference, Since, Text, time_range
from graphmeter_collector.reports import (
    BudgetRow,
    ClientRow,
    ContentRow,
    NodeRow,
    Reader,
    RunCount,
    RunFilter,
    RunRow,
    Series,
    SpanRow,
    TopologyRow,
)

MOST_RUNS = 10_000


def _status(text: str) -> str:
    if text and text not in names.RUN_STATUSES:
        raise ValueError(f"is none of {', '.join(names.RUN_STATUSES)}")
    return text


Status = Annotated[str, Query(description="One of the statuses of a run."), AfterValidator(_status)]


def sentence(error: RequestValidationError) -> str:
    """Which parameters are impossible, and why."""
    return "; ".join(
        f"{each['loc'][-1]}: {each['msg'].removeprefix('Value error, ')}, got {str(each['input'])[:80]!r}"
        for each in error.errors()
    )


class BudgetStates(Protocol):
    """Where the state of budgets comes from."""

    async def rows(self) -> Sequence[BudgetRow]: ...


def api_router(reader: Reader, budget_states: BudgetStates) -> APIRouter:
    """Routes below `/api`."""
    router = APIRouter(prefix="/api", tags=["reports"], responses=PROBLEMS)

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
        start, end = time_range(since, since_ns, until_ns) if since else (since_ns, until_ns)
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
        return await reader.clients(time_range(since, since_ns, 0)[0])

    @router.get("/runs/{reference}/content", summary="What was captured in a run's trace, where `capture=` is on")
    async def content(reference: Reference) -> list[ContentRow]:
        return await reader.content((await _find(reader, reference)).trace_id)

    @router.get("/nodes", summary="Latency, errors, tokens and cost per node")
    async def nodes(
        since: Since = "24h", since_ns: Ns = 0, until_ns: Ns = 0, graph: Text = "", team: Text = ""
    ) -> list[NodeRow]:
        start, end = time_range(since, since_ns, until_ns)
        return await reader.nodes(start, end, graph=graph, team=team)

    @router.get("/run_counts", summary="Runs by status")
    async def run_counts(since: Since = "24h", since_ns: Ns = 0, until_ns: Ns = 0) -> list[RunCount]:
        return await reader.run_counts(*time_range(since, since_ns, until_ns))

    @router.get("/series", summary="Combinations of dimensions seen")
    async def series(since: Since = "24h", since_ns: Ns = 0) -> list[Series]:
        return await reader.series(time_range(since, since_ns, 0)[0])

    @router.get("/budgets", summary="State of every budget")
    async def budgets() -> Sequence[BudgetRow]:
        return await budget_states.rows()

    return router


async def _find(reader: Reader, reference: str) -> RunRow:
    found = await reader.run(reference)
    if found is None:
        raise HTTPException(404, f"no run {reference!r}: give a run id, a trace id, or 8 characters or more of either")
    return found
