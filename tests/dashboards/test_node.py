"""The Node dashboard: what a person finds on it, in which order, and where it leads."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dashboards.pages import columns_with_links, panel, steps, titles
from graphmeter_config import Config, Slo
from graphmeter_dashboards import links
from graphmeter_dashboards.node import node as node_of

Json = dict[str, Any]


def test_numbers_stand_on_top_and_everything_asked_for_is_there(node: Json) -> None:
    assert titles(node) == [
        "Attempts",
        "Error ratio of attempts",
        "Attempt p95",
        "Tokens",
        "Spend",
        "Cost per call",
        "Attempts",
        "Attempts per minute",
        "Executions per minute",
        "Retries per minute",
        "Errors",
        "Errors by type",
        "Errors by type over time",
        "Error ratio of attempts over time",
        "Latest runs in which it failed",
        "Latency",
        "Latency of attempts",
        "Durations of attempts",
        "Models and tokens",
        "Model calls per minute",
        "Model latency, p95",
        "Tokens per call",
        "Cost",
        "Cost per call, by model",
        "Spend per model",
        "Spend for nothing, by node",
        "Tools and nodes",
        "Tool calls per minute",
        "Nodes",
    ]


@pytest.mark.parametrize("title", ["Latency of attempts", "Model latency, p95", "Errors by type over time"])
def test_latency_and_errors_lead_to_traces_by_exemplars(title: str, node: Json) -> None:
    assert panel(node, title)["targets"][-1]["exemplar"] is True


def test_limits_are_the_thresholds_of_slos_of_nodes_and_of_models() -> None:
    slos = (
        Slo(name="nodes", objective=Decimal(95), of="nodes", indicator="latency", threshold_s=5.0),
        Slo(name="models", objective=Decimal(95), of="models", indicator="latency", threshold_s=10.0),
    )
    page = node_of(Config(slos=slos))
    for title, bound in (("Latency of attempts", 5.0), ("Model latency, p95", 10.0)):
        shown = panel(page, title)
        assert [(None, "green"), (bound, "red")] == steps(shown)
        assert shown["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] == {"mode": "dashed"}


def test_nodes_of_every_table_and_of_the_flow_lead_here(node: Json, graph: Json, overview: Json) -> None:
    for page in (node, graph, overview):
        assert "Node" in columns_with_links(panel(page, "Nodes"))
    flow = str(panel(graph, "Flow")["fieldConfig"]["overrides"])
    assert f"/d/{links.NODE}?" in flow
