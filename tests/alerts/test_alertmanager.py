"""Alertmanager's configuration: amtool accepts it, alerts reach who they should, and what silences what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from graphmeter_alerts import build, write
from graphmeter_config import Config
from support import promtool


def test_amtool_accepts_it(built: Path) -> None:
    checked = promtool.check_alertmanager(built / "alertmanager.yml")
    assert checked.ok, checked.output


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"alertname": "GraphmeterErrorBudgetBurnFast", "severity": "page", "slo": "a"}, ["page"]),
        ({"alertname": "GraphmeterErrorBudgetBurnSlow", "severity": "ticket", "slo": "a"}, ["ticket"]),
        ({"alertname": "GraphmeterWatchdog", "severity": "info"}, ["deadman"]),
        ({"alertname": "SomebodyElses", "severity": "strange"}, ["ticket"]),
    ],
)
def test_routes(labels: dict[str, str], expected: list[str], built: Path) -> None:
    assert expected == promtool.routed_to(built / "alertmanager.yml", labels)


def test_every_alert_of_the_defaults_reaches_the_receiver_of_its_severity(
    built: Path, rules: list[dict[str, Any]]
) -> None:
    receivers = {"page": ["page"], "ticket": ["ticket"], "info": ["deadman"]}
    routed = {(rule["alert"], rule["labels"]["severity"]) for rule in rules if "alert" in rule}
    for alert, severity in sorted(routed):
        labels = {"alertname": alert, "severity": severity}
        assert receivers[severity] == promtool.routed_to(built / "alertmanager.yml", labels)


def test_webhooks_of_the_configuration_are_told(tmp_path: Path) -> None:
    config = Config.model_validate(
        {"alerting": {"receivers": {"page": {"webhook": "https://oncall.example/hook?a=b"}, "deadman": {}}}}
    )
    write(config, tmp_path)
    checked = promtool.check_alertmanager(tmp_path / "alertmanager.yml")
    assert checked.ok, checked.output
    loaded = yaml.safe_load((tmp_path / "alertmanager.yml").read_text(encoding="utf-8"))
    page = {"name": "page", "webhook_configs": [{"url": "https://oncall.example/hook?a=b", "send_resolved": True}]}
    assert [page, {"name": "ticket"}, {"name": "deadman"}] == loaded["receivers"]


def test_labels_that_inhibit_are_carried_by_both_alerts(files: dict[str, str], rules: list[dict[str, Any]]) -> None:
    loaded = yaml.safe_load(files["alertmanager.yml"])
    # Labels that the expressions give, beside the static ones.
    given = {"slo": {"graph"}, "budget": {"team"}, "product": {"job"}}
    carried = {
        rule["alert"]: set(rule["labels"]) | {label for key in rule["labels"] for label in given.get(key, ())}
        for rule in rules
        if "alert" in rule
    }
    for inhibition in loaded["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            text = " ".join(inhibition[side])
            named = [alert for alert in carried if alert in text]
            assert named or 'slo=~".+"' in text
            for alert in named:
                assert set() == set(inhibition["equal"]) - carried[alert]


def test_links_lead_where_the_configuration_says() -> None:
    config = Config.model_validate(
        {"alerting": {"grafana_url": "https://g.example/", "runbooks_url": "https://wiki.example/gm"}}
    )
    rules = yaml.safe_load(build(config)["health.rules.yml"])["groups"][0]["rules"]
    expected = ("https://wiki.example/gm/GraphmeterCollectorDown.md", "https://g.example/d/graphmeter-overview")
    annotations = rules[0]["annotations"]
    assert expected == (annotations["runbook_url"], annotations["dashboard_url"])
