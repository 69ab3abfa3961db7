"""The questions themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from graphmeter_collector.reports.dimensions import EFFECTIVE, EVERYTHING, View, Where
from graphmeter_collector.reports.runs import (
    ClientRow,
    ContentRow,
    NodeRow,
    RunCount,
    RunFilter,
    RunRow,
    Series,
    SpanRow,
    TopologyRow,
)
from graphmeter_collector.reports.slos import SloCounts
from graphmeter_collector.reports.spend import CostRow, OutcomeCostRow, ReportedCostRow, UnitCostRow


class Reader(Protocol):
    """Questions that reports ask. Every implementation answers from one database; `*_ns` ranges are [since, until)."""

    async def runs(self, where: RunFilter) -> list[RunRow]: ...

    async def run(self, reference: str) -> RunRow | None:
        """A run by run id, trace id (hex) or an unambiguous prefix of either (8 characters or more)."""
        ...

    async def spans(self, trace_id: str) -> list[SpanRow]:
        """All spans of a trace but notes, by start."""
        ...

    async def content(self, trace_id: str) -> list[ContentRow]:
        """What was captured in a trace, by start; of 2,000 spans at most, and while their bytes are kept."""
        ...

    async def nodes(self, since_ns: int, until_ns: int, *, graph: str = "", team: str = "") -> list[NodeRow]: ...

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
        """Spend grouped by dimensions, dearest first; `by=()` gives the one total.

        Args:
            by: Of `COST_DIMENSIONS`, free tags and `COST_PERIODS`, which are those of the time zone.
            where: Spend of which values counts.
            limit: Rows at most, the dearest; 0: all.
            detail: What went to failed calls, and parts by token bucket, too; these are not in rollups.
            view: By which prices.

        Raises:
            BadRequest: there is no such dimension or time zone.
        """
        ...

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
        """What one `unit` of `COST_UNITS` costs, per group, the group with most spend first."""
        ...

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
        """Calls of which the provider said what they cost, per group, those of most money first."""
        ...

    async def outcome_cost(
        self,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        view: View = EFFECTIVE,
    ) -> list[OutcomeCostRow]:
        """What a good outcome costs, per group (of `OUTCOME_DIMENSIONS`) and kind."""
        ...

    async def topologies(self, graph: str) -> list[TopologyRow]:
        """Shapes of the graph, the one seen last first."""
        ...

    async def clients(self, since_ns: int) -> list[ClientRow]:
        """Clients that have reported since then, those with most losses first."""
        ...

    async def run_counts(self, since_ns: int, until_ns: int) -> list[RunCount]: ...

    async def series(self, since_ns: int) -> list[Series]: ...


class StoredReader(Reader, SloCounts, Protocol):
    """One that reads the database itself, and can count what no other asks for."""
