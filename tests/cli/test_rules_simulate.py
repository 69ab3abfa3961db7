"""`graphmeter rules simulate`: what is stored gives the alerts that would have fired, at their times."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.running import failure, json_of, run
from graphmeter import names
from graphmeter_alerts import ALERTS
from graphmeter_alerts.simulate import SIMULATED, why_not
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import open_store
from support.records import SECOND, call, priced, record

MINUTE_NS, HOUR_NS = 60 * 10**9, 3600 * 10**9
USD = 10**9
CONFIG = {
    "version": 1,
    "slos": [
        {"name": "runs", "objective": 99},
        {"name": "quick", "indicator": "latency", "threshold": "30s", "objective": 95, "select": {"graph": "other"}},
    ],
    "budgets": [{"name": "weekly", "limit_usd": 100, "rolling": "7d", "per": ["team"]}],
}


def story(began_ns: int) -> list[SpanRecord]:
    """A run a minute for three hours, of which those of the second fail; another graph that is well; and three calls."""
    found = []
    for minute in range(180):
        status = names.ERROR if 60 <= minute < 120 else names.OK
        start_ns = began_ns + minute * MINUTE_NS
        at: dict[str, Any] = {"start_ns": start_ns, "end_ns": start_ns + SECOND, "kind": names.RUN}
        found.append(record(1, of=minute + 1, graph="support", status=status, **at))
        found.append(record(1, of=minute + 1001, graph="other", status=names.OK, **at))
    for hour, team, usd in ((1, "cx", 85), (2, "cx", 30), (2, "", 150)):
        cost = priced(usd * USD)
        start_ns = began_ns + hour * HOUR_NS
        when = {"start_ns": start_ns, "end_ns": start_ns + SECOND}
        found.append(call(2, of=5000 + hour + len(team), team=team, cost=cost, **when))
    return found


def fired(found: Any, alert: str, about: str) -> list[tuple[int, int | None]]:
    return [
        (one["since_ns"], one["until_ns"]) for one in found["fired"] if (one["alert"], one["about"]) == (alert, about)
    ]


def test_what_would_have_fired_is_told_with_its_times(database_url: str, tmp_path: Path) -> None:
    config = tmp_path / "graphmeter.yaml"
    config.write_text(json.dumps(CONFIG), encoding="utf-8")
    began_ns = time.time_ns() // HOUR_NS * HOUR_NS - 72 * HOUR_NS
    fails_ns, ends_ns = began_ns + HOUR_NS, began_ns + 2 * HOUR_NS

    async def store() -> None:
        opened = await open_store(database_url)
        await opened.write(story(began_ns))
        await opened.close()

    asyncio.run(store())
    at = ("--config", str(config), "--database-url", database_url)
    found = json_of("rules", "simulate", "--since", "6d", *at)

    # Nine bad of sixty are more than 14.4 %; two minutes later somebody is paged. Five minutes after the last bad run the
    # short window is clean, and after five more the page ends.
    [(since_ns, until_ns)] = fired(found, "GraphmeterErrorBudgetBurnFast", "slo=runs, burn=page-fast, graph=support")
    assert 9 * MINUTE_NS <= since_ns - fails_ns <= 13 * MINUTE_NS
    assert until_ns is not None
    assert 8 * MINUTE_NS <= until_ns - ends_ns <= 12 * MINUTE_NS
    [(_, spent_until_ns)] = fired(found, "GraphmeterErrorBudgetExhausted", "slo=runs, graph=support")
    assert spent_until_ns is None
    assert [] == [one for one in found["fired"] if "other" in one["about"]]

    quarter_ns = 15 * MINUTE_NS
    [(warned_ns, handed_over_ns)] = fired(found, "GraphmeterBudgetThreshold", "budget=weekly, threshold=80, team=cx")
    assert quarter_ns == warned_ns - (began_ns + HOUR_NS)
    assert [(handed_over_ns, None)] == fired(
        found, "GraphmeterBudgetExhausted", "budget=weekly, threshold=100, team=cx"
    )
    assert quarter_ns == (handed_over_ns or 0) - (began_ns + 2 * HOUR_NS)
    [(nobodys_ns, day_later_ns)] = fired(found, "GraphmeterSpendUnattributed", "")
    assert 24 * HOUR_NS <= (day_later_ns or 0) - nobodys_ns + 2 * quarter_ns <= 25 * HOUR_NS

    assert "about scrapes, which only Prometheus knows of" == found["not_simulated"]["GraphmeterCollectorDown"]
    said = run("rules", "simulate", "--since", "6d", *at)
    assert 0 == said.exit_code
    assert "Not simulated: GraphmeterSLOMetricAbsent, " in said.stdout
    # Days of nothing are not judged.
    assert began_ns == found["since_ns"]
    assert f"since {datetime.fromtimestamp(began_ns / 1e9, UTC):%Y-%m-%d %H:%M} UTC: nothing is stored" in said.stdout
    nothing = run("rules", "simulate", "--since", "1h", *at)
    assert "GraphmeterErrorBudgetBurnFast" not in nothing.stdout


def test_a_collector_cannot_be_asked() -> None:
    assert "leave --url" in failure(2, "rules", "simulate", "--url", "http://localhost:4318")


def test_what_is_yet_to_come_cannot_be_looked_back_at() -> None:
    assert "'2999-01-01' is yet to come: write 30d" in failure(2, "rules", "simulate", "--since", "2999-01-01")


def test_every_alert_is_simulated_or_has_its_reason() -> None:
    assert set(ALERTS) > SIMULATED
    assert set(ALERTS) - SIMULATED == {alert for alert in ALERTS if why_not(alert)}
