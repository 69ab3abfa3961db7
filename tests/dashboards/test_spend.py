"""The Spend dashboard: what a person finds on it, in which order, and what its colours and links say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dashboards.pages import columns_with_links, panel, steps, titles
from graphmeter_config import Budget, Config
from graphmeter_config.alerting import Alerting, Unattributed
from graphmeter_dashboards.spend import spend as spend_of

Json = dict[str, Any]


def test_this_month_stands_on_top_then_budgets_and_then_what_it_went_for(spend: Json) -> None:
    assert titles(spend) == [
        "This month",
        "Forecast for this month",
        "Spend",
        "For nothing",
        "Saved",
        "Unattributed",
        "Budgets",
        "Budget used",
        "Budget forecast",
        "Budget used over time",
        "Budgets",
        "Where it goes",
        "Teams",
        "Graphs",
        "Nodes",
        "Models",
        "Spend per team",
        "Spend per graph",
        "Spend per node",
        "Spend per model",
        "Runs",
        "Cost of a run",
        "Most expensive runs",
        "For nothing",
        "Spend for nothing",
        "What was for nothing",
        "Saved by caches",
        "Saved by cached answers",
        "Cached answers per minute",
        "Input from the provider's cache",
        "Not known",
        "Calls without a price",
        "Calls without usage",
        "Spend that names no team",
    ]


def test_it_begins_with_the_calendar_month(spend: Json) -> None:
    assert {"from": "now/M", "to": "now"} == spend["time"]


@pytest.mark.parametrize("title", ["Budget used", "Budget forecast"])
def test_budgets_have_the_colours_of_their_thresholds(title: str) -> None:
    budget = Budget(name="team", limit_usd=Decimal(10), thresholds=(Decimal("0.5"), Decimal(1)))
    page = spend_of(Config(budgets=(budget,)))
    assert [(None, "green"), (0.5, "orange"), (1.0, "red")] == steps(panel(page, title))


@pytest.mark.parametrize(
    ("rule", "colors"),
    [
        (Unattributed(share=Decimal("0.3")), [(None, "green"), (0.3, "red")]),
        (None, [(None, "green")]),
    ],
    ids=["an alert", "none"],
)
def test_spend_of_nobody_is_red_where_the_alert_about_it_begins(rule: Unattributed | None, colors: Any) -> None:
    page = spend_of(Config(alerting=Alerting(unattributed=rule)))
    assert colors == steps(panel(page, "Unattributed"))


def test_the_dearest_runs_lead_to_their_traces(spend: Json) -> None:
    assert ["trace"] == columns_with_links(panel(spend, "Most expensive runs"))


def test_the_table_of_budgets_has_a_column_for_each_question(spend: Json) -> None:
    shown = panel(spend, "Budgets")
    (renamed,) = [each["options"]["renameByName"] for each in shown["transformations"] if each["id"] == "organize"]
    assert {"budget", "team", "scope", *(f"Value #{target['refId']}" for target in shown["targets"])} == set(renamed)
