"""A real Prometheus on a real collector: what it scrapes, what the rules make of that, and what dashboards show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from acceptance.processes import Collector, collector, run_program, start_program, until
from acceptance.programs import ENDLESS, EXAMPLES_IN_DETAIL, GAPS
from acceptance.recording import recorder
from cli.running import run
from graphmeter import names
from graphmeter_alerts import build, measuring_rules, slo_events
from graphmeter_cli.asked import print_answers
from graphmeter_config import Config, Slo
from graphmeter_config.slo import EventSelector
from graphmeter_dashboards.ask import Answer, Prometheus, Sql, ask
from graphmeter_dashboards.check import TimeRange, panel_queries
from graphmeter_examples.tally import by
from graphmeter_examples.workload import Workload, run_workload
from support import otlp, postgres, promtool
from support.ports import free_port
from support.records import SECOND
from support.slo_kinds import EVERY_KIND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BEFORE = Workload(seed=3, runs=40)
"""Sent before Prometheus looks for the first time."""
DURING = Workload(seed=4, runs=60)
"""Sent while it is looking."""
GAPS_RUNS, GAPS_NANO = 3, 1000 * 150 + 100 * 600
"""What the program `GAPS` does beside them: runs, and what its one call with a price cost."""
APART = "graph!~'doomed|gaps'"
"""Selects what the workload did."""
SAMPLING = {"quiet": "1s", "rules": [{"name": "everything", "keep": "100%"}]}
SERVICE = "shop"
SCRAPE_S = 2
"""Also how long a scrape may take: one that is given up, on a busy machine, takes the zeros with it that it was shown."""


@dataclass(frozen=True)
class Watched:
    """A collector that has been fed, and the Prometheus that watches it."""

    collector: Collector
    prometheus: promtool.Prometheus
    database_url: str
    dashboards: Path
    rules: Path
    truth: Mapping[str, Counter[tuple[str, ...]]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, postgres_server: postgres.Server) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    config = folder / "graphmeter.yaml"
    database_url = postgres_server.create()
    try:
        with ExitStack() as stack:
            backend = stack.enter_context(recorder())
            config.write_text(yaml.safe_dump(configuration(backend.url)))
            for what in ("rules", "dashboards"):
                command = [
                    sys.executable,
                    "-m",
                    "graphmeter_cli",
                    what,
                    "build",
                    "--out",
                    what,
                    "--config",
                    str(config),
                ]
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
            running = stack.enter_context(collector(folder, "--config", str(config), database_url=database_url))
            # Calls of which something is not known, and a run in progress, for who asks about those.
            (folder / "beside").mkdir()
            beside = start_program(folder / "beside", GAPS + ENDLESS, **environment(running))
            stack.callback(beside.wait)
            stack.callback(beside.kill)
            disturb(running)
            truth = feed(running, folder, BEFORE)
            prometheus = stack.enter_context(
                promtool.running_prometheus(
                    folder / "prometheus",
                    targets=[running.url.removeprefix("http://")],
                    rule_files=hurried(folder / "rules", folder / "hurried"),
                    interval=f"{SCRAPE_S}s",
                )
            )
            prometheus.wait_for('up{job="graphmeter"} == 1')
            for what, counts in feed(running, folder, DURING).items():
                truth[what].update(counts)
            ended = truth["runs"].total() + GAPS_RUNS
            until("all runs in Prometheus", lambda: total(prometheus, "sum(graphmeter_runs_total)") == ended)
            # A series that was born with the last commit is shown at zero first.
            settled = time.time() + 2 * SCRAPE_S
            until("two more scrapes", lambda: total(prometheus, "timestamp(up)") > settled)
            yield Watched(running, prometheus, database_url, folder / "dashboards", folder / "rules", truth)
    finally:
        postgres_server.drop(database_url)


def configuration(backend: str) -> dict[str, Any]:
    """Budgets that alert, a backend that takes traces, and nobody at the places of another and of a receiver."""
    nobody = f"http://127.0.0.1:{free_port()}"
    destinations = [{"name": "jaeger", "endpoint": backend}, {"name": "away", "endpoint": nobody}]
    return {
        **tiny_budgets(),
        "forward": {"destinations": destinations},
        "sampling": SAMPLING,
        "provider_limits": [{"name": "openai", "provider": "openai", "tokens_per_minute": 1_000_000}],
        "receivers": [{"name": "finops", "url": nobody}],
    }


def disturb(running: Collector) -> None:
    """What a collector refuses, mends, and passes on unread."""
    assert running.post(b"no protobuf")[0] == 400
    old = otlp.span(1, of=1, start_ns=SECOND)
    mended = otlp.span(1, of=2, start_ns=time.time_ns(), name="a\x00b")
    for span in (old, mended):
        assert running.post(otlp.request(span, scope="somebody").SerializeToString())[0] == 200
    logs = urllib.request.Request(running.url + "/v1/logs", data=b"", headers={"Content-Type": otlp.PROTOBUF})
    with urllib.request.urlopen(logs, timeout=60) as answer:
        assert answer.status == 200


def tiny_budgets() -> dict[str, Any]:
    """The default configuration, a budget in tokens, and two that the workload brings to 90 % and to 110 %.

    What it will spend is known before: the same seed costs the same.
    """
    spent: Counter[tuple[str, ...]] = Counter()
    for workload in (BEFORE, DURING):
        spent.update(by(run_workload(workload=workload, time_scale=0.0).cost_nano, "team"))
    default = {"name": "team-monthly", "limit_usd": 100, "period": "month", "per_team": True}
    tiny = [
        {"name": f"{team}-tiny", "limit_usd": f"{spent[team,] / 1e9 / used:.6f}", "match": {"team": team}}
        for team, used in (("cx", 0.9), ("growth", 1.1))
    ]
    # Of a rolling window, which has a forecast at any time.
    tokens = {"name": "tokens", "limit_tokens": 100_000_000, "rolling": "24h"}
    of_teams = ({**each, "per_team": True, "receivers": ["finops"]} for each in tiny)
    return {"version": 1, "budgets": [default, tokens, *of_teams]}


def hurried(rules: Path, into: Path) -> list[Path]:
    """The rule files with groups that are evaluated every second: with their own minutes, a test would take minutes."""
    into.mkdir()
    files = []
    for file in sorted(rules.glob("*.rules.yml")):
        text, groups = re.subn(r"^    interval: \w+$", "    interval: 1s", file.read_text(), flags=re.MULTILINE)
        assert groups == text.count("  - name: ")
        files.append(into / file.name)
        files[-1].write_text(text)
    return files


def feed(running: Collector, folder: Path, workload: Workload) -> dict[str, Counter[tuple[str, ...]]]:
    """Run the examples in a process of their own; the truth about them."""
    printed = run_program(
        folder,
        EXAMPLES_IN_DETAIL,
        **environment(running),
        SEED=str(workload.seed),
        RUNS=str(workload.runs),
    )
    rows: dict[str, list[list[Any]]] = json.loads(printed.splitlines()[-1])
    return {what: Counter({tuple(key): count for *key, count in groups}) for what, groups in rows.items()}


def environment(running: Collector) -> dict[str, str]:
    """As an application is told where to send, and who it is."""
    return {
        "GRAPHMETER_ENDPOINT": running.url,
        "OTEL_SERVICE_NAME": SERVICE,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging,service.version=1.4",
    }


def total(prometheus: promtool.Prometheus, expr: str) -> float:
    """The one value of a query; 0 when there is none."""
    answer = prometheus.query(expr)
    assert len(answer) <= 1
    return answer[0][1] if answer else 0.0


def test_the_collector_is_up_and_its_page_is_clean(watched: Watched) -> None:
    assert [1.0] == [value for _, value in watched.prometheus.query('up{job="graphmeter"}')]
    [target] = watched.prometheus.get("targets")["activeTargets"]
    assert ("up", "") == (target["health"], target["lastError"])

    checked = promtool.check_metrics(watched.collector.text("/metrics"))
    assert (True, "") == (checked.ok, checked.output)


@pytest.mark.parametrize(
    ("what", "metric", "labels"),
    [
        ("runs", names.RUNS, ("graph", "team", "status")),
        ("executions", names.NODE_RUNS, ("graph", "node", "status")),
        ("model_calls", names.LLM_CALLS, ("model", "status")),
        ("tokens", names.TOKENS, ("model", "type")),
        ("cost_nano", names.COST, ("team", "model")),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_counters_in_prometheus_are_what_the_examples_did(
    what: str, metric: names.Metric, labels: tuple[str, ...], watched: Watched
) -> None:
    expr = f"sum by ({', '.join(labels)}) ({metric.name}{{{APART}}})"
    scale = names.NANO_PER_USD if metric is names.COST else 1
    expected = {
        tuple(value or names.UNATTRIBUTED for value in key): pytest.approx(count / scale)
        for key, count in watched.truth[what].items()
    }
    assert expected
    # Zeros are series that were pre-created so that their first event is an increase.
    assert expected == {
        tuple(series[label] for label in labels): value for series, value in watched.prometheus.query(expr) if value
    }


def test_prometheus_saw_every_counter_at_zero_before_it_moved(watched: Watched) -> None:
    """So that `increase()` counts the first event of a series, also of those that moved before the first scrape."""
    for metric in (names.RUNS, names.NODE_RUNS, names.LLM_CALLS, names.TOKENS, names.COST):
        lowest = watched.prometheus.query(f"min_over_time({metric.name}[10m])")
        assert lowest
        assert {0.0} == {value for _, value in lowest}


def test_every_rule_is_evaluated_without_an_error(watched: Watched) -> None:
    def evaluated() -> list[dict[str, Any]] | None:
        groups = watched.prometheus.get("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = until("every rule to be evaluated", evaluated)
    assert [] == [
        (rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok" or rule.get("lastError")
    ]
    written = [rule for file in watched.rules.glob("*.rules.yml") for rule in rules_in(file.read_text())]
    assert len(written) == len(rules) > 40


def test_the_rules_of_the_default_configuration_are_among_them(watched: Watched) -> None:
    # What waits for sampling waits on purpose, to the alert on forwarding, too.
    for name, text in build(Config.model_validate({"sampling": SAMPLING})).items():
        if name.endswith(".rules.yml"):
            built = rules_in((watched.rules / name).read_text())
            missing = [rule for rule in rules_in(text) if rule not in built]
            # One names the configuration that it was made from.
            assert set() == {rule.get("alert", rule.get("record")) for rule in missing} - {
                measuring_rules.RULES_OUTDATED
            }
    checked = promtool.check_rules(*sorted(watched.rules.glob("*.rules.yml")))
    assert checked.ok, checked.output


def rules_in(text: str) -> list[dict[str, Any]]:
    """Every rule of a rule file."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


_TRUTH = {"runs": "runs", "nodes": "executions", "models": "model_calls"}


# The examples tell no outcome; runs are events to quality, too.
@pytest.mark.parametrize("slo", [slo for slo in EVERY_KIND if slo.of != "outcomes"], ids=lambda slo: slo.name)
def test_every_kind_of_slo_finds_its_events(slo: Slo, watched: Watched) -> None:
    # The graph that never ends is no example.
    graphs = EventSelector(graph=tuple(sorted({graph for graph, _, _ in watched.truth["runs"]})))
    slo = slo.model_copy(update={"select": graphs})
    events = slo_events.events(slo)
    found = watched.prometheus.query(f"sum by ({', '.join(slo.per)}) ({events.total}) > 0")
    assert found
    assert {frozenset(slo.per)} == {frozenset(name for name, value in labels.items() if value) for labels, _ in found}
    every = sum(value for _, value in found)
    part = total(watched.prometheus, f"sum({events.good or events.bad})")
    assert 0 <= part <= every
    if slo.kind.events.label and slo.of in _TRUTH:
        judged = [
            (status, count)
            for (*_, status), count in watched.truth[_TRUTH[slo.of]].items()
            if status in slo.kind.events.values
        ]
        assert every == sum(count for _, count in judged)
        failed = sum(count for status, count in judged if status != names.OK)
        assert part == (failed if slo.indicator == "availability" else 0)
    if events.good:
        # Nothing that the examples do is beyond the highest threshold.
        highest = slo.kind.bounds[-1]
        field = "threshold_usd" if slo.indicator == "cost" else "threshold_s"
        lenient = slo_events.events(slo.model_copy(update={field: highest}))
        assert every == total(watched.prometheus, f"sum({lenient.good})")


def test_budget_alerts_fire_at_80_and_at_100_percent(watched: Watched) -> None:
    def firing() -> dict[str, dict[str, Any]]:
        # Its forecast leads beyond the limit, too: that one waits for an hour. How fast they are spent is told by others.
        return {
            alert["labels"]["budget"]: alert
            for alert in watched.prometheus.get("alerts")["alerts"]
            if alert["state"] == "firing" and alert["labels"]["alertname"].startswith("GraphmeterBudget")
        }

    until("two alerts", lambda: len(firing()) == 2)
    found = firing()
    assert {
        "cx-tiny": ("GraphmeterBudgetThreshold", "cx"),
        "growth-tiny": ("GraphmeterBudgetExhausted", "growth"),
    } == {budget: (alert["labels"]["alertname"], alert["labels"]["team"]) for budget, alert in found.items()}
    threshold = found["cx-tiny"]
    assert "Budget cx-tiny of team cx has reached 80%" == threshold["annotations"]["summary"]
    spent = sum(nano for (team, _), nano in watched.truth["cost_nano"].items() if team == "cx")
    assert f"{spent / names.NANO_PER_USD:.2f} USD of" in threshold["annotations"]["description"]


def test_no_alert_but_the_watchdog_says_that_the_collector_is_down(watched: Watched) -> None:
    alerts = {alert["labels"]["alertname"] for alert in watched.prometheus.get("alerts")["alerts"]}
    assert "GraphmeterWatchdog" in alerts
    assert set() == {name for name in alerts if "Down" in name}


def test_every_query_of_every_dashboard_has_an_answer(watched: Watched) -> None:
    pages = {file.stem: file.read_text() for file in sorted(watched.dashboards.glob("*.json"))}
    named = ("overview", "graph", "node", "models", "spend", "slo", "collector", "team-cx", "team-growth")
    assert {f"graphmeter-{page}" for page in named} == set(pages)

    answers: dict[str, list[Answer]] = {}

    def answered() -> dict[Asked, int]:
        server, over = Prometheus(watched.prometheus.url), TimeRange.last(600)
        answers.update({page: list(ask(text, server, rows_of(watched), over)) for page, text in pages.items()})
        every = [(page, each) for page, of in answers.items() for each in of]
        assert [] == [(page, each) for page, each in every if each.fault]
        return {(page, each.name, each.ref): each.found for page, each in every}

    # Gauges that are read from the database every few seconds come last, and alerts about them.
    watched.prometheus.wait_for('ALERTS{alertstate="firing",severity="ticket"}')
    watched.prometheus.wait_for(f"{names.RUNS_IN_PROGRESS.name} == 1")
    ends = time.monotonic() + 60
    while (silent(found := answered()) - set(quiet())) and time.monotonic() < ends:
        time.sleep(1)
    print_answers(answers)  # what `make stack-check` shows
    assert set() == silent(found) - set(quiet())
    assert set(quiet()) <= set(found)


def silent(found: Mapping[Asked, int]) -> set[Asked]:
    """What has no answer."""
    return {asked for asked, count in found.items() if not count}


Asked = tuple[str, str, str]
"""A dashboard, a panel (annotation, variable) of it, and which of its queries."""


def quiet() -> dict[Asked, str]:
    """What may have no answer now, and why."""
    found = {
        ("graphmeter-collector", "Bytes per run", "A"): "sizes are read once a minute, and first before any run ended",
        ("graphmeter-collector", "Failed jobs", "A"): "no job failed",
        ("graphmeter-collector", "Labels that are full", "A"): "no label is full",
        ("graphmeter-collector", "Damaged on disk", "A"): "nothing was on disk",
        ("graphmeter-team-growth", "Latest failed runs", "A"): "none of its runs failed",
    }
    for what, bands in (
        ("Runs in an hour", "BC"),
        ("Error ratio", "BCD"),
        ("Run p95", "BCD"),
        ("Cost of a run", "BCD"),
    ):
        for ref in bands:
            found["graphmeter-graph", f"{what}, and usual", ref] = "what is usual takes a day to know, or weeks"
    now = datetime.now(UTC)
    if now.day == 1 and now.hour < 8:
        why = "a month has no forecast in its first hundredth"
        pages = ("spend", "team-cx", "team-growth")
        found |= {(f"graphmeter-{page}", "Forecast for this month", "A"): why for page in pages}
    return found


def test_what_has_no_price_has_no_cost_per_token(watched: Watched) -> None:
    text = (watched.dashboards / "graphmeter-models.json").read_text()
    asked = {(query.panel, query.ref): query.expr for query in panel_queries(text, TimeRange.last(600))}
    of_model = {series["model"]: usd for series, usd in watched.prometheus.query(asked["All models", "G"])}
    assert of_model
    assert of_model.keys() <= {model for _, model in watched.truth["cost_nano"]} | {"gpt-4o-mini"}
    [(_, of_all)] = watched.prometheus.query(asked["Cost per 1000 tokens", "A"])
    assert min(of_model.values()) < of_all < max(of_model.values())


def rows_of(watched: Watched) -> Sql:
    """Asks the collector's database."""
    return lambda query: [dict(row) for row in postgres.execute(watched.database_url, query)]


def test_what_every_panel_shows_can_be_printed(watched: Watched) -> None:
    where = ("--prometheus", watched.prometheus.url, "--database-url", watched.database_url.replace("+asyncpg", ""))
    asked = (
        "dashboards",
        "check",
        *where,
        "--since",
        "10m",
        "--config",
        str(watched.dashboards.parent / "graphmeter.yaml"),
    )
    printed = run(*asked)
    print(printed.output)  # shown by `pytest -rP`
    assert printed.exit_code == 0
    assert re.search(
        r"\d{3} questions of 9 dashboards: \d{3} answered, \d+ without data, 0 refused, 0 not asked", printed.output
    )
    spend = next(line for line in printed.output.splitlines() if line.startswith("Most expensive runs"))
    assert re.search(r"Postgres +\d+  started=", spend)

    nobody = run(*asked[:2], "--prometheus", f"http://127.0.0.1:{free_port()}", "--defaults")
    assert nobody.exit_code == 1
    assert "refused" in nobody.output


def test_the_database_panel_shows_the_failed_runs(watched: Watched) -> None:
    dashboard = (watched.dashboards / "graphmeter-overview.json").read_text()
    [query] = [each for each in panel_queries(dashboard, TimeRange.last(600)) if each.sql]

    rows = postgres.execute(watched.database_url, query.sql)

    failed = Counter(
        {
            (graph, team or names.UNATTRIBUTED): count
            for (graph, team, status), count in watched.truth["runs"].items()
            if status == names.ERROR
        }
    )
    assert failed == Counter((row["graph"], row["team"]) for row in rows)
    for row in rows:
        assert names.ERROR == watched.collector.get(f"/api/runs/{row['trace']}")["status"]


@pytest.mark.parametrize(
    "metric",
    [names.NODE_DURATION.name + "_bucket", names.RUN_DURATION.name + "_bucket", names.COST.name, names.RUNS.name],
)
def test_exemplars_lead_to_traces(metric: str, watched: Watched) -> None:
    window = {"start": str(time.time() - 600), "end": str(time.time())}
    found = watched.prometheus.get("query_exemplars", query=metric, **window)

    exemplars = [exemplar for series in found for exemplar in series["exemplars"]]
    assert exemplars
    assert {SERVICE} == {series["seriesLabels"]["service"] for series in found}
    for exemplar in exemplars[:5]:
        trace_id = exemplar["labels"]["trace_id"]
        spans = watched.collector.get(f"/api/runs/{trace_id}/trace")
        assert {trace_id} == {span["trace_id"] for span in spans}


def test_the_ledger_and_prometheus_agree_on_the_money(watched: Watched) -> None:
    ledger = sum(row["cost_nano"] for row in watched.collector.get("/api/cost?by=team&since=1h"))
    counted = total(watched.prometheus, f"sum({names.COST.name})")

    assert watched.truth["cost_nano"].total() + GAPS_NANO == ledger
    assert pytest.approx(ledger / names.NANO_PER_USD) == counted
