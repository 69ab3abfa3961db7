"""The state of budgets and SLOs now: counts of ledger and runs in, one row per budget and team, per SLO and graph out."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import BudgetRow, Reader, RunCount, SloRow
from graphmeter_config import BAD_STATUSES, GOOD_STATUSES, Budget, Config, Slo

NS = 1_000_000_000
_DIMENSIONS = ("service", "environment", "graph", "team")


async def budgets(reader: Reader, config: Config, now_ns: int | None = None) -> list[BudgetRow]:
    """Every budget's spend in its current period; a budget per team has a row for each team that spent."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    rows = []
    for budget in config.budgets:
        rows += await _budget(reader, budget, now_ns)
    return rows


async def _budget(reader: Reader, budget: Budget, now_ns: int) -> list[BudgetRow]:
    start, end = (_ns(moment) for moment in budget.period_at(datetime.fromtimestamp(now_ns / NS, UTC)))
    spent: Counter[str] = Counter()
    if not budget.per_team:
        spent[""] = 0
    for row in await reader.cost(_DIMENSIONS, start, end):
        if budget.matches(row.group):
            spent[row.group["team"] if budget.per_team else ""] += row.cost_nano
    return [
        BudgetRow(
            budget=budget.name,
            team=team,
            limit_nano=budget.limit_nano,
            spent_nano=nano,
            period_start_ns=start,
            period_end_ns=end,
            used_ratio=budget.used(nano),
            per_team=budget.per_team,
            crossed=budget.crossed(nano),
        )
        for team, nano in sorted(spent.items())
    ]


def budgets_of(config: Config, record: SpanRecord) -> list[tuple[str, str]]:
    """Budgets that a model call counts against, as (budget, team)."""
    dimensions = {name: getattr(record, name) for name in _DIMENSIONS}
    return [
        (budget.name, record.team if budget.per_team else "") for budget in config.budgets if budget.matches(dimensions)
    ]


async def slos(reader: Reader, config: Config, now_ns: int | None = None) -> list[SloRow]:
    """Every SLO over its rolling window, per graph that had runs."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    rows = []
    for slo in config.slos:
        since = now_ns - round(slo.window_s * NS)
        rows += _slo(slo, await reader.run_counts(since, now_ns + 1))
    return rows


def _slo(slo: Slo, counts: Iterable[RunCount]) -> list[SloRow]:
    good: dict[str, int] = defaultdict(int)
    bad: dict[str, int] = defaultdict(int)
    for count in counts:
        if slo.select.matches({name: getattr(count, name) for name in _DIMENSIONS}):
            good[count.graph] += count.count if count.status in GOOD_STATUSES else 0
            bad[count.graph] += count.count if count.status in BAD_STATUSES else 0
    rows = []
    for graph in sorted(good):
        status = slo.status(good[graph], bad[graph])
        achieved, remaining = status.achieved, status.budget_remaining
        rows.append(
            SloRow(
                slo=slo.name,
                graph=graph,
                objective_percent=format(slo.objective.normalize(), "f"),
                window_s=round(slo.window_s),
                good=status.good,
                bad=status.bad,
                achieved_ratio=None if achieved is None else float(achieved),
                budget_remaining_ratio=None if remaining is None else float(remaining),
            )
        )
    return rows


def _ns(moment: datetime) -> int:
    return round(moment.timestamp()) * NS
