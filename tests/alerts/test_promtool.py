"""promtool and Prometheus accept the rules, their unit tests pass, and fail for every change that matters."""

from __future__ import annotations

import re
import shutil
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from graphmeter import names
from graphmeter_alerts import budget_rules, write
from graphmeter_config import Budget, Config, Slo
from graphmeter_config.spend import SpendSelector
from support import promtool
from support.mutants import Mutant, unnoticed, unnoticed_by_rote

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def check(out: Path, *of: str) -> None:
    """All that promtool has to say about generated files: all of a folder, or those whose names begin so."""
    rules, tests = (
        [file for file in sorted(out.glob(f"*.{what}.yml")) if file.name.startswith(of or "")]
        for what in ("rules", "test")
    )
    assert tests
    checked = promtool.check_rules(*rules)
    assert checked.ok, checked.output
    tested = promtool.test_rules(*tests)
    assert tested.ok, tested.output
    assert len(tests) == tested.output.count("SUCCESS")


def test_rules_of_the_defaults_are_accepted_and_pass_their_tests(built: Path) -> None:
    check(built)


def slo(name: str, objective: str, window: str, **fields: object) -> Slo:
    return Slo.model_validate({"name": name, "objective": objective, "window": window, **fields})


SLOS = [
    slo("week", "95", "7d"),
    slo("lenient", "80", "30d", min_bad_events=1),
    slo("strict", "99.99", "90d", min_bad_events=20),
    slo("day", "99.5", "1d", min_bad_events=2),
    slo("hopeless", "2", "28d"),
    slo(
        "selected",
        "99.9",
        "28d",
        select={"graph": ['support "eu" \\', "a.b|c*"], "team": "c?", "environment": "prod", "service": ["a", "b"]},
    ),
]


def test_a_budget_of_nobodys_spend_says_whose_it_is(built: Path, tmp_path: Path) -> None:
    [budget] = Config.default().budgets
    shutil.copy(built / "budgets.rules.yml", tmp_path)
    words = budget_rules.words(Config.default(), budget, Decimal(1), whose=(names.UNATTRIBUTED, ""), spent="120.00")
    assert "of team unattributed" in words["summary"]
    labels = {"severity": "page", "product": "graphmeter", "budget": budget.name, "threshold": "100"}
    gauges = {names.BUDGET_SPENT.name: 120, names.BUDGET_LIMIT.name: 100}
    unit = {
        "interval": "1m",
        "input_series": [
            {"series": f'{name}{{budget="{budget.name}"}}', "values": f"{value}x10"} for name, value in gauges.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": "5m",
                "alertname": "GraphmeterBudgetExhausted",
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": words}],
            }
        ],
    }
    file = tmp_path / "nobody.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["budgets.rules.yml"], "tests": [unit]}))
    tested = promtool.test_rules(file)
    assert tested.ok, tested.output


@pytest.mark.parametrize("one", SLOS, ids=[one.name for one in SLOS])
def test_rules_of_other_slos_are_accepted_and_pass_their_tests(one: Slo, tmp_path: Path) -> None:
    write(Config(slos=(one,), budgets=(), thresholds=None, anomalies=None), tmp_path)
    check(tmp_path, "slo-")


def test_rules_of_other_budgets_are_accepted_and_pass_their_tests(tmp_path: Path) -> None:
    budgets = (
        Budget.model_validate({"name": "all", "limit_usd": "0.01", "period": "day", "thresholds": ["150%"]}),
        Budget.model_validate(
            {
                "name": "cx",
                "limit_usd": "12345.67",
                "period": "week",
                "per_team": True,
                "thresholds": ["33.3%", "50%", "80%", "100%", "120%"],
            }
        ),
        Budget(name="selected", limit_usd=Decimal(5), match=SpendSelector(team=("a",))),
        Budget.model_validate({"name": "tenants", "limit_tokens": 5000, "rolling": 86400, "per": ["tenant", "user"]}),
        Budget.model_validate({"name": "both", "limit_usd": 1, "per": ["team", "graph"], "hard": True}),
    )
    write(Config(slos=(), budgets=budgets, thresholds=None, anomalies=None), tmp_path)
    # Their speed has tests of its own, of days.
    check(tmp_path, "budgets.")


@pytest.mark.parametrize("at_most", ["10m", "1m30s", "26h"])
def test_what_sampling_keeps_on_purpose_is_not_late(at_most: str, tmp_path: Path) -> None:
    rule = {"name": "chat", "match": {"graph": "*"}, "keep": "10%"}
    write(Config.model_validate({"sampling": {"at_most": at_most, "rules": [rule]}}), tmp_path)
    tests = yaml.safe_load((tmp_path / "health.test.yml").read_text(encoding="utf-8"))
    [late] = [case for case in tests["tests"] if case["name"].startswith("what waits for a destination")]
    (tmp_path / "late.test.yml").write_text(yaml.safe_dump({**tests, "tests": [late]}), encoding="utf-8")
    tested = promtool.test_rules(tmp_path / "late.test.yml")
    assert tested.ok, tested.output


SLO = "slo-runs-availability"
BUDGETS = "budgets"
HEALTH = "health"
_SLO_LABEL = '{slo="runs-availability"}'


MUTANTS = [
    Mutant(
        "a tier never fires",
        SLO,
        f"ratio_rate1h{_SLO_LABEL} > 0.144",
        f"ratio_rate1h{_SLO_LABEL} > 1",
        "page-fast fires",
    ),
    Mutant("a tier fires too early", SLO, "> 0.06\n", "> 0.006\n", "ticket-fast fires"),
    Mutant(
        "the short window is ignored",
        SLO,
        'slo:sli_error:ratio_rate6h{slo="runs-availability"} > 0.01',
        'slo:sli_error:ratio_rate6h{slo="runs-availability"} >= 0',
        "ticket-slow fires",
    ),
    Mutant("no gate for few runs", SLO, ">= 5", ">= 4", "too few"),
    Mutant("lost runs are forgotten", SLO, "error|lost", "error", "page-slow fires"),
    Mutant("interrupted runs count", SLO, "ok|error|lost", "ok|error|lost|interrupted", "neither good nor bad"),
    Mutant("a longer wait", SLO, "for: 3h", "for: 5h", "ticket-slow fires"),
    Mutant("no end", SLO, "keep_firing_for: 1h", "keep_firing_for: 9h", "ticket-slow fires"),
    Mutant("another severity", SLO, "severity: page", "severity: ticket", "page-slow fires"),
    Mutant("a label the expression lacks", SLO, "$labels.graph", "$labels.node", "page-slow fires"),
    Mutant("another sentence", SLO, "Look first", "Look last", "page-slow fires"),
    Mutant("a ratio of nothing", SLO, " > 0)", ")", "no NaN"),
    Mutant("too slow a burn alerts", SLO, "> 0.01\n", "> 0.008\n", "too slowly"),
    Mutant("a budget never spent", SLO, "<= 0\n", "<= -1000\n", "is spent"),
    Mutant("a budget always spent", SLO, "<= 0\n", "<= 1\n", "is spent"),
    Mutant("missing metrics unseen", SLO, "[1d]) > 0", "[1d]) > 1e9", "are gone"),
    Mutant(
        "quiet taken for missing",
        SLO,
        'slo:events:increase5m{slo="runs-availability"}\n        for',
        'slo:events:increase5m{slo="runs-availability"} > 0\n        for',
        "went quiet",
    ),
    Mutant(
        "collectors added up",
        BUDGETS,
        "max by (budget, team, scope) (graphmeter_budget_spent",
        "sum by (budget, team, scope) (graphmeter_budget_spent",
        "80%",
    ),
    Mutant("a warning too late", BUDGETS, ">= 0.8", ">= 0.81", "80%"),
    Mutant("thresholds that overlap", BUDGETS, " < 1\n", "\n", "100%"),
    Mutant("exhausted only beyond", BUDGETS, ">= 1\n", "> 1\n", "100%"),
    Mutant("a watchdog asleep", HEALTH, "vector(1)", "vector(1) > 1", "watchdog"),
    Mutant("one down is all down", HEALTH, "max by (job)", "min by (job)", "one of two"),
    Mutant("a short outage pages", HEALTH, "for: 5m", "for: 3m", "soon back"),
    Mutant("half full is full", HEALTH, "> 0.8\n", "> 0.5\n", "spool with room"),
    Mutant("no target unseen", HEALTH, 'absent(up{job="graphmeter"}) - 1', "vector(1)", "without targets"),
    Mutant("other jobs are ours", HEALTH, 'expr: up{job="graphmeter"} == 0', "expr: up == 0", "another job"),
]


def test_a_change_of_a_rule_fails_a_unit_test(built: Path, tmp_path: Path) -> None:
    assert [] == unnoticed(MUTANTS, built, tmp_path / "mutants")


def test_no_alert_can_be_silenced_hurried_or_given_another_threshold_unnoticed(built: Path, tmp_path: Path) -> None:
    # Those of SLOs are compared with their formula instead, at random ratios around every threshold.
    assert [] == unnoticed_by_rote((BUDGETS, "spend", HEALTH), built, tmp_path / "mutants")


def test_prometheus_loads_the_rules(built: Path, tmp_path: Path) -> None:
    with promtool.running_prometheus(tmp_path, rule_files=sorted(built.glob("*.rules.yml"))) as prometheus:
        groups = prometheus.get("rules")["groups"]
    expected = {
        "graphmeter-slo-runs-availability-slices",
        "graphmeter-slo-runs-availability",
        "graphmeter-budgets",
        "graphmeter-budget-burn",
        "graphmeter-spend",
        "graphmeter-thresholds",
        "graphmeter-anomalies",
        "graphmeter-anomaly-traffic",
        "graphmeter-health",
        "graphmeter-measuring",
    }
    assert expected == {group["name"] for group in groups}
    assert [] == [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")]


def test_the_documented_way_for_a_rule_on_a_rate_to_look_away_from_a_replay_works(tmp_path: Path) -> None:
    [look_away] = re.findall(r"^    … (unless .*)$", OPERATIONS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    burst = "sum(rate(graphmeter_runs_total[5m])) * 60 > 20"
    group = {"name": "own", "rules": [{"alert": "Burst", "expr": f"{burst} {look_away}"}]}
    (tmp_path / "own.rules.yml").write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")

    def at(minute: int, *firing: dict[str, object]) -> dict[str, object]:
        return {"eval_time": f"{minute}m", "alertname": "Burst", "exp_alerts": list(firing)}

    # Ten runs a minute, none for ten minutes, their replay in five; the second time the burst is one.
    runs = "0+10x30 300+0x9 330+30x4 460+10x30"
    cases = [
        {
            "interval": "1m",
            "input_series": [
                {"series": 'graphmeter_runs_total{instance="a"}', "values": runs},
                {"series": 'graphmeter_collector_replaying{instance="b"}', "values": f"0x40 {replaying}x4 0x30"},
            ],
            "alert_rule_test": [at(44, *firing), at(46, *firing), at(60)],
        }
        for replaying, firing in ((1, ()), (0, ({"exp_labels": {}},)))
    ]
    tests = {"rule_files": ["own.rules.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "own.test.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    tested = promtool.test_rules(tmp_path / "own.test.yml")
    assert tested.ok, tested.output
