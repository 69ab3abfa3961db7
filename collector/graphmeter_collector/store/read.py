"""Questions in, report rows out: one set of SQLAlchemy statements for both databases."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    Table,
    TextualSelect,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.engine import URL, RowMapping
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from graphmeter import names
from graphmeter_collector.errors import BadRequest, StartupError, StoreUnavailable
from graphmeter_collector.reports import (
    COST_DIMENSIONS,
    EFFECTIVE,
    EVERYTHING,
    ClientRow,
    ContentRow,
    CostRow,
    Culprits,
    Judgements,
    NodeRow,
    OutcomeCostRow,
    ReportedCostRow,
    RunCount,
    RunFilter,
    RunRow,
    Series,
    SpanRow,
    TopologyRow,
    Unended,
    UnitCostRow,
    View,
    Where,
)
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import (
    content,
    culprits,
    details,
    expiry,
    nodes,
    objectives,
    parts,
    sizes,
    spend,
    sums,
    waits,
)
from graphmeter_collector.store.calm import Calm
from graphmeter_collector.store.engine import is_sqlite, parse, read_engine, sqlite_path
from graphmeter_collector.store.tables import (
    client_report,
    graph_topology,
    is_running,
    ledger,
    outbox,
    run,
    span,
    unsettled,
    wait,
)
from graphmeter_config import Slo

SHORTEST_PREFIX = 8
"""Characters of a run or trace id that are enough to look for it."""

MOST_CLIENTS = 1000
"""Client processes that one answer names."""

_NOT_TOLD = ("root_seen", "last_seen_ns", "heartbeat_ns", "bad_attempts", "cancelled_calls", "was_lost")
_RUN_COLUMNS = [column for column in run.columns if column.name not in _NOT_TOLD]


class SqlReader:
    """The `Reader` of both stores, and what the stores themselves read outside their write transaction."""

    def __init__(self, url: URL) -> None:
        self._sqlite = is_sqlite(url)
        self._engine = read_engine(url)
        self._calm = Calm(needed=self._sqlite)

    async def close(self) -> None:
        """Close every connection."""
        await self._calm.rest()
        await self._engine.dispose()

    async def rows(self, statement: Select[Any] | TextualSelect) -> Sequence[RowMapping]:
        """Run a statement.

        Raises:
            StoreUnavailable: the database is away, or has no schema yet.
        """
        return await self._calm.ask(self._rows(statement))

    async def _rows(self, statement: Select[Any] | TextualSelect) -> Sequence[RowMapping]:
        try:
            async with self._engine.connect() as connection:
                answer: Sequence[RowMapping] = (await connection.execute(statement)).mappings().all()
                return answer
        except (OSError, SQLAlchemyError) as problem:
            cause = problem.orig if isinstance(problem, DBAPIError) else problem
            raise StoreUnavailable(f"cannot read the database: {cause}") from problem

    async def runs(self, where: RunFilter) -> list[RunRow]:
        conditions: list[ColumnElement[bool]] = [
            *(run.c[name] == value for name in ("graph", "status", "team") if (value := getattr(where, name))),
            *([run.c.cost_nano >= where.min_cost_nano] if where.min_cost_nano else []),
            *([run.c.duration_ns >= where.min_duration_ns] if where.min_duration_ns else []),
            *([run.c.started_ns >= where.since_ns] if where.since_ns else []),
            *([run.c.started_ns < where.until_ns] if where.until_ns else []),
        ]
        newest = select(*_RUN_COLUMNS).where(*conditions).order_by(run.c.started_ns.desc()).limit(where.limit)
        return await details.complete(self, [_run_row(row) for row in await self.rows(newest)])

    async def run(self, reference: str) -> RunRow | None:
        wanted = reference.strip().lower()
        matches = [run.c.run_id == wanted]
        compact = wanted.replace("-", "")
        if re.fullmatch(r"[0-9a-f]+", compact) and len(compact) >= SHORTEST_PREFIX:
            low, high = _bounds(compact)
            matches.append(and_(run.c.trace_id >= low, run.c.trace_id <= high))
            matches.append(self._starts_with(run.c.run_id, wanted))
        found = await self.rows(select(*_RUN_COLUMNS).where(or_(*matches)).order_by(run.c.started_ns).limit(3))
        exact = [row for row in found if wanted in (row["run_id"], row["trace_id"].hex())]
        # A trace that holds several runs is named by its first; an exact id is never ambiguous.
        if exact:
            return await self._details(exact[0])
        if len(found) > 1:
            raise BadRequest(
                f"{reference!r} fits {len(found)} runs or more: give more characters", reason="ambiguous_run"
            )
        return await self._details(found[0]) if found else None

    def _starts_with(self, column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
        """By code point, as the column's index is sorted; `prefix` is ASCII."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        if self._sqlite:
            return and_(column >= prefix, column < end)
        return and_(column.op("~>=~", is_comparison=True)(prefix), column.op("~<~", is_comparison=True)(end))

    async def _details(self, row: RowMapping) -> RunRow:
        [found] = await details.complete(self, [_run_row(row)])
        return found

    async def spans(self, trace_id: str) -> list[SpanRow]:
        wanted = _trace_id(trace_id)
        query = (
            select(span, ledger.c.reported_nano)
            .outerjoin(ledger, and_(ledger.c.trace_id == span.c.trace_id, ledger.c.span_id == span.c.span_id))
            .where(span.c.trace_id == wanted, span.c.kind != names.START)
            .order_by(span.c.start_ns, span.c.duration_ns.desc(), span.c.span_id)
        )
        return [_span_row(row) for row in await self.rows(query)]

    async def content(self, trace_id: str) -> list[ContentRow]:
        return await content.read(self, _trace_id(trace_id))

    async def nodes(self, since_ns: int, until_ns: int, *, graph: str = "", team: str = "") -> list[NodeRow]:
        return await nodes.report(self, since_ns, until_ns, graph=graph, team=team)

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
        # The status of a price is what a repricing changes: no group of rollups can be corrected by it.
        told = set(COST_DIMENSIONS) - ({"price_status"} if view == EFFECTIVE else set())
        if not (where or limit or detail) and set(by) <= told:
            rows = await sums.cost(self, by, since_ns, until_ns, view)
        else:
            rows = await spend.cost(
                self, by, since_ns, until_ns, where=where, timezone=timezone, limit=limit, view=view
            )
        return await spend.with_waste(self, rows, by, since_ns, until_ns, where=where, timezone=timezone, view=view)

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
        return await spend.per_unit(self, unit, by, since_ns, until_ns, where=where, view=view)

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
        return await spend.reported(self, by, since_ns, until_ns, where=where, timezone=timezone, view=view)

    async def outcome_cost(
        self,
        by: Sequence[str],
        since_ns: int,
        until_ns: int,
        *,
        where: Where = EVERYTHING,
        view: View = EFFECTIVE,
    ) -> list[OutcomeCostRow]:
        return await spend.per_outcome(self, by, since_ns, until_ns, where=where, view=view)

    async def topologies(self, graph: str) -> list[TopologyRow]:
        columns = graph_topology.c
        query = select(graph_topology).where(columns.graph == graph).order_by(columns.last_ns.desc(), columns.hash)
        return [
            TopologyRow(
                service=row["service"],
                environment=row["environment"],
                graph=row["graph"],
                hash=row["hash"].hex(),
                topology=json.loads(row["json"]),
                first_ns=row["first_ns"],
                last_ns=row["last_ns"],
            )
            for row in await self.rows(query)
        ]

    async def clients(self, since_ns: int) -> list[ClientRow]:
        columns = client_report.c
        losses = columns.dropped + columns.failed
        query = (
            select(client_report)
            .where(columns.at_ns >= since_ns)
            .order_by(losses.desc(), columns.at_ns.desc(), columns.client_id)
            .limit(MOST_CLIENTS)
        )
        return [ClientRow(**row) for row in await self.rows(query)]

    async def unsettled(self) -> tuple[int, int]:
        """How many foreign spans wait for their ancestors, and since when the oldest does (0 for none)."""
        [row] = await self.rows(
            select(
                func.count().label("count"), func.coalesce(func.min(unsettled.c.since_ns), 0).label("oldest_ns")
            ).select_from(unsettled)
        )
        return row["count"], row["oldest_ns"]

    async def run_counts(self, since_ns: int, until_ns: int) -> list[RunCount]:
        return await sums.run_counts(self, since_ns, until_ns)

    async def judged(self, slo: Slo, since_ns: int, until_ns: int, *, to_the_hour: bool = False) -> Judgements:
        return await objectives.judged(self, slo, since_ns, until_ns, to_the_hour=to_the_hour)

    async def culprits(self, slo: Slo, since_ns: int, until_ns: int) -> Culprits:
        return await culprits.of(self, slo, since_ns, until_ns)

    async def judged_lately(
        self, slo: Slo, now_ns: int, windows_ns: Sequence[int], lost_after_ns: int
    ) -> Sequence[Judgements]:
        return await objectives.judged_lately(self, slo, now_ns, windows_ns, lost_after_ns)

    async def series(self, since_ns: int) -> list[Series]:
        return await sums.series(self, since_ns)

    async def runs_in_progress(self) -> dict[tuple[str, str, str, str], Unended]:
        """Running runs by (service, environment, graph, team)."""
        return await self._unended(run, run.c.started_ns, is_running)

    async def runs_waiting(self, now_ns: int) -> dict[tuple[str, str, str, str], Unended]:
        """Interrupted runs that nobody has answered, by (service, environment, graph, team)."""
        open_ = (wait.c.resumed.is_(None), wait.c.until_ns.is_(None), wait.c.since_ns >= now_ns - waits.LONGEST_NS)
        return await self._unended(wait, wait.c.since_ns, *open_)

    async def _unended(
        self, of: Table, since: Column[Any], *where: ColumnElement[bool]
    ) -> dict[tuple[str, str, str, str], Unended]:
        keys = [of.c[name] for name in names.BASE_LABELS]
        query = select(*keys, func.count().label("count"), func.min(since).label("oldest_ns")).where(*where)
        return {
            (row["service"], row["environment"], row["graph"], row["team"]): Unended(row["count"], row["oldest_ns"])
            for row in await self.rows(query.group_by(*keys))
        }

    async def due(self, cutoffs: Cutoffs) -> dict[str, int]:
        """Rows that `Store.retain` would delete, by table."""
        return {table: int((await self.rows(count))[0]["due"]) for table, count in expiry.counts(cutoffs).items()}

    async def outbox_depth(self) -> dict[str, int]:
        """Spans waiting, by destination."""
        # Sums of integers are decimals to Postgres.
        spans = func.sum(literal_column(parts.COUNT, Integer)).label("count")
        query = select(outbox.c.destination, spans).group_by(outbox.c.destination)
        return {row["destination"]: int(row["count"]) for row in await self.rows(query)}

    async def outbox_oldest(self) -> dict[str, int]:
        """When the oldest waiting span was committed, by destination."""
        query = select(outbox.c.destination, func.min(outbox.c.queued_ns).label("oldest")).group_by(
            outbox.c.destination
        )
        return {row["destination"]: row["oldest"] for row in await self.rows(query)}

    async def table_bytes(self, rest: float = 0.0) -> dict[str, int]:
        """See `Store.table_bytes`."""
        if self._sqlite:
            return await sizes.of_sqlite(self.rows, rest)
        return {row["name"]: row["bytes"] for row in await self.rows(sizes.POSTGRES)}

    async def ended_runs(self) -> dict[int, int]:
        """Runs that have ended, by the day of their start."""
        return {row["day"]: int(row["runs"]) for row in await self.rows(sizes.ended_runs())}


@asynccontextmanager
async def open_reader(database_url: str) -> AsyncIterator[SqlReader]:
    """A reader on a database that a collector may be writing at the same time.

    Raises:
        StartupError: the database has no schema yet, or cannot be reached.
    """
    url = parse(database_url)
    remedy = "run `graphmeter serve` or `graphmeter migrate` on it first, or name another with --database-url"
    if is_sqlite(url) and not os.access(sqlite_path(url), os.R_OK):
        raise StartupError(f"cannot read the database {sqlite_path(url)}: {remedy}")
    reader = SqlReader(url)
    try:
        try:
            await reader.rows(select(literal(1)).select_from(run).limit(1))
        except StoreUnavailable as problem:
            raise StartupError(f"{problem}; {remedy}") from problem
        yield reader
    finally:
        await reader.close()


def _trace_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadRequest(f"{text!r} is not a trace id: give 32 hexadecimal digits", reason="bad_trace_id") from None


def _bounds(prefix: str) -> tuple[bytes, bytes]:
    """Smallest and largest trace id that start with hexadecimal digits."""
    cut = prefix[:32]
    return bytes.fromhex(cut.ljust(32, "0")), bytes.fromhex(cut.ljust(32, "f"))


def _run_row(row: RowMapping) -> RunRow:
    values: dict[str, Any] = dict(row)
    tags = values["tags"]
    values["tags"] = json.loads(tags) if isinstance(tags, str) else dict(tags)
    values["trace_id"] = values["trace_id"].hex()
    return RunRow(**values)


def _span_row(row: RowMapping) -> SpanRow:
    values = {field: row[field] for field in SpanRow.__dataclass_fields__}
    return SpanRow(
        **{
            **values,
            "trace_id": row["trace_id"].hex(),
            "span_id": row["span_id"].hex(),
            "parent_id": (row["parent_id"] or b"").hex(),
            "input_tokens": row["input_tokens"] or 0,
            "output_tokens": row["output_tokens"] or 0,
            "ttft_ns": row["ttft_ns"] or 0,
        }
    )
