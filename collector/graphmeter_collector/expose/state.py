"""The state of budgets now: spend in, one row per budget and scope out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from graphmeter_collector.records import SpanRecord
from graphmeter_collector.reports import Asked, BudgetRow, Held, InForce, Spent
from graphmeter_config.forecast import forecast, recent_since
from graphmeter_config.spend import COLUMNS, TAG, UNBOUNDED

_MOST_KNOWN = 10_000
_ROWS_AT_ONCE = 100


def asked(in_force: Iterable[InForce], now_ns: int) -> list[Asked]:
    """What has to be known of spend to tell the budgets' state, but for those that are being counted."""
    found = {}
    for each in in_force:
        if not each.counted:
            continue
        start, end = each.budget.stretch_at(now_ns)
        found[each.budget.key] = Asked(each.budget.key, start, end, recent_since(each.budget, now_ns))
    return list(found.values())


def budgets(in_force: Iterable[InForce], spent: Iterable[Spent], held: Iterable[Held], now_ns: int) -> list[BudgetRow]:
    """Every budget in its current period; one that is divided has a row for each scope that spent, or has reserved."""
    return [row for some in budget_by_budget(in_force, spent, held, now_ns) for row in some]


def budget_by_budget(
    in_force: Iterable[InForce], spent: Iterable[Spent], held: Iterable[Held], now_ns: int
) -> Iterator[Sequence[BudgetRow]]:
    """The same in parts: with many scopes it takes a while."""
    by_key: defaultdict[str, list[Spent]] = defaultdict(list)
    for each in spent:
        by_key[each.key].append(each)
    by_name: defaultdict[tuple[str, str], dict[tuple[str, ...], Held]] = defaultdict(dict)
    for some in held:
        by_name[some.budget, some.unit][some.scope] = some
    for one in in_force:
        if not one.counted:
            continue  # nobody can tell yet
        of = one.budget
        # Reserved under another division or unit, before a change of the budget, is of no limit that it has now.
        reserved = {scope: some for scope, some in by_name[of.name, of.unit].items() if len(scope) == len(of.per)}
        known = by_key[of.key]
        silent = (set(reserved) if of.per else {()}) - {each.scope for each in known}
        found = sorted([*known, *(Spent(of.key, scope, 0, 0, 0, 0, 0) for scope in silent)])
        for first in range(0, len(found), _ROWS_AT_ONCE):
            yield list(_rows(one, found[first : first + _ROWS_AT_ONCE], reserved, now_ns))


def _rows(
    one: InForce, spent: Iterable[Spent], held: Mapping[tuple[str, ...], Held], now_ns: int
) -> Iterator[BudgetRow]:
    """State of a budget in each scope. What all have in common is asked for once: there may be thousands."""
    budget = one.budget
    start, end = budget.stretch_at(now_ns)
    money, limit, opening = budget.unit == "usd", budget.limit, budget.opening(start)
    limit_nano, limit_tokens = (limit, 0) if money else (0, limit)
    opening_nano, opening_tokens = (opening, 0) if money else (0, opening)
    per, per_team, period, rolling = budget.per, "team" in budget.per, budget.period_text, bool(budget.rolling_ns)
    nothing = Held(budget.name, (), budget.unit, 0, 0)
    for each in spent:
        reserved = held.get(each.scope, nothing)
        spent_nano, spent_tokens = each.nano + opening_nano, each.tokens + opening_tokens
        units = spent_nano if money else spent_tokens
        leads = forecast(budget, units, each.recent_nano if money else each.recent_tokens, now_ns)
        scope = dict(zip(per, each.scope, strict=True))
        used = units / limit
        yield BudgetRow(
            budget=budget.name,
            team=scope.get("team", ""),
            limit_nano=limit_nano,
            spent_nano=spent_nano,
            period_start_ns=start,
            period_end_ns=end,
            used_ratio=used,
            per_team=per_team,
            crossed=budget.crossed(units),
            scope=scope,
            unit=budget.unit,
            limit_tokens=limit_tokens,
            spent_tokens=spent_tokens,
            calls=each.calls,
            remaining=limit - units,
            remaining_ratio=(limit - units) / limit,
            forecast=leads.spend if leads else None,
            forecast_ratio=leads.spend / limit if leads else None,
            exhausted_at_ns=leads.exhausted_ns if leads else None,
            period=period,
            rolling=rolling,
            hard=budget.hard,
            source=one.source,
            reserved_nano=reserved.units if money else 0,
            reserved_tokens=0 if money else reserved.units,
            reservations=reserved.calls,
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
