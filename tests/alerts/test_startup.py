"""When alerts can be believed after a fresh start: read off their expressions, and told for each."""

from __future__ import annotations

import re
from pathlib import Path

from graphmeter_alerts import ALERTS, promql, rulefiles
from graphmeter_alerts.startup import starts
from graphmeter_config import Config
from support.every_alert import EVERY_ALERT

DOCS = Path(__file__).resolve().parents[2] / "docs" / "alerts.md"


def test_every_alert_says_when() -> None:
    found = starts(EVERY_ALERT)
    assert set(ALERTS) == {one.alert for one in found}
    assert [] == [one.alert for one in found if not one.until_then]


def test_windows_are_found_through_the_records_that_they_are_added_up_from(config: Config) -> None:
    burn = {one.about: one.whole_s for one in starts(config) if one.alert.startswith("GraphmeterErrorBudget")}
    hour, day = 3600.0, 86_400.0
    assert [hour, 6 * hour, day, 3 * day, 30 * day] == list(burn.values())


def test_what_compares_with_the_past_says_nothing_before() -> None:
    text = """
groups:
  - name: g
    rules:
      - record: own:expected
        expr: avg_over_time(graphmeter_queue[1h] offset 1w)
      - alert: Drop
        expr: graphmeter_queue < 0.5 * own:expected
        for: 15m
        labels: {severity: ticket}
"""
    [drop] = starts(Config.default(), rulefiles.read(text, "own.yml").rules)
    week = 7 * 86_400.0
    assert (week + 3600, 900.0) == (drop.whole_s, drop.waits_s)
    assert "says nothing before 7d" in drop.until_then


def test_anomalies_say_how_much_of_the_past_they_need(config: Config) -> None:
    said = {one.alert: one.until_then for one in starts(config)}
    assert "before 14d" in said["GraphmeterTrafficDrop"]
    both = said["GraphmeterErrorsAndLatency"]
    assert "before 1d6h" in both
    assert {both} == {said[f"Graphmeter{of}Anomaly"] for of in ("ErrorRate", "Latency", "CostPerRun")}


def test_the_documentation_tells_the_same_of_the_defaults(config: Config) -> None:
    known = {(one.alert, one.about.partition("burn=")[2], one.whole_s) for one in starts(config)}
    rows = re.findall(
        r"^\| (Graphmeter\w+)(?:, ([\w-]+))? \| (\w+|at once) \|$", DOCS.read_text("utf-8"), flags=re.MULTILINE
    )
    told = {(alert, burn, 0.0 if full == "at once" else promql.seconds(full)) for alert, burn, full in rows}
    assert len(told) > 5
    assert set() == told - known
