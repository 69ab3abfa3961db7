"""The reading API of a whole collector: answers of real runs, and one sentence for whatever is wrong with a question."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from collector.served import Served, configured, served
from graphmeter import names
from support import otlp
from support.records import SECOND, trace

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALL_NANO = 3_500_000
"""A run's one call: gpt-4o, 1,000 tokens in at 2.5 USD and 100 out at 10 USD per million."""
BEGAN = time.time_ns() - 60 * SECOND
NOON = 12 - datetime.fromtimestamp(BEGAN / SECOND, UTC).hour
"""Where it is noon now, in hours east of Greenwich: no period of a budget ends while the tests run."""
CONFIG = f"""
version: 1
budgets:
  - {{name: everything, limit_usd: 0.01, period: day, timezone: Etc/GMT{-NOON:+}}}
  - name: teams
    limit_usd: 0.004
    period: month
    timezone: Etc/GMT{-NOON:+}
    per_team: true
    thresholds: [80%, 100%]
slos:
  - {{name: availability, objective: 75%, window: 30d}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Three runs that ended a minute ago, one that failed, one still running."""
    folder: Path = tmp_path_factory.mktemp("api")
    url = f"sqlite:///{folder / 'graphmeter.db'}"
    async with served(url, config=configured(folder, CONFIG)) as it:
        for spans in (
            otlp.run(1, start_ns=BEGAN),
            otlp.run(2, start_ns=BEGAN + SECOND, team="growth"),
            otlp.run(3, start_ns=BEGAN + 2 * SECOND, graph="research"),
            otlp.run(4, start_ns=BEGAN + 3 * SECOND, status=names.ERROR),
            [otlp.started(5, start_ns=BEGAN + 4 * SECOND)],
        ):
            assert b"" == (await it.send(*spans)).content
        yield it


def run_ids(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["run_id"][-12:]) for row in rows]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("limit=2", [5, 4]),
        ("graph=research", [3]),
        ("team=growth", [2]),
        ("status=error", [4]),
        ("status=running", [5]),
        ("status=ok&team=cx&graph=support", [1]),
        (f"min_cost_nano={CALL_NANO}", [4, 3, 2, 1]),
        (f"min_cost_nano={CALL_NANO + 1}", []),
        ("min_duration_ns=2000000000", [4, 3, 2, 1]),
        ("min_duration_ns=2000000001", []),
        ("since=1h", [5, 4, 3, 2, 1]),
        ("since=30s", []),
        ("until_ns=1", []),
        ("graph=nobody", []),
        ("unknown=ignored", [5, 4, 3, 2, 1]),
    ],
)
async def test_runs_are_filtered(it: Served, query: str, expected: list[int]) -> None:
    assert expected == run_ids(await it.get(f"/api/runs?{query}"))


async def test_since_and_until_bound_the_start_of_runs(it: Served) -> None:
    [_, fourth, third, *_] = await it.get("/api/runs")
    bounds = f"since_ns={third['started_ns']}&until_ns={fourth['started_ns']}"
    assert [3] == run_ids(await it.get(f"/api/runs?{bounds}"))


async def test_a_run_is_found_by_its_ids_and_their_beginnings(it: Served) -> None:
    run_id, trace_id = "00000000-0000-0000-0000-000000000002", trace(2).hex()
    for reference in (run_id, trace_id, trace_id[:8], trace_id.upper()):
        found = await it.get(f"/api/runs/{reference}")
        assert (run_id, trace_id, "growth", CALL_NANO) == (
            found["run_id"],
            found["trace_id"],
            found["team"],
            found["cost_nano"],
        )


async def test_a_failed_run_says_why(it: Served) -> None:
    found = await it.get(f"/api/runs/{trace(4).hex()}")
    assert (names.ERROR, "TimeoutError", "it broke") == (
        found["status"],
        found["error_type"],
        found["status_message"],
    )


async def test_a_trace_holds_all_spans_of_the_run_by_start(it: Served) -> None:
    spans = await it.get(f"/api/runs/{trace(1).hex()}/trace")
    assert [names.RUN, names.NODE, names.MODEL] == [span["kind"] for span in spans]


@pytest.mark.parametrize(
    "path", ["/api/runs/deadbeef", "/api/runs/deadbeef/trace", "/api/runs/deadbeef/content", "/api/runs/%20"]
)
async def test_an_unknown_run_is_a_404_with_a_sentence(it: Served, path: str) -> None:
    status, detail = await it.problem(path)
    assert (404, True) == (status, "give a run id, a trace id, or 8 characters or more" in detail)


async def test_a_beginning_that_fits_several_runs_is_refused(it: Served) -> None:
    status, detail = await it.problem("/api/runs/00000000-0000")
    assert (400, True) == (status, "give more characters" in detail)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/runs?limit=0", 422, "limit: Input should be greater than or equal to 1, got '0'"),
        ("/api/runs?limit=10001", 422, "limit: Input should be less than or equal to 10000, got '10001'"),
        ("/api/runs?limit=many", 422, "limit: Input should be a valid integer"),
        ("/api/runs?status=done", 422, "status: is none of ok, error, interrupted, cancelled, running, lost"),
        ("/api/runs?min_cost_nano=-1", 422, "min_cost_nano: Input should be greater than or equal to 0"),
        (f"/api/runs?min_cost_nano={2**63}", 422, "min_cost_nano: Input should be less than"),
        (f"/api/runs?min_duration_ns={2**63}", 422, "min_duration_ns: Input should be less than"),
        (f"/api/runs?until_ns={2**63}", 422, "until_ns: Input should be less than"),
        ("/api/runs?limit=0&until_ns=-1", 422, "; limit: "),
        ("/api/runs?graph=a%00b", 422, "graph: holds a NUL character"),
        ("/api/runs?team=" + "x" * 501, 422, "team: String should have at most 500 characters"),
        ("/api/runs/a%00b", 422, "reference: holds a NUL character"),
        ("/api/nodes?graph=%00", 422, "graph: holds a NUL character"),
        ("/api/runs?since=yesterday", 400, "'yesterday' is not a duration: write 30m, 24h or 7d"),
        ("/api/nodes?since=", 400, "'' is not a duration"),
        ("/api/nodes?since=0h", 400, "'0h' is not a duration"),
        ("/api/nodes?since=" + quote("²h"), 400, "is not a duration"),
        ("/api/nodes?since=" + "9" * 5_000 + "h", 400, "is not a duration"),
        ("/api/cost?month=2026-13", 400, "'2026-13' is not a month: write 2026-11, `this` or `last`"),
        ("/api/cost?month=9999-12", 400, "'9999-12' is not a month"),
        ("/api/cost?month=0001-01", 400, "'0001-01' is not a month"),
        ("/api/cost?month=2261-01", 400, "the month 2261-01 has not begun in UTC: write 20"),
        ("/api/cost?week=2026-W54", 400, "'2026-W54' is not a week: write 2026-W47"),
        ("/api/cost?day=2026-02-30", 400, "'2026-02-30' is not a day: write 2026-11-20"),
        ("/api/cost?day=this&week=last", 400, "week and day contradict each other"),
        ("/api/cost?month=this&timezone=Mars/X", 400, "'Mars/X' is an unknown time zone: write a name such as UTC"),
        ("/api/cost?where=cx", 400, "'cx' is no condition: write where=team=cx"),
        ("/api/cost/units?unit=moon", 400, "there is no cost per 'moon'"),
        ("/api/cost/outcomes?by=model", 400, "outcomes do not say their model"),
        ("/api/cost/movers?by=moon", 400, "cannot group spend by 'moon'"),
        ("/api/cost?month=soon", 400, "'soon' is not a month"),
        ("/api/cost?by=moon", 400, "cannot group spend by 'moon': choose from service"),
        ("/api/nothing", 404, "Not Found"),
    ],
    ids=lambda given: str(given)[:40],
)
async def test_a_question_that_makes_no_sense_is_answered_with_a_sentence(
    it: Served, path: str, status: int, said: str
) -> None:
    answered, detail = await it.problem(path)
    assert (status, True) == (answered, said in detail), detail
    assert len(detail) < 500


async def test_a_very_long_time_back_is_everything(it: Served) -> None:
    assert 2 == len(await it.get("/api/nodes?since=999999999w"))


async def test_nodes_are_reported_with_their_filters(it: Served) -> None:
    rows = await it.get("/api/nodes?since=1h&graph=support")
    assert {("support", "answer")} == {(row["graph"], row["node"]) for row in rows}
    assert (3, 3, 3 * CALL_NANO, 3_300) == tuple(
        sum(sum(row[part] for part in parts) for row in rows)
        for parts in (["runs"], ["attempts"], ["cost_nano"], ["input_tokens", "output_tokens"])
    )
    assert [] == await it.get("/api/nodes?since=1h&team=nobody")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {("cx",): 3, ("growth",): 1}),
        ("by=graph, team", {("support", "cx"): 2, ("research", "cx"): 1, ("support", "growth"): 1}),
        ("by=", {(): 4}),
        ("by=model&since=1h", {("gpt-4o",): 4}),
        ("month={month}", {("cx",): 3, ("growth",): 1}),
        ("month=1999-01", {}),
    ],
)
async def test_spend_is_grouped(it: Served, query: str, expected: dict[tuple[str, ...], int]) -> None:
    query = query.format(month=f"{datetime.fromtimestamp(BEGAN / SECOND, UTC):%Y-%m}")
    rows = await it.get(f"/api/cost?{query}")
    assert {group: calls * CALL_NANO for group, calls in expected.items()} == {
        tuple(row["group"].values()): row["cost_nano"] for row in rows
    }


async def test_december_ends_with_the_year(it: Served) -> None:
    assert [] == await it.get("/api/cost?month=2019-12")


async def test_runs_are_counted_by_status(it: Served) -> None:
    rows = await it.get("/api/run_counts?since=1h")
    assert [
        ("research", "cx", "ok", 1),
        ("support", "cx", "error", 1),
        ("support", "cx", "ok", 1),
        ("support", "cx", "running", 1),
        ("support", "growth", "ok", 1),
    ] == sorted((row["graph"], row["team"], row["status"], row["count"]) for row in rows)


async def test_series_are_the_combinations_seen(it: Served) -> None:
    rows = await it.get("/api/series?since=1h")
    assert {("support", "answer", "gpt-4o"), ("research", "answer", "gpt-4o")} == {
        (row["graph"], row["node"], row["model"]) for row in rows if row["kind"] == names.MODEL
    }


async def test_budgets_are_told_as_spent_today_and_per_team(it: Served) -> None:
    rows = {(row["budget"], row["team"]): row for row in await it.get("/api/budgets")}
    everything, growth, cx = rows["everything", ""], rows["teams", "growth"], rows["teams", "cx"]
    assert {("everything", ""), ("teams", "cx"), ("teams", "growth")} == rows.keys()
    assert (14_000_000, 10_000_000, 1.4, ["80%", "100%"]) == (
        everything["spent_nano"],
        everything["limit_nano"],
        everything["used_ratio"],
        everything["crossed"],
    )
    assert (0.875, ["80%"], 2.625, ["80%", "100%"]) == (
        growth["used_ratio"],
        growth["crossed"],
        cx["used_ratio"],
        cx["crossed"],
    )


async def test_slos_are_told_per_graph(it: Served) -> None:
    rows = {row["graph"]: row for row in await it.get("/api/slos")}
    support = rows["support"]
    # One of three ended badly where one of four may: a third more than the budget.
    assert (2, 1, pytest.approx(2 / 3), pytest.approx(-1 / 3)) == (
        support["good"],
        support["bad"],
        support["achieved_ratio"],
        support["budget_remaining_ratio"],
    )
    assert (1, 0, 1.0, 1.0) == tuple(
        rows["research"][field] for field in ("good", "bad", "achieved_ratio", "budget_remaining_ratio")
    )


async def test_a_topology_and_the_reports_of_clients_are_told(it: Served) -> None:
    shape = {"nodes": ["__start__", "plan"], "edges": [["__start__", "plan", False]]}
    now = time.time_ns()
    drawn = otlp.own(1, names.TOPOLOGY, {names.TOPOLOGY_JSON: json.dumps(shape)}, start_ns=now, s=0)
    counts = {names.CLIENT_ID: "a" * 32, names.CLIENT_SEQUENCE: 1, names.CLIENT_EXPORTED: 7, names.CLIENT_DROPPED: 2}
    await it.send(drawn, otlp.span(2, {names.KIND: names.REPORT, **counts}, start_ns=now, s=0))

    [topology] = await it.get("/api/graphs/support/topology")
    assert (shape, "shop", now) == (topology["topology"], topology["service"], topology["last_ns"])
    assert (404, True) == ((problem := await it.problem("/api/graphs/none/topology"))[0], "no topology" in problem[1])
    [client] = await it.get("/api/clients")
    assert ("a" * 32, "shop", 7, 2) == tuple(client[key] for key in ("client_id", "service", "exported", "dropped"))
    assert [] == await it.get(f"/api/clients?since_ns={now + 1}")


async def test_openapi_lists_every_route_and_how_it_refuses(it: Served) -> None:
    document = await it.get("/openapi.json")
    assert {
        "/v1/traces",
        "/v1/logs",
        "/v1/metrics",
        "/health",
        "/ready",
        "/metrics",
        "/api/runs",
        "/api/runs/{reference}",
        "/api/runs/{reference}/trace",
        "/api/runs/{reference}/content",
        "/api/graphs/{graph}/topology",
        "/api/clients",
        "/api/nodes",
        "/api/cost",
        "/api/cost/movers",
        "/api/cost/outcomes",
        "/api/cost/reported",
        "/api/cost/units",
        "/api/cost/waste",
        "/api/prices",
        "/api/run_counts",
        "/api/series",
        "/api/budgets",
        "/api/budgets/status",
        "/api/budgets/definitions",
        "/api/budgets/events",
        "/api/budgets/{name}",
        "/api/budgets/{name}/reservations",
        "/api/budgets/{name}/reservations/{reservation}",
        "/api/slos",
        "/api/slos/status",
        "/api/slos/report",
    } == document["paths"].keys()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            if path.startswith("/api/"):
                schema = operation["responses"]["422"]["content"]["application/json"]["schema"]
                assert {"$ref": "#/components/schemas/Problem"} == schema
    assert not re.search("HTTPValidationError", str(document))


async def test_the_documentation_page_is_served(it: Served) -> None:
    assert 200 == (await it.http.get("/docs")).status_code
