"""Plain thresholds: promtool accepts their rules, whoever they are for, and notices a change of what they compare."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from graphmeter import names
from graphmeter_alerts import slo_events, threshold_rules, write
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config
from support import promtool
from support.mutants import Mutant, unnoticed, unnoticed_by_rote

FILE = "thresholds"
SHORT = {"window": "10m", "for": "1m"}
OVERRIDDEN = {
    "error_rate": {
        **SHORT,
        "per": ["graph", "team"],
        "select": {"environment": "prod", "graph": ["support-*", "chat"]},
        "overrides": [
            {"select": {"graph": "support-eu", "team": "c?"}, "above": "50%", "severity": "page"},
            {"select": {"graph": "support-*"}, "above": "20%"},
            {"select": {"team": "playground"}, "disabled": True},
        ],
    },
    "node_error_rate": {**SHORT, "at_least": 1},
    "latency_p95": {**SHORT, "above": "42s", "overrides": [{"select": {"graph": "batch"}, "above": "10m"}]},
    "node_latency_p95": {**SHORT, "per": ["node"], "above": "250ms"},
    "run_duration": {
        "window": "10m",
        "per": ["team"],
        "overrides": [{"select": {"team": "a"}, "above": "1h"}, {"select": {"team": "b"}, "severity": "page"}],
    },
    "run_cost_usd": {"window": "10m", "above": "0.0001", "per": []},
    "spend_usd_per_hour": {"per": ["team"], "overrides": [{"select": {"team": "research"}, "above": 1000}]},
    "cost_usd_per_run": {**SHORT, "above": "0.005"},
    "waste": {**SHORT, "per": ["node"], "at_least_usd": "0.5"},
    "unpriced_calls": {**SHORT, "above": 9},
    "escalations": {**SHORT, "kind": ["escalated", "fallback*"]},
    "human_wait": {"per": ["team"], "for": None, "overrides": [{"select": {"team": "ops"}, "above": "4h"}]},
    "state_size": {"window": "10m", "above": "16MiB", "per": ["graph"]},
    "cache_hits": {**SHORT, "per": ["model"], "overrides": [{"select": {"model": "gpt-*"}, "below": "90%"}]},
    "rate_limited": {**SHORT, "per": ["provider"]},
    "lost_runs": {"window": "10m", "per": ["service"], "above": 0},
}


def config_of(**thresholds: object) -> Config:
    return Config.model_validate({"slos": [], "budgets": [], "anomalies": None, "thresholds": thresholds})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("thresholds")
    write(config_of(**OVERRIDDEN), out)
    return out


def test_rules_with_limits_for_some_are_accepted_and_pass_their_tests(built: Path) -> None:
    accepted = promtool.check_rules(built / f"{FILE}.rules.yml")
    assert accepted.ok, accepted.output
    tested = promtool.test_rules(built / f"{FILE}.test.yml")
    assert tested.ok, tested.output


def test_each_alert_fires_and_resolves_in_its_unit_tests(built: Path) -> None:
    rules, tests = (yaml.safe_load((built / f"{FILE}.{what}.yml").read_text("utf-8")) for what in ("rules", "test"))
    alerts = {
        (rule["alert"], rule["labels"]["severity"], rule["labels"]["threshold"])
        for rule in rules["groups"][0]["rules"]
        if "alert" in rule
    }
    fired, silent = set(), set()
    for case in tests["tests"]:
        checks: list[dict[str, Any]] = case["alert_rule_test"]
        for check in checks:
            found = {
                (check["alertname"], one["exp_labels"]["severity"], one["exp_labels"]["threshold"])
                for one in check["exp_alerts"]
            }
            fired |= found
            silent |= found if not (checks[0]["exp_alerts"] or checks[-1]["exp_alerts"]) else set()
    assert (alerts, alerts) == (fired, silent)


class Changed(NamedTuple):
    """A rule changed for the worse, and part of the name of the unit test that has to notice, without `Graphmeter`."""

    id: str
    old: str
    new: str
    case: str


CHANGED = [
    Changed("lost runs are forgotten", 'status=~"error|lost"', 'status=~"error"', "ErrorRateHigh: 5% is"),
    Changed(
        "interrupted runs dilute",
        '"ok|error|lost"',
        '"ok|error|lost|interrupted"',
        "ErrorRateHigh: 5% is",
    ),
    Changed("runs of all teams", "by (graph, team)", "by (graph)", "ErrorRateHigh: 5% is"),
    Changed("any environment's runs", ',environment="prod"', "", "ErrorRateHigh: another environment"),
    Changed(
        "few runs suffice",
        "error_rate:events >= 20",
        "error_rate:events >= 2",
        "ErrorRateHigh: too few",
    ),
    Changed(
        "none are spared",
        'team="playground"',
        'team="else"',
        "ErrorRateHigh: disabled for team playground",
    ),
    Changed(
        "two limits for one",
        "unless\n          graphmeter:error_rate:ratio",
        "and 0 <\n          graphmeter:error_rate:ratio",
        "ErrorRateHigh: 50%",
    ),
    Changed("no limit of their own", "> 0.5\n", "> 0.05\n", "ErrorRateHigh: 50%"),
    Changed("failed attempts", "node_runs_total", "node_attempts_total", "NodeErrorRateHigh: 10%"),
    Changed(
        "the median",
        "histogram_quantile(0.95, sum by (graph, le)",
        "histogram_quantile(0.5, sum by (graph, le)",
        "LatencyHigh: 42s is",
    ),
    Changed(
        "a limit too high",
        "latency_p95:seconds > 42",
        "latency_p95:seconds > 60",
        "LatencyHigh: 42s is",
    ),
    Changed("another bound", 'le=~"600(', 'le=~"1800(', "RunTooLong: 10m is"),
    Changed("runs that run on", "> bool 600", "> bool 60000", "RunTooLong: a run that has not ended"),
    Changed(
        "collectors added up",
        "max by (team) (graphmeter_human",
        "sum by (team) (graphmeter_human",
        "HumanWaitLong: 1d is",
    ),
    Changed("half of the hour", "cost_usd_total[1h]", "cost_usd_total[30m]", "SpendPerHourHigh: 100 USD is"),
    Changed("the sum of runs", "run_cost_usd_sum", "run_cost_usd_count", "CostPerRunHigh: 0.005"),
    Changed("little waste", "waste:usd >= 0.5", "waste:usd >= 0.005", "WasteHigh: too few"),
    Changed("one call less", "> 9.5", "> 8.5", "ModelUnpriced: 9 is"),
    Changed("any outcome", '"escalated|fallback.*"', '".*"', "EscalationsHigh: 10%"),
    Changed("a state of less", "state_bytes_bucket{le=~", "state_bytes_bucket{le!~", "StateLarge: 16MiB is"),
    Changed("many hits", "cache_hits:ratio < 0.2", "cache_hits:ratio > 0.2", "CacheHitsLow: 20% is"),
    Changed(
        "errors of any kind",
        "graphmeter_rate_limited_total",
        "graphmeter_llm_calls_total",
        "RateLimited: 5% is",
    ),
    Changed("failed runs are lost", 'status=~"lost"', 'status=~"lost|ok"', "RunsLost: 0 is"),
    Changed("told at once", "for: 1m\n        keep", "for: 40m\n        keep", "WasteHigh: 20% is"),
    Changed(
        "another sentence",
        "Look first at which node",
        "Look last at which node",
        "ErrorRateHigh: 5% is",
    ),
    Changed("another severity", "severity: page", "severity: info", "ErrorRateHigh: 50%"),
]


def test_a_change_of_a_rule_fails_a_unit_test(built: Path, tmp_path: Path) -> None:
    mutants = [Mutant(change.id, FILE, change.old, change.new, f"Graphmeter{change.case}") for change in CHANGED]
    assert [] == unnoticed(mutants, built, tmp_path / "mutants")


def test_no_alert_can_be_silenced_hurried_turned_or_given_another_threshold_unnoticed(
    built: Path, tmp_path: Path
) -> None:
    assert [] == unnoticed_by_rote((FILE,), built, tmp_path / "mutants")


def test_a_threshold_chooses_one_bucket_of_what_a_collector_exposes() -> None:
    for metric in (names.RUN_DURATION, names.RUN_COST, names.STATE_SIZE):
        metrics = Metrics()
        metrics.observe(metric, *("x" for _ in metric.labels), value=1.0)
        exposed = re.findall(
            rf'^{metric.name}_bucket{{[^}}]*le="([^"]*)"', metrics.render("")[0].decode(), re.MULTILINE
        )
        for bound, text in zip(metric.buckets, exposed, strict=False):
            [(how, quoted)] = re.findall(r'^le(=~?)"(.*)"$', slo_events.le(bound))
            pattern = quoted.replace("\\\\", "\\") if how == "=~" else re.escape(quoted)
            assert [text] == [each for each in exposed if re.fullmatch(pattern, each)]


def test_thresholds_can_all_be_switched_off_and_leave_no_file() -> None:
    assert [] == threshold_rules.groups(Config.model_validate({"thresholds": None}))
    off = dict.fromkeys(Config.default().shown()["thresholds"])
    assert [] == threshold_rules.groups(config_of(**off))
