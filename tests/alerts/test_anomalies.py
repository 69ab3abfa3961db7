"""Anomalies: rules of unusual settings are accepted and pass their tests, and a change of what is usual is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphmeter_alerts import anomaly_rules, write
from graphmeter_config import Config
from support import promtool
from support.mutants import Mutant, unnoticed

BANDS = "anomalies"
TRAFFIC = "anomaly-traffic"
SHORT = {"needs": "2h", "at_least": 10}


def config_of(**anomalies: object) -> Config:
    return Config.model_validate({"slos": [], "budgets": [], "thresholds": None, "anomalies": anomalies})


CONFIG = config_of(
    traffic_drop={"weeks": 2, "needs_weeks": 1, "below": "50%", "at_least": 100, "select": {"environment": "prod"}},
    error_rate={**SHORT, "per": ["graph", "team"]},
    latency_p95={**SHORT, "per": ["graph", "team"], "deviations": 1, "margin": "100%", "severity": "ticket"},
    cost_usd_per_run={**SHORT, "per": [], "for": None, "history": "1d"},
    errors_and_latency={"severity": "ticket"},
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("anomalies")
    write(CONFIG, out)
    return out


def test_rules_are_accepted_and_pass_their_tests(built: Path) -> None:
    accepted = promtool.check_rules(*(built / f"{stem}.rules.yml" for stem in (BANDS, TRAFFIC)))
    assert accepted.ok, accepted.output
    tested = promtool.test_rules(*(built / f"{stem}.test.yml" for stem in (BANDS, TRAFFIC)))
    assert tested.ok, tested.output


ERRORS = "ErrorRateAnomaly: just"
MUTANTS = [
    Mutant("of all teams", BANDS, "by (graph, team)", "by (graph)", ERRORS),
    Mutant("no scatter", BANDS, "3 * stddev", "0 * stddev", "CostPerRunAnomaly: just"),
    Mutant("much scatter", BANDS, "+ 3 * stddev", "+ 9 * stddev", "CostPerRunAnomaly: just"),
    Mutant("no margin", BANDS, " + 0.05 +", " + 0 +", ERRORS),
    Mutant("few runs", BANDS, ":events >= 10", ":events >= 1", ERRORS),
    Mutant("at once", BANDS, ">= 24", ">= 2", ERRORS),
    Mutant("its own past", BANDS, "offset 6h", "offset 5m", ERRORS),
    Mutant("no band ever", BANDS, ">= 24", ">= 2400", ERRORS),
    Mutant("lost runs are usual", BANDS, '"error|lost"', '"error"', ERRORS),
    Mutant("the median run", BANDS, "histogram_quantile(0.95", "histogram_quantile(0.5", "LatencyAnomaly: just"),
    Mutant(
        "either", BANDS, "and\n          graphmeter:anomaly_lat", "or\n          graphmeter:anomaly_lat", "ErrorsAndL"
    ),
    Mutant("a sum of runs", BANDS, "run_cost_usd_sum", "run_cost_usd_count", "CostPerRunAnomaly: just"),
    Mutant("another share", TRAFFIC, "expr: 0.5 *", "expr: 0.6 *", "a little more"),
    Mutant("a smaller share", TRAFFIC, "expr: 0.5 *", "expr: 0.4 *", "a little more"),
    Mutant("yesterday", TRAFFIC, "offset 1w", "offset 12h", "nothing at all"),
    Mutant("never known", TRAFFIC, ">= 1\n", ">= 2\n", "a little more"),
    Mutant("quiet hours", TRAFFIC, ">= 100", ">= 1\n", "few runs"),
    Mutant("no series, no runs", TRAFFIC, "or\n            0 *", "and\n            0 *", "nothing at all"),
    Mutant("only good runs", TRAFFIC, "runs_total{", 'runs_total{status="ok",', "a little more"),
    Mutant("its job", TRAFFIC, "job: graphmeter", "job: other", "a little more"),
]


def test_a_change_of_a_rule_fails_a_unit_test(built: Path, tmp_path: Path) -> None:
    assert [] == unnoticed(MUTANTS, built, tmp_path / "mutants")


def test_what_is_switched_off_leaves_neither_band_nor_alert() -> None:
    assert [] == anomaly_rules.band_groups(Config.model_validate({"anomalies": None}))
    assert [] == anomaly_rules.traffic_groups(config_of(traffic_drop=None))
    [group] = anomaly_rules.band_groups(config_of(error_rate=None))
    names = [rule.name for rule in group.rules]
    assert [] == [name for name in names if "error" in name.lower()]
    assert "graphmeter:anomaly_latency_p95:upper_band" in names
