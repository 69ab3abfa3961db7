"""A configuration and the database in, what its alerts are judged by out: what `rules simulate` looks at."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from graphmeter_alerts.simulate import Stored, wanted
from graphmeter_cli.units import NS_PER_S
from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.measured import measured
from graphmeter_collector.store.minutes import by_minute
from graphmeter_collector.store.quarters import quarters
from graphmeter_config import Config
from graphmeter_config.simulation import Events, Spend

_DAY_NS: Final = 86_400 * NS_PER_S


async def read(reader: Rows, config: Config, since_ns: int, until_ns: int) -> Stored:
    """All that the rules of a configuration look at, to judge [since, until)."""
    lost_after_ns = round(config.runs.lost_after_s * NS_PER_S)
    events = {}
    for slo in config.slos:
        # Windows that end with the first moment begin before it.
        first_ns = min(slo.period_at(since_ns).start_ns, since_ns - 3 * _DAY_NS)
        found = await by_minute(reader, slo, max(first_ns, 0), until_ns, lost_after_ns)
        events[slo.name] = {group: Events(minutes) for group, minutes in found.items()}
    counted = {
        measure: await measured(reader, measure, since_ns, until_ns, lost_after_ns) for measure in wanted(config)
    }
    return Stored(events, *await _spend(reader, config, since_ns, until_ns), counted)


async def _spend(
    reader: Rows, config: Config, since_ns: int, until_ns: int
) -> tuple[dict[str, dict[tuple[str, ...], Spend]], Spend, Spend]:
    """Of each budget, of nobody's team, and of everybody."""
    first_ns = min([since_ns - _DAY_NS, *(budget.stretch_at(since_ns).start_ns for budget in config.budgets)])
    attributions = {"team", *(name for budget in config.budgets for name in (*budget.per, *budget.match.restricting()))}
    sums: dict[str, defaultdict[tuple[str, ...], defaultdict[int, int]]] = {
        budget.name: defaultdict(lambda: defaultdict(int)) for budget in config.budgets
    }
    nobodys: defaultdict[int, int] = defaultdict(int)
    everybodys: defaultdict[int, int] = defaultdict(int)
    async for each in quarters(reader, sorted(attributions), max(first_ns, 0), until_ns):
        everybodys[each.quarter] += each.nano
        if not each.attributions["team"]:
            nobodys[each.quarter] += each.nano
        for budget in config.budgets:
            if budget.matches(each.attributions):
                amount = each.nano if budget.unit == "usd" else each.tokens
                sums[budget.name][budget.scope_of(each.attributions)][each.quarter] += amount
    spend = {name: {scope: Spend.of(found) for scope, found in scopes.items()} for name, scopes in sums.items()}
    return spend, Spend.of(nobodys), Spend.of(everybodys)
