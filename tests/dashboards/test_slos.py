"""The dashboard on SLOs: what it shows of which SLOs, and from where on it warns."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from dashboards.pages import panel, steps, titles
from graphmeter_alerts import slo_rules
from graphmeter_alerts.rules import Record
from graphmeter_config import Config, Slo
from graphmeter_dashboards import check
from graphmeter_dashboards.slos import slos as slos_of
from graphmeter_dashboards.variables import ALL

Json = dict[str, Any]
NODES = Slo(name="nodes", objective=Decimal(90), of="nodes", window_s=7 * 86_400.0)


@pytest.fixture
def slos(files: dict[str, str]) -> Json:
    loaded: Json = json.loads(files["graphmeter-slo.json"])
    return loaded


def test_budgets_burn_rates_history_and_alerts_are_there(slos: Json) -> None:
    assert titles(slos) == [
        "SLOs",
        "Broken promises",
        "Least budget left",
        "Fastest burn",
        "Pages",
        "Tickets",
        "Error budgets",
        "Promises",
        "Error budget left",
        "Error budget left, from the database",
        "Burn rates",
        "Burn rate, 1h and 5m",
        "Burn rate, 6h and 30m",
        "Burn rate, 1d and 2h",
        "Burn rate, 3d and 6h",
        "History",
        "Error budget left over time",
        "Bad events over budget",
        "Bad events in an hour",
        "Alerts",
        "Alerts over time",
        "Alerts now",
    ]


def test_slos_can_be_chosen_beside_everything_else(slos: Json) -> None:
    last = slos["templating"]["list"][-1]
    assert ("slo", ALL, "label_values(slo:objective:ratio, slo)") == (
        last["name"],
        last["allValue"],
        last["definition"],
    )


@pytest.mark.parametrize("objective", ["99", "50"])
def test_burn_rates_warn_where_the_alerts_begin(objective: str) -> None:
    slo = Slo(name="runs", objective=Decimal(objective))
    page = slos_of(Config(slos=(slo,)))
    for tier in slo_rules.burn_plan(slo).tiers:
        [shown] = [each for each in page["panels"] if f"`burn={tier.name}`" in each.get("description", "")]
        assert [(None, "green"), (float(tier.factor), "red")] == steps(shown)
        assert f"becomes a {tier.severity}" in shown["description"]


def test_every_series_asked_for_is_one_that_the_rules_record() -> None:
    config = Config(slos=(NODES, Slo(name="runs", objective=Decimal(99))))
    recorded = {
        rule.name
        for slo in config.slos
        for group in slo_rules.groups(config, slo)
        for rule in group.rules
        if isinstance(rule, Record)
    }
    asked = " ".join(query.expr for query in check.panel_queries(slos_of(config)))
    named = set(re.findall(r"slo:\w+:\w+", asked))
    assert named
    assert named <= recorded
    assert {"slo:events:increase7d", "slo:events:increase30d"} <= named


def test_what_an_slo_judges_by_itself_has_a_column_and_stands_in_legends() -> None:
    page = slos_of(Config(slos=(NODES,)))
    columns = panel(page, "Promises")["transformations"][1]["options"]["renameByName"]
    assert ["SLO", "Graph", "Node", "Objective", "Achieved", "Budget left"] == list(columns.values())[:6]
    assert panel(page, "Error budget left")["targets"][0]["legendFormat"] == "{{slo}} {{graph}} {{node}}"


def test_without_any_slo_it_can_be_built() -> None:
    page = slos_of(Config(slos=()))
    assert "Burn rate, 1h and 5m" in titles(page)
    assert check.panel_queries(page)
