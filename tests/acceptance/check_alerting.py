"""From a failing node to somebody's pager, and from money spent to a budget's alerts: real collector, Prometheus and
Alertmanager with the rules as they are generated, only that an hour there takes a minute and a half."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.processes import Collector, collector, run_program, until
from graphmeter_alerts import alertmanager, budget_rules, slo_rules
from graphmeter_config.values import duration_text
from support import promtool

FASTER = 40
"""How many seconds of the rules' take one."""

RUNS = """
import os, time
from typing import TypedDict
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from graphmeter import flush, meter

class State(TypedDict, total=False):
    text: str

usage = {"input_tokens": 100_000, "output_tokens": 0, "total_tokens": 100_000}
answers = (
    AIMessage("hello", usage_metadata=usage, response_metadata={"model_name": "gpt-4o"}) for _ in iter(int, 1)
)
model = GenericFakeChatModel(messages=answers, metadata={"graphmeter_provider": "openai"})

def draft(state):
    return {"text": model.invoke("hi").text}

def send(state):
    if os.environ["FAILS"] == "1":
        raise ConnectionError("mail server away")
    return {}

graph = StateGraph(State)
graph.add_node("draft", draft)
graph.add_node("send", send)
graph.add_edge(START, "draft")
graph.add_edge("draft", "send")
mails = meter(graph.compile(), name="mails", team="growth")
for _ in range(int(os.environ["RUNS"])):
    try:
        mails.invoke({})
    except ConnectionError:
        time.sleep(0.4)
assert flush(60)
"""
"""A graph that spends 0.25 USD a run, and fails or not: then over so long a time that not all falls between two windows."""


@dataclass
class Told:
    """What Alertmanager said to each receiver, in order: name and status of an alert, and its labels."""

    said: dict[str, list[tuple[str, str, dict[str, str]]]] = field(default_factory=dict)

    def take(self, receiver: str, body: bytes) -> None:
        for alert in json.loads(body)["alerts"]:
            labels = alert["labels"]
            self.said.setdefault(receiver, []).append((labels["alertname"], alert["status"], labels))

    def wait_for(self, receiver: str, alert: str, status: str, **labels: str) -> dict[str, str]:
        """The labels of such an alert, once the receiver was told of it."""

        def found() -> dict[str, str] | None:
            for name, state, said in self.said.get(receiver, ()):
                if (name, state) == (alert, status) and labels.items() <= said.items():
                    return said
            return None

        told: dict[str, str] = until(f"{receiver} told that {alert} is {status}", found, 180)
        return told


@dataclass
class Stack:
    """Everything that a page passes on its way."""

    folder: Path
    collector: Collector
    prometheus: promtool.Prometheus
    alertmanager: str
    told: Told

    def runs(self, count: int, *, failing: bool) -> None:
        run_program(
            self.folder,
            RUNS,
            GRAPHMETER_ENDPOINT=self.collector.url,
            OTEL_SERVICE_NAME="mailer",
            RUNS=str(count),
            FAILS=str(int(failing)),
        )

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """The alerts of this name that Alertmanager holds, silenced ones, too."""
        with urllib.request.urlopen(f"http://{self.alertmanager}/api/v2/alerts", timeout=60) as answer:
            return [alert for alert in json.load(answer) if alert["labels"]["alertname"] == name]


@pytest.fixture
def told() -> Iterator[tuple[Told, str]]:
    """Somebody who listens, and where."""
    listener = Told()

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            listener.take(self.path.strip("/"), self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: stderr is the test's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield listener, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def stack(tmp_path: Path, told: tuple[Told, str]) -> Iterator[Stack]:
    listener, url = told
    receivers = (alertmanager.PAGE, alertmanager.TICKET, alertmanager.DEADMAN)
    config = tmp_path / "graphmeter.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "budgets": [{"name": "team-monthly", "limit_usd": 10, "per": ["team"]}],
                "alerting": {"receivers": {name: {"webhook": f"{url}/{name}"} for name in receivers}},
            }
        )
    )
    command = [sys.executable, "-m", "graphmeter_cli", "rules", "build", "--out", "rules", "--config", str(config)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    fast = faster(tmp_path / "rules", tmp_path / "fast")
    with (
        collector(tmp_path, "--config", str(config)) as running,
        promtool.running_alertmanager(tmp_path / "alertmanager", tmp_path / "fast" / "alertmanager.yml") as manager,
        promtool.running_prometheus(
            tmp_path / "prometheus",
            targets=[running.url.removeprefix("http://")],
            rule_files=fast,
            alertmanagers=[manager],
        ) as prometheus,
    ):
        yield Stack(tmp_path, running, prometheus, manager, listener)


def faster(rules: Path, into: Path) -> list[Path]:
    """Rules and Alertmanager's configuration in which every duration is a fortieth; the rule files."""
    into.mkdir()
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

    def shorter(found: re.Match[str]) -> str:
        before, number, unit, after = found.groups()
        # Never below what two scrapes need, where it is a window.
        least = 4 if before == "[" else 1
        return f"{before}{duration_text(max(int(number) * seconds[unit] // FASTER, least))}{after}"

    for file in sorted(rules.glob("*")):
        text = re.sub(r"(\[)(\d+)([smhd])(\])", shorter, file.read_text())
        text = re.sub(r"((?:interval|for|\w+_for|group_wait|\w+_interval): )(\d+)([smhd])(\n)", shorter, text)
        (into / file.name).write_text(text)
    return sorted(into.glob("*.rules.yml"))


def test_a_failing_node_pages_silences_its_tickets_and_is_over_when_it_is(stack: Stack) -> None:
    stack.told.wait_for("deadman", "GraphmeterWatchdog", "firing")
    stack.runs(2, failing=False)  # series are there, and seen
    stack.prometheus.wait_for('graphmeter_runs_total{graph="mails"}')
    stack.runs(20, failing=True)

    page = stack.told.wait_for("page", slo_rules.BURN_FAST, "firing", graph="mails")
    assert ("runs-availability", "graphmeter") == (page["slo"], page["product"])
    # The whole error budget is gone as well, which somebody is told who is not called to work on it.
    (exhausted,) = until("exhausted in Alertmanager", lambda: stack.alerts(slo_rules.EXHAUSTED))
    assert exhausted["status"]["inhibitedBy"]
    assert slo_rules.EXHAUSTED not in {name for name, _, _ in stack.told.said.get("ticket", ())}

    stack.told.wait_for("page", slo_rules.BURN_FAST, "resolved", graph="mails")
    stack.told.wait_for("ticket", slo_rules.EXHAUSTED, "firing", graph="mails")


def test_spend_reaches_the_thresholds_of_a_budget_one_after_the_other(stack: Stack) -> None:
    stack.runs(33, failing=False)  # 8.25 of 10 USD
    threshold = stack.told.wait_for("ticket", budget_rules.THRESHOLD, "firing")
    assert ("team-monthly", "growth", "80") == (threshold["budget"], threshold["team"], threshold["threshold"])
    assert "page" not in stack.told.said

    stack.runs(8, failing=False)
    exhausted = stack.told.wait_for("page", budget_rules.EXHAUSTED, "firing")
    assert ("growth", "100") == (exhausted["team"], exhausted["threshold"])
    # What is worse has taken its place.
    stack.told.wait_for("ticket", budget_rules.THRESHOLD, "resolved")
