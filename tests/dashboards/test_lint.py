"""lint(): silent on our dashboards, loud on every fault planted into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import promql_parser
import pytest

from graphmeter_dashboards.lint import EXCLUDED, lint

Json = dict[str, Any]


def _first(dashboard: Json, kind: str) -> Json:
    return next(panel for panel in dashboard["panels"] if panel["type"] == kind)


def _set_expr(expr: str) -> Callable[[Json], object]:
    return lambda dashboard: _first(dashboard, "stat")["targets"][0].update(expr=expr)


def _query_variable(dashboard: Json) -> Json:
    return next(variable for variable in dashboard["templating"]["list"] if variable["type"] == "query")


def _without_prometheus(dashboard: Json) -> None:
    kept = [variable for variable in dashboard["templating"]["list"] if variable.get("query") != "prometheus"]
    dashboard["templating"]["list"] = kept


def _bad_label_values(dashboard: Json) -> None:
    _query_variable(dashboard)["query"]["query"] = "label_values(x{, graph)"


FAULTS: dict[str, tuple[str, Callable[[Json], object]]] = {
    "editable": ("uneditable-dashboard-rule", lambda d: d.update(editable=True)),
    "no uid": ("uid", lambda d: d.pop("uid")),
    "no data source variable": ("template-datasource-rule", _without_prometheus),
    "data source variable misnamed": (
        "template-datasource-rule",
        lambda d: d["templating"]["list"][0].update(name="ds"),
    ),
    "data source variable unlabelled": (
        "template-datasource-rule",
        lambda d: d["templating"]["list"][0].update(label="Source"),
    ),
    "variable read once": ("template-on-time-change-reload-rule", lambda d: _query_variable(d).update(refresh=1)),
    "variable with broken PromQL": ("template-label-promql-rule", _bad_label_values),
    "fixed data source": ("panel-datasource-rule", lambda d: _first(d, "stat")["datasource"].update(uid="abc")),
    "no title": ("panel-title-description-rule", lambda d: _first(d, "stat").update(title="")),
    "no description": ("panel-title-description-rule", lambda d: _first(d, "stat").pop("description")),
    "unknown unit": (
        "panel-units-rule",
        lambda d: _first(d, "stat")["fieldConfig"]["defaults"].update(unit="parsecs"),
    ),
    "no query": ("panel-no-targets-rule", lambda d: _first(d, "stat").update(targets=[])),
    "PromQL that does not parse": ("target-promql-rule", _set_expr("sum(rate(x_total[$__rate_interval])")),
    "annotation that does not parse": (
        "target-promql-rule",
        lambda d: d["annotations"]["list"][0].update(expr="ALERTS{"),
    ),
    "rate over a fixed window": ("target-rate-interval-rule", _set_expr("sum(rate(x_total[5m]))")),
    "counter as it is": ("target-counter-agg-rule", _set_expr("sum(graphmeter_runs_total)")),
    "query to another data source": (
        "target-datasource",
        lambda d: _first(d, "stat")["targets"][0].update(datasource={"type": "prometheus", "uid": "x"}),
    ),
    "unknown variable": ("variables", _set_expr('up{job="$job"}')),
    "two panels with one id": ("ids", lambda d: _first(d, "stat").update(id=2)),
    "no id": ("ids", lambda d: _first(d, "stat").update(id=None)),
    "no refId": ("ids", lambda d: _first(d, "stat")["targets"][0].update(refId=None)),
    "beyond the 24th column": ("grid", lambda d: _first(d, "stat")["gridPos"].update(x=22)),
    "one panel upon another": ("grid", lambda d: _first(d, "stat")["gridPos"].update(x=4)),
    "hidden link": ("placement", lambda d: d["links"][0].update(placement="inControlsMenu")),
}


def test_our_dashboards_have_no_fault(page: Json) -> None:
    assert lint(page, promql_parser.parse) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(overview: Json, fault: str) -> None:
    rule, plant = FAULTS[fault]
    plant(overview)
    assert rule in {finding.rule for finding in lint(overview, promql_parser.parse)}


def test_every_rule_left_out_has_a_reason() -> None:
    assert all(reason for reason in EXCLUDED.values())
    assert not set(EXCLUDED) & {rule for rule, _ in FAULTS.values()}
