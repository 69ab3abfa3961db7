"""The Overview dashboard: what a person finds on it, in which order, and where its links lead."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dashboards.pages import columns_with_links, panel, steps, titles
from graphmeter_config import Budget, Config, Slo
from graphmeter_dashboards import links
from graphmeter_dashboards.overview import overview as overview_of

Json = dict[str, Any]


def _pane(url: str) -> Json:
    """State that Explore reads from a link, with Grafana's variables left as they are."""
    (panes,) = parse_qs(urlsplit(url).query, strict_parsing=True)["panes"]
    (pane,) = json.loads(panes).values()
    loaded: Json = pane
    return loaded


def test_numbers_stand_on_top_and_everything_asked_for_is_there(overview: Json) -> None:
    assert titles(overview) == [
        "Runs",
        "Error ratio",
        "Run p95",
        "Spend",
        "Runs in progress",
        "Lost runs",
        "Service levels and budgets",
        "Error budget left",
        "Error budget burn rate",
        "Budget used",
        "Latency and errors",
        "Node latency, p95",
        "Node errors per minute",
        "Nodes",
        "Money and tokens",
        "Spend per node",
        "Spend per model",
        "Tokens by type",
        "Runs and traces",
        "Runs per minute",
        "Latest failed runs",
        "Send data",
        "How to send data",
    ]
    assert {0} == {each["gridPos"]["y"] for each in overview["panels"][:6]}


def test_variables_are_the_sources_and_then_the_filters(overview: Json) -> None:
    assert [variable["name"] for variable in overview["templating"]["list"]] == [
        "prometheus_datasource",
        "jaeger_datasource",
        "postgres_datasource",
        "environment",
        "team",
        "graph",
        "node",
        "model",
    ]


def test_all_means_every_value_also_the_empty_one(overview: Json) -> None:
    filters = [variable for variable in overview["templating"]["list"] if variable["type"] == "query"]
    assert len(filters) == 5
    for variable in filters:
        assert variable["includeAll"]
        assert re.fullmatch(variable["allValue"], ""), variable["name"]


def test_latency_shows_exemplars(overview: Json) -> None:
    (target,) = panel(overview, "Node latency, p95")["targets"]
    assert target["exemplar"] is True


@pytest.mark.parametrize(
    ("objectives", "colors"),
    [
        ([], [(None, "green")]),
        (["99"], [(None, "green"), (0.01, "red")]),
        (["90", "99.9", "95"], [(None, "green"), (0.001, "orange"), (0.1, "red")]),
    ],
)
def test_error_colours_are_the_error_budgets_of_the_slos(objectives: list[str], colors: list[Any]) -> None:
    slos = tuple(Slo(name=f"slo-{n}", objective=Decimal(objective)) for n, objective in enumerate(objectives))
    # What may be slow says nothing about failures.
    slow = Slo(name="slow", objective=Decimal(5), indicator="latency", threshold_s=30.0)
    dashboard = overview_of(Config(slos=(*slos, slow)))
    assert colors == steps(panel(dashboard, "Error ratio"))


@pytest.mark.parametrize(
    ("thresholds", "colors"),
    [
        (["0.5", "0.8", "1"], [(None, "green"), (0.5, "orange"), (1.0, "red")]),
        (["1", "1.5"], [(None, "green"), (1.0, "red")]),
    ],
)
def test_budget_colours_are_the_thresholds_of_the_budgets(thresholds: list[str], colors: list[Any]) -> None:
    shares = tuple(Decimal(threshold) for threshold in thresholds)
    dashboard = overview_of(Config(budgets=(Budget(name="team", limit_usd=Decimal(10), thresholds=shares),)))
    assert colors == steps(panel(dashboard, "Budget used"))


def test_a_failed_runs_trace_id_opens_that_trace_in_jaeger(overview: Json) -> None:
    runs = panel(overview, "Latest failed runs")
    override = next(o for o in runs["fieldConfig"]["overrides"] if o["matcher"]["options"] == "trace")
    ((link,),) = [found["value"] for found in override["properties"] if found["id"] == "links"]
    (query,) = _pane(link["url"])["queries"]
    assert query == {
        "refId": "A",
        "datasource": {"type": "jaeger", "uid": "${jaeger_datasource}"},
        "query": "${__value.raw}",
    }


@pytest.mark.parametrize(
    ("title", "uid"),
    [
        ("Error ratio", "graphmeter-graph"),
        ("Run p95", "graphmeter-graph"),
        ("Spend", "graphmeter-spend"),
        ("Spend per model", "graphmeter-models"),
    ],
)
def test_numbers_lead_to_the_dashboard_that_explains_them(title: str, uid: str, overview: Json) -> None:
    (link,) = panel(overview, title)["links"]
    assert links.to(uid) == link["url"]


def test_nodes_lead_to_themselves_and_to_their_spend(overview: Json) -> None:
    assert ["Graph", "Node", "Spend"] == columns_with_links(panel(overview, "Nodes"))


def test_links_keep_the_time_range(overview: Json) -> None:
    others, traces = overview["links"]
    assert others["keepTime"]
    assert others["includeVars"]
    assert others["tags"] == ["graphmeter"]
    assert {"graphmeter", "langgraph"} == set(overview["tags"])
    assert _pane(traces["url"])["range"] == {"from": "${__from}", "to": "${__to}"}


@pytest.mark.parametrize("variable", ["${jaeger_datasource}", "${__value.raw}", "${__from}"])
def test_variables_in_a_link_are_not_encoded(files: dict[str, str], variable: str) -> None:
    assert variable in files["graphmeter-overview.json"]


def test_the_page_says_how_to_send_data(overview: Json) -> None:
    content = panel(overview, "How to send data")["options"]["content"]
    for said in ("from graphmeter import meter", "GRAPHMETER_ENDPOINT", "graphmeter doctor", "http://localhost:4318"):
        assert said in content
    assert "Send data" in panel(overview, "Runs")["fieldConfig"]["defaults"]["noValue"]


def test_it_is_the_home_dashboard_of_the_stack(overview: Json, generated: Any) -> None:
    grafana = (generated.parents[1] / "deploy" / "grafana" / "grafana.ini").read_text(encoding="utf-8")
    assert f"default_home_dashboard_path = /etc/graphmeter/dashboards/{overview['uid']}.json" in grafana
