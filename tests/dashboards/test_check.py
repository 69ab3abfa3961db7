"""check: queries with Grafana's variables and macros replaced, ready for Prometheus and Postgres."""

from __future__ import annotations

from typing import Any

import pytest

from graphmeter_dashboards import check
from graphmeter_dashboards.check import PanelQuery, TimeRange, UnknownVariable, VariableQuery

RANGE = TimeRange(1_000.0, 4_600.0, rate_interval="1m")
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus_datasource}"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "${postgres_datasource}"}


def _dashboard(*targets: dict[str, Any]) -> dict[str, Any]:
    return {
        "panels": [{"title": "P", "targets": list(targets)}],
        "annotations": {"list": [{"name": "Alerts", "datasource": PROMETHEUS, "expr": 'ALERTS{graph=~"$graph"}'}]},
        "templating": {
            "list": [
                {
                    "name": "graph",
                    "type": "query",
                    "allValue": ".*",
                    "query": {"query": "label_values(runs_total, graph)"},
                },
                {
                    "name": "node",
                    "type": "query",
                    "allValue": ".*",
                    "query": {"query": 'label_values(x{graph=~"$graph"}, node)'},
                },
            ]
        },
    }


def test_promql_gets_values_for_variables_and_intervals() -> None:
    expr = 'increase(x{graph=~"$graph",node=~"${node:regex}"}[$__range]) + rate(y[$__rate_interval]) + $__range_s'
    dashboard = _dashboard({"refId": "A", "datasource": PROMETHEUS, "expr": expr, "instant": True})
    expected = 'increase(x{graph=~"support",node=~".*"}[3600s]) + rate(y[1m]) + 3600'
    asked = check.panel_queries(dashboard, RANGE, {"graph": "support"})
    assert [PanelQuery("P", "A", "prometheus", expr=expected, instant=True)] == asked


def test_sql_gets_the_time_range_in_nanoseconds_and_keeps_its_dollar_quotes() -> None:
    query = (
        "SELECT 1 FROM run WHERE $__unixEpochNanoFilter(started_ns) AND graph ~ ('^' || $$(${graph:regex})$$ || '$')"
    )
    dashboard = _dashboard({"refId": "A", "datasource": POSTGRES, "rawSql": query})
    expected = (
        "SELECT 1 FROM run WHERE started_ns >= 1000000000000 AND started_ns <= 4600000000000"
        " AND graph ~ ('^' || $$(.*)$$ || '$')"
    )
    asked = check.panel_queries(dashboard, RANGE)
    assert [PanelQuery("P", "A", "grafana-postgresql-datasource", sql=expected)] == asked


def test_panels_inside_collapsed_rows_are_asked_too() -> None:
    inner = _dashboard({"refId": "A", "datasource": PROMETHEUS, "expr": "up"})
    dashboard = {**inner, "panels": [{"type": "row", "title": "R", "panels": inner["panels"]}]}
    assert [query.expr for query in check.panel_queries(dashboard, RANGE)] == ["up"]


def test_annotations_are_asked_too() -> None:
    expected = [PanelQuery("Alerts", "A", "prometheus", expr='ALERTS{graph=~".*"}')]
    assert expected == check.annotation_queries(_dashboard(), RANGE)


def test_variables_ask_for_the_values_of_a_label() -> None:
    expected = [VariableQuery("graph", "runs_total", "graph"), VariableQuery("node", 'x{graph=~".*"}', "node")]
    assert expected == check.variable_queries(_dashboard())


def test_an_unknown_variable_is_named() -> None:
    dashboard = _dashboard({"refId": "A", "datasource": PROMETHEUS, "expr": 'up{job="$job"}'})
    with pytest.raises(UnknownVariable, match=r"\$job is no variable of the dashboard"):
        check.panel_queries(dashboard, RANGE)


def test_a_data_source_that_nobody_can_ask_is_named() -> None:
    dashboard = _dashboard({"refId": "A", "datasource": {"type": "loki", "uid": "x"}})
    with pytest.raises(ValueError, match="loki"):
        check.panel_queries(dashboard, RANGE)


def test_json_text_is_taken_as_well(files: dict[str, str], overview: dict[str, Any]) -> None:
    text = files["graphmeter-overview.json"]
    assert check.panel_queries(overview, RANGE) == check.panel_queries(text, RANGE)


def test_without_a_range_the_last_hour_is_asked() -> None:
    dashboard = _dashboard({"refId": "A", "datasource": PROMETHEUS, "expr": "increase(x[$__range])"})
    assert [query.expr for query in check.panel_queries(dashboard)] == ["increase(x[3600s])"]
