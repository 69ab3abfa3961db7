"""Faults of rule files are found, each with its line and remedy; the rules that are built have none."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from graphmeter_alerts import promql, rulefiles
from graphmeter_alerts.lint import lint
from graphmeter_config import Config
from support.every_alert import EVERY_ALERT
from support.slo_kinds import EVERY_KIND

GOOD = """\
groups:
  - name: own
    rules:
      - record: own:runs:rate5m
        expr: sum by (graph) (rate(graphmeter_runs_total[5m]))
      - alert: Quiet
        expr: own:runs:rate5m < 0.1
        for: 10m
        labels: {severity: ticket}
        annotations:
          summary: "{{ $labels.graph }} is quiet"
          description: Look.
          runbook_url: https://wiki/quiet.md
"""


class Fault(NamedTuple):
    old: str
    new: str
    line: int
    expected: str
    """Level, code and some of its words."""


FAULTS = [
    Fault(
        "graphmeter_runs_total", "graphmeter_run_total", 4, "error unknown-metric: did you mean graphmeter_runs_total?"
    ),
    Fault("own:runs:rate5m <", "slo:runs:rate5m <", 6, "error unknown-metric: slo:runs:rate5m is neither exposed"),
    Fault("_runs_total[5m]", '_runs_total{enviroment="a"}[5m]', 4, "error unknown-label: did you mean environment?"),
    Fault("severity: ticket", "severity: critical", 6, "error severity: severity is 'critical'"),
    Fault("{severity: ticket}", "{}", 6, "error severity: has no severity"),
    Fault("severity: ticket", 'severity: ticket, value: "{{ $value }}"', 6, "error changing-label: label value"),
    Fault("severity: ticket", "severity: ticket, graph: x, since: today", 0, ""),
    Fault("$labels.graph", "$labels.severity", 6, "error empty-label: $labels.severity is empty"),
    Fault("$labels.graph", "$labels.node", 6, "warning empty-label: $labels.node is not given"),
    Fault("        for: 10m\n", "", 6, "warning no-for: one odd scrape"),
    Fault("          runbook_url: https://wiki/quiet.md\n", "", 6, "warning no-runbook: has no annotation runbook_url"),
    Fault("          description: Look.\n", "", 6, "warning no-description: has no annotation description"),
    Fault("own:runs:rate5m <", "sum(graphmeter_budget_spent_usd) <", 6, "warning summed-gauge: take max by"),
    Fault("own:runs:rate5m <", "max(graphmeter_budget_spent_usd) by (team) <", 6, "warning empty-label"),
    Fault("own:runs:rate5m <", "http_requests_total <", 0, ""),
    Fault(
        "      - alert: Quiet",
        "      - record: own:runs:rate5m\n        expr: vector(1)\n      - alert: Quiet",
        6,
        "error duplicate-record: the first is own.yml:4",
    ),
    Fault(
        "      - alert: Quiet",
        "      - record: own:runs:rate5m\n        expr: vector(1)\n        labels: {a: b}\n      - alert: Quiet",
        0,
        "",
    ),
    Fault("groups:\n", "groups:\n  - name: own\n    rules: []\n", 4, "error duplicate-group: the name is taken"),
    Fault("        expr: own", "        exp: own", 6, "error unreadable: alert Quiet has no expr"),
    Fault("- alert: Quiet", "- alarm: Quiet", 6, "error unreadable: neither an alert nor a record"),
    Fault("    rules:\n", "    rules: [\n", 4, "error unreadable: is not YAML"),
    Fault("groups:", "rules:", 1, "error unreadable: has no groups"),
]


def found(text: str, known: Config | None = None) -> list[tuple[int, str]]:
    findings = lint([rulefiles.read(text, "own.yml")], rulefiles.of_config(known) if known else ())
    return [
        (one.problem.line, f"{one.level} {one.code}: {one.problem.message} ({one.problem.remedy})") for one in findings
    ]


def test_good_rules_have_no_fault() -> None:
    assert [] == found(GOOD)


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.new[:40].strip()}" for fault in FAULTS])
def test_each_fault_is_found_with_line_and_remedy(fault: Fault) -> None:
    assert fault.old in GOOD
    findings = found(GOOD.replace(fault.old, fault.new, 1))
    if not fault.expected:
        assert [] == findings
        return
    kind, _, words = fault.expected.partition(": ")
    [(line, said)] = [one for one in findings if one[1].startswith(kind)][:1] or [(0, str(findings))]
    assert (fault.line, kind) == (line, said.partition(": ")[0])
    assert words in said


def test_two_files_that_record_the_same_series_are_a_fault(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
    (tmp_path / "alertmanager.yml").write_text("route: {}\n", encoding="utf-8")
    files = [rulefiles.read_file(file) for file in rulefiles.files_in(tmp_path)]
    assert ["duplicate-record", "duplicate-alert"] == [one.code for one in lint(files)]


def test_what_is_built_beside_them_may_be_used(config: Config) -> None:
    uses = GOOD.replace("own:runs:rate5m <", "slo:burn_rate:ratio1h <")
    assert ["error unknown-metric"] == [said.partition(":")[0] for _, said in found(uses)]
    assert [] == found(uses, config)


def test_a_runbook_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    file = rulefiles.read(GOOD, "own.yml")
    assert ["no-runbook"] == [one.code for one in lint([file], runbooks=tmp_path)]
    (tmp_path / "quiet.md").touch()
    assert [] == lint([file], runbooks=tmp_path)


@pytest.mark.parametrize("chosen", ["the defaults", "every kind of SLO"])
def test_the_rules_that_are_built_have_no_fault(chosen: str, config: Config, runbooks: Path) -> None:
    of = config if chosen == "the defaults" else EVERY_ALERT.model_copy(update={"slos": EVERY_KIND})
    rules = rulefiles.of_config(of)
    assert rules
    assert [] == [str(one) for one in lint([rulefiles.RuleFile(tuple(rules))], runbooks=runbooks)]


@pytest.mark.parametrize(
    ("expr", "metrics", "labels"),
    [
        (
            'sum by (a, b) (increase(x_total{c=~"d|e"}[5m] offset 1w)) / on (f) group_left () g:h{}',
            ["x_total", "g:h"],
            "ab",
        ),
        ("up == 0 or absent(up) # and nothing\n unless on() max(y[5m])", ["up", "up", "y"], ""),
        ("sum(x) without (a) > bool 1e3 and vector(1)", ["x"], "a"),
        ('{__name__="x", a!~"}"}', ["x"], ""),
        ("max_over_time((rate(x[5m]) > 0)[1d:1m]) offset 1h", ["x"], ""),
    ],
)
def test_what_an_expression_reads(expr: str, metrics: list[str], labels: str) -> None:
    read = promql.read(expr)
    assert metrics == [selector.metric for selector in read.selectors]
    assert list(labels) == [label for grouping in read.grouped_by for label in grouping]
