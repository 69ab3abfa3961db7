"""Alertmanager's configuration: amtool accepts it, alerts reach who they should, and what silences what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphmeter_alerts import alertmanager, build, write
from graphmeter_config import Config
from support import promtool


def test_amtool_accepts_it(built: Path) -> None:
    checked = promtool.check_alertmanager(built / "alertmanager.yml")
    assert checked.ok, checked.output


OWNED = Config.model_validate(
    {
        "slos": [{"name": "runs-availability", "objective": 99, "owner": "platform"}],
        "budgets": [
            {"name": "team-monthly", "limit_usd": 100, "per": ["team"]},
            {"name": "company", "limit_usd": 5000, "owner": "platform"},
            {"name": "told", "limit_usd": 10, "receivers": ["finops"]},
        ],
        "receivers": [{"name": "finops", "url": "http://localhost:9/"}],
        "alerting": {
            "receivers": {
                "page": {"webhook": "https://oncall.example/hook?a=b", "token_file": "/etc/alertmanager/secrets/token"},
                "ticket": {"slack": {"url_file": "/etc/alertmanager/secrets/slack", "channel": "#graphs"}},
                "deadman": {"webhook": "https://deadman.example/graphmeter"},
            },
            "owners": [
                {
                    "name": "platform",
                    "page": {
                        "pagerduty": {
                            "routing_key_file": "/etc/alertmanager/secrets/pagerduty",
                            "url": "https://events.eu.pagerduty.com/v2/enqueue",
                        }
                    },
                },
                {
                    "name": "search",
                    "teams": ["search", "find.er-*"],
                    "ticket": {"webhook": "http://localhost:9/search"},
                },
                {"name": "rest", "teams": "*", "page": {}, "info": {}},
            ],
        },
    }
)
"""Receivers of every sort, and owners by name and by team."""


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("owned")
    write(OWNED, out)
    return out


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"alertname": "GraphmeterErrorBudgetBurnFast", "severity": "page", "slo": "a"}, "page"),
        ({"alertname": "GraphmeterErrorBudgetBurnSlow", "severity": "ticket", "slo": "a"}, "ticket"),
        ({"alertname": "GraphmeterWatchdog", "severity": "info"}, "deadman"),
        ({"alertname": "SomebodyElses", "severity": "info"}, "info"),
        ({"alertname": "SomebodyElses", "severity": "strange"}, "ticket"),
    ],
)
def test_routes(labels: dict[str, str], expected: str, config: Config, committed: Path) -> None:
    assert [expected] == promtool.routed_to(committed / "alertmanager.yml", labels)
    assert expected == alertmanager.receiver_of(config, labels)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"severity": "page", "owner": "platform"}, "platform/page"),
        ({"severity": "ticket", "owner": "platform"}, "ticket"),
        ({"severity": "page", "owner": "platform", "team": "search"}, "platform/page"),
        ({"severity": "ticket", "owner": "platform", "team": "search"}, "ticket"),
        ({"severity": "ticket", "team": "search"}, "search/ticket"),
        ({"severity": "ticket", "team": "find.er-eu"}, "search/ticket"),
        ({"severity": "ticket", "team": "findXer-eu"}, "ticket"),
        ({"severity": "ticket", "team": "research"}, "ticket"),
        ({"severity": "page", "team": "search"}, "rest/page"),
        ({"severity": "page"}, "page"),
        ({"severity": "page", "told_by": "collector"}, "nobody"),
        ({"severity": "page", "told_by": "collector", "owner": "platform"}, "nobody"),
    ],
)
def test_owners_get_what_is_theirs_and_all_else_takes_the_general_way(
    labels: dict[str, str], expected: str, owned: Path
) -> None:
    assert [expected] == promtool.routed_to(owned / "alertmanager.yml", labels)
    assert expected == alertmanager.receiver_of(OWNED, labels)


def test_receivers_of_every_sort_are_accepted_and_name_their_secrets_by_file(owned: Path) -> None:
    checked = promtool.check_alertmanager(owned / "alertmanager.yml")
    assert checked.ok, checked.output
    loaded = yaml.safe_load((owned / "alertmanager.yml").read_text(encoding="utf-8"))
    found = {receiver.pop("name"): receiver for receiver in loaded["receivers"]}
    assert {
        "webhook_configs": [
            {
                "url": "https://oncall.example/hook?a=b",
                "send_resolved": True,
                "http_config": {"authorization": {"credentials_file": "/etc/alertmanager/secrets/token"}},
            }
        ]
    } == found["page"]
    assert "/etc/alertmanager/secrets/slack" == found["ticket"]["slack_configs"][0]["api_url_file"]
    assert "/etc/alertmanager/secrets/pagerduty" == found["platform/page"]["pagerduty_configs"][0]["routing_key_file"]
    # What has come to an end must not look like a sign of life.
    assert [{"url": "https://deadman.example/graphmeter", "send_resolved": False}] == found["deadman"][
        "webhook_configs"
    ]
    assert [{}, {}, {}] == [found["nobody"], found["info"], found["rest/page"]]


def test_a_webhook_by_file_says_which_alertmanager_it_needs() -> None:
    receivers = {"ticket": {"webhook_file": "/run/secrets/hook"}}
    text = build(Config.model_validate({"alerting": {"receivers": receivers}}))["alertmanager.yml"]
    assert "# ticket: url_file of a webhook needs Alertmanager 0.26." in text.splitlines()
    entry = next(one for one in yaml.safe_load(text)["receivers"] if one["name"] == "ticket")
    assert [{"url_file": "/run/secrets/hook", "send_resolved": True}] == entry["webhook_configs"]


def test_rules_of_owners_pass_their_unit_tests(owned: Path) -> None:
    tested = promtool.test_rules(owned / "budgets.test.yml", owned / "slo-runs-availability.test.yml")
    assert tested.ok, tested.output


def test_a_crossing_that_the_collector_tells_is_told_by_alertmanager_only_when_asked() -> None:
    def told(budget: str, config: Config) -> dict[tuple[str, str], str]:
        rules = yaml.safe_load(build(config)["budgets.rules.yml"])["groups"][0]["rules"]
        return {
            (rule["alert"], rule["labels"].get("threshold", "")): alertmanager.receiver_of(
                config, {"alertname": rule["alert"], **rule["labels"]}
            )
            for rule in rules
            if rule.get("labels", {}).get("budget") == budget
        }

    crossings = (("GraphmeterBudgetThreshold", "80"), ("GraphmeterBudgetExhausted", "100"))
    forecast = ("GraphmeterBudgetForecast", "")
    once = {crossings[0]: "nobody", crossings[1]: "nobody", forecast: "ticket"}
    assert once == told("told", OWNED)
    assert {crossings[0]: "ticket", crossings[1]: "platform/page", forecast: "ticket"} == told("company", OWNED)
    both = OWNED.model_copy(update={"alerting": OWNED.alerting.model_copy(update={"budget_crossings": "both"})})
    assert {crossings[0]: "ticket", crossings[1]: "page", forecast: "ticket"} == told("told", both)


def test_every_alert_of_the_defaults_reaches_the_receiver_of_its_severity(
    config: Config, rules: list[dict[str, Any]]
) -> None:
    routed = {(rule["alert"], rule["labels"]["severity"]) for rule in rules if "alert" in rule}
    for alert, severity in sorted(routed):
        expected = "deadman" if alert == "GraphmeterWatchdog" else severity
        assert expected == alertmanager.receiver_of(config, {"alertname": alert, "severity": severity})


def test_labels_that_inhibit_are_carried_by_both_alerts(files: dict[str, str], rules: list[dict[str, Any]]) -> None:
    loaded = yaml.safe_load(files["alertmanager.yml"])
    # Labels that the expressions give, beside the static ones.
    given = {"slo": {"graph"}, "budget": {"team"}, "product": {"job"}}
    # Of an alert that is sent by hand.
    only_of_tests = {"graphmeter_test"}
    carried = {
        rule["alert"]: {*rule["labels"], *re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])}
        | {label for key in rule["labels"] for label in given.get(key, ())}
        for rule in rules
        if "alert" in rule
    }
    for inhibition in loaded["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            text = " ".join(inhibition[side])
            named = [alert for alert in carried if alert in text]
            assert named or 'slo=~".+"' in text
            for alert in named:
                assert set() == set(inhibition["equal"]) - carried[alert] - only_of_tests


def test_links_lead_where_the_configuration_says() -> None:
    config = Config.model_validate(
        {"alerting": {"grafana_url": "https://g.example/", "runbooks_url": "https://wiki.example/gm"}}
    )
    rules = yaml.safe_load(build(config)["health.rules.yml"])["groups"][0]["rules"]
    expected = ("https://wiki.example/gm/GraphmeterCollectorDown.md", "https://g.example/d/graphmeter-collector")
    annotations = rules[0]["annotations"]
    assert expected == (annotations["runbook_url"], annotations["dashboard_url"])
