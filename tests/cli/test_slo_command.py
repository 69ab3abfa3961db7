"""`graphmeter slo` on a database and through a collector: states, burn, reports, maintenance windows."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.running import failure, json_of, run
from graphmeter import names
from graphmeter_collector.records import Outcome, SpanRecord
from graphmeter_collector.store import open_store
from graphmeter_collector.store.migrate import migrate
from support.records import SECOND, call, note, record

HOUR_NS = 3600 * SECOND
NOW_NS = time.time_ns()
DAY = 24
CONFIG = """
slos:
  - {name: runs, objective: 90%%}
  - {name: nodes, of: nodes, objective: 90%%}
  - {name: quick, indicator: latency, threshold: 1s, objective: 90%%, per: []}
  - {name: cheap, indicator: cost, threshold_usd: 0.5, objective: 90%%, per: [team]}
  - {name: calls, of: models, objective: 90%%}
  - {name: judged, indicator: quality, objective: 90%%}
maintenance:
  - {name: upgrade, from: "%s", to: "%s", slos: [runs, nodes]}
  - {name: later, from: 2199-01-01, to: 2199-01-02, timezone: Europe/Berlin, description: a move}
"""


def hours_ago(hours: float) -> str:
    return datetime.fromtimestamp((NOW_NS - hours * HOUR_NS) / 1e9, UTC).isoformat(timespec="seconds")


def traffic() -> list[SpanRecord]:
    """Twelve runs: two fail, one of them in the maintenance window; one is slow, one dear."""
    found = []
    for of, hours in enumerate((1, 2, 3, 4, 5, 6, 30, 31, 50, 51, 60, 61), 1):
        when: dict[str, Any] = {"start_ns": NOW_NS - hours * HOUR_NS}
        failed = of in (3, 9)
        ended: dict[str, Any] = {"status": names.ERROR, "error_type": "TimeoutError"} if failed else {}
        s = 5 if of == 5 else 0.5
        end_ns = when["start_ns"] + round(s * SECOND)
        found.append(record(1, of=of, kind=names.RUN, **when, end_ns=end_ns, **ended))
        found.append(record(2, of=of, node="plan", **when, end_ns=when["start_ns"] + 1))
        found.append(record(3, of=of, node="answer", **when, end_ns=end_ns, **ended))
        nano = 10**9 if of == 7 else 1
        found.append(call(4, of=of, nano=nano, node="plan" if of == 7 else "answer", **when, end_ns=end_ns, **ended))
        if of == 2:
            found.append(note(5, names.OUTCOME, of=of, said=Outcome("escalated", False, None), **when, end_ns=end_ns))
    return found


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options: a database with traffic, and its configuration."""
    folder = tmp_path_factory.mktemp("slo")
    config: Path = folder / "graphmeter.yaml"
    config.write_text(CONFIG % (hours_ago(55), hours_ago(45)))
    url = f"sqlite:///{folder / 'test.db'}"

    migrate(url)

    async def fill() -> None:
        store = await open_store(url)
        await store.write(traffic())
        await store.close()

    asyncio.run(fill())
    return "--config", str(config), "--database-url", url


def test_states_are_told_with_what_is_left_and_how_fast_it_burns(at: tuple[str, ...]) -> None:
    rows = {row["slo"]: row for row in json_of("slo", *at)}
    assert ["runs", "nodes", "quick", "cheap", "calls", "judged"] == list(dict.fromkeys(rows))
    runs = rows["runs"]
    assert (12, 10, 2, {"graph": "support"}) == (runs["total"], runs["good"], runs["bad"], runs["scope"])
    assert pytest.approx(-2 / 3) == runs["budget_remaining_ratio"]
    assert ["page-fast", "page-slow", "ticket-fast", "ticket-slow"] == [each["tier"] for each in runs["burn"]]
    slowest = runs["burn"][-1]
    # Within three days all twelve began; within six hours five ended, and one of them failed.
    assert (12, 2, 5, 1, False) == tuple(
        slowest[name] for name in ("long_events", "long_bad", "short_events", "short_bad", "crossed")
    )
    assert (1, 1, 2, 1) == tuple(rows[name]["bad"] for name in ("quick", "cheap", "calls", "judged"))
    [one] = json_of("slo", "--name", "cheap", *at)
    assert {**one, "since_ns": 0} == {**rows["cheap"], "since_ns": 0}


def test_states_are_told_to_people_and_to_sheets(at: tuple[str, ...]) -> None:
    said = run("slo", *at).stdout
    assert "support" in said
    assert "-66.7 %" in said
    assert "spent" in said
    assert "90 % in 1s" in said
    assert "page-fast" in run("slo", "--burn", *at).stdout
    head, *lines = run("slo", "--format", "csv", *at).stdout.splitlines()
    assert head.startswith("slo,scope,objective_percent,indicator")
    assert 7 == len(lines)  # nodes are two
    assert "| runs |" in run("slo", "--format", "markdown", *at).stdout
    assert "slo,scope,tier" in run("slo", "--burn", "--format", "csv", *at).stdout


def test_a_report_leaves_maintenance_out_unless_asked(at: tuple[str, ...]) -> None:
    times = ("--from", "70h", *at)
    told = json_of("slo", "report", *times)
    assert [["upgrade"], True] == [[each["name"] for each in told["maintenance"]], told["left_out"]]
    rows = {(row["slo"], row["scope"].get("node", "")): row for row in told["slos"]}
    runs, answer = rows["runs", ""], rows["nodes", "answer"]
    assert (10, 1, 2, 1, True) == tuple(
        runs[name] for name in ("total", "bad", "excluded_total", "excluded_bad", "met")
    )
    assert [1.0, [{"name": "TimeoutError", "bad": 1}], [{"name": "answer", "bad": 1}]] == [
        runs["budget_consumed_ratio"],
        runs["errors"],
        runs["nodes"],
    ]
    assert [[{"name": "TimeoutError", "bad": 1}], [{"name": "answer", "bad": 1}]] == [answer["errors"], answer["nodes"]]
    # What nobody planned for counts.
    assert [2, [{"name": "answer", "bad": 1}], [{"name": "plan", "bad": 1}]] == [
        rows["calls", ""]["bad"],
        rows["quick", ""]["nodes"],
        rows["cheap", ""]["nodes"],
    ]
    assert [{"name": "escalated", "bad": 1}] == rows["judged", ""]["errors"]

    [counted] = json_of("slo", "report", "--name", "runs", "--with-maintenance", *times)["slos"]
    assert (12, 2, 0, False) == tuple(counted[name] for name in ("total", "bad", "excluded_total", "met"))
    said = run("slo", "report", *times).stdout
    assert "1 of 2" in said
    assert "Maintenance upgrade, " in said
    assert "| runs |" in run("slo", "report", "--format", "markdown", *times).stdout
    assert "budget_consumed_ratio" in run("slo", "report", "--format", "csv", *times).stdout


def test_maintenance_is_listed_with_what_keeps_alertmanager_silent(at: tuple[str, ...]) -> None:
    config = at[:2]
    said = run("slo", "maintenance", *config).stdout
    assert "a move" in said
    assert (
        "amtool silence add 'slo=~\".+\"' --start=2198-12-31T23:00:00Z --end=2199-01-01T23:00:00Z "
        "--comment='maintenance later'\n"
    ) in said
    assert "upgrade' --start" not in said
    assert ["upgrade", "later"] == [each["name"] for each in json_of("slo", "maintenance", *config)]


def test_what_is_not_there_is_said(at: tuple[str, ...]) -> None:
    assert "there is no SLO 'run' (known: runs, nodes" in failure(1, "slo", "--name", "run", *at)
    assert "--to is not after --from" in failure(2, "slo", "report", "--from", "1d", "--to", "2d", *at)
    assert "options go behind the command" in failure(2, "slo", "--name", "runs", "report")
    assert "No event of any SLO" in run("slo", "report", "--from", "1m", "--name", "judged", *at).stdout
