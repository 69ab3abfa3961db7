"""The state of budgets and SLOs now: spend and runs in, one row per budget and scope, per SLO and graph out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import Asked, BudgetRow, InForce, Reader, RunCount, SloRow, Spent
from graphmeter_config import BAD_STATUSES, GOOD_STATUSES, Config, Slo
from graphmeter_config.forecast import forecast, recent_since
from graphmeter_config.spend import COLUMNS, TAG, UNBOUNDED

NS = 1_000_000_000
_MOST_KNOWN = 10_000
_DIMENSIONS = ("service", "environment", "graph", "team")


def asked(in_force: Iterable[InForce], now_ns: int) -> list[Asked]:
    """What has to be known of spend to tell the budgets' state."""
    found = {}
    for each in in_force:
        start, end = each.budget.stretch_at(now_ns)
        found[each.budget.key] = Asked(each.budget.key, start, end, recent_since(each.budget, now_ns))
    return list(found.values())


def budgets(in_force: Iterable[InForce], spent: Iterable[Spent], now_ns: int) -> list[BudgetRow]:
    """Every budget in its current period; one that is divided has a row for each scope that spent."""
    by_key: defaultdict[str, list[Spent]] = defaultdict(list)
    for each in spent:
        by_key[each.key].append(each)
    rows = []
    for one in in_force:
        of = one.budget
        nothing = [] if of.per else [Spent(of.key, (), 0, 0, 0, 0, 0)]
        rows += [budget_row(one, found, now_ns) for found in sorted(by_key.get(of.key) or nothing)]
    return rows


def budget_row(one: InForce, spent: Spent, now_ns: int) -> BudgetRow:
    """State of a budget in one scope."""
    budget = one.budget
    start, end = budget.stretch_at(now_ns)
    money = budget.unit == "usd"
    opening = budget.opening(start)
    units = (spent.nano if money else spent.tokens) + opening
    leads = forecast(budget, units, spent.recent_nano if money else spent.recent_tokens, now_ns)
    scope = dict(zip(budget.per, spent.scope, strict=True))
    return BudgetRow(
        budget=budget.name,
        team=scope.get("team", ""),
        limit_nano=budget.limit_nano,
        spent_nano=spent.nano + (opening if money else 0),
        period_start_ns=start,
        period_end_ns=end,
        used_ratio=budget.used(units),
        per_team="team" in budget.per,
        crossed=budget.crossed(units),
        scope=scope,
        unit=budget.unit,
        limit_tokens=0 if money else budget.limit,
        spent_tokens=spent.tokens + (0 if money else opening),
        calls=spent.calls,
        remaining=budget.limit - units,
        remaining_ratio=1 - budget.used(units),
        forecast=leads.spend if leads else None,
        forecast_ratio=budget.used(leads.spend) if leads else None,
        exhausted_at_ns=leads.exhausted_ns if leads else None,
        period=budget.period_text,
        rolling=bool(budget.rolling_ns),
        hard=budget.hard,
        source=one.source,
    )


def labels_of(budget: str, scope: Mapping[str, str]) -> tuple[str, str, str]:
    """Budget, team and the rest of the scope as metrics show them; whose values know no bounds is left out."""
    rest = (f"{name}={value}" for name, value in scope.items() if name != "team" and name not in UNBOUNDED)
    return budget, scope.get("team", ""), ",".join(rest)


def shown(rows: Iterable[BudgetRow]) -> dict[tuple[str, str, str], BudgetRow]:
    """Rows by their labels in metrics; of several with the same (users have no label) the one that used most."""
    found: dict[tuple[str, str, str], BudgetRow] = {}
    for row in rows:
        labels = labels_of(row.budget, row.scope)
        if labels not in found or found[labels].used_ratio < row.used_ratio:
            found[labels] = row
    return found


class BudgetLabels:
    """A model call in, the budgets that it counts against out, as labels of metrics."""

    def __init__(self, in_force: Iterable[InForce] = ()) -> None:
        self._budgets = [one.budget for one in in_force]
        wanted = sorted({name for one in self._budgets for name in (*one.per, *one.match.restricting())})
        self._columns = [(name, COLUMNS[name]) for name in wanted if not name.startswith(TAG)]
        self._tags = [name for name in wanted if name.startswith(TAG)]
        self._known: dict[tuple[str, ...], tuple[tuple[str, str, str], ...]] = {}

    def of(self, record: SpanRecord) -> tuple[tuple[str, str, str], ...]:
        """Calls that are alike to every budget are looked at once."""
        said: dict[str, str] = {name: getattr(record, column) for name, column in self._columns}
        if said.get("model") == "":
            said["model"] = record.tool  # as on the ledger
        for tag in self._tags:
            said[tag] = record.tags.get(tag.removeprefix(TAG), "")
        key = tuple(said.values())
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = tuple(
                labels_of(one.name, dict(zip(one.per, one.scope_of(said), strict=True)))
                for one in self._budgets
                if one.matches(said)
            )
        return self._known[key]


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
