"""The Collector dashboard: nothing that a collector tells of itself is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graphmeter import names
from graphmeter_dashboards import check

Json = dict[str, Any]
ELSEWHERE = {
    names.COLLECTOR_BUDGET_EVENTS: "of budgets, which stand on Spend",
    names.COLLECTOR_RESERVATIONS: "of budgets, which stand on Spend",
    names.COLLECTOR_NOTIFICATIONS_WAITING: "those that failed are shown",
    names.COLLECTOR_REPLAYING: "for rules",
}


@pytest.fixture
def collector(files: dict[str, str]) -> Json:
    loaded: Json = json.loads(files["graphmeter-collector.json"])
    return loaded


def test_everything_that_collectors_tell_of_themselves_is_on_it(collector: Json) -> None:
    asked = " ".join(query.expr for query in check.panel_queries(collector))
    told = [metric for metric in names.METRICS if metric.name.startswith("graphmeter_collector_")]
    assert told
    assert [] == [metric.name for metric in told if metric.name not in asked and metric not in ELSEWHERE]


def test_receive_store_spool_settle_forward_and_tables_have_sections(collector: Json) -> None:
    rows = [each["title"] for each in collector["panels"] if each["type"] == "row"]
    assert [
        "Receive",
        "Refuse and repair",
        "Store",
        "Spool",
        "Settle",
        "Forward",
        "Tables",
        "Own errors",
        "Clients",
        "Versions",
    ] == rows
