"""Every kind of SLO: promtool accepts its rules, their unit tests pass, and fail for what would count something else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphmeter_alerts import build, slo_events, wording, write
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config, Slo
from graphmeter_config.indicators import KINDS, Indicator, Of
from graphmeter_dashboards import queries
from support import promtool
from support.mutants import Mutant, unnoticed
from support.slo_kinds import EVERY_KIND, slo_of

THRESHOLDS = [key for key in KINDS if KINDS[key].bounds]

# A window of a day has two tiers, which is enough for what differs between kinds: what is counted.
VARIANTS = (
    slo_of(("availability", "runs"), name="runs", window="1d", per=[], select={"team": "c?"}),
    slo_of(("availability", "nodes"), name="nodes", window="1d"),
    slo_of(("availability", "tools"), name="tools", window="1d", per=["team", "tool", "graph"], min_bad_events=1),
    slo_of(
        ("availability", "models"),
        name="models",
        window="1d",
        objective=95,
        select={"provider": "open*", "graph": ["a", "b"]},
    ),
    slo_of(("latency", "runs"), name="quick", window="1d", threshold="30s", per=["environment", "graph"]),
    slo_of(("latency", "nodes"), name="node-latency", window="1d", threshold="250ms", select={"node": "search*"}),
    slo_of(("latency", "models"), name="model-latency", window="1d", threshold="10m", objective=90, per=["provider"]),
    slo_of(("first_token", "models"), name="ttft", window="1d", threshold="1s", select={"model": "gpt-*"}),
    slo_of(("quality", "runs"), name="escalated", window="1d", select={"kind": ["escalated", "fallback*"]}),
    slo_of(("quality", "outcomes"), name="rejected", window="1d", per=["team", "kind"]),
    slo_of(("cost", "runs"), name="cheap", window="1d", threshold_usd="0.0001", per=["graph", "team", "service"]),
)


def config_of(*slos: Slo) -> Config:
    return Config(slos=slos, budgets=(), thresholds=None, anomalies=None)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variants")
    write(config_of(*VARIANTS), out)
    return out


def test_there_is_one_of_every_kind() -> None:
    assert set(KINDS) == {(slo.indicator, slo.of) for slo in VARIANTS}


@pytest.mark.parametrize("slo", VARIANTS, ids=[slo.name for slo in VARIANTS])
def test_rules_of_every_kind_are_accepted_and_pass_their_tests(slo: Slo, built: Path) -> None:
    stem = built / f"slo-{slo.name}"
    accepted = promtool.check_rules(stem.with_suffix(".rules.yml"))
    assert accepted.ok, accepted.output
    tested = promtool.test_rules(stem.with_suffix(".test.yml"))
    assert tested.ok, tested.output


def test_rules_as_somebody_writes_them_who_says_no_more_than_needed_are_accepted(tmp_path: Path) -> None:
    write(config_of(*EVERY_KIND), tmp_path)
    accepted = promtool.check_rules(*sorted(tmp_path.glob("*.rules.yml")))
    assert accepted.ok, accepted.output


def test_each_alert_of_every_kind_fires_and_resolves_in_its_unit_tests(built: Path) -> None:
    for slo in VARIANTS:
        rules, tests = (
            yaml.safe_load((built / f"slo-{slo.name}.{what}.yml").read_text("utf-8")) for what in ("rules", "test")
        )
        alerts = {
            (rule["alert"], rule["labels"].get("burn"))
            for group in rules["groups"]
            for rule in group["rules"]
            if "alert" in rule
        }
        fired, silent = set(), set()
        for case in tests["tests"]:
            last: dict[str, dict[str, Any]] = {check["alertname"]: check for check in case.get("alert_rule_test", ())}
            for check in case.get("alert_rule_test", ()):
                found = {(check["alertname"], one["exp_labels"].get("burn")) for one in check["exp_alerts"]}
                fired |= found
                if not last[check["alertname"]]["exp_alerts"]:
                    silent |= found
        assert (alerts, alerts) == (fired, silent), slo.name


MUTANTS = [
    Mutant("other nodes count, too", "slo-nodes", "node_runs_total", "node_attempts_total", "page-fast fires"),
    Mutant("interrupted nodes are bad", "slo-nodes", '"error"', '"error|interrupted"', "neither good nor bad"),
    Mutant(
        "nodes are added up", "slo-nodes", "by (graph, node)", "by (graph)", "every graph, node is judged by itself"
    ),
    Mutant("a tool's team is lost", "slo-tools", "by (graph, tool, team)", "by (graph, tool)", "judged by itself"),
    Mutant("any provider's calls", "slo-models", ',provider=~"open.*"', "", "another provider"),
    Mutant("any graph's calls", "slo-models", ',graph=~"a|b"', "", "another graph"),
    Mutant("any team's runs", "slo-runs", ',team=~"c."', "", "another team"),
    Mutant("a higher bound for runs", "slo-quick", 'le=~"30(', 'le=~"60(', "page-fast fires"),
    Mutant("a lower bound for runs", "slo-quick", 'le=~"30(', 'le=~"20(', "burn too slowly"),
    Mutant("good runs are bad", "slo-quick", "\n          -\n", "\n          - 0 *\n", "burn too slowly"),
    Mutant("a higher bound for nodes", "slo-node-latency", 'le="0.25"', 'le="0.5"', "page-fast fires"),
    Mutant("all nodes", "slo-node-latency", 'node=~"search.*"', 'node=~".*"', "another node"),
    Mutant("no bound at all", "slo-model-latency", 'le=~"600(', 'le=~".Inf(', "page-fast fires"),
    Mutant("the wait for all", "slo-ttft", "time_to_first_token", "duration", "page-fast fires"),
    Mutant(
        "no stream is taken for no measuring",
        "slo-ttft",
        "unless on (provider, model)\n          sum by (provider, model) (graphmeter_llm_calls_total",
        "unless on (provider, model)\n          sum by (provider, model) (graphmeter_llm_time_to_first_token_seconds_count",
        "started anew",
    ),
    Mutant("any outcome's runs", "slo-escalated", ',kind=~"escalated|fallback.*"', "", "another kind"),
    Mutant("good outcomes are bad", "slo-escalated", 'good=~"false"', 'good=~"false|true"', "neither good nor bad"),
    Mutant(
        "interrupted runs dilute", "slo-escalated", "ok|error|lost", "ok|error|lost|interrupted", "neither good nor bad"
    ),
    Mutant("unknown is judged", "slo-rejected", "true|false", "true|false|unknown", "neither good nor bad"),
    Mutant("outcomes of all kinds together", "slo-rejected", "by (kind, team)", "by (team)", "judged by itself"),
    Mutant(
        "no outcome is taken for no measuring",
        "slo-rejected",
        "unless on (team)\n          sum by (team) (graphmeter_runs_total",
        "unless on (team)\n          sum by (team) (graphmeter_outcomes_total",
        "started anew",
    ),
    Mutant("a dearer bound", "slo-cheap", 'le="0.0001"', 'le="0.0005"', "page-fast fires"),
    Mutant("a cheap run is dear", "slo-cheap", "cost_usd_count", "cost_usd_sum", "page-fast fires"),
]


def test_a_change_of_what_is_counted_fails_a_unit_test(built: Path, tmp_path: Path) -> None:
    assert [] == unnoticed(MUTANTS, built, tmp_path / "mutants")


@pytest.mark.parametrize("key", THRESHOLDS)
def test_a_threshold_chooses_one_bucket_of_what_a_collector_exposes(key: tuple[Indicator, Of]) -> None:
    kind = KINDS[key]
    metrics = Metrics()
    metrics.observe(kind.events.metric, *("x" for _ in kind.events.metric.labels), value=1.0)
    page = metrics.render("")[0].decode()
    exposed = re.findall(rf'^{kind.events.metric.name}_bucket{{[^}}]*le="([^"]*)"', page, flags=re.MULTILINE)
    chosen = {bound: [text for text in exposed if matches(slo_events.le(bound), text)] for bound in kind.bounds}
    assert [[text] for text in exposed if text != "+Inf"] == list(chosen.values())


@pytest.mark.parametrize(
    ("bound", "other", "expected"), [(30.0, "30", True), (30.0, "3000", False), (0.25, "0.2500", False)]
)
def test_a_whole_bound_is_known_without_its_point(bound: float, other: str, expected: bool) -> None:
    assert expected == matches(slo_events.le(bound), other)


def matches(matcher: str, value: str) -> bool:
    """What Prometheus makes of a matcher of one label."""
    [(how, pattern)] = re.findall(r'^le(=~?)"(.*)"$', matcher)
    pattern = pattern.replace("\\\\", "\\")
    return pattern == value if how == "=" else re.fullmatch(pattern, value) is not None


def test_links_set_those_filters_that_the_dashboard_has() -> None:
    assert queries.FILTERS == wording.DASHBOARD_VARIABLES


def test_many_slos_give_the_same_bytes_and_no_group_or_record_twice() -> None:
    config = Config(slos=(*EVERY_KIND, *VARIANTS))
    files = build(config)
    assert list(files.items()) == list(build(config).items())
    loaded = [yaml.safe_load(text) for name, text in files.items() if name.endswith(".rules.yml")]
    groups = [group for file in loaded for group in file["groups"]]
    assert len(groups) == len({group["name"] for group in groups})
    recorded = [
        (rule["record"], *rule.get("labels", {}).items())
        for group in groups
        for rule in group["rules"]
        if "record" in rule
    ]
    assert len(recorded) == len(set(recorded))
