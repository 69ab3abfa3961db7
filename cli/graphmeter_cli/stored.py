"""A configuration and the database in, what its alerts are judged by out: what `rules simulate` looks at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from graphmeter_alerts import budget_burn_rules
from graphmeter_alerts.simulate import Stored, wanted
from graphmeter_alerts.simulated_budgets import reach_s
from graphmeter_cli.units import NS_PER_S
from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.measured import measured
from graphmeter_collector.store.minutes import by_minute
from graphmeter_collector.store.spend_slices import SpendSlice, spend_slices
from graphmeter_config import Budget, Config
from graphmeter_config.history import Slices
from graphmeter_config.simulation import QUARTER_NS, Spend

_DAY_NS: Final = 86_400 * NS_PER_S


async def read(reader: Rows, config: Config, since_ns: int, until_ns: int) -> Stored:
    """All that the rules of a configuration look at, to judge [since, until)."""
    lost_after_ns = round(config.runs.lost_after_s * NS_PER_S)
    events = {}
    for slo in config.slos:
        # Windows that end with the first moment begin before it.
        first_ns = min(slo.period_at(since_ns).start_ns, since_ns - 3 * _DAY_NS)
        events[slo.name] = await by_minute(reader, slo, max(first_ns, 0), until_ns, lost_after_ns)
    counted = {
        measure: await measured(reader, measure, since_ns, until_ns, lost_after_ns) for measure in wanted(config)
    }
    return Stored(events, *await _spend(reader, config, since_ns, until_ns), counted)


_ByGroup = dict[str, defaultdict[tuple[str, ...], defaultdict[int, int]]]


async def _spend(
    reader: Rows, config: Config, since_ns: int, until_ns: int
) -> tuple[dict[str, dict[tuple[str, ...], Spend]], dict[str, dict[tuple[str, ...], Slices]], Spend, Spend]:
    """Of each budget, of those whose speed is judged by the minute, of nobody's team, and of everybody."""
    first_ns = min([since_ns - _DAY_NS, *(budget.stretch_at(since_ns).start_ns for budget in config.budgets)])
    sums, nobodys, everybodys = _nothing(config.budgets), defaultdict[int, int](int), defaultdict[int, int](int)
    by = _attributions(config.budgets) | {"team"}
    async for each in spend_slices(reader, sorted(by), max(first_ns, 0), until_ns, QUARTER_NS // NS_PER_S):
        everybodys[each.at] += each.nano
        if not each.attributions["team"]:
            nobodys[each.at] += each.nano
        _add(sums, config.budgets, each)
    watched = budget_burn_rules.watched(config)
    speeds = _nothing(watched)
    if watched:
        first_ns = max(since_ns - reach_s(config) * NS_PER_S, 0)
        async for each in spend_slices(reader, sorted(_attributions(watched)), first_ns, until_ns, 60, ended=True):
            _add(speeds, watched, each)
    spend = {name: {scope: Spend.of(found) for scope, found in scopes.items()} for name, scopes in sums.items()}
    minutes = {name: {scope: Slices.of(found) for scope, found in scopes.items()} for name, scopes in speeds.items()}
    return spend, minutes, Spend.of(nobodys), Spend.of(everybodys)


def _nothing(budgets: Iterable[Budget]) -> _ByGroup:
    return {budget.name: defaultdict(lambda: defaultdict(int)) for budget in budgets}


def _attributions(budgets: Iterable[Budget]) -> set[str]:
    return {name for budget in budgets for name in (*budget.per, *budget.match.restricting())}


def _add(to: _ByGroup, budgets: Iterable[Budget], each: SpendSlice) -> None:
    for budget in budgets:
        if budget.matches(each.attributions):
            amount = each.nano if budget.unit == "usd" else each.tokens
            to[budget.name][budget.scope_of(each.attributions)][each.at] += amount
