"""`graphmeter alerts` and `graphmeter rules` as commands; alerts sent through a real Alertmanager to a real webhook."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from graphmeter_alerts import rulefiles, trial, write
from graphmeter_cli.group import graphmeter
from graphmeter_config import load
from support import promtool
from support.ports import free_port

FAST = "GraphmeterErrorBudgetBurnFast"


@dataclass
class Running:
    """Alertmanager, and what its webhook was told."""

    url: str
    config: Path
    told: list[dict[str, Any]] = field(default_factory=list)

    def test(self, name: str, *arguments: str) -> Result:
        return call("alerts", "test", name, "--alertmanager", self.url, "--config", str(self.config), *arguments)

    def wait_for(self, status: str, name: str, **labels: str) -> dict[str, Any]:
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            for message in list(self.told):
                for alert in message["alerts"]:
                    of = {"alertname": name, **labels}
                    if alert["status"] == status and of.items() <= alert["labels"].items():
                        found: dict[str, Any] = alert
                        return found
            time.sleep(0.05)
        raise AssertionError(f"{name} was not told as {status}: {self.told}")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(graphmeter, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("alertmanager")
    told: list[dict[str, Any]] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append({**body, "token": self.headers.get("Authorization", "")})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: stderr is the test's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    hook = f"http://127.0.0.1:{server.server_port}"
    (folder / "token").write_text("s3cret\n", encoding="utf-8")
    config = folder / "graphmeter.yaml"
    owner = {"name": "search", "teams": "search", "page": {"webhook": hook, "token_file": str(folder / "token")}}
    away = {"name": "away", "teams": "away", "page": {"webhook": f"http://127.0.0.1:{free_port()}"}}
    alerting = {"receivers": {"page": {"webhook": hook}}, "owners": [owner, away]}
    config.write_text(json.dumps({"version": 1, "alerting": alerting}), encoding="utf-8")
    write(load(config), folder / "rules")
    text = (folder / "rules" / "alertmanager.yml").read_text(encoding="utf-8")
    fast = text.replace("group_wait: 30s", "group_wait: 50ms").replace("group_interval: 5m", "group_interval: 100ms")
    (folder / "alertmanager.yml").write_text(fast, encoding="utf-8")
    try:
        with promtool.running_alertmanager(folder, folder / "alertmanager.yml") as address:
            yield Running(f"http://{address}", config, told)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_an_alert_takes_its_real_route_is_marked_as_a_test_and_ends(running: Running) -> None:
    done = running.test(FAST)
    assert 0 == done.exit_code, done.output
    assert f"reached the receiver page of {running.url}" in done.output
    assert "told: webhook 1" in done.output
    alert = running.wait_for("firing", FAST, burn="page-fast", severity="page", graphmeter_test="true")
    assert alert["annotations"]["summary"].startswith("TEST, nothing has happened: ")
    assert "{{" not in json.dumps(alert["annotations"])
    running.wait_for("resolved", FAST, burn="page-fast")


def test_a_label_chooses_among_alerts_of_one_name_and_leads_to_an_owner(running: Running) -> None:
    done = running.test(FAST, "--label", "team=search", "--label", "burn=page-slow")
    assert 0 == done.exit_code, done.output
    assert "reached the receiver search/page" in done.output
    alert = running.wait_for("firing", FAST, burn="page-slow", team="search")
    assert "page-slow" == alert["labels"]["burn"]
    running.wait_for("resolved", FAST, burn="page-slow", team="search")
    assert {"Bearer s3cret"} == {message["token"] for message in running.told if message["receiver"] == "search/page"}


def test_nobody_told_is_a_failure_that_says_why(running: Running) -> None:
    for arguments, why in (
        (("GraphmeterErrorBudgetBurnSlow",), "the receiver has no address"),
        ((FAST, "--label", "team=away"), "requests that failed: webhook"),
    ):
        done = running.test(*arguments)
        assert 1 == done.exit_code, done.output
        assert why in done.output


def test_a_silence_is_told(running: Running) -> None:
    until = datetime.now(UTC) + timedelta(minutes=5)
    silence = {
        "matchers": [{"name": "team", "value": "quiet", "isRegex": False, "isEqual": True}],
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": until.isoformat(),
        "createdBy": "test",
        "comment": "test",
    }
    request = urllib.request.Request(
        f"{running.url}/api/v2/silences", json.dumps(silence).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert 200 == answer.status
    done = running.test(FAST, "--label", "team=quiet")
    assert (1, True) == (done.exit_code, "nobody is told: a silence (" in done.output), done.output


def test_a_replay_keeps_back_what_looks_like_a_burst(running: Running) -> None:
    rules = {rule.name: rule for rule in rulefiles.of_config(load(running.config)) if rule.kind == "alert"}
    manager = trial.Alertmanager(running.url)
    burst = trial.trial_of(rules["GraphmeterSpendPerHourHigh"], {})
    with manager.firing(trial.trial_of(rules["GraphmeterReplaying"], {})), manager.firing(burst):
        ends = time.monotonic() + 60
        while manager.route(burst).suppressed_by != "another alert":
            assert time.monotonic() < ends
            time.sleep(0.05)


def test_another_configuration_than_ours_is_said(running: Running, tmp_path: Path) -> None:
    other = tmp_path / "graphmeter.yaml"
    receiver = {"webhook": "http://127.0.0.1:9"}
    owners = [{"name": "x", "teams": "search", "page": receiver}]
    other.write_text(json.dumps({"version": 1, "alerting": {"owners": owners}}), encoding="utf-8")
    done = call("alerts", "test", FAST, "--alertmanager", running.url, "--config", str(other), "--label", "team=search")
    assert "by graphmeter.yaml it is x/page: that Alertmanager has another configuration" in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("alerts", "test", FAST, "--alertmanager", "http://127.0.0.1:1"), 1, "cannot be reached"),
        (("alerts", "test", FAST, "--alertmanager", "alertmanager:9093"), 1, "is not an http or https URL"),
        (("alerts", "test", "GraphmeterNone"), 2, "gives no alert 'GraphmeterNone': write one of Graphmeter"),
        (("alerts", "test", FAST, "--label", "team"), 2, "'team' is not a label: write NAME=VALUE"),
        (("alerts", "test", "GraphmeterWatchdog", "--dry-run"), 0, "would reach the receiver deadman"),
        (("rules", "diff", "missing", "missing"), 2, "missing: does not exist"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_what_is_asked_wrongly_is_said(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = call(*arguments, *(("--defaults",) if arguments[0] == "alerts" else ()))
    assert (code, True) == (done.exit_code, said in done.output), done.output


def test_rules_are_compared_and_checked(tmp_path: Path, committed: Path) -> None:
    (tmp_path / "graphmeter.yaml").write_text("version: 1\nbudgets: []\n", encoding="utf-8")
    same = call("rules", "diff", str(committed), str(committed))
    assert (0, "") == (same.exit_code, same.stdout)
    other = call("rules", "diff", str(committed), str(tmp_path / "graphmeter.yaml"))
    assert (1, True) == (
        other.exit_code,
        "removed alert GraphmeterBudgetForecast (budget=team-monthly)" in other.stdout,
    )
    asjson = json.loads(call("rules", "diff", str(committed), str(tmp_path / "graphmeter.yaml"), "--json").stdout)
    assert {"removed", "changed"} == {change["what"] for change in asjson}
    good = call("rules", "lint", str(committed), "--strict", "--runbooks", str(committed.parent / "runbooks"))
    assert (0, "") == (good.exit_code, good.stdout)
    bad = tmp_path / "bad.rules.yml"
    rule = {"alert": "A", "expr": "graphmeter_run_total > 1", "labels": {"severity": "page"}}
    bad.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}), encoding="utf-8")
    found = call("rules", "lint", str(bad), "--json", "--ignore", "no-for")
    assert 1 == found.exit_code
    codes = {one["code"] for one in json.loads(found.stdout)}
    assert {"unknown-metric", "no-runbook", "no-summary", "no-description"} == codes


def test_alerts_are_listed(tmp_path: Path) -> None:
    listed = json.loads(call("alerts", "list", "--defaults", "--json").stdout)
    fast = next(one for one in listed if one["alert"] == FAST)
    assert ("page", "page", 120.0, 3600.0) == tuple(fast[key] for key in ("severity", "receiver", "waits_s", "whole_s"))
    assert "GraphmeterWatchdog" in call("alerts", "list", "--defaults").stdout
