"""Dashboards of teams: whose there are, under which uid, and that they show nobody else."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from dashboards.pages import panel, steps
from graphmeter_config import Budget, Config, Slo
from graphmeter_dashboards import build, check
from graphmeter_dashboards.team import team as team_of
from graphmeter_dashboards.team import teams, uid

Json = dict[str, Any]


def budget(name: str, team: str, *, per: tuple[str, ...] = (), thresholds: str = "1") -> Budget:
    said = {"name": name, "limit_usd": 10, "match": {"team": team}, "per": per, "thresholds": [thresholds]}
    return Budget.model_validate(said)


CONFIG = Config(
    slos=(Slo.model_validate({"name": "cx-runs", "objective": Decimal(99), "select": {"team": ["cx", "web-*"]}}),),
    budgets=(budget("growth", "growth", thresholds="0.5"), budget("all", "*", per=("team",)), budget("cx-all", "cx")),
)


def test_teams_that_budgets_and_slos_name_have_one_each_and_those_asked_for() -> None:
    assert ("cx", "growth") == teams(CONFIG)
    of_teams = [name for name in build(CONFIG, ["data", "cx"]) if name.startswith("graphmeter-team-")]
    assert [f"graphmeter-team-{name}.json" for name in ("cx", "data", "growth")] == of_teams


def test_a_uid_is_readable_unlike_any_other_and_as_short_as_grafana_wants_it() -> None:
    assert uid("cx") == "graphmeter-team-cx"
    names = ["cx", "CX", "c x", "c.x", "ü", "a-team-with-a-very-long-name", "a-team-with-a-very-long-name-2"]
    uids = [uid(name) for name in names]
    assert len(names) == len(set(uids))
    assert max(map(len, uids)) <= 40


@pytest.mark.parametrize("name", ["cx", "c.x (b)", 'a"b', "a,b"])
def test_every_question_is_about_the_team_alone(name: str) -> None:
    page = team_of(Config.default(), name)
    [variable] = [each for each in page["templating"]["list"] if each["name"] == "team"]
    assert [name] == variable["current"]["value"]
    assert name.replace(",", "\\,") == variable["query"]
    assert (False, False) == (variable["includeAll"], variable["allowCustomValue"])
    for query in check.panel_queries(page):
        assert "team" in query.expr + query.sql or "slo_error_budget" in query.expr, query


def test_the_graphs_to_choose_from_and_all_of_them_are_the_teams() -> None:
    page = team_of(Config.default(), "cx")
    [graph] = [each for each in page["templating"]["list"] if each["name"] == "graph"]
    assert 'team=~"$team"' in graph["definition"]
    # "All" is every choice: SLOs know no team.
    assert "allValue" not in graph


def test_a_budget_that_counts_the_teams_spend_without_dividing_it_is_shown() -> None:
    page = team_of(CONFIG, "cx")
    [query] = check.panel_queries({**page, "panels": [panel(page, "Budget used")]})
    assert 'graphmeter_budget_spent_usd{team="",budget=~"cx-all"}' in query.expr


def test_colours_are_those_of_budgets_that_count_the_teams_spend() -> None:
    assert [(None, "green"), (1.0, "red")] == steps(panel(team_of(CONFIG, "cx"), "Budget used"))
    assert [(None, "green"), (0.5, "orange"), (1.0, "red")] == steps(panel(team_of(CONFIG, "growth"), "Budget used"))


def test_the_same_team_gives_the_same_bytes() -> None:
    assert json.dumps(team_of(CONFIG, "cx")) == json.dumps(team_of(CONFIG, "cx"))
