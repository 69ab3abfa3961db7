"""queries: PromQL text from metric families; every metric, label and column that is asked for exists."""

from __future__ import annotations

from typing import Any

import promql_parser
import pytest
import yaml

from graphmeter import names
from graphmeter_alerts import build as build_rules
from graphmeter_config import Config
from graphmeter_config.indicators import DIMENSIONS
from graphmeter_dashboards import check, queries

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
INSTANCE = "instance"
"""What Prometheus calls a collector; only what collectors say of themselves may be divided by it."""
OF_SLOS = {"slo", *DIMENSIONS}
"""Labels of recording rules about SLOs."""
OF_ALERTS = {"alertname", "alertstate", "product", "severity", "burn", *OF_SLOS}
SERIES = {metric.name + suffix: metric for metric in names.METRICS for suffix in SUFFIXES[metric.type]}


def _selectors(expr: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: object) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


def _expressions(dashboard: dict[str, Any]) -> list[str]:
    asked = [query.expr for query in check.panel_queries(dashboard) if query.expr]
    return [*asked, *(variable.series for variable in check.variable_queries(dashboard))]


def test_a_selector_filters_by_every_variable_that_the_metric_has_a_label_for() -> None:
    run = 'graphmeter_runs_total{environment=~"$environment",team=~"$team",graph=~"$graph",status="ok"}'
    assert run == queries.select(names.RUNS, 'status="ok"')
    assert queries.select(names.BUDGET_LIMIT) == 'graphmeter_budget_limit_usd{team=~"$team"}'
    assert queries.select(names.COLLECTOR_STORED) == "graphmeter_collector_spans_stored_total{}"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (queries.count(names.BUDGET_COST), 'sum(increase(graphmeter_budget_cost_usd_total{team=~"$team"}[$__range]))'),
        (
            queries.per_second(names.BUDGET_COST, by=("team",), times=60),
            '60 * sum by (team) (rate(graphmeter_budget_cost_usd_total{team=~"$team"}[$__rate_interval]))',
        ),
        (
            queries.quantile(0.95, names.COLLECTOR_COMMIT),
            "histogram_quantile(0.95, sum by (le) (rate(graphmeter_collector_commit_seconds_bucket{}[$__rate_interval])))",
        ),
        (
            queries.budget_used(),
            'max by (budget, team, scope) (graphmeter_budget_spent_usd{team=~"$team"})'
            ' / (max by (budget, team, scope) (graphmeter_budget_limit_usd{team=~"$team"}) > 0)'
            ' or max by (budget, team, scope) (graphmeter_budget_spent_tokens{team=~"$team"})'
            ' / (max by (budget, team, scope) (graphmeter_budget_limit_tokens{team=~"$team"}) > 0)',
        ),
        (
            queries.count(names.RUN_COST, suffix="_sum"),
            'sum(increase(graphmeter_run_cost_usd_sum{environment=~"$environment",team=~"$team",graph=~"$graph"}[$__range]))',
        ),
        (
            queries.buckets(names.COLLECTOR_COMMIT),
            "sum by (le) (increase(graphmeter_collector_commit_seconds_bucket{}[$__rate_interval]))",
        ),
        (
            queries.retries(),
            "clamp_min("
            'sum(increase(graphmeter_node_attempts_total{environment=~"$environment",team=~"$team",graph=~"$graph",'
            'node=~"$node"}[$__range])) - '
            'sum(increase(graphmeter_node_runs_total{environment=~"$environment",team=~"$team",graph=~"$graph",'
            'node=~"$node"}[$__range])), 0)',
        ),
        (
            queries.error_ratio(names.COLLECTOR_STORED, window="1h"),
            '(sum(increase(graphmeter_collector_spans_stored_total{status=~"error"}[1h]))'
            ' or 0 * sum(increase(graphmeter_collector_spans_stored_total{status=~"ok|error"}[1h])))'
            ' / (sum(increase(graphmeter_collector_spans_stored_total{status=~"ok|error"}[1h])) > 0)',
        ),
        (queries.ratio("a", "b"), "a / (b > 0)"),
        (queries.share("a", "b"), "(a or 0 * b) / (b > 0)"),
        (queries.top("a", 3), "sort_desc(topk(3, a) > 0)"),
        (queries.label_values(names.RUNS, "team"), "label_values(graphmeter_runs_total, team)"),
        (
            queries.label_values(names.RUNS, "graph", "team"),
            'label_values(graphmeter_runs_total{team=~"$team"}, graph)',
        ),
    ],
)
def test_questions_become_promql(asked: str, expected: str) -> None:
    assert expected == asked


def test_every_metric_and_label_asked_for_is_one_of_ours_or_a_recording_rule(
    page: dict[str, Any], recorded: set[str]
) -> None:
    for expr in _expressions(page):
        for selector in _selectors(expr):
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= _labels(selector.name or "", recorded), expr


def _labels(series: str, recorded: set[str]) -> set[str]:
    """Labels that series of this name have."""
    if series in SERIES:
        of_collectors = {INSTANCE} if series.startswith("graphmeter_collector_") else set()
        return {*SERIES[series].labels, *of_collectors}
    assert series == "ALERTS" or series in recorded, series
    return OF_ALERTS if series == "ALERTS" else OF_SLOS


def test_every_label_that_is_grouped_by_exists(page: dict[str, Any], recorded: set[str]) -> None:
    for expr in _expressions(page):
        known = {"le"}.union(*(_labels(selector.name or "", recorded) for selector in _selectors(expr)))

        def visit(node: object, expr: str = expr, known: set[str] = known) -> bool:
            if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
                assert set(node.modifier.labels) <= known, expr
            return True

        promql_parser.walk(promql_parser.parse(expr), visit)


def test_gauges_from_the_database_are_taken_once_and_counters_are_summed(page: dict[str, Any]) -> None:
    for expr in _expressions(page):
        for selector in _selectors(expr):
            metric = SERIES.get(selector.name or "")
            if metric is not None and metric.type == "gauge":
                assert "max by (" in expr or "max(" in expr, expr
            elif metric is not None and "(" in expr:
                assert "sum" in expr, expr


def test_the_alert_annotation_shows_every_alert_but_the_one_that_always_fires(
    page: dict[str, Any], config: Config
) -> None:
    alerts = next(each for each in check.annotation_queries(page) if each.panel == "Alerts")
    (selector,) = _selectors(alerts.expr)
    assert selector.name == "ALERTS"
    wanted = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
    files = [yaml.safe_load(text) for name, text in build_rules(config).items() if name.endswith(".rules.yml")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["labels"]["product"] for rule in rules} == {wanted["product"]}
    assert [rule["alert"] for rule in rules if rule["expr"] == "vector(1)"] == [wanted["alertname"]]
