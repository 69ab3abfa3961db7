"""What `rules simulate` tells is what Prometheus does: one traffic, stored and scraped minute by minute.

Of every kind there is one thing that crosses its limit and one that stays below. promtool runs the generated rules on what
a collector exposed after each minute; each alert has to fire as long as was simulated, from and until the same evaluation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from graphmeter import names
from graphmeter_alerts import budget_burn_rules, build, provider_rules, threshold_rules
from graphmeter_alerts.rules import matchers
from graphmeter_alerts.simulate import simulate
from graphmeter_alerts.would import Would
from graphmeter_cli import stored
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.expose.unended import UnendedGauges
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import Store, open_store
from graphmeter_collector.store.read import open_reader
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config
from support import promtool
from support.looked_back import BEGINS_S, BUDGETS, LIMITS, LOST_AFTER_S, MINUTES, THRESHOLDS, minute
from support.records import SECOND, T0_NS
from support.scraped import series_of

CONFIG: Final = Config.model_validate(
    {
        "slos": [],
        "budgets": BUDGETS,
        "provider_limits": LIMITS,
        "anomalies": None,
        "runs": {"lost_after": f"{LOST_AFTER_S}s"},
        "alerting": {"unattributed": None},
        "thresholds": {"state_size": None, **THRESHOLDS},
    }
)
BEGINS_NS: Final = T0_NS + BEGINS_S * SECOND
ENDS_NS: Final = BEGINS_NS + MINUTES * 60 * SECOND
KINDS: Final = {
    *(threshold_rules.ALERT_OF[name] for name in THRESHOLDS),
    budget_burn_rules.BURN_FAST,
    budget_burn_rules.BURN_SLOW,
    budget_burn_rules.EXHAUSTS_SOON,
    provider_rules.NEAR,
}
LIMIT_USD: Final = {budget.name: float(budget.limit_usd or 0) for budget in CONFIG.budgets}
WARMED_UP: Final = -2
SCRAPE: Final = "text/plain;version=0.0.4"
CROSSED_BY_BOTH: Final = {"budget=gone", "budget=short"}
OFF: Final = 1
"""Evaluations that a counter may lag behind what is stored: a new one shows zero first."""


async def simulated(url: str) -> list[Would]:
    async with open_reader(url) as reader:
        found = simulate(CONFIG, await stored.read(reader, CONFIG, BEGINS_NS, ENDS_NS), BEGINS_NS, ENDS_NS)
    return [one for one in found if one.alert in KINDS]


def of_budgets(record: SpanRecord) -> list[tuple[str, str, str]]:
    """Budgets that a call counts against, as metrics tell them."""
    return [(budget.name, "", record.graph) for budget in CONFIG.budgets]


async def scraped(store: Store) -> dict[str, list[str]]:
    """Values of each series, minute by minute."""
    metrics, values = Metrics(), dict[str, list[str]]()
    counts, spent = Counts(metrics, of_budgets), defaultdict[tuple[str, ...], float](float)
    running, waiting = (
        UnendedGauges(names.RUNS_IN_PROGRESS, names.RUN_OLDEST),
        UnendedGauges(names.RUNS_WAITING, names.HUMAN_WAIT_OLDEST),
    )

    async def happens(at: int) -> None:
        records = minute(at)
        counts.count(await store.write(records))
        for record in records:
            for labels in of_budgets(record):
                spent[labels] += (record.cost.total_nano if record.cost else 0) / names.NANO_PER_USD

    # Series that are new show zero first; these are known.
    await happens(WARMED_UP)
    metrics.render(SCRAPE)
    for at in range(MINUTES + 1):
        now_ns = BEGINS_NS + at * 60 * SECOND
        counts.lost(await store.mark_lost(now_ns, LOST_AFTER_S * SECOND))
        counts.waited(await store.end_waits(now_ns))
        running.show(metrics, await store.runs_in_progress(), now_ns)
        waiting.show(metrics, await store.runs_waiting(now_ns), now_ns)
        metrics.replace(names.BUDGET_SPENT, spent)
        metrics.replace(names.BUDGET_LIMIT, {labels: LIMIT_USD[labels[0]] for labels in spent})
        exposition = metrics.render(SCRAPE)[0].decode()
        for name, value in series_of(exposition, ("counter", "histogram", "gauge")).items():
            values.setdefault(name, ["_"] * at).append(repr(value))
        if at < MINUTES:
            await happens(at)
    return values


def labels_of(one: Would) -> dict[str, str]:
    """What tells its alert from others in Prometheus."""
    said = dict(each.split("=", 1) for each in one.about.split(", "))
    if "budget" in said:
        said["scope"] = said.pop("graph")
    return {"alertname": one.alert, "severity": one.severity, **said}


def checks_of(found: Sequence[Would]) -> Iterable[dict[str, Any]]:
    """Each alert fires then, and at no other time."""
    for one in found:
        until_ns = ENDS_NS + 60 * SECOND if one.until_ns is None else one.until_ns
        first, end = ((at - BEGINS_NS) // (60 * SECOND) for at in (one.since_ns, until_ns))
        firing = "ALERTS" + matchers(alertstate="firing", **labels_of(one))
        for at, expected in ((first - OFF - 1, 0), (first + OFF, 1), (end - OFF - 1, 1), (end + OFF, 0)):
            if first <= at < end or (not expected and 0 <= at <= MINUTES):
                yield check(f"count({firing}) or vector(0)", at, expected)
        within = OFF + (end <= MINUTES)
        yield check(f"abs(count_over_time({firing}[2h]) - {end - first}) <= bool {within}", MINUTES, 1)
    any_other = f'ALERTS{{alertname=~"{"|".join(sorted(KINDS))}",alertstate="firing"}}'
    yield check(f"count(count_over_time({any_other}[2h]))", MINUTES, len(found))


def check(expr: str, at: int, expected: int) -> dict[str, Any]:
    samples = [{"labels": "{}", "value": expected}]
    return {"expr": f"sum({expr})", "eval_time": f"{at}m", "exp_samples": samples}


async def at_once(store: Store) -> None:
    """The same, stored at the end."""
    await store.write([record for at in (WARMED_UP, *range(MINUTES)) for record in minute(at)])
    await store.mark_lost(ENDS_NS, LOST_AFTER_S * SECOND)
    await store.end_waits(ENDS_NS)


async def test_prometheus_and_the_simulation_tell_the_same(sqlite_url: str, postgres_url: str, tmp_path: Path) -> None:
    store, other = await open_store(sqlite_url), await open_store(postgres_url)
    try:
        values = await scraped(store)
        found = await simulated(sqlite_url)
        await at_once(other)
        assert found == await simulated(postgres_url)
    finally:
        await store.close()
        await other.close()
    assert KINDS == {one.alert for one in found if "graph=bad" in one.about}
    assert CROSSED_BY_BOTH == {one.about.partition(",")[0] for one in found if "graph=calm" in one.about}
    rules = {name: text for name, text in build(CONFIG).items() if ".rules." in name}
    for name, text in rules.items():
        (tmp_path / name).write_text(text)
    test = {
        "rule_files": sorted(rules),
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": " ".join(each)} for name, each in values.items()],
                "promql_expr_test": list(checks_of(found)),
            }
        ],
    }
    path = tmp_path / "same.test.yml"
    path.write_text(yaml.safe_dump(test))
    result = promtool.test_rules(path)
    assert result.ok, result.output
