"""A collector's HTTP API as a Reader: the same questions and rows as the database's, so commands are written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import click

from graphmeter_collector.reports import (
    EFFECTIVE,
    EVERYTHING,
    BudgetRow,
    BurnRow,
    ClientRow,
    ContentRow,
    CostRow,
    Culprit,
    Excluded,
    NodeRow,
    OutcomeCostRow,
    OutcomeRow,
    ReportedCostRow,
    RunCount,
    RunFilter,
    RunRow,
    Series,
    SloReport,
    SloReports,
    SloRow,
    SpanRow,
    TopologyRow,
    UnitCostRow,
    View,
    WaitRow,
    Where,
)

TIMEOUT_S = 60.0
_NESTED: dict[tuple[type, str], type] = {
    (RunRow, "outcomes"): OutcomeRow,
    (SloRow, "burn"): BurnRow,
    (SloReports, "maintenance"): Excluded,
    (SloReports, "slos"): SloReport,
    (SloReport, "errors"): Culprit,
    (SloReport, "nodes"): Culprit,
}
"""Fields that hold rows."""

_Row = TypeVar("_Row")


class HttpReader:
    """Asks one collector. Every method raises `click.ClickException` when it does not answer as expected."""

    def __init__(self, url: str, api_key: str = "") -> None:
        """`api_key` is one that may read, where the collector asks for one."""
        self.url = url.rstrip("/")
        self._headers = {"Accept": "application/json", **bearer(api_key)}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def runs(self, where: RunFilter) -> list[RunRow]:
        asked = {name: value for name in _names(RunFilter) if (value := getattr(where, name))}
        return self._rows(RunRow, await self._get("/api/runs", asked))

    async def run(self, reference: str) -> RunRow | None:
        found = await self._get(f"/api/runs/{quote(reference, safe='')}", missing=None)
        return None if found is None else self._row(RunRow, found)

    async def spans(self, trace_id: str) -> list[SpanRow]:
        return self._rows(SpanRow, await self._get(f"/api/runs/{quote(trace_id, safe='')}/trace", missing=[]))

    async def content(self, trace_id: str) -> list[ContentRow]:
        return self._rows(ContentRow, await self._get(f"/api/runs/{quote(trace_id, safe='')}/content", missing=[]))

    async def nodes(self, since_ns: int, until_ns: int, *, graph: str = "", team: str = "") -> list[NodeRow]:
        asked = {**_range(since_ns, until_ns), "graph": graph, "team": team}
        return self._rows(NodeRow, await self._get("/api/nodes", asked))

    async def cost(
        self,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        timezone: str = "UTC",
        limit: int = 0,
        detail: bool = False,
        view: View = EFFECTIVE,
    ) -> list[CostRow]:
        asked = {
            **_range(since_ns, until_ns),
            "by": ",".join(by),
            "timezone": timezone,
            "limit": limit,
            "detail": detail,
            "view": view,
        }
        return self._rows(CostRow, await self._get("/api/cost", asked, where))

    async def unit_cost(
        self,
        unit: str,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        view: View = EFFECTIVE,
    ) -> list[UnitCostRow]:
        asked = {**_range(since_ns, until_ns), "unit": unit, "by": ",".join(by), "view": view}
        return self._rows(UnitCostRow, await self._get("/api/cost/units", asked, where))

    async def reported_cost(
        self,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        timezone: str = "UTC",
        view: View = EFFECTIVE,
    ) -> list[ReportedCostRow]:
        asked = {**_range(since_ns, until_ns), "by": ",".join(by), "timezone": timezone, "view": view}
        return self._rows(ReportedCostRow, await self._get("/api/cost/reported", asked, where))

    async def outcome_cost(
        self,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        view: View = EFFECTIVE,
    ) -> list[OutcomeCostRow]:
        asked = {**_range(since_ns, until_ns), "by": ",".join(by), "view": view}
        return self._rows(OutcomeCostRow, await self._get("/api/cost/outcomes", asked, where))

    async def topologies(self, graph: str) -> list[TopologyRow]:
        return self._rows(TopologyRow, await self._get(f"/api/graphs/{quote(graph, safe='')}/topology", missing=[]))

    async def clients(self, since_ns: int) -> list[ClientRow]:
        return self._rows(ClientRow, await self._get("/api/clients", {"since_ns": max(since_ns, 1)}, missing=[]))

    async def run_counts(self, since_ns: int, until_ns: int) -> list[RunCount]:
        return self._rows(RunCount, await self._get("/api/run_counts", _range(since_ns, until_ns)))

    async def series(self, since_ns: int) -> list[Series]:
        return self._rows(Series, await self._get("/api/series", {"since_ns": max(since_ns, 1)}))

    async def budgets(self) -> list[BudgetRow]:
        """State of every budget now."""
        return self._rows(BudgetRow, await self._get("/api/budgets"))

    async def slos(self, name: str = "") -> list[SloRow]:
        """State of every SLO now, or of one."""
        return self._rows(SloRow, await self._get("/api/slos", {"name": name} if name else None))

    async def slo_report(self, since_ns: int, until_ns: int, name: str, *, leave_out: bool) -> SloReports:
        """What became of SLOs in [since, until)."""
        asked = {**_range(since_ns, until_ns), "name": name, "maintenance": "exclude" if leave_out else "include"}
        return self._row(SloReports, await self._get("/api/slos/report", asked))

    async def get(self, path: str) -> Any:
        """The JSON at a path."""
        return await self._get(path)

    async def _get(
        self, path: str, asked: Mapping[str, object] | None = None, where: Where = EVERYTHING, **missing: Any
    ) -> Any:
        """The JSON at a path; the value of `missing=` where there is nothing."""
        assert self._session is not None  # used as a context manager
        given = [(name, str(value)) for name, value in (asked or {}).items()]
        given += [("where", f"{name}={value}") for name, values in where.items() for value in values]
        try:
            async with self._session.get(self.url + path, params=given) as answer:
                if answer.status == 404 and missing:
                    return missing["missing"]
                if answer.status >= 400:
                    raise click.ClickException(f"{self.url} answers {answer.status}: {await detail(answer)}")
                return await answer.json()
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as problem:
            raise click.ClickException(
                f"{self.url!r} is not a collector's address: write http://host:4318"
            ) from problem
        except (aiohttp.ClientConnectionError, TimeoutError) as problem:
            raise click.ClickException(
                f"no collector answers at {self.url}: start one with `graphmeter serve`, or check the address"
            ) from problem
        except (aiohttp.ContentTypeError, ValueError) as problem:
            raise click.ClickException(f"{self.url}{path} does not answer as a Graphmeter collector does") from problem

    def _rows(self, kind: type[_Row], items: Any) -> list[_Row]:
        if not isinstance(items, list):
            raise click.ClickException(f"{self.url} does not answer as a Graphmeter collector does")
        return [self._row(kind, item) for item in items]

    def _row(self, kind: type[_Row], item: Any) -> _Row:
        """A row from its JSON; fields of a newer collector are ignored."""
        try:
            values = {name: item[name] for name in _names(kind) if name in item}
            return kind(**{name: self._value(kind, name, value) for name, value in values.items()})
        except TypeError as problem:
            raise click.ClickException(
                f"{self.url} speaks another version: its {kind.__name__} does not fit this `graphmeter` ({problem})"
            ) from problem

    def _value(self, kind: type, name: str, value: Any) -> Any:
        """A field from its JSON, which knows neither tuples nor rows within rows."""
        if name == "crossed" and isinstance(value, list):
            return tuple(value)
        if (kind, name) in _NESTED:
            return tuple(self._rows(_NESTED[kind, name], value))
        return self._row(WaitRow, value) if name == "wait" and value is not None else value


def bearer(api_key: str) -> dict[str, str]:
    """The header that shows a key; none for no key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _range(since_ns: int, until_ns: int) -> dict[str, object]:
    # The API takes 0 for "not said", and then means a day.
    return {"since_ns": max(since_ns, 1), "until_ns": max(until_ns, 1)}


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


async def detail(answer: aiohttp.ClientResponse) -> str:
    """The sentence a collector puts into its errors, else the beginning of what came."""
    try:
        said = await answer.json()
        return str(said["detail"])
    except (aiohttp.ContentTypeError, ValueError, KeyError, TypeError):
        return (await answer.text())[:200].strip() or answer.reason or "no reason given"
