"""The Graph dashboard: what a person finds on it, in which order, and where it leads."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dashboards.pages import columns_with_links, panel, steps, titles
from graphmeter_config import Config, Slo
from graphmeter_dashboards.graph import graph as graph_of

Json = dict[str, Any]


def test_numbers_stand_on_top_and_everything_asked_for_is_there(graph: Json) -> None:
    assert titles(graph) == [
        "Executions",
        "Error ratio of nodes",
        "Node p95",
        "Retries",
        "Interrupts",
        "Waiting for a human",
        "Flow",
        "Flow",
        "Slowest nodes",
        "Where time goes",
        "Most expensive nodes",
        "Latency",
        "Node latency, p50",
        "Node latency, p95",
        "Node latency, p99",
        "Durations of node attempts",
        "Latency of runs",
        "Errors and throughput",
        "Executions per minute",
        "Node errors per minute",
        "Errors by type",
        "Nodes",
        "Unusual",
        "Runs in an hour, and usual",
        "Error ratio, and usual",
        "Run p95, and usual",
        "Cost of a run, and usual",
        "Retries and tools",
        "Retries per minute",
        "Attempts by status",
        "Tool calls per minute",
        "Humans",
        "Interrupts per minute",
        "Runs waiting",
        "How long humans take",
        "Waiting longest",
        "Runs",
        "Runs per minute",
        "Latest failed runs",
    ]


@pytest.mark.parametrize(
    "title",
    [
        "Node latency, p50",
        "Node latency, p99",
        "Durations of node attempts",
        "Node errors per minute",
        "Errors by type",
    ],
)
def test_latency_and_errors_lead_to_traces_by_exemplars(title: str, graph: Json) -> None:
    assert [True] == [target["exemplar"] for target in panel(graph, title)["targets"]]


@pytest.mark.parametrize("title", ["Latest failed runs", "Waiting longest"])
def test_runs_in_lists_lead_to_their_traces(title: str, graph: Json) -> None:
    assert ["trace"] == columns_with_links(panel(graph, title))


def test_colours_are_those_of_slos_of_nodes_alone() -> None:
    slos = (
        Slo(name="runs", objective=Decimal(90)),
        Slo(name="nodes", objective=Decimal(95), of="nodes"),
        Slo(name="quick", objective=Decimal(95), of="nodes", indicator="latency", threshold_s=2.5),
        Slo(name="slow", objective=Decimal(95), of="nodes", indicator="latency", threshold_s=30.0),
        Slo(name="model", objective=Decimal(95), of="models", indicator="latency", threshold_s=60.0),
    )
    page = graph_of(Config(slos=slos))
    assert [(None, "green"), (0.05, "red")] == steps(panel(page, "Error ratio of nodes"))
    assert [(None, "green"), (2.5, "orange"), (30.0, "red")] == steps(panel(page, "Node p95"))


def test_the_heatmap_takes_the_buckets_of_prometheus(graph: Json) -> None:
    shown = panel(graph, "Durations of node attempts")
    assert "heatmap" == shown["type"]
    assert not shown["options"]["calculate"]
    assert ["heatmap"] == [target["format"] for target in shown["targets"]]


def test_the_parts_of_a_nodes_ring_are_coloured(graph: Json) -> None:
    arcs = panel(graph, "Flow")["options"]["nodes"]["arcs"]
    assert [("arc__done", "green"), ("arc__failed", "red"), ("arc__idle", "blue")] == [
        (arc["field"], arc["color"]) for arc in arcs
    ]


def test_a_node_of_a_table_leads_to_itself_and_to_its_spend(graph: Json) -> None:
    assert ["Graph", "Node", "Spend"] == columns_with_links(panel(graph, "Nodes"))


def test_what_alerts_on_anomalies_judge_is_drawn_with_its_band(graph: Json) -> None:
    shown = panel(graph, "Run p95, and usual")
    asked = [target["expr"].partition("{")[0] for target in shown["targets"]]
    assert [
        f"graphmeter:anomaly_latency_p95:{what}" for what in ("seconds", "expected", "upper_band", "lower_band")
    ] == asked
    dashed = [override["matcher"]["options"] for override in shown["fieldConfig"]["overrides"]]
    assert ["B", "C", "D"] == dashed


def test_without_anomalies_there_is_no_section_on_them() -> None:
    assert "Unusual" not in titles(graph_of(Config.model_validate({"anomalies": None})))
