"""The database and Prometheus tell the same of every kind of objective: one traffic, stored and scraped minute by minute.

What a collector exposes after each minute becomes the input of promtool, which runs the generated rules on it; the figures
that they record have to be those of the database within one percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from graphmeter import names
from graphmeter_alerts import build
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.expose.slos import slos
from graphmeter_collector.records import Outcome, SpanRecord
from graphmeter_collector.reports import SloRow
from graphmeter_collector.store import open_store
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config
from support import promtool
from support.records import SECOND, T0_NS, call, note, priced, record
from support.scraped import series_of
from support.slo_kinds import EVERY_KIND

MINUTES: Final = 70
RUNS: Final = 6
CONFIG: Final = Config(slos=EVERY_KIND)
SLOW_S: Final = {slo.of: 1.5 * slo.bound for slo in EVERY_KIND if slo.indicator == "latency"}
BOUND: Final = {(slo.indicator, slo.of): slo.bound for slo in EVERY_KIND}
TOLERANCE: Final = 0.01
WITHIN: Final = {"5m", "30m", "1h", "1d"}
"""Windows whose events are looked at, beside that of the objective."""


def minute(at: int) -> list[SpanRecord]:
    """Six runs: one fails with all that is in it, one is slow, one is dear, of one was said that it was not good."""
    found = []
    for number in range(RUNS):
        of = 1 + at * RUNS + number
        failed: dict[str, Any] = {"status": names.ERROR, "error_type": "Timeout"} if number == 0 else {}
        slow = number == 1
        when: dict[str, Any] = {"of": of, "at_s": 60 * at + number + 1}
        nano = round((1.5 if number == 2 else 0.1) * BOUND["cost", "runs"] * 1e9)
        ttft_ns = round((1.5 if slow else 0.5) * BOUND["first_token", "models"] * 1e9)
        found += [
            record(1, kind=names.RUN, s=SLOW_S["runs"] if slow else 0.01, **when, **failed),
            record(2, node="answer", s=SLOW_S["nodes"] if slow else 0.01, **when, **failed),
            record(3, kind=names.TOOL, tool="search", node="answer", **when, **failed),
            call(4, cost=priced(nano), ttft_ns=ttft_ns, s=SLOW_S["models"] if slow else 0.01, **when, **failed),
            note(5, names.OUTCOME, said=Outcome("approved", number != 3, None), **when),
        ]
    return found


async def measured(database_url: str) -> tuple[dict[str, list[str]], list[SloRow]]:
    """Values of each series, minute by minute, and the state of the objectives at the end."""
    store, metrics = await open_store(database_url), Metrics()
    counts, values = Counts(metrics), dict[str, list[str]]()
    try:
        for at in range(MINUTES + 1):
            scraped = series_of(metrics.render("text/plain;version=0.0.4")[0].decode())
            for name, value in scraped.items():
                values.setdefault(name, ["_"] * at).append(repr(value))
            if at < MINUTES:
                counts.count(await store.write(minute(at)))
        return values, await slos(store.reader, CONFIG, T0_NS + MINUTES * 60 * SECOND)
    finally:
        await store.close()


def near(expr: str, expected: float) -> dict[str, Any]:
    """An expression of one series has to be this within one percent."""
    within = max(abs(expected) * TOLERANCE, 1e-9)
    return {
        "expr": f"sum(abs({expr} - ({expected!r}))) <= bool {within!r}",
        "eval_time": f"{MINUTES}m",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }


def selector(row: SloRow) -> str:
    labels: Mapping[str, str] = {"slo": row.slo, **row.scope}
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


async def test_prometheus_and_the_database_tell_the_same(sqlite_url: str, tmp_path: Path) -> None:
    values, rows = await measured(sqlite_url)
    assert [slo.name for slo in EVERY_KIND] == [row.slo for row in rows]
    files = {name: text for name, text in build(CONFIG).items() if name.startswith("slo-") and ".rules." in name}
    order = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        order += [group["name"] for group in yaml.safe_load(text)["groups"]]
    checks = []
    for row in rows:
        # Of nothing but good events any rule would be right.
        assert RUNS * MINUTES == row.total, row
        assert row.bad in (MINUTES, 2 * MINUTES), row
        of = selector(row)
        assert row.budget_remaining_ratio is not None
        assert row.burn_rate is not None
        checks += [
            near(f"slo:events:increase30d{of}", row.total),
            near(f"slo:errors:increase30d{of}", row.bad),
            near(f"slo:period_error_budget_remaining:ratio{of}", row.budget_remaining_ratio),
            near(f"slo:burn_rate:ratio1h{of}", row.burn_rate),
        ]
        for tier in row.burn:
            for window, events, bad in (
                (tier.short, tier.short_events, tier.short_bad),
                (tier.long, tier.long_events, tier.long_bad),
            ):
                if window in WITHIN:
                    checks.append(near(f"slo:events:increase{window}{of}", events))
                    checks.append(near(f"slo:errors:increase{window}{of}", bad))
    test = {
        "rule_files": sorted(files),
        "evaluation_interval": "5m",
        "group_eval_order": order,
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": " ".join(each)} for name, each in values.items()],
                "promql_expr_test": checks,
            }
        ],
    }
    path = tmp_path / "same.test.yml"
    path.write_text(yaml.safe_dump(test))
    result = promtool.test_rules(path)
    assert result.ok, result.output
