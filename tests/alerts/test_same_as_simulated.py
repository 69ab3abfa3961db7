"""What `rules simulate` tells is what Prometheus does: one traffic, stored and scraped minute by minute.

Of every kind there is one thing that crosses its limit and one that stays below. promtool runs the generated rules on what
a collector exposed after each minute; each alert has to fire as long as was simulated, from and until the same evaluation.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from graphmeter import names
from graphmeter_alerts import anomaly_rules, budget_burn_rules, provider_rules, threshold_rules
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.expose.unended import UnendedGauges
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import Store, open_store
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config
from support import past_weeks
from support.looked_back import BEGINS_S, BUDGETS, LIMITS, LOST_AFTER_S, MINUTES, THRESHOLDS, minute
from support.records import SECOND, T0_NS
from support.same_alerts import Story
from support.scraped import series_of

NOTHING: Final[dict[str, Any]] = {
    "slos": [],
    "budgets": [],
    "anomalies": None,
    "thresholds": None,
    "alerting": {"unattributed": None},
}
CONFIG: Final = Config.model_validate(
    {
        **NOTHING,
        "budgets": BUDGETS,
        "provider_limits": LIMITS,
        "runs": {"lost_after": f"{LOST_AFTER_S}s"},
        "thresholds": {"state_size": None, **THRESHOLDS},
    }
)
BEGINS_NS: Final = T0_NS + BEGINS_S * SECOND
ENDS_NS: Final = BEGINS_NS + MINUTES * 60 * SECOND
LIMITED: Final = Story(
    CONFIG,
    frozenset(
        {
            *(threshold_rules.ALERT_OF[name] for name in THRESHOLDS),
            *budget_burn_rules.ALERTS,
            *provider_rules.ALERTS,
        }
    ),
    BEGINS_NS,
    60,
    MINUTES,
)
UNUSUAL: Final = Story(
    Config.model_validate({**NOTHING, "anomalies": past_weeks.ANOMALIES}),
    frozenset(anomaly_rules.ALERTS),
    T0_NS + past_weeks.BEGINS_S * SECOND,
    past_weeks.STEP_S,
    past_weeks.STEPS,
)
LIMIT_USD: Final = {budget.name: float(budget.limit_usd or 0) for budget in CONFIG.budgets}
WARMED_UP: Final = -2
SCRAPE: Final = "text/plain;version=0.0.4"
CROSSED_BY_BOTH: Final = {"budget=gone", "budget=short"}


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


async def at_once(store: Store) -> None:
    """The same, stored at the end."""
    await store.write([record for at in (WARMED_UP, *range(MINUTES)) for record in minute(at)])
    await store.mark_lost(ENDS_NS, LOST_AFTER_S * SECOND)
    await store.end_waits(ENDS_NS)


async def test_what_crosses_limits_fires_in_both(sqlite_url: str, postgres_url: str, tmp_path: Path) -> None:
    store, other = await open_store(sqlite_url), await open_store(postgres_url)
    try:
        values = await scraped(store)
        await at_once(other)
    finally:
        await store.close()
        await other.close()
    found = await LIMITED.simulated(sqlite_url)
    assert found == await LIMITED.simulated(postgres_url)
    assert LIMITED.kinds == {one.alert for one in found if "graph=bad" in one.about}
    assert CROSSED_BY_BOTH == {one.about.partition(",")[0] for one in found if "graph=calm" in one.about}
    result = LIMITED.judged(found, values, tmp_path)
    assert result.ok, result.output


async def test_what_is_unusual_fires_in_both(sqlite_url: str, postgres_url: str, tmp_path: Path) -> None:
    for url in (sqlite_url, postgres_url):
        store = await open_store(url)
        await store.write(list(past_weeks.records()))
        await store.close()
    found = await UNUSUAL.simulated(sqlite_url)
    assert found == await UNUSUAL.simulated(postgres_url)
    assert UNUSUAL.kinds == {one.alert for one in found}
    assert {"graph=bad", "graph=drops"} == {one.about for one in found}
    result = UNUSUAL.judged(found, past_weeks.counted(), tmp_path)
    assert result.ok, result.output
