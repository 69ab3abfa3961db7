"""Rules, runbooks and the wire contract agree: names exist, labels exist, every alert has its page."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import promql_parser
import pytest
import yaml

from graphmeter import names
from graphmeter_alerts import ALERTS, build
from graphmeter_cli.group import graphmeter
from graphmeter_config import Config
from support.every_alert import EVERY_ALERT
from support.slo_kinds import EVERY_KIND

Rules = list[dict[str, Any]]

OWN = {metric.name for metric in names.METRICS} | {
    metric.name + suffix
    for metric in names.METRICS
    if metric.type == "histogram"
    for suffix in ("_bucket", "_count", "_sum")
}
"""Every series a collector exposes."""
LABELS = {metric.name: set(metric.labels) for metric in names.METRICS} | {
    metric.name + suffix: {*metric.labels, "le"} if suffix == "_bucket" else set(metric.labels)
    for metric in names.METRICS
    if metric.type == "histogram"
    for suffix in ("_bucket", "_count", "_sum")
}
OF_PROMETHEUS = {"up", "ALERTS"}
OFF_BY_DEFAULT = {
    "GraphmeterNodeErrorRateHigh",
    "GraphmeterNodeLatencyHigh",
    "GraphmeterCacheHitsLow",
    "GraphmeterProviderLimitNear",
}
OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus gives to all it scrapes; what collectors tell of themselves is told by target."""
OF_THE_COLLECTOR = names.PREFIX + "collector_"


@pytest.fixture(scope="module", params=["the defaults", "every kind of SLO", "every alert"])
def rules(request: pytest.FixtureRequest, config: Config) -> Rules:
    chosen = {
        "the defaults": config,
        "every kind of SLO": config.model_copy(update={"slos": EVERY_KIND}),
        "every alert": EVERY_ALERT,
    }[request.param]
    loaded = [yaml.safe_load(text) for name, text in build(chosen).items() if name.endswith(".rules.yml")]
    return [rule for file in loaded for group in file["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def recorded() -> set[str]:
    """Names that rules record."""
    loaded = [yaml.safe_load(text) for name, text in build(EVERY_ALERT).items() if name.endswith(".rules.yml")]
    rules = [rule for file in loaded for group in file["groups"] for rule in group["rules"]]
    return {rule["record"] for rule in rules if "record" in rule}


def alerts(rules: Rules) -> Rules:
    return [rule for rule in rules if "alert" in rule]


def used_metrics(expr: str) -> set[str]:
    """Metric names of an expression, as the parser prints them."""
    text = str(promql_parser.parse(expr))
    without_strings = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    found = set(re.findall(r"[a-z_]+:[a-zA-Z0-9_:]+|graphmeter_\w+|\bup\b|\bALERTS\b", without_strings))
    return {name.rstrip(":") for name in found}


def grouped_by(expr: str) -> set[str]:
    return {label.strip() for labels in re.findall(r"\bby \(([^)]+)\)", expr) for label in labels.split(",")}


def aggregations(expr: str) -> Iterator[tuple[set[str], str]]:
    """What each `by (…)` groups by, and the expression that it groups."""
    for found in re.finditer(r"\bby (\([^)]*\)) \(", expr):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(expr[end], 0)
            end += 1
        yield grouped_by(found[0]), expr[found.end() : end - 1]


def output_labels(rules: Rules, rule: dict[str, Any]) -> set[str]:
    """Labels of what an expression gives; of `and` and `unless` the left side decides."""
    left = re.split(r"\n\s*(?:and|unless)(?: on \([^)]*\))?\n", rule["expr"])[0]
    # Every SLO records the same names, under a label of its own.
    slo = rule.get("labels", {}).get("slo")
    records = {
        other["record"]: other for other in rules if "record" in other and other.get("labels", {}).get("slo") == slo
    }
    labels = grouped_by(left)
    for name in used_metrics(left):
        if name in records:
            labels |= output_labels(rules, records[name]) | set(records[name].get("labels", {}))
        elif (name == "up" or name.startswith(OF_THE_COLLECTOR)) and not labels:
            labels |= OF_TARGETS
    return labels


def test_every_expression_is_promql(rules: Rules) -> None:
    for rule in rules:
        promql_parser.parse(rule["expr"])


def test_every_metric_is_of_the_contract_or_recorded_by_an_earlier_rule(rules: Rules) -> None:
    known = OWN | OF_PROMETHEUS
    for rule in rules:
        assert used_metrics(rule["expr"]) or rule["expr"].startswith("vector("), rule["expr"]
        assert set() == used_metrics(rule["expr"]) - known
        known |= {rule.get("record", "")}


def test_no_two_rules_record_the_same_series(rules: Rules) -> None:
    recorded = [(rule["record"], tuple(rule.get("labels", {}).items())) for rule in rules if "record" in rule]
    assert len(recorded) == len(set(recorded))


def test_every_label_in_an_annotation_comes_out_of_the_expression(rules: Rules) -> None:
    for rule in alerts(rules):
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert set() == used - output_labels(rules, rule), rule["alert"]


def test_grouping_labels_are_labels_of_the_metrics_they_group(rules: Rules) -> None:
    for rule in rules:
        for grouping, inner in aggregations(rule["expr"]):
            for name in used_metrics(inner) & set(LABELS):
                # A label that targets have as well is renamed by Prometheus.
                given = OF_TARGETS | {"exported_job"} if name.startswith(OF_THE_COLLECTOR) else OF_TARGETS
                assert set() == grouping - LABELS[name] - given, rule["expr"]


def test_labels_of_alerts_never_change_while_they_fire(rules: Rules) -> None:
    assert [] == [rule["alert"] for rule in alerts(rules) if "{{" in "".join(rule["labels"].values())]


@pytest.mark.parametrize("kind", ["summary", "description", "runbook_url", "dashboard_url"])
def test_every_alert_has_its_annotations(rules: Rules, kind: str) -> None:
    assert [] == [rule["alert"] for rule in alerts(rules) if not rule["annotations"].get(kind)]


def test_every_alert_has_its_labels(rules: Rules) -> None:
    for rule in alerts(rules):
        assert rule["labels"]["severity"] in ("page", "ticket", "info")
        assert "graphmeter" == rule["labels"]["product"]


def test_there_is_an_example_of_every_alert_and_the_defaults_hold_nearly_all(config: Config) -> None:
    held = [
        {rule["alert"] for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule}
        for files in (
            [yaml.safe_load(text) for name, text in build(chosen).items() if name.endswith(".rules.yml")]
            for chosen in (EVERY_ALERT, config)
        )
    ]
    assert (set(ALERTS), OFF_BY_DEFAULT) == (held[0], set(ALERTS) - held[1])


def test_every_alert_has_a_runbook_and_every_runbook_an_alert(runbooks: Path) -> None:
    assert {f"{name}.md" for name in ALERTS} == {path.name for path in runbooks.iterdir()}


@pytest.mark.parametrize("alert", ALERTS)
def test_a_runbook_says_what_it_means_and_what_to_do(alert: str, runbooks: Path) -> None:
    text = (runbooks / f"{alert}.md").read_text(encoding="utf-8")
    expected = [
        alert,
        "What it means",
        "What users feel",
        "Look",
        "Likely causes",
        "Now",
        "Soon",
        "Later",
    ]
    assert expected == re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)


@pytest.mark.parametrize("alert", ALERTS)
def test_queries_of_a_runbook_parse_and_name_what_exists(alert: str, runbooks: Path, recorded: set[str]) -> None:
    known = OWN | OF_PROMETHEUS | recorded
    text = (runbooks / f"{alert}.md").read_text(encoding="utf-8")
    queries = _queries(text)
    assert queries
    for query in queries:
        assert set() == used_metrics(query) - known, query


def test_commands_of_runbooks_can_be_given(runbooks: Path) -> None:
    for page in sorted(runbooks.iterdir()):
        for line in re.findall(r"^    graphmeter (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            words = shlex.split(re.sub(r" [#…].*", "", line.replace("[", "").replace("]", "")))
            _understood(page.name, graphmeter, words)


def _understood(page: str, command: click.Command, words: list[str]) -> None:
    if words and isinstance(command, click.Group) and (inner := command.get_command(click.Context(command), words[0])):
        return _understood(page, inner, words[1:])
    known = {option for parameter in command.params for option in parameter.opts}
    assert set() == {word.partition("=")[0] for word in words if word.startswith("-")} - known, (page, words)
    return None


@pytest.mark.parametrize("alert", ALERTS)
def test_metrics_that_a_runbook_mentions_exist(alert: str, runbooks: Path) -> None:
    text = (runbooks / f"{alert}.md").read_text(encoding="utf-8")
    assert set() == set(re.findall(r"\bgraphmeter_[a-z_]+", text)) - OWN


def test_every_alert_leads_to_a_dashboard_that_there_is(rules: Rules, committed: Path) -> None:
    generated = (committed.parents[1] / "dashboards" / "generated").glob("*.json")
    shown = {json.loads(file.read_text(encoding="utf-8"))["uid"] for file in generated}
    links = [rule["annotations"]["dashboard_url"] for rule in rules if "alert" in rule]
    assert links
    assert set() == {link.partition("/d/")[2].partition("?")[0] for link in links} - shown


def _queries(markdown: str) -> list[str]:
    """PromQL of the fenced blocks; a query begins at the start of a line, and its further lines are indented."""
    queries: list[str] = []
    for block in re.findall(r"```promql\n(.*?)```", markdown, flags=re.DOTALL):
        for line in block.splitlines():
            if line.startswith(" "):
                queries[-1] += "\n" + line
            elif line and not line.startswith("#"):
                queries.append(line)
    return queries
